//! `/console/endpoints/{id}/transform`: the script that changes what is sent to an endpoint. It is
//! checked and tried before it is saved. One that is saved is shown to nobody, since scripts may
//! hold secrets: an empty field stands for it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use posthaste_producer::http::body::{
    EndpointPatch, RenderRequest, TriedTransform, TryTransformRequest,
};
use posthaste_producer::http::operations::deliveries::DeliveryQuery;
use posthaste_producer::http::operations::{
    deliveries, endpoints, notification, read_body, render, try_transform, wire_formats,
};
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_producer::http::wire_formats::{RenderReport, ScriptProblem};
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::view::EndpointView;
use serde_json::{Map, Value, json};

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::endpoint::{parse, path};
use crate::pages::{acting, done, must_manage};
use crate::parts::endpoint_fields::VERSION;
use crate::parts::fields::{Field, Fields};
use crate::parts::frame::{Frame, Section};
use crate::parts::json::{self, laid_out};
use crate::parts::layout::{still, token};
use crate::parts::query::Query;
use crate::parts::request::{self, reason};
use crate::parts::text::{address, block, plain, strange};
use crate::state::Console;

/// The field with the script, as the API calls it.
const SCRIPT: &str = "transform";
/// The field that says that the endpoint is to have none.
const REMOVE: &str = "remove";
/// The field with the notification that it is tried with.
const TRIED_WITH: &str = "notification";
/// How long a trial may take.
const TRIED_WITHIN: Duration = Duration::from_secs(30);
/// What stands in the field of an endpoint that has none.
const BEGINNING: &str = "export default (notification) => ({\n  payload: notification.payload,\n})";

/// What stands below the form.
enum Below {
    Nothing,
    Tried(Box<TriedTransform>),
    /// Somebody else saved the endpoint meanwhile.
    Overtaken,
}

/// Asks for the script.
pub(crate) async fn ask(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Endpoints);
    let (endpoint, version, sample) = super::ask(&console, &frame, async {
        let (endpoint, version) = editable(&console, &visitor, &frame, &id).await?;
        let sample = match visitor.query.get("with") {
            Some("latest") => latest(&console, &visitor, &endpoint.id).await?,
            _ => None,
        };
        Ok((endpoint, version, sample))
    })
    .await?;
    let script = if has_one(&endpoint) { "" } else { BEGINNING };
    let sample = sample.unwrap_or_else(|| example(&console, &endpoint));
    let values = Query::default()
        .with(SCRIPT, script)
        .with(VERSION, &version)
        .with(TRIED_WITH, &sample);
    let fields = Fields {
        values: &values,
        problem: None,
    };
    Ok(shown(&frame, &endpoint, fields, &Below::Nothing))
}

async fn editable(
    console: &Console,
    visitor: &Visitor,
    frame: &Frame,
    id: &str,
) -> Result<(EndpointView, String), Problem> {
    let found = endpoints::for_editing(&console.api, &visitor.caller, &parse(id)?).await?;
    must_manage(frame).map(|()| found)
}

fn has_one(endpoint: &EndpointView) -> bool {
    let script = endpoint.settings.get(SCRIPT).and_then(Value::as_str);
    script.is_some_and(|script| !script.is_empty())
}

/// The example of its wire format.
fn example(console: &Console, endpoint: &EndpointView) -> String {
    let mut formats = wire_formats(&console.api).into_iter();
    let format = formats.find(|format| format.name == endpoint.wire_format);
    let example = format.map(|format| format.example).unwrap_or_default();
    laid_out(&example.to_string())
}

