//! `/console/deliveries/{id}`: why it is where it is, and what happened to it so far.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::body::DeliveryExplanation;
use posthaste_producer::http::operations::deliveries;
use posthaste_producer::http::problem::Problem;
use posthaste_shared::domain::delivery::Status;
use posthaste_shared::domain::id::DeliveryId;

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::{act, ask, done};
use crate::parts::commands::commands;
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{self, page, still};
use crate::parts::query::segment;
use crate::parts::text::{address, plain, strange, whole_id};
use crate::parts::time::{at, at_or};
use crate::parts::{actions, attempts, chip, compare};
use crate::state::Console;

/// The page.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Deliveries);
    let found = ask(&console, &frame, async {
        deliveries::explain(&console.api, &visitor.caller, parse(&id)?).await
    })
    .await?;
    let path = path(&found);
    let last = found.attempts.last().map_or(0, |attempt| attempt.number);
    let chosen = visitor
        .query
        .get("attempt")
        .and_then(|number| number.parse().ok())
        .filter(|number| {
            found
                .attempts
                .iter()
                .any(|attempt| attempt.number == *number)
        })
        .unwrap_or(last);
    let query = visitor.query.without(&["notice", "attempt", "compare"]);
    let compared = visitor.query.get("compare");
    let compared = compared.and_then(|words| compare::chosen(words, &found.attempts));
    let chosen = compared.map_or(chosen, |(_, later)| later.number);
    let body = html! {
        (heading(&frame, &found))
        p.said dir="auto" { (plain(&found.summary)) }
        (facts(&frame, &found))
        @if found.attempts.is_empty() {
            p.muted { "There is no attempt yet." }
        } @else {
            (attempts::table(&path, &query, &found.attempts, chosen))
        }
        @if let Some((one, other)) = compared {
            @let alone = query.with("attempt", &other.number.to_string());
            (compare::panes(one, other, &format!("{path}{alone}#attempt")))
        } @else {
            @for attempt in found.attempts.iter().filter(|attempt| attempt.number == chosen) {
                (attempts::panes(attempt, &compare::form(&path, &query, &found.attempts, attempt)))
            }
        }
        (on_the_command_line(&found))
    };
    Ok(page(&frame, &format!("Delivery {}", short(&found)), &body))
}

fn on_the_command_line(found: &DeliveryExplanation) -> Markup {
    let id = found.delivery.id.to_string();
    commands(&format!("/v1/deliveries/{id}/explain"), &["explain", &id])
}

fn heading(frame: &Frame, found: &DeliveryExplanation) -> Markup {
    let delivery = &found.delivery;
    html! {
        div.headline {
            h1 { (chip::delivery(delivery)) " "
                span.title { (strange(delivery.kind.as_str())) " → "
                    @match &found.endpoint {
                        Some(endpoint) => (strange(address(&endpoint.url))),
                        None => span.muted { "deleted endpoint" },
                    }
                }
            }
            @if frame.may_manage { div.actions { (buttons(frame, found)) } }
        }
    }
}

/// What can be done now. The operation decides; this only leaves out what it would refuse.
fn buttons(frame: &Frame, found: &DeliveryExplanation) -> Markup {
    let delivery = &found.delivery;
    let path = path(found);
    let in_flight = found.lease_until.is_some();
    let can_retry = !in_flight && found.endpoint.is_some() && delivery.status != Status::Expired;
    html! {
        @if can_retry {
            @if delivery.status == Status::Delivered {
                (actions::question(frame, &format!("{path}/retry"), "Send again …"))
            } @else {
                (actions::button(frame, &format!("{path}/retry"), "Retry now", true))
            }
        }
        @if delivery.status == Status::Pending && !in_flight {
            (actions::question(frame, &format!("{path}/cancel"), "Cancel …"))
        }
    }
}

