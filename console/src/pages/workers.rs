//! `/console/workers`: who delivers, and how busy they are.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::body::WorkerView;
use posthaste_producer::http::operations::workers;

use crate::entry::visitor::Visitor;
use crate::pages::ask;
use crate::parts::chip;
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::page;
use crate::parts::query::segment;
use crate::parts::text::{cut, short_id, strange};
use crate::parts::time::{in_list, number};
use crate::state::Console;

/// How many endpoints at a limit are named.
const NAMED: usize = 2;

/// The list.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Workers);
    let found = ask(&console, &frame, workers(&console.api, &visitor.caller)).await?;
    let alive = found.items.iter().filter(|worker| worker.alive).count();
    let silent = found.items.len() - alive;
    let body = html! {
        div.headline { h1 { "Workers" } }
        p.said { (sentence(alive, silent)) }
        @if found.items.is_empty() {
            div.empty {
                p { "Nothing is sent until one is started:" }
                pre tabindex="0" { "posthaste worker" }
            }
        } @else { (table(&frame, &found.items)) }
    };
    Ok(page(&frame, "Workers", &body))
}

fn sentence(alive: usize, silent: usize) -> String {
    let alive = match alive {
        0 => "No worker is alive".to_owned(),
        1 => "One worker is alive".to_owned(),
        several => format!("{several} workers are alive"),
    };
    let silent = match silent {
        0 => return format!("{alive}."),
        1 => "one fell silent".to_owned(),
        several => format!("{several} fell silent"),
    };
    format!(
        "{alive}; {silent} within the last day: killed, hanging, or cut off from the store. What \
         they had in flight is sent by others."
    )
}

fn table(frame: &Frame, items: &[WorkerView]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Workers" {
            table.rows {
                thead { tr {
                    th scope="col" { "State" }
                    th.wide scope="col" { "Name" }
                    th scope="col" { "Run" }
                    th scope="col" { "Version" }
                    th.number scope="col" { "In flight" }
                    th.wide scope="col" { "At a limit" }
                    th scope="col" { "Started" }
                    th scope="col" { "Last seen" }
                } }
                tbody { @for worker in items { (row(frame, worker)) } }
            }
        }
    }
}

fn row(frame: &Frame, worker: &WorkerView) -> Markup {
    let id = worker.id.to_string();
    html! {
        tr id={ "k-" (id) } {
            td data-label="State" {
                @if worker.alive { (chip::chip("good", "✓", "alive")) }
                @else { (chip::chip("bad", "✕", "silent")) }
            }
            td.wide data-label="Name" { (cut(&worker.name)) }
            td data-label="Run" { (short_id(&id)) }
            td data-label="Version" {
                @match &worker.version {
                    Some(version) => (strange(version)),
                    None => span.muted { "not reported yet" },
                }
            }
            td.number data-label="In flight" {
                @if let (Some(in_flight), Some(slots)) = (worker.in_flight, worker.slots) {
                    (number(in_flight.into())) " of " (number(slots.into()))
                }
            }
            td.wide data-label="At a limit" { (at_limit(frame, worker)) }
            td data-label="Started" {
                @if let Some(at) = worker.started_at { (in_list(at)) }
            }
            td data-label="Last seen" { @if let Some(at) = worker.last_seen { (in_list(at)) } }
        }
    }
}

/// The endpoints whose deliveries wait in line there: some, and how many more.
fn at_limit(frame: &Frame, worker: &WorkerView) -> Markup {
    let more = worker.at_limit.len().saturating_sub(NAMED);
    html! {
        @if worker.at_limit.is_empty() { span.muted { "none" } }
        @for id in worker.at_limit.iter().take(NAMED) {
            @let path = format!("/console/endpoints/{}", segment(id.as_str()));
            a.id href=(frame.link(&path)) { (cut(id.as_str())) }
        }
        @if more > 0 { span.muted { "and " (more) " more" } }
    }
}