/// The notification of its latest delivery.
async fn latest(
    console: &Console,
    visitor: &Visitor,
    id: &EndpointId,
) -> Result<Option<String>, Problem> {
    let query = DeliveryQuery {
        endpoint_id: id.clone().into(),
        limit: Some(1),
        ..DeliveryQuery::default()
    };
    let found = deliveries::list(&console.api, &visitor.caller, query).await?;
    let Some(delivery) = found.items.first() else {
        return Ok(None);
    };
    let (tenant, id) = (&delivery.tenant, &delivery.notification_id);
    let found = notification(&console.api, &visitor.caller, id, Some(tenant)).await?;
    // Written by hand, since the payload's digits stay as they are then.
    let mut text = format!(
        "{{\"type\":{},\"payload\":{}",
        json!(found.kind.as_str()),
        found.payload.as_str()
    );
    for (name, json) in [
        ("recipient", &found.recipient),
        ("overrides", &found.overrides),
    ] {
        if let Some(json) = json {
            text.push_str(&format!(",\"{name}\":{}", json.as_str()));
        }
    }
    text.push('}');
    Ok(Some(laid_out(&text)))
}

fn shown(frame: &Frame, endpoint: &EndpointView, fields: Fields<'_>, below: &Below) -> Response {
    let path = path(&endpoint.id);
    let own = format!("{path}/transform");
    let attempt = frame.link(&format!("{own}/try"));
    let body = html! {
        div.headline { h1 { "Transform of " (strange(address(&endpoint.url))) } }
        p.muted { "A script, JavaScript or TypeScript, that runs for each delivery before the \
            request is written. It returns the payload that is sent, and may add headers or \
            choose another URL." }
        (fields.summary())
        form.sheet data-wide method="post" action=(frame.link(&own)) {
            (token(frame))
            input type="hidden" name=(VERSION) value=[fields.values.get(VERSION)];
            (editor(fields.values.get(SCRIPT).unwrap_or_default(), has_one(endpoint), below))
            @if has_one(endpoint) {
                p { label {
                    input type="checkbox" name=(REMOVE) value="1"
                        checked[fields.values.get(REMOVE).is_some()];
                    " Remove the transform: what is enqueued is sent as it is"
                } }
            }
            (fields.area(Field {
                name: TRIED_WITH,
                label: "Try it with",
                help: "A notification: type, payload, recipient, overrides.",
            }, 7))
            div.actions {
                button.primary type="submit" formaction=(attempt) name="do" value="try" { "Try" }
                button type="submit" formaction=(attempt) name="do" value="check" { "Check" }
                button type="submit" { "Save" }
                a.button href=(frame.link_with(&own, &Query::default().with("with", "latest"))) {
                    "With its latest notification"
                }
                a.button href=(frame.link(&path)) { "Back" }
            }
        }
        @match below {
            Below::Nothing => {},
            Below::Tried(tried) => (results(fields.values, tried)),
            Below::Overtaken => section.outlook {
                h2 { "What is saved now" }
                p { @if has_one(endpoint) { "A transform." } @else { "No transform." } }
            },
        }
    };
    let status = fields
        .problem
        .map_or(StatusCode::OK, |problem| problem.code.status());
    still(frame, status, "Transform", &body)
}

/// The script with numbers at its lines, and where it is wrong.
fn editor(script: &str, has_one: bool, below: &Below) -> Markup {
    let problem = match below {
        Below::Tried(tried) => tried.problem.as_ref(),
        _ => None,
    };
    let place = problem.and_then(|problem| Some((problem.line?, problem.column?)));
    let lines = script.lines().count().max(1);
    html! {
        div.field {
            label for="script" { "Script" }
            div.editor {
                pre.gutter aria-hidden="true" {
                    @for line in 1..=lines { @if line > 1 { "\n" } (line) }
                }
                textarea #script name=(SCRIPT) rows="16" spellcheck="false" wrap="off"
                    autocapitalize="off" aria-describedby="script-help"
                    aria-invalid=[problem.map(|_| "true")]
                    data-line=[place.map(|(line, _)| line)]
                    data-column=[place.map(|(_, column)| column)] { "\n" (script) }
            }
            p.muted #script-help {
                "Up to 100 KiB. "
                @if has_one {
                    "The endpoint has a transform. It is not shown, since scripts may hold \
                     secrets: keep its source with your own. What you write here takes its place; \
                     with an empty field, Try runs the one that is saved."
                }
            }
            @if let Some(problem) = problem { (wrong(script, problem)) }
        }
    }
}

