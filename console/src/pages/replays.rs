//! `/console/replays`: everything that matches a filter, sent again as a job that can be followed
//! and stopped.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use maud::{Markup, html};
use posthaste_producer::http::body::{DeliveryFilter, Replay, ReplayPreview, ReplayState};
use posthaste_producer::http::operations::deliveries::DeliveryQuery;
use posthaste_producer::http::operations::{read_query, replays};
use posthaste_producer::http::problem::{Code, Problem};

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::{act, ask, operation_query};
use crate::parts::commands::commands;
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{failed, page, still};
use crate::parts::list::{self, Set};
use crate::parts::query::Query;
use crate::parts::text::{cut, strange, whole_id};
use crate::parts::time::{at, at_or, in_list, number};
use crate::parts::{actions, chip};
use crate::state::Console;

const PATH: &str = "/console/replays";
/// Whoever sends more than this again types how many.
const MANY: u64 = 1_000;

/// The list.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Replays);
    let query = &visitor.query;
    let asked = read_query(&query.without(&["notice", "tenant"]).text())
        .map_err(|problem| failed(Some(&frame), &problem))?;
    let work = replays::list_page(&console.api, &visitor.caller, asked);
    let found = ask(&console, &frame, work).await?;
    let body = html! {
        div.headline { h1 { "Replays" } }
        @if found.items.is_empty() {
            div.empty {
                p { "Nothing was sent again yet." }
                p {
                    "Filter the deliveries by what they have in common, and replay all that match."
                }
                p {
                    a href=(frame.link("/console/deliveries?status=failed")) { "Failed deliveries" }
                }
            }
        } @else {
            (table(&frame, &found.items))
        }
        (list::pager(PATH, query, found.next_cursor.as_deref()))
    };
    Ok(page(&frame, "Replays", &body))
}

fn table(frame: &Frame, items: &[Replay]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Replays" {
            table.rows {
                thead { tr {
                    th scope="col" { "State" }
                    th scope="col" { "Started" }
                    th.wide scope="col" { "Filter" }
                    th.number scope="col" { "Matched" }
                    th.number scope="col" { "Sent again" }
                    th.number scope="col" { "Left alone" }
                    th scope="col" { "Finished" }
                } }
                tbody { @for replay in items {
                    tr id={ "r-" (replay.id) } data-row {
                        td data-label="State" { (state(replay)) }
                        td data-label="Started" { (in_list(replay.created_at)) }
                        td.wide data-label="Filter" {
                            a href=(frame.link(&format!("{PATH}/{}", replay.id))) {
                                (cut(&words(&replay.filter)))
                            }
                        }
                        td.number data-label="Matched" { (of_all(replay)) }
                        td.number data-label="Sent again" { (number(replay.replayed)) }
                        td.number data-label="Left alone" { (number(replay.skipped)) }
                        td data-label="Finished" {
                            @if let Some(time) = replay.finished_at { (in_list(time)) }
                        }
                    }
                } }
            }
        }
    }
}

fn state(replay: &Replay) -> Markup {
    match replay.state {
        ReplayState::Running => chip::chip("busy", "◔", "running"),
        ReplayState::Done => chip::chip("good", "✓", "done"),
        ReplayState::Cancelled => chip::chip("off", "⊘", "cancelled"),
    }
}

fn of_all(replay: &Replay) -> String {
    match replay.total {
        Some(total) => format!("{} of {}", number(replay.matched), number(total)),
        None => number(replay.matched),
    }
}

/// A filter in words, as the chips of a list say it.
fn words(filter: &DeliveryFilter) -> String {
    let Ok(serde_json::Value::Object(members)) = serde_json::to_value(filter) else {
        return String::new();
    };
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.replace('_', " "),
        other => other.to_string(),
    };
    let said = members.iter().filter_map(|(name, value)| {
        let values = match value {
            serde_json::Value::Null => return None,
            serde_json::Value::Array(values) if values.is_empty() => return None,
            serde_json::Value::Array(values) => values.iter().map(word).collect::<Vec<_>>(),
            one => vec![word(one)],
        };
        Some(format!(
            "{} {}",
            name.replace('_', " "),
            values.join(" or ")
        ))
    });
    said.collect::<Vec<_>>().join(", ")
}

/// One of them.
pub(crate) async fn one(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Replays);
    let replay = ask(&console, &frame, async {
        replays::find(&console.api, &visitor.caller, parse(&id)?).await
    })
    .await?;
    let path = format!("{PATH}/{}", replay.id);
    let is_running = replay.state == ReplayState::Running;
    let body = html! {
        div.headline {
            h1 { (state(&replay)) " " span.title { "Replay" } }
            @if is_running && frame.may_manage {
                div.actions { (actions::button(&frame, &format!("{path}/cancel"), "Stop", false)) }
            }
        }
        p.said dir="auto" { (strange(&words(&replay.filter))) }
        @if let Some(total) = replay.total.filter(|total| *total > 0) {
            progress max=(total) value=(replay.matched.min(total))
                aria-label="Deliveries looked at" {}
        }
        dl.facts {
            div { dt { "Replay" } dd { (whole_id(&replay.id.to_string())) } }
            div { dt { "Matched" } dd { (of_all(&replay)) } }
            div { dt { "Sent again" } dd { (number(replay.replayed)) } }
            div { dt { "Left alone" } dd {
                (number(replay.skipped))
                @if replay.skipped > 0 {
                    span.muted { ": expired, pending, or their endpoint is gone" }
                }
            } }
            div { dt { "Started" } dd { (at(replay.created_at)) } }
            div { dt { "Finished" } dd { (at_or(replay.finished_at, "not yet")) } }
        }
        @let id = replay.id.to_string();
        (commands(&format!("/v1/replays/{id}"), &["replay", "show", &id]))
    };
    Ok(page(&frame, "Replay", &body))
}

