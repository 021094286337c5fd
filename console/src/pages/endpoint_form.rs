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
use posthaste_producer::http::problem::{Code, FieldProblem, Problem};
use posthaste_producer::http::wire_formats::WireFormatInfo;
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::view::EndpointView;
use serde_json::{Map, Value, json};

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::endpoint::{parse, path};
use crate::pages::{acting, ask, done, must_manage};
use crate::parts::actions;
use crate::parts::fields::{Field, Fields};
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{failed, still, token};
use crate::parts::query::Query;
use crate::parts::settings;
use crate::parts::text::{address, copy, strange};
use crate::state::Console;

const PATH: &str = "/console/endpoints";
/// The field with the version of the endpoint that the form shows.
const VERSION: &str = "version";

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
                label: "Own id",
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

/// The fields that a new endpoint and an old one have.
fn common(format: &WireFormatInfo, fields: Fields<'_>) -> Markup {
    let field = |name, label, help| Field { name, label, help };
    html! {
        @if format.name.has_url() {
            (fields.line(field("url", "URL", "Where requests go: https://…"), "text"))
        }
        (fields.line(field("description", "Description", "What it is for."), "text"))
        fieldset {
            legend { "What it gets" }
            (fields.line(field("subscription.types", "Types",
                "Exact types, or prefixes such as order.*, with commas between them. Default: every \
                 type that a producer sends."), "text"))
            (fields.line(field("subscription.phone_numbers", "Phone numbers",
                "Only notifications for one of these, with commas between them. Default: any."),
                "text"))
        }
        fieldset {
            legend { "Settings of the wire format" }
            (settings::inputs(fields, &format.settings_schema))
        }
        fieldset {
            legend { "Limits" }
            (fields.line(field("timeout_ms", "Timeout in ms",
                "For one attempt as a whole, 1,000 to 60,000. Default 5,000."), "number"))
            (fields.line(field("max_in_flight", "Requests at once",
                "Over all workers, 1 to 10,000. Default 32."), "number"))
            (fields.line(field("rate_limit_per_second", "Requests a second",
                "Over all workers. Default: no limit."), "text"))
        }
        fieldset {
            legend { "Retries" }
            (fields.boxes(field("retry.on", "After", ""), &failures()))
            (fields.line(field("retry.max_retries", "Retries at most", "0 to 100. Default 4."),
                "number"))
            (fields.line(field("retry.initial_delay_ms", "First delay in ms",
                "1,000 or more. Default 1,000."), "number"))
            (fields.line(field("retry.multiplier", "Each next delay is so many times as long",
                "1 to 10. Default 2."), "text"))
            (fields.line(field("retry.max_delay_ms", "Longest delay in ms",
                "Up to 30 days. Default 3,600,000, which is an hour."), "number"))
            (fields.line(field("retry.jitter", "Added at random",
                "The greatest part of a delay, 0 to 1. Default 0.2."), "text"))
            (fields.line(field("retry.delays_ms", "Delays in ms, each by itself",
                "A list such as 1000, 60000, 3600000 in the place of the five above. Default: \
                 none."), "text"))
        }
        (fields.area(field("headers", "Headers",
            "Name: value, one on a line. They are in every request; a value that stays [redacted] \
             is not changed."), 4))
    }
}

/// What can be retried, as choices.
fn failures() -> Vec<(String, String)> {
    let word = |on: RetryOn| match serde_json::to_value(on) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    };
    RetryOn::ALL
        .into_iter()
        .map(|on| (word(on), word(on)))
        .collect()
}