/// What is wrong, with its line.
fn wrong(script: &str, problem: &ScriptProblem) -> Markup {
    let (line, column) = (problem.line.unwrap_or(0), problem.column.unwrap_or(0));
    let index = usize::try_from(line).unwrap_or(0).checked_sub(1);
    let text = index.and_then(|index| script.lines().nth(index));
    html! {
        div.error #problem role="alert" tabindex="-1" {
            p {
                @if line > 0 { b { "Line " (line) ", column " (column) ": " } }
                (plain(&problem.message))
            }
            @if let Some(text) = text {
                pre { (plain(text)) "\n" (pointer(text, column)) }
            }
        }
    }
}

/// A mark below the column of a line.
fn pointer(line: &str, column: u32) -> String {
    let before = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    // Tabs stay tabs, or the mark would stand elsewhere.
    let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
    let mut mark: String = line.chars().take(before).map(blank).collect();
    mark.push('^');
    mark
}

/// What it did.
fn results(values: &Query, tried: &TriedTransform) -> Markup {
    html! {
        @if let Some(report) = &tried.render {
            section #outlook.outlook tabindex="-1" {
                @if values.get("do") == Some("check") {
                    h2 { "It compiles" }
                    p { "To see what it does, try it." }
                } @else { (report_of(report)) }
            }
        }
    }
}

fn report_of(report: &RenderReport) -> Markup {
    html! {
        h2 { @if report.request.is_some() { "It works" } @else { "Nothing would be sent" } }
        @if let Some(error) = &report.error { (reason(&report.outcome, error)) }
        div.panes {
            section.pane {
                h2 { "Payload before" }
                (json::pretty(report.notification.payload.as_str()))
            }
            section.pane {
                h2 { "Payload after" }
                @match &report.payload {
                    Some(payload) => (json::pretty(payload.as_str())),
                    None => p.muted { "It returned none." },
                }
            }
            section.pane {
                h2 { "Request" }
                @match &report.request {
                    Some(request) => (request::shown(request)),
                    None => p.muted { "None would be sent." },
                }
                @if report.asks_first { (request::asks_first()) }
            }
            section.pane {
                h2 { "The script's console" }
                @match &report.console {
                    Some(console) => (block(console)),
                    None => p.muted { "It wrote nothing." },
                }
            }
        }
    }
}

/// Checks or tries it. Nothing is saved or sent.
pub(crate) async fn attempt(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Endpoints);
    let (endpoint, _) = super::ask(&console, &frame, async {
        editable(&console, &visitor, &frame, &id).await
    })
    .await?;
    let work = async {
        let transform = script_of(&form.fields);
        let notification = sample_of(&form.fields)?;
        if transform.is_empty() && !has_one(&endpoint) {
            let detail = "there is no script to try";
            return Err(Problem::new(Code::Invalid, detail));
        }
        let work = tried(&console, &visitor, &endpoint.id, transform, notification);
        let late = |_| {
            let detail = "the script did not end within 30 s";
            Err(Problem::new(Code::Unavailable, detail))
        };
        let tried = tokio::time::timeout(TRIED_WITHIN, work).await;
        tried.unwrap_or_else(late)
    };
    let (below, problem) = match work.await {
        Ok(tried) => (Below::Tried(Box::new(tried)), None),
        Err(problem) => (Below::Nothing, Some(problem)),
    };
    let fields = Fields {
        values: &form.fields,
        problem: problem.as_ref(),
    };
    Ok(shown(&frame, &endpoint, fields, &below))
}

/// Tries a script, or with none the one that is saved.
async fn tried(
    console: &Console,
    visitor: &Visitor,
    id: &EndpointId,
    transform: String,
    notification: Option<NotificationDraft>,
) -> Result<TriedTransform, Problem> {
    if !transform.is_empty() {
        let request = TryTransformRequest {
            transform,
            notification,
        };
        return try_transform(&console.api, &visitor.caller, id, request).await;
    }
    let request = RenderRequest { notification };
    let report = render(&console.api, &visitor.caller, id, request).await?;
    Ok(TriedTransform {
        problem: None,
        render: Some(report),
    })
}

fn script_of(fields: &Query) -> String {
    let script = fields.get(SCRIPT).unwrap_or_default();
    script.replace("\r\n", "\n")
}

