//! `/console/send`: a notification that somebody writes by hand. Who gets it is shown before it is
//! sent, and its id is in the form, so that it is enqueued once however often the form is sent.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use maud::{Markup, html};
use posthaste_producer::http::body::{AudienceView, RenderRequest};
use posthaste_producer::http::operations::endpoints::EndpointQuery;
use posthaste_producer::http::operations::{
    audience, endpoints, enqueue, notification, render, types, wire_formats,
};
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_producer::http::wire_formats::RenderReport;
use posthaste_shared::domain::id::{EndpointId, NotificationId, NotificationType, TenantId};
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::view::EndpointView;
use serde_json::Value;

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::{acting, ask};
use crate::parts::fields::{Choice, Field, Fields};
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{failed, still, token};
use crate::parts::query::{Query, segment};
use crate::parts::request::{self, reason};
use crate::parts::text::{address, plain, strange};
use crate::parts::{chip, json};
use crate::state::Console;

const PATH: &str = "/console/send";
/// The field with the notification's id.
const ID: &str = "notification_id";
const TITLE: &str = "Send a test notification";
/// The most endpoints that one can be chosen of.
const MOST_ENDPOINTS: u32 = 200;
/// How many requests are shown before it is sent.
const MOST_RENDERED: usize = 3;

/// How long one of them may take, its transform included.
const RENDERED_WITHIN: Duration = Duration::from_secs(10);

/// What the form is made with besides what somebody typed.
struct Known {
    types: Vec<NotificationType>,
    endpoints: Vec<EndpointView>,
}

/// What is shown of a notification before it is sent.
struct Outlook {
    audience: AudienceView,
    requests: Vec<(EndpointId, Result<RenderReport, Problem>)>,
}

/// Asks what to send. `like` and `of` name a notification that it begins with, `endpoint_id` who
/// gets it.
pub(crate) async fn ask_new(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Send);
    must_enqueue(&frame).map_err(|problem| failed(Some(&frame), &problem))?;
    let (known, values) = ask(&console, &frame, async {
        let known = known(&console, &visitor).await?;
        let values = beginning(&console, &visitor, &known).await?;
        Ok((known, values))
    })
    .await?;
    let fields = Fields {
        values: &values,
        problem: None,
    };
    Ok(shown(&frame, &known, fields, None))
}

fn must_enqueue(frame: &Frame) -> Result<(), Problem> {
    if frame.may_enqueue {
        return Ok(());
    }
    let detail = "this needs the scope enqueue or admin, and you only look";
    Err(Problem::new(Code::MissingScope, detail))
}

/// The types and endpoints of the tenant that is looked at.
async fn known(console: &Console, visitor: &Visitor) -> Result<Known, Problem> {
    let tenant = tenant_of(visitor)?;
    let query = EndpointQuery {
        tenant: tenant.clone(),
        limit: Some(MOST_ENDPOINTS),
        ..EndpointQuery::default()
    };
    let types = types(&console.api, &visitor.caller, tenant.as_ref()).await?;
    let endpoints = endpoints::list(&console.api, &visitor.caller, query).await?;
    Ok(Known {
        types: types.items,
        endpoints: endpoints.items,
    })
}

fn tenant_of(visitor: &Visitor) -> Result<Option<TenantId>, Problem> {
    let tenant = visitor.frame.tenant.as_deref().map(TenantId::parse);
    let wrong = |error| Problem::field(Code::Invalid, "tenant", format!("is refused: {error}"));
    tenant.transpose().map_err(wrong)
}