/// With all that can be retried, as it is by default.
fn with_retries(values: Query) -> Query {
    failures()
        .into_iter()
        .fold(values, |values, (word, _)| values.and("retry.on", &word))
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
        p { code.secret { (secret.expose()) } " " (copy(secret.expose(), "Copy the secret")) }
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

/// Somebody saved the endpoint meanwhile: what it has now, at each field where that is something
/// else.
fn overtaken(typed: &Query, now: &Query) -> Problem {
    let names: std::collections::BTreeSet<&str> = now.names().chain(typed.names()).collect();
    let is_member = |name: &str| ![VERSION, crate::entry::form::TOKEN].contains(&name);
    let errors = names
        .into_iter()
        .filter(|name| is_member(name))
        .filter_map(|name| {
            let own: Vec<&str> = typed.all(name).collect();
            let theirs: Vec<&str> = now.all(name).collect();
            let said = match theirs.as_slice() {
                _ if own == theirs => return None,
                [] => "is empty now".to_owned(),
                several => format!("is now: {}", several.join(", ")),
            };
            Some(FieldProblem::new(name, said))
        });
    Problem {
        errors: errors.collect(),
        ..Problem::new(
            Code::PreconditionFailed,
            "somebody saved this endpoint after you opened the form: each field that differs says \
             what is there now. Save again, and yours is kept",
        )
    }
}

/// What the fields of an endpoint say.
fn texts(endpoint: &EndpointView) -> Query {
    let list = |items: Vec<String>| items.join(", ");
    let retry = &endpoint.retry;
    let rate = endpoint.rate_limit_per_second;
    let delays = retry
        .delays_ms
        .iter()
        .flatten()
        .map(u64::to_string)
        .collect();
    let types = endpoint
        .subscription
        .types
        .iter()
        .cloned()
        .map(String::from);
    let header = |(name, value): (&String, &Value)| {
        format!("{name}: {}", value.as_str().unwrap_or_default())
    };
    let headers: Vec<String> = endpoint.headers.iter().map(header).collect();
    let pairs = [
        ("url", endpoint.url.clone()),
        ("description", endpoint.description.clone()),
        ("subscription.types", list(types.collect())),
        (
            "subscription.phone_numbers",
            list(endpoint.subscription.phone_numbers.clone()),
        ),
        ("timeout_ms", endpoint.timeout_ms.to_string()),
        ("max_in_flight", endpoint.max_in_flight.to_string()),
        (
            "rate_limit_per_second",
            rate.map(|rate| rate.to_string()).unwrap_or_default(),
        ),
        ("retry.max_retries", retry.max_retries.to_string()),
        ("retry.initial_delay_ms", retry.initial_delay_ms.to_string()),
        ("retry.multiplier", retry.multiplier.to_string()),
        ("retry.max_delay_ms", retry.max_delay_ms.to_string()),
        ("retry.jitter", retry.jitter.to_string()),
        ("retry.delays_ms", list(delays)),
        ("headers", headers.join("\n")),
    ];
    let mut values = Query::default();
    for (name, text) in pairs.into_iter().filter(|(_, text)| !text.is_empty()) {
        values = values.with(name, &text);
    }
    for (name, text) in settings::texts(&endpoint.settings) {
        values = values.with(&name, &text);
    }
    for on in &retry.on {
        if let Ok(Value::String(word)) = serde_json::to_value(on) {
            values = values.and("retry.on", &word);
        }
    }
    values
}

/// The members that the fields stand for, as the API takes them; an empty field is null.
fn members(fields: &Query, format: &WireFormatInfo) -> Result<Map<String, Value>, Problem> {
    let text = |name: &str| fields.get(name).map_or(Value::Null, Value::from);
    let number = |name: &str| fields.get(name).map_or(Value::Null, settings::number);
    let words = |name: &str| -> Vec<&str> {
        let text = fields.get(name).unwrap_or_default();
        let parts = text.split([',', ' ', '\n', '\r']);
        parts.filter(|part| !part.is_empty()).collect()
    };
    let delays: Vec<Value> = words("retry.delays_ms")
        .into_iter()
        .map(settings::number)
        .collect();
    let mut retry = Map::new();
    for name in [
        "max_retries",
        "initial_delay_ms",
        "multiplier",
        "max_delay_ms",
        "jitter",
    ] {
        retry.insert(name.to_owned(), number(&format!("retry.{name}")));
    }
    retry.insert("on".to_owned(), fields.all("retry.on").collect());
    retry.insert(
        "delays_ms".to_owned(),
        if delays.is_empty() {
            Value::Null
        } else {
            delays.into()
        },
    );
    let members = json!({
        "url": text("url"),
        "description": text("description"),
        "subscription": {
            "types": words("subscription.types"),
            "phone_numbers": words("subscription.phone_numbers"),
        },
        "timeout_ms": number("timeout_ms"),
        "max_in_flight": number("max_in_flight"),
        "rate_limit_per_second": number("rate_limit_per_second"),
        "retry": retry,
    });
    let mut problems = Vec::new();
    let mut members = match members {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    match headers(fields.get("headers").unwrap_or_default()) {
        Ok(headers) => drop(members.insert("headers".to_owned(), headers.into())),
        Err(problem) => problems.push(problem),
    }
    match settings::read(fields, &format.settings_schema) {
        Ok(settings) => drop(members.insert("settings".to_owned(), settings.into())),
        Err(wrong) => problems.extend(wrong),
    }
    if problems.is_empty() {
        Ok(members)
    } else {
        Err(Problem::fields(Code::Invalid, problems))
    }
}

fn headers(text: &str) -> Result<Map<String, Value>, FieldProblem> {
    let mut headers = Map::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong =
            |why: &str| FieldProblem::new("headers", format!("has {why} in line {}", at + 1));
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("no colon"))?;
        let (name, value) = (name.trim().to_owned(), value.trim());
        if headers.insert(name, value.into()).is_some() {
            return Err(wrong("a name for the second time"));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_one_on_a_line() {
        let read = headers("Authorization: Bearer a:b\r\n\r\nX-A:1\n").unwrap();
        assert_eq!(
            Value::Object(read),
            json!({ "Authorization": "Bearer a:b", "X-A": "1" })
        );
        assert_eq!(
            headers("a: 1\nb").unwrap_err().problem,
            "has no colon in line 2"
        );
        assert!(headers("a: 1\na: 2").is_err());
    }

    #[test]
    fn whoever_was_overtaken_sees_what_is_there_now() {
        let typed = Query::parse("url=a&description=mine&version=1&form_token=x");
        let now = Query::parse("url=a&description=theirs&max_in_flight=7");
        let problem = overtaken(&typed, &now);
        let said: Vec<(&str, &str)> = problem
            .errors
            .iter()
            .map(|error| (error.field.as_str(), error.problem.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("description", "is now: theirs"),
                ("max_in_flight", "is now: 7")
            ]
        );
    }
}