fn sample_of(fields: &Query) -> Result<Option<NotificationDraft>, Problem> {
    let Some(text) = fields.get(TRIED_WITH) else {
        return Ok(None);
    };
    let named = |problem: Problem| {
        let said = match problem.errors.first() {
            Some(error) => format!("{} {}", error.field, error.problem),
            None => problem.detail.clone(),
        };
        Problem::field(Code::Invalid, TRIED_WITH, format!("is refused: {said}"))
    };
    read_body(text.as_bytes()).map(Some).map_err(named)
}

/// Saves it, unless somebody else was quicker: then both are shown.
pub(crate) async fn save(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Endpoints);
    let (endpoint, now) = super::ask(&console, &frame, async {
        editable(&console, &visitor, &frame, &id).await
    })
    .await?;
    let script = script_of(&form.fields);
    let version = form.fields.get(VERSION).unwrap_or_default();
    let work = async {
        let removed = form.fields.get(REMOVE).is_some();
        let patch = patch(&endpoint.settings, &script, removed)?;
        endpoints::change(&console.api, &visitor.caller, &endpoint.id, version, patch).await
    };
    let what = format!("change transform of endpoint {id}");
    let problem = match acting(&visitor, &what, work).await {
        Ok(changed) => return Ok(done(&frame, &path(&changed.id), "transformed")),
        Err(problem) => problem,
    };
    let (problem, version, below) = if problem.code == Code::PreconditionFailed {
        let detail = "somebody saved this endpoint after you opened the form: save again, and \
                      yours takes the place of theirs";
        let overtaken = Problem::new(problem.code, detail);
        (overtaken, now.as_str(), Below::Overtaken)
    } else {
        (problem, version, Below::Nothing)
    };
    let problem = at_the_script(problem);
    let fields = Fields {
        values: &form.fields.with(VERSION, version),
        problem: Some(&problem),
    };
    Ok(shown(&frame, &endpoint, fields, &below))
}

/// Only the script changes: the other settings are sent as they are shown, and what is redacted
/// stays.
fn patch(
    settings: &Map<String, Value>,
    script: &str,
    removed: bool,
) -> Result<EndpointPatch, Problem> {
    let refused = |detail: &str| Err(Problem::new(Code::Invalid, detail));
    let mut settings = settings.clone();
    match (script.is_empty(), removed) {
        (false, false) => settings.insert(SCRIPT.to_owned(), script.into()),
        (true, true) => settings.remove(SCRIPT),
        (true, false) => return refused("there is nothing to save: write a script"),
        (false, true) => {
            return refused("either write a script or remove the transform, not both");
        }
    };
    read_body(json!({ "settings": settings }).to_string().as_bytes())
}

/// What is wrong with the script is said above the form: its field is not one of those that have
/// their errors below them.
fn at_the_script(problem: Problem) -> Problem {
    let said: Vec<String> = problem
        .errors
        .iter()
        .map(|error| format!("{} {}", error.field, error.problem))
        .collect();
    match said.as_slice() {
        [] => problem,
        said => Problem {
            detail: said.join("; "),
            ..problem
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_below_its_column() {
        assert_eq!(pointer("\treturn 1 +;", 12), "\t          ^");
        assert_eq!(pointer("", 1), "^");
        assert_eq!(pointer("a", 0), "^");
    }

    #[test]
    fn only_the_script_changes() {
        let settings = json!({ "mode": "binary", "api_key": "[redacted]", "transform": "old" });
        let settings = settings.as_object().unwrap();
        let patch = |script: &str, removed: bool| {
            let patch = super::patch(settings, script, removed).ok()?;
            Some(serde_json::to_value(patch).unwrap()["settings"].clone())
        };
        let expected = json!({ "mode": "binary", "api_key": "[redacted]", "transform": "new" });
        assert_eq!(patch("new", false), Some(expected));
        let without = json!({ "mode": "binary", "api_key": "[redacted]" });
        assert_eq!(patch("", true), Some(without));
        // Nobody removes it, or saves what only stands for it, by mistake.
        assert_eq!(patch("", false), None);
        assert_eq!(patch("new", true), None);
    }
}
