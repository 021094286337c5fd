//! `/console/endpoints/new` and `/console/endpoints/{id}/settings`: creating and changing an
//! endpoint. The form is read into the JSON that the API takes, and what the API refuses stands at
//! its field.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use posthaste_producer::http::body::{CreatedEndpoint, EndpointPatch};
use posthaste_producer::http::operations::{endpoints, read_body, wire_formats};
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_producer::http::wire_formats::WireFormatInfo;
use posthaste_shared::domain::view::EndpointView;
use serde_json::Value;

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::endpoint::{parse, path};
use crate::pages::{acting, ask, done, must_manage};
use crate::parts::actions;
use crate::parts::endpoint_fields::{VERSION, common, members, overtaken, texts, with_retries};
use crate::parts::fields::{Field, Fields};
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{failed, still, token};
use crate::parts::query::Query;
use crate::parts::text::{self, address, strange};
use crate::state::Console;

const PATH: &str = "/console/endpoints";

/// Asks for a new endpoint: first for its wire format, on which its settings depend.
pub(crate) async fn ask_new(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Endpoints);
    must_manage(&frame).map_err(|problem| failed(Some(&frame), &problem))?;
    let formats = wire_formats(&console.api);
    let chosen = visitor.query.get("wire_format");
    let Some(format) = formats.iter().find(|one| Some(one.name.as_str()) == chosen) else {
        return Ok(still(
            &frame,
            StatusCode::OK,
            "New endpoint",
            &choose(&frame, &formats),
        ));
    };
    let values = frame
        .tenant
        .iter()
        .fold(Query::default(), |values, tenant| {
            values.with("tenant", tenant)
        });
    let fields = Fields {
        values: &with_retries(values),
        problem: None,
    };
    let body = form_of_new(&frame, format, fields);
    Ok(still(&frame, StatusCode::OK, "New endpoint", &body))
}

fn choose(frame: &Frame, formats: &[WireFormatInfo]) -> Markup {
    html! {
        div.headline { h1 { "New endpoint" } }
        p { "How do its requests look?" }
        ul.choices {
            @for format in formats {
                @let chosen = Query::default().with("wire_format", format.name.as_str());
                li {
                    a href=(frame.link_with(&format!("{PATH}/new"), &chosen)) {
                        (format.name.as_str())
                    }
                    p.muted { (format.description) }
                }
            }
        }
    }
}

fn form_of_new(frame: &Frame, format: &WireFormatInfo, fields: Fields<'_>) -> Markup {
    html! {
        div.headline { h1 { "New endpoint" } }
        (fields.summary())
        form.sheet method="post" action=(frame.link(PATH)) {
            (token(frame))
            input type="hidden" name="wire_format" value=(format.name.as_str());
            p { "Wire format " b { (format.name.as_str()) } ": " (format.description) }
            @if !frame.is_bound {
                (fields.line(Field {
                    name: "tenant",
                    label: "Tenant",
                    help: "Whose it is. Default: default.",
                }, "text"))
            }
            (fields.line(Field {
                name: "uid",
                label: "Uid",
                help: "An id of your choice, unique in the tenant, by which requests can name it. \
                       It cannot be changed later.",
            }, "text"))
            (common(format, fields))
            @if format.signs {
                (fields.line(Field {
                    name: "secret",
                    label: "Signing secret",
                    help: "Your own. Default: one is generated, and shown once.",
                }, "password"))
            }
            div.actions {
                button.primary type="submit" { "Create" }
                a.button href=(frame.link(PATH)) { "Back" }
            }
        }
    }
}

/// Creates it.
pub(crate) async fn create(
    State(console): State<Arc<Console>>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Endpoints);
    must_manage(&frame).map_err(|problem| failed(Some(&frame), &problem))?;
    let formats = wire_formats(&console.api);
    let name = form.fields.get("wire_format").unwrap_or("standard");
    let Some(format) = formats.iter().find(|one| one.name.as_str() == name) else {
        let problem = Problem::field(Code::Invalid, "wire_format", "is not known");
        return Err(failed(Some(&frame), &problem));
    };
    let work = async {
        let mut draft = members(&form.fields, format)?;
        draft.retain(|_, value| !value.is_null());
        if let Some(Value::Object(retry)) = draft.get_mut("retry") {
            retry.retain(|_, value| !value.is_null());
        }
        for name in ["wire_format", "tenant", "uid", "secret"] {
            if let Some(text) = form.fields.get(name) {
                draft.insert(name.to_owned(), text.into());
            }
        }
        let draft = read_body(Value::Object(draft).to_string().as_bytes())?;
        endpoints::create(&console.api, &visitor.caller, draft).await
    };
    match acting(&visitor, "create endpoint", work).await {
        Ok(made) => Ok(shown_once(&frame, &made)),
        Err(problem) => {
            let fields = Fields {
                values: &form.fields.without(&["secret"]),
                problem: Some(&problem),
            };
            let body = form_of_new(&frame, format, fields);
            Ok(still(&frame, problem.code.status(), "New endpoint", &body))
        }
    }
}