/// What the fields begin with: an earlier notification, or the example of the endpoint's format.
async fn beginning(console: &Console, visitor: &Visitor, known: &Known) -> Result<Query, Problem> {
    let query = &visitor.query;
    let id = NotificationId::generate(console.now());
    let mut values = Query::default().with(ID, id.as_str());
    if let Some(like) = query.get("like") {
        let unknown = || Problem::not_found("notification");
        let like = NotificationId::parse(like).map_err(|_| unknown())?;
        let of = query.get("of").map(TenantId::parse);
        let of = of.transpose().map_err(|_| unknown())?;
        let found = notification(&console.api, &visitor.caller, &like, of.as_ref()).await?;
        values = values
            .with("tenant", found.tenant.as_str())
            .with("type", found.kind.as_str());
        if let Some(endpoint) = &found.endpoint_id {
            values = values.with("endpoint_id", endpoint.as_str());
        }
        for (name, json) in [
            ("payload", Some(&found.payload)),
            ("recipient", found.recipient.as_ref()),
            ("overrides", found.overrides.as_ref()),
        ] {
            if let Some(json) = json {
                values = values.with(name, &json::laid_out(json.as_str()));
            }
        }
        return Ok(values);
    }
    if let Some(tenant) = &visitor.frame.tenant {
        values = values.with("tenant", tenant);
    }
    let chosen = query.get("endpoint_id").and_then(|id| {
        let mut all = known.endpoints.iter();
        all.find(|endpoint| endpoint.id.as_str() == id)
    });
    if let Some(endpoint) = chosen {
        values = values
            .with("endpoint_id", endpoint.id.as_str())
            .with("tenant", endpoint.tenant.as_str());
    }
    let formats = wire_formats(&console.api);
    let mut formats = formats.into_iter();
    let format = match chosen {
        Some(endpoint) => formats.find(|format| format.name == endpoint.wire_format),
        None => formats.next(),
    };
    let example = format.map(|format| format.example).unwrap_or_default();
    if let Some(kind) = example["type"].as_str() {
        values = values.with("type", kind);
    }
    for name in ["payload", "recipient", "overrides"] {
        match &example[name] {
            Value::Null => {}
            value => values = values.with(name, &json::laid_out(&value.to_string())),
        }
    }
    Ok(values)
}

fn shown(frame: &Frame, known: &Known, fields: Fields<'_>, outlook: Option<&Outlook>) -> Response {
    let status = fields
        .problem
        .map_or(StatusCode::OK, |problem| problem.code.status());
    let body = html! {
        div.headline { h1 { (TITLE) } }
        (fields.summary())
        form.sheet method="post" action=(frame.link(PATH)) {
            (token(frame))
            input type="hidden" name=(ID) value=[fields.values.get(ID)];
            (inputs(frame, known, fields))
            @match outlook {
                Some(outlook) => {
                    (who(frame, outlook))
                    div.actions {
                        button.primary type="submit" { "Send it" }
                        button type="submit" formaction=(frame.link(&format!("{PATH}/look"))) {
                            "Look again"
                        }
                    }
                },
                None => div.actions {
                    button.primary type="submit"
                        formaction=(frame.link(&format!("{PATH}/look"))) { "Who gets it?" }
                },
            }
        }
    };
    still(frame, status, TITLE, &body)
}

fn inputs(frame: &Frame, known: &Known, fields: Fields<'_>) -> Markup {
    let types: Vec<&str> = known.types.iter().map(NotificationType::as_str).collect();
    let has_more = ["recipient", "overrides"]
        .iter()
        .any(|name| fields.values.get(name).is_some());
    html! {
        @if !frame.is_bound {
            (fields.line(Field {
                name: "tenant",
                label: "Tenant",
                help: "Whose it is. Default: the endpoint's, else default.",
            }, "text"))
        }
        (fields.choice(Field {
            name: "endpoint_id",
            label: "For",
            help: "",
        }, &choices(known, fields.values.get("endpoint_id"))))
        (fields.suggested(Field {
            name: "type",
            label: "Type",
            help: "What it reports, such as order.paid: subscriptions go by it.",
        }, &types))
        (fields.area(Field {
            name: "payload",
            label: "Payload",
            help: "Any JSON. It is carried through untouched.",
        }, 10))
        details open[has_more] {
            summary { "Recipient and overrides" }
            div.stacked {
                (fields.area(Field {
                    name: "recipient",
                    label: "Recipient",
                    help: "A JSON object with what wire formats need beside the payload. Default: \
                           none.",
                }, 4))
                (fields.area(Field {
                    name: "overrides",
                    label: "Overrides",
                    help: "A JSON object with overrides for each wire format. Default: none.",
                }, 4))
            }
        }
    }
}

