//! `/console/endpoints/{id}/secret` and `…/delete`: what cannot be undone.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use maud::html;
use posthaste_producer::http::body::RotateRequest;
use posthaste_producer::http::operations::endpoints;
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_shared::domain::secret::Secret;

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::endpoint::{facts, parse, path};
use crate::pages::{act, acting, ask, done, must_manage};
use crate::parts::actions::{self, Confirm, Typed};
use crate::parts::fields::{Field, Fields};
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{still, token};
use crate::parts::query::Query;
use crate::parts::text::{self, address, strange};
use crate::parts::time::at;
use crate::state::Console;

/// How long the old secret may sign on: seconds, and what they are called.
const OVERLAPS: [(&str, &str); 5] = [
    ("0", "not at all"),
    ("3600", "for an hour"),
    ("86400", "for a day"),
    ("604800", "for a week"),
    ("2592000", "for 30 days"),
];

/// Asks how to rotate the signing secret.
pub(crate) async fn ask_rotate(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Endpoints);
    let values = Query::default().with("overlap_seconds", "86400");
    let fields = Fields {
        values: &values,
        problem: None,
    };
    rotate_form(&console, &visitor, &frame, &id, fields).await
}

async fn rotate_form(
    console: &Console,
    visitor: &Visitor,
    frame: &Frame,
    id: &str,
    fields: Fields<'_>,
) -> Result<Response, Response> {
    let endpoint = ask(console, frame, async {
        let endpoint = endpoints::show(&console.api, &visitor.caller, &parse(id)?).await?;
        must_manage(frame).map(|()| endpoint)
    })
    .await?;
    let path = path(&endpoint.id);
    let choices = OVERLAPS.map(|(seconds, words)| (seconds.to_owned(), words.to_owned()));
    let body = html! {
        div.headline { h1 { "New secret for " (strange(address(&endpoint.url))) } }
        (fields.summary())
        p { "Requests are signed with the new secret at once, and with the old one as well for as \
            long as you say: so the receiver can change without missing one." }
        form.sheet method="post" action=(frame.link(&format!("{path}/secret"))) {
            (token(frame))
            (fields.choice(Field {
                name: "overlap_seconds",
                label: "The old secret signs on",
                help: "",
            }, &choices))
            (fields.line(Field {
                name: "secret",
                label: "New secret",
                help: "Your own. Default: one is generated, and shown once.",
            }, "password"))
            div.actions {
                button.primary type="submit" { "Rotate" }
                a.button href=(frame.link(&path)) data-back { "Back" }
            }
        }
    };
    let status = fields
        .problem
        .map_or(StatusCode::OK, |problem| problem.code.status());
    Ok(still(frame, status, "New secret", &body))
}

/// Rotates it.
pub(crate) async fn rotate(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Endpoints);
    let overlap = form.fields.get("overlap_seconds");
    let work = async {
        let overlap_seconds = overlap.map(str::parse).transpose().map_err(|_| {
            Problem::field(Code::Invalid, "overlap_seconds", "must be a whole number")
        })?;
        let request = RotateRequest {
            overlap_seconds,
            secret: form.fields.get("secret").map(Secret::new),
        };
        endpoints::rotate(&console.api, &visitor.caller, &parse(&id)?, request).await
    };
    let rotated = match acting(&visitor, &format!("rotate secret of endpoint {id}"), work).await {
        Ok(rotated) => rotated,
        Err(problem) => {
            let values = form.fields.without(&["secret"]);
            let fields = Fields {
                values: &values,
                problem: Some(&problem),
            };
            return rotate_form(&console, &visitor, &frame, &id, fields).await;
        }
    };
    let path = path(&rotated.endpoint.id);
    let Some(secret) = &rotated.secret else {
        return Ok(done(&frame, &path, "rotated"));
    };
    let body = html! {
        div.headline { h1 { "The new secret" } }
        p { "It is shown only now: hand it to the receiver of "
            b { (strange(address(&rotated.endpoint.url))) } "." }
        (text::secret(secret, "Copy the secret"))
        p { "The old one signs until " (at(rotated.old_secret_retires_at)) "." }
        div.actions { a.button href=(frame.link(&path)) { "To the endpoint" } }
    };
    Ok(still(&frame, StatusCode::OK, "New secret", &body))
}

/// Asks before an endpoint is deleted.
pub(crate) async fn ask_delete(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Endpoints);
    let endpoint = ask(&console, &frame, async {
        let endpoint = endpoints::show(&console.api, &visitor.caller, &parse(&id)?).await?;
        must_manage(&frame).map(|()| endpoint)
    })
    .await?;
    let path = path(&endpoint.id);
    let title = "Delete this endpoint?";
    let words = html! {
        p { "Nothing is sent to " b { (strange(address(&endpoint.url))) } " any more, and what is \
            pending for it fails. Its deliveries stay until they are too old to keep. This cannot \
            be undone; to stop for a while, disable it." }
        (facts(&endpoint))
    };
    let confirm = Confirm {
        title,
        words,
        action: &format!("{path}/delete"),
        label: "Delete it",
        typed: Some(Typed {
            what: "the endpoint's id",
            value: endpoint.id.to_string(),
        }),
        back: &path,
    };
    let body = actions::confirm(&frame, &confirm);
    Ok(still(&frame, StatusCode::OK, title, &body))
}

/// Deletes it.
pub(crate) async fn delete(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Endpoints);
    let work = async {
        must_manage(&frame)?;
        let endpoint = endpoints::show(&console.api, &visitor.caller, &parse(&id)?).await?;
        if form.fields.get(actions::TYPED) != Some(endpoint.id.as_str()) {
            let detail = "type the endpoint's id to delete it";
            return Err(Problem::new(Code::Invalid, detail));
        }
        endpoints::delete(&console.api, &visitor.caller, &endpoint.id).await
    };
    act(&visitor, &format!("delete endpoint {id}"), work).await?;
    Ok(done(&frame, "/console/endpoints", "deleted"))
}
