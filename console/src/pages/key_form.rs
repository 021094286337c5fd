//! `/console/keys/new` and `…/{id}/revoke`: who may do what from now on.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use posthaste_producer::http::body::KeyDraft;
use posthaste_producer::http::operations::{create_key, keys, revoke_key};
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_shared::domain::id::{KeyId, TenantId};
use posthaste_shared::domain::key::{ApiKey, Scope};
use posthaste_shared::domain::time::Timestamp;

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::{act, acting, ask, done};
use crate::parts::actions::{self, Confirm};
use crate::parts::fields::{Choice, Field, Fields};
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{still, token};
use crate::parts::query::Query;
use crate::parts::text::{self, strange};
use crate::parts::time::{at, at_or};
use crate::state::Console;

const PATH: &str = "/console/keys";
/// How long a key may work: seconds, and what they are called. Empty: until it is revoked.
const LIVES: [(&str, &str); 5] = [
    ("", "until it is revoked"),
    ("86400", "for a day"),
    ("2592000", "for 30 days"),
    ("7776000", "for 90 days"),
    ("31536000", "for a year"),
];

/// Asks for a new key.
pub(crate) async fn ask_new(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Keys);
    // Whoever may not see the keys may not make one.
    ask(&console, &frame, keys(&console.api, &visitor.caller)).await?;
    let values = Query::default().with("scopes", Scope::Enqueue.as_str());
    let fields = Fields {
        values: &values,
        problem: None,
    };
    Ok(still(
        &frame,
        StatusCode::OK,
        "New key",
        &form_of(&frame, fields),
    ))
}

fn form_of(frame: &Frame, fields: Fields<'_>) -> Markup {
    let scopes = Scope::ALL.map(|scope| {
        let may = match scope {
            Scope::Enqueue => "enqueue: send notifications",
            Scope::Read => "read: look at everything",
            Scope::Admin => "admin: look at everything and change it",
        };
        (scope.as_str().to_owned(), may.to_owned())
    });
    let lives: [Choice; 5] = LIVES.map(|(seconds, words)| (seconds.to_owned(), words.to_owned()));
    html! {
        div.headline { h1 { "New key" } }
        (fields.summary())
        form.sheet method="post" action=(frame.link(PATH)) {
            (token(frame))
            (fields.line(Field {
                name: "name",
                label: "Name",
                help: "Who uses it, for people: 1 to 200 characters.",
            }, "text"))
            (fields.boxes(Field {
                name: "scopes",
                label: "It may",
                help: "",
            }, &scopes))
            (fields.line(Field {
                name: "of_tenant",
                label: "Tenant",
                help: "The only one that it is good for. Default: every tenant.",
            }, "text"))
            (fields.choice(Field {
                name: "life",
                label: "It works",
                help: "",
            }, &lives))
            div.actions {
                button.primary type="submit" { "Create" }
                a.button href=(frame.link(PATH)) { "Back" }
            }
        }
    }
}

/// Creates it, and shows it once.
pub(crate) async fn create(
    State(console): State<Arc<Console>>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Keys);
    let work = async {
        let draft = draft(&form.fields, console.now())?;
        create_key(&console.api, &visitor.caller, draft).await
    };
    let made = match acting(&visitor, "create key", work).await {
        Ok(made) => made,
        Err(problem) => {
            let fields = Fields {
                values: &form.fields,
                problem: Some(&problem),
            };
            let body = form_of(&frame, fields);
            return Ok(still(&frame, problem.code.status(), "New key", &body));
        }
    };
    let body = html! {
        div.headline { h1 { "The new key" } }
        p { "It is shown only now. Give it to " b { (strange(&made.info.name)) } "." }
        (text::secret(&made.key, "Copy the key"))
        div.actions { a.button href=(frame.link(PATH)) { "To the keys" } }
    };
    Ok(still(&frame, StatusCode::OK, "New key", &body))
}

fn draft(fields: &Query, now: Timestamp) -> Result<KeyDraft, Problem> {
    let scopes = fields.all("scopes").map(|word| {
        let unknown = || Problem::field(Code::Invalid, "scopes", "has a word that is no scope");
        Scope::parse(word).ok_or_else(unknown)
    });
    let tenant = fields.get("of_tenant").map(|text| {
        TenantId::parse(text).map_err(|error| {
            Problem::field(Code::Invalid, "of_tenant", format!("is refused: {error}"))
        })
    });
    let expires_at = fields.get("life").map(|text| {
        let seconds = text.parse().ok().map(Duration::from_secs);
        let unknown = || Problem::field(Code::Invalid, "life", "must be one of those listed");
        seconds.map(|life| now.after(life)).ok_or_else(unknown)
    });
    Ok(KeyDraft {
        name: fields.get("name").unwrap_or_default().to_owned(),
        tenant: tenant.transpose()?,
        scopes: scopes.collect::<Result<_, _>>()?,
        expires_at: expires_at.transpose()?,
    })
}

/// Asks before a key is revoked.
pub(crate) async fn ask_revoke(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Keys);
    let (key, is_last) = ask(&console, &frame, async {
        let all = keys(&console.api, &visitor.caller).await?.items;
        find(all, &id, console.now())
    })
    .await?;
    let title = "Revoke this key?";
    let words = html! {
        p { "Whoever uses " b { (strange(&key.name)) } " is refused from now on, and what it has \
            open ends. This cannot be undone." }
        @if key.id == visitor.caller.key().id {
            p.error { "It is the key that you signed in with: you will be signed out." }
        }
        @if is_last {
            p.error { "No other key may do everything for every tenant. A new one can then be \
                created only where the program is installed: posthaste key create." }
        }
        dl.facts {
            div { dt { "Key" } dd { span.id { (key.id) } } }
            div { dt { "Last used" } dd { (at_or(key.last_used_at, "never")) } }
            div { dt { "Created" } dd { (at(key.created_at)) } }
        }
    };
    let confirm = Confirm {
        title,
        words,
        action: &format!("{PATH}/{}/revoke", key.id),
        label: "Revoke it",
        typed: None,
        back: PATH,
    };
    let body = actions::confirm(&frame, &confirm);
    Ok(still(&frame, StatusCode::OK, title, &body))
}

/// The key that still works, and whether no other one may do everything.
fn find(all: Vec<ApiKey>, id: &str, now: Timestamp) -> Result<(ApiKey, bool), Problem> {
    let works = |key: &&ApiKey| key.unusable(now).is_none();
    let may_all = |key: &&ApiKey| key.tenant.is_none() && key.scopes.contains(&Scope::Admin);
    let others = all
        .iter()
        .filter(works)
        .filter(may_all)
        .filter(|key| key.id.to_string() != id);
    let is_only = others.count() == 0;
    let found = all
        .into_iter()
        .find(|key| key.id.to_string() == id && works(&key));
    let key = found.ok_or_else(|| Problem::not_found("key that still works"))?;
    let is_last = is_only && may_all(&&key);
    Ok((key, is_last))
}

/// Revokes it.
pub(crate) async fn revoke(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let work = async {
        let unknown = |_| Problem::not_found("key that still works");
        let id = KeyId::parse(&id).map_err(unknown)?;
        revoke_key(&console.api, &visitor.caller, &id).await
    };
    act(&visitor, &format!("revoke key {id}"), work).await?;
    Ok(done(&visitor.frame, PATH, "revoked"))
}