fn choices(known: &Known, chosen: Option<&str>) -> Vec<Choice> {
    let mut choices = vec![(String::new(), "all endpoints that subscribe".to_owned())];
    choices.extend(known.endpoints.iter().map(|endpoint| {
        let state = if endpoint.enabled { "" } else { ", disabled" };
        let said = format!("{} ({}{state})", address(&endpoint.url), endpoint.tenant);
        (endpoint.id.to_string(), plain(&said).into_owned())
    }));
    // One that is not among the first, or that was named by its uid.
    if let Some(other) = chosen
        && !choices.iter().any(|(id, _)| id == other)
    {
        choices.push((other.to_owned(), plain(other).into_owned()));
    }
    choices
}

/// Who gets it, and each request.
fn who(frame: &Frame, outlook: &Outlook) -> Markup {
    let found = &outlook.audience;
    let count = found.count;
    html! {
        section #outlook.outlook tabindex="-1" {
            h2 {
                @match count {
                    0 => "Nobody gets it",
                    1 => "One endpoint gets it",
                    _ => { (count) " endpoints get it" }
                }
            }
            @if count == 0 {
                p { "No enabled endpoint of the tenant " b { (strange(found.tenant.as_str())) }
                    " subscribes to this type. It is accepted all the same, and recorded as \
                    unmatched." }
            }
            ul.audience {
                @for endpoint in &found.endpoints {
                    li {
                        @let page = format!("/console/endpoints/{}", segment(endpoint.id.as_str()));
                        a href=(frame.link(&page)) { (strange(address(&endpoint.url))) }
                        " " span.muted { (endpoint.wire_format.as_str()) }
                        @if !endpoint.enabled {
                            " " (chip::chip("off", "⊘", "disabled"))
                            " " span.muted { "it waits until that is enabled" }
                        }
                        @for problem in &endpoint.problems {
                            p.error { (plain(&format!("{} {}", problem.field, problem.problem))) }
                        }
                        @for (_, report) in of(outlook, &endpoint.id) {
                            (rendered(report))
                        }
                    }
                }
            }
            @if count > found.endpoints.len() {
                p.muted { "These are the first " (found.endpoints.len()) "." }
            }
        }
    }
}

fn of<'a>(
    outlook: &'a Outlook,
    id: &'a EndpointId,
) -> impl Iterator<Item = &'a (EndpointId, Result<RenderReport, Problem>)> {
    outlook.requests.iter().filter(move |(of, _)| of == id)
}

fn rendered(report: &Result<RenderReport, Problem>) -> Markup {
    html! {
        @match report {
            Err(problem) => p.error { (plain(&problem.detail)) },
            Ok(report) => {
                @if let Some(error) = &report.error { (reason(&report.outcome, error)) }
                @if let Some(request) = &report.request {
                    details {
                        summary { "The request" }
                        (request::shown(request))
                        @if report.asks_first { (request::asks_first()) }
                    }
                }
            },
        }
    }
}

/// Shows who would get it. Nothing is sent.
pub(crate) async fn look(
    State(console): State<Arc<Console>>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Send);
    must_enqueue(&frame).map_err(|problem| failed(Some(&frame), &problem))?;
    let known = ask(&console, &frame, known(&console, &visitor)).await?;
    let looked = outlook(&console, &visitor, &known, &form.fields).await;
    let (outlook, problem) = match looked {
        Ok(outlook) => (Some(outlook), None),
        Err(problem) => (None, Some(problem)),
    };
    let fields = Fields {
        values: &form.fields,
        problem: problem.as_ref(),
    };
    Ok(shown(&frame, &known, fields, outlook.as_ref()))
}