/// Asks before all that match are sent again.
pub(crate) async fn ask_all(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Deliveries);
    let (filter, fixed) =
        filter(&console, &visitor).map_err(|problem| failed(Some(&frame), &problem))?;
    let said = words(&filter);
    let work = replays::preview(&console.api, &visitor.caller, filter);
    let found = ask(&console, &frame, work).await?;
    let back = format!("/console/deliveries{}", visitor.query.without(&["notice"]));
    if found.matched == 0 {
        let body = html! {
            div.headline { h1 { "Nothing matches" } }
            p.said dir="auto" { (strange(&said)) }
            p { a.button href=(back) { "Back" } }
        };
        return Ok(still(&frame, StatusCode::OK, "Replay", &body));
    }
    let confirm = actions::Confirm {
        title: &format!("Send {} again?", counted(found.matched)),
        words: what_happens(&said, &found),
        action: &format!("{PATH}{fixed}"),
        label: "Send again",
        typed: (found.matched > MANY).then(|| actions::Typed {
            what: "how many",
            value: found.matched.to_string(),
        }),
        back: &back,
    };
    let body = actions::confirm(&frame, &confirm);
    Ok(still(&frame, StatusCode::OK, "Replay", &body))
}

fn what_happens(said: &str, found: &ReplayPreview) -> Markup {
    html! {
        p.said dir="auto" { (strange(said)) }
        p {
            "Each that is finished begins a new round of attempts, with the same "
            code { "webhook-id" } ": a receiver that keeps these ids recognises it. Pending and \
            expired ones, and those of deleted endpoints, are left alone."
        }
        @if let (Some(oldest), Some(newest)) = (found.oldest, found.newest) {
            p { "The oldest was accepted " (at(oldest)) ", the newest " (at(newest)) "." }
        }
    }
}

fn counted(count: u64) -> String {
    match count {
        1 => "one delivery".to_owned(),
        several => format!("{} deliveries", number(several)),
    }
}

/// Begins to send them again.
pub(crate) async fn begin(
    State(console): State<Arc<Console>>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let (filter, _) =
        filter(&console, &visitor).map_err(|problem| failed(Some(&visitor.frame), &problem))?;
    let what = format!("replay of {}", words(&filter));
    let typed = form
        .fields
        .get(actions::TYPED)
        .and_then(|text| text.replace([',', ' '], "").parse::<u64>().ok());
    let work = async {
        let found = replays::preview(&console.api, &visitor.caller, filter.clone()).await?;
        if found.matched > MANY && typed != Some(found.matched) {
            let detail = format!(
                "type the number of deliveries to send them again: {} match now",
                found.matched
            );
            return Err(Problem::new(Code::Invalid, detail));
        }
        replays::begin(&console.api, &visitor.caller, filter).await
    };
    let begun = act(&visitor, &what, work).await?;
    let path = format!("{PATH}/{}", begun.id);
    Ok(Redirect::to(&visitor.frame.link(&path)).into_response())
}

/// Stops one: what it has not come to is not sent again.
pub(crate) async fn stop(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let work = async { replays::stop(&console.api, &visitor.caller, parse(&id)?).await };
    let stopped = act(&visitor, &format!("stop replay {id}"), work).await?;
    let path = format!("{PATH}/{}", stopped.id);
    Ok(Redirect::to(&visitor.frame.link(&path)).into_response())
}

/// The filter that an address has, and the same with a beginning that does not move with the clock.
fn filter(console: &Console, visitor: &Visitor) -> Result<(DeliveryFilter, Query), Problem> {
    let query = visitor.query.without(&["cursor", "limit", "notice"]);
    let asked: DeliveryQuery = operation_query(&query, console.now().as_micros())?;
    let mut fixed = query.without(&["window"]).with("window", "all");
    if let Some(since) = asked.since {
        fixed = fixed.without(&["since"]).with("since", &since.to_string());
    }
    Ok((asked.into(), fixed))
}

/// What leads from a list of deliveries to the question.
pub(crate) fn link(frame: &Frame, query: &Query, set: &[Set]) -> Markup {
    html! {
        @if frame.may_manage && !set.is_empty() {
            div.actions {
                a.button data-question
                    href={ (PATH) "/new" (query.without(&["cursor", "notice"])) } {
                    "Replay all that match …"
                }
            }
        }
    }
}

fn parse(id: &str) -> Result<uuid::Uuid, Problem> {
    let unknown = |_| Problem::new(Code::NotFound, "there is no such replay");
    uuid::Uuid::parse_str(id).map_err(unknown)
}