fn facts(frame: &Frame, found: &DeliveryExplanation) -> Markup {
    let delivery = &found.delivery;
    let notification = format!(
        "/console/notifications/{}/{}",
        segment(delivery.tenant.as_str()),
        segment(delivery.notification_id.as_str())
    );
    let endpoint = format!(
        "/console/endpoints/{}",
        segment(delivery.endpoint_id.as_str())
    );
    html! {
        dl.facts {
            div { dt { "Delivery" } dd { (whole_id(&delivery.id.to_string())) } }
            div { dt { "Notification" } dd {
                a href=(frame.link(&notification)) { (strange(delivery.notification_id.as_str())) }
            } }
            div { dt { "Endpoint" } dd {
                @if found.endpoint.is_some() {
                    a.id href=(frame.link(&endpoint)) { (strange(delivery.endpoint_id.as_str())) }
                } @else { (strange(delivery.endpoint_id.as_str())) }
                " " span.muted { (delivery.wire_format.as_str()) }
            } }
            div { dt { "Tenant" } dd { (strange(delivery.tenant.as_str())) } }
            div { dt { "Accepted" } dd { (at(delivery.created_at)) } }
            @if let Some(next) = delivery.next_attempt_at {
                div { dt { "Next attempt" } dd { (at(next)) } }
            }
            @if let Some(until) = found.lease_until {
                div { dt { "Leased until" } dd { (at(until)) } }
            }
            div { dt { "Finished" } dd { (at_or(delivery.finished_at, "not yet")) } }
            div { dt { "Expires" } dd { (at_or(delivery.expires_at, "never")) } }
            @if let Some(recipient) = &delivery.recipient {
                div { dt { "Recipient" } dd { (strange(recipient)) } }
            }
            @if let Some(id) = &delivery.provider_message_id {
                div { dt { "Provider's id" } dd { (whole_id(id)) } }
            }
            @if let Some(code) = &delivery.provider_error_code {
                div { dt { "Provider's code" } dd { (strange(code)) } }
            }
        }
    }
}

/// Asks before a delivery that arrived is sent once more.
pub(crate) async fn ask_retry(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let words = html! {
        p { "The endpoint gets it once more, with the same " code { "webhook-id" } ": a receiver \
            that checks that id ignores it. A new round of attempts begins." }
    };
    question(
        &console,
        &id,
        &visitor,
        "Send this delivery again?",
        "retry",
        "Send again",
        words,
    )
    .await
}

/// Asks before a delivery is cancelled.
pub(crate) async fn ask_cancel(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let words = html! {
        p { "It will not be sent. It stays in the list as cancelled, and can be sent again from \
            there." }
    };
    question(
        &console,
        &id,
        &visitor,
        "Cancel this delivery?",
        "cancel",
        "Cancel it",
        words,
    )
    .await
}

async fn question(
    console: &Console,
    id: &str,
    visitor: &Visitor,
    title: &str,
    action: &str,
    label: &str,
    words: Markup,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Deliveries);
    let found = ask(console, &frame, async {
        deliveries::explain(&console.api, &visitor.caller, parse(id)?).await
    })
    .await?;
    if !frame.may_manage {
        return Err(layout::failed(Some(&frame), &read_only()));
    }
    let path = path(&found);
    let words = html! {
        (words)
        p.said dir="auto" { (plain(&found.summary)) }
        (facts(&frame, &found))
    };
    let confirm = actions::Confirm {
        title,
        words,
        action: &format!("{path}/{action}"),
        label,
        typed: None,
        back: &path,
    };
    let body = actions::confirm(&frame, &confirm);
    Ok(still(&frame, http::StatusCode::OK, title, &body))
}

/// Sends it now.
pub(crate) async fn retry(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let work = async { deliveries::retry(&console.api, &visitor.caller, parse(&id)?).await };
    let sent = act(&visitor, &format!("retry delivery {id}"), work).await?;
    let path = format!("/console/deliveries/{}", sent.id);
    Ok(done(&visitor.frame, &path, "retried"))
}

/// Cancels it.
pub(crate) async fn cancel(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let work = async { deliveries::cancel(&console.api, &visitor.caller, parse(&id)?).await };
    let cancelled = act(&visitor, &format!("cancel delivery {id}"), work).await?;
    let path = format!("/console/deliveries/{}", cancelled.id);
    Ok(done(&visitor.frame, &path, "cancelled"))
}

/// What nobody may do who only looks.
pub(crate) fn read_only() -> Problem {
    use posthaste_producer::http::problem::Code;
    Problem::new(
        Code::MissingScope,
        "this needs the scope admin, and you only look",
    )
}

fn parse(id: &str) -> Result<DeliveryId, Problem> {
    id.parse().map_err(|_| Problem::not_found("delivery"))
}

fn path(found: &DeliveryExplanation) -> String {
    format!("/console/deliveries/{}", found.delivery.id)
}

fn short(found: &DeliveryExplanation) -> String {
    found.delivery.id.to_string().chars().take(8).collect()
}