fn shown_once(frame: &Frame, made: &CreatedEndpoint) -> Response {
    let path = path(&made.endpoint.id);
    let Some(secret) = &made.secret else {
        return done(frame, &path, "created");
    };
    let body = html! {
        div.headline { h1 { "The endpoint is there" } }
        p { "Requests to " b { (strange(address(&made.endpoint.url))) } " are signed with this \
            secret. It is shown only now: hand it to the receiver." }
        (text::secret(secret, "Copy the secret"))
        div.actions {
            (actions::button(frame, &format!("{path}/test"), "Send a test", false))
            a.button href=(frame.link(&path)) { "To the endpoint" }
        }
    };
    still(frame, StatusCode::OK, "New endpoint", &body)
}

/// Asks for changes.
pub(crate) async fn ask_change(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Endpoints);
    let (endpoint, version) = ask(&console, &frame, async {
        editable(&console, &visitor, &frame, &id).await
    })
    .await?;
    let format =
        format_of(&console, &endpoint).map_err(|problem| failed(Some(&frame), &problem))?;
    let values = texts(&endpoint).with(VERSION, &version);
    let fields = Fields {
        values: &values,
        problem: None,
    };
    let body = form_of_change(&frame, &endpoint, &format, fields);
    Ok(still(&frame, StatusCode::OK, "Settings", &body))
}

/// The endpoint and its version, for whoever may change it.
async fn editable(
    console: &Console,
    visitor: &Visitor,
    frame: &Frame,
    id: &str,
) -> Result<(EndpointView, String), Problem> {
    let found = endpoints::for_editing(&console.api, &visitor.caller, &parse(id)?).await?;
    must_manage(frame).map(|()| found)
}

fn format_of(console: &Console, endpoint: &EndpointView) -> Result<WireFormatInfo, Problem> {
    let mut formats = wire_formats(&console.api).into_iter();
    let found = formats.find(|format| format.name == endpoint.wire_format);
    found.ok_or_else(|| Problem::new(Code::NotFound, "its wire format is not known here"))
}

fn form_of_change(
    frame: &Frame,
    endpoint: &EndpointView,
    format: &WireFormatInfo,
    fields: Fields<'_>,
) -> Markup {
    let path = path(&endpoint.id);
    html! {
        div.headline { h1 { "Settings of " (strange(address(&endpoint.url))) } }
        (fields.summary())
        form.sheet method="post" action=(frame.link(&format!("{path}/settings"))) {
            (token(frame))
            input type="hidden" name=(VERSION) value=[fields.values.get(VERSION)];
            p { "Wire format " b { (format.name.as_str()) } ": " (format.description) }
            (common(format, fields))
            div.actions {
                button.primary type="submit" { "Save" }
                a.button href=(frame.link(&path)) { "Back" }
            }
        }
    }
}

/// Saves them, unless somebody else was quicker: then both are shown.
pub(crate) async fn change(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Endpoints);
    let before = ask(&console, &frame, async {
        editable(&console, &visitor, &frame, &id).await
    });
    let (endpoint, now) = before.await?;
    let format =
        format_of(&console, &endpoint).map_err(|problem| failed(Some(&frame), &problem))?;
    let version = form.fields.get(VERSION).unwrap_or_default();
    let work = async {
        let mut patch = members(&form.fields, &format)?;
        // The page shows the URL as it is called, and not as its owner wrote it: what was not
        // changed stays as written. And one that may be without a URL was made without.
        patch.retain(|name, value| {
            name != "url" || !(value.is_null() || *value == endpoint.url.as_str())
        });
        let patch: EndpointPatch = read_body(Value::Object(patch).to_string().as_bytes())?;
        endpoints::change(&console.api, &visitor.caller, &endpoint.id, version, patch).await
    };
    let problem = match acting(&visitor, &format!("change endpoint {id}"), work).await {
        Ok(changed) => return Ok(done(&frame, &path(&changed.id), "saved")),
        Err(problem) => problem,
    };
    let (problem, version) = match problem.code {
        Code::PreconditionFailed => (overtaken(&form.fields, &texts(&endpoint)), now.as_str()),
        _ => (problem, version),
    };
    let fields = Fields {
        values: &form.fields.with(VERSION, version),
        problem: Some(&problem),
    };
    let body = form_of_change(&frame, &endpoint, &format, fields);
    Ok(still(&frame, problem.code.status(), "Settings", &body))
}