async fn outlook(
    console: &Console,
    visitor: &Visitor,
    known: &Known,
    fields: &Query,
) -> Result<Outlook, Problem> {
    let draft = draft(fields, known)?;
    let audience = audience(&console.api, &visitor.caller, draft.clone()).await?;
    let mut requests = Vec::new();
    // What would be sent is for those who manage, as the test of an endpoint is.
    if visitor.frame.may_manage {
        for endpoint in audience.endpoints.iter().take(MOST_RENDERED) {
            let request = RenderRequest {
                notification: Some(draft.clone()),
            };
            let work = render(&console.api, &visitor.caller, &endpoint.id, request);
            let late = |_| {
                let detail = "its transform did not end within 10 s";
                Err(Problem::new(Code::Unavailable, detail))
            };
            let report = tokio::time::timeout(RENDERED_WITHIN, work).await;
            requests.push((endpoint.id.clone(), report.unwrap_or_else(late)));
        }
    }
    Ok(Outlook { audience, requests })
}

/// Enqueues it.
pub(crate) async fn send(
    State(console): State<Arc<Console>>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Send);
    must_enqueue(&frame).map_err(|problem| failed(Some(&frame), &problem))?;
    let known = ask(&console, &frame, known(&console, &visitor)).await?;
    let work = async {
        let draft = draft(&form.fields, &known)?;
        let tenant = draft.tenant.clone();
        let accepted = enqueue(&console.api, &visitor.caller, draft).await?;
        Ok((tenant, accepted.id))
    };
    match acting(&visitor, "send a notification", work).await {
        Ok((tenant, id)) => {
            let own = visitor.caller.key().tenant.clone();
            let tenant = own.or(tenant).unwrap_or_default();
            let path = format!(
                "/console/notifications/{}/{}",
                segment(tenant.as_str()),
                segment(id.as_str())
            );
            // Until a worker has taken it up, only the broker knows it.
            let query = Query::default().with("fresh", "1").with("notice", "sent");
            Ok(Redirect::to(&frame.link_with(&path, &query)).into_response())
        }
        Err(problem) => {
            let fields = Fields {
                values: &form.fields,
                problem: Some(&problem),
            };
            Ok(shown(&frame, &known, fields, None))
        }
    }
}

/// The notification that the fields stand for.
fn draft(fields: &Query, known: &Known) -> Result<NotificationDraft, Problem> {
    let wrong = |name: &'static str| {
        move |error: String| Problem::field(Code::Invalid, name, format!("is refused: {error}"))
    };
    let json = |name: &'static str| -> Result<Option<RawJson>, Problem> {
        let text = fields.get(name).map(|text| text.replace("\r\n", "\n"));
        let not_json = |error: serde_json::Error| {
            Problem::field(Code::Invalid, name, format!("is not JSON: {error}"))
        };
        text.map(RawJson::parse).transpose().map_err(not_json)
    };
    let kind = fields.get("type").unwrap_or_default();
    let kind = NotificationType::parse(kind).map_err(|e| wrong("type")(e.to_string()))?;
    let missing = || Problem::field(Code::Invalid, "payload", "is missing: give any JSON value");
    let mut draft = NotificationDraft::new(kind, json("payload")?.ok_or_else(missing)?);
    draft.recipient = json("recipient")?;
    draft.overrides = json("overrides")?;
    if let Some(id) = fields.get(ID) {
        let id = NotificationId::parse(id).map_err(|e| wrong(ID)(e.to_string()))?;
        draft.id = Some(id);
    }
    if let Some(tenant) = fields.get("tenant") {
        let tenant = TenantId::parse(tenant).map_err(|e| wrong("tenant")(e.to_string()))?;
        draft.tenant = Some(tenant);
    }
    if let Some(id) = fields.get("endpoint_id") {
        let id = EndpointId::parse(id).map_err(|e| wrong("endpoint_id")(e.to_string()))?;
        // Whoever chose an endpoint chose its tenant.
        let mut all = known.endpoints.iter();
        if draft.tenant.is_none() {
            let chosen = all.find(|endpoint| endpoint.id == id);
            draft.tenant = chosen.map(|endpoint| endpoint.tenant.clone());
        }
        draft.endpoint_id = Some(id);
    }
    Ok(draft)
}
