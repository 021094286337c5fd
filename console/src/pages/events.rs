//! `/console/events`: what Posthaste has just decided.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::operations::events;
use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::time::Timestamp;
use serde::Deserialize;

use crate::entry::visitor::Visitor;
use crate::pages::{ask, operation_query};
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{failed, page};
use crate::parts::list;
use crate::parts::query::segment;
use crate::parts::text::{cut, strange};
use crate::parts::time::in_list;
use crate::state::Console;

const PATH: &str = "/console/events";
/// The filters of the list, and what their chips say.
const FILTERS: [(&str, &str); 3] = [("type", ""), ("since", "since"), ("until", "until")];

/// What the list shows of an event.
#[derive(Debug, Deserialize)]
struct Head {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    time: Timestamp,
    tenant: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    delivery: Option<DeliveryData>,
    last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct DeliveryData {
    last_error: Option<String>,
}

/// The list.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Events);
    let asked = operation_query(&visitor.query, console.now().as_micros())
        .map_err(|problem| failed(Some(&frame), &problem))?;
    let found = ask(
        &console,
        &frame,
        events(&console.api, &visitor.caller, asked),
    )
    .await?;
    let query = &visitor.query;
    let set = list::set(query, &FILTERS);
    let types = EventType::ALL.map(|kind| kind.as_str());
    let body = html! {
        div.headline { h1 { "Events" } (list::chips(PATH, &set)) }
        (list::filter_form(PATH, query, &html! {
            (list::boxes(query, "type", "Type", &types))
            (list::window_field("Accepted", query))
        }))
        @if found.items.is_empty() {
            (list::empty(PATH, query, &set, &html! { p { "Nothing was reported yet." } }))
        } @else {
            (table(&frame, &found.items))
        }
        (list::pager(PATH, query, found.next_cursor.as_deref()))
    };
    Ok(page(&frame, "Events", &body))
}

fn table(frame: &Frame, items: &[RawJson]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Events" {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Time" }
                        th scope="col" { "Type" }
                        th scope="col" { "About" }
                        th scope="col" { "Tenant" }
                        th.wide scope="col" { "Error" }
                    }
                }
                tbody {
                    @for item in items {
                        @if let Ok(head) = serde_json::from_str::<Head>(item.as_str()) {
                            (row(frame, &head))
                        }
                    }
                }
            }
        }
    }
}

fn row(frame: &Frame, head: &Head) -> Markup {
    let section = if head.data.delivery.is_some() {
        "deliveries"
    } else {
        "endpoints"
    };
    let about = format!("/console/{section}/{}", segment(&head.subject));
    let of_delivery = head.data.delivery.as_ref();
    let error = of_delivery
        .and_then(|delivery| delivery.last_error.as_deref())
        .or(head.data.last_error.as_deref());
    // The error of an endpoint that answers again is what it had until then.
    let is_past = head.kind == EventType::EndpointRecovered.as_str();
    html! {
        tr id={ "v-" (segment(&head.id)) } data-row {
            td data-label="Time" { (in_list(head.time)) }
            td data-label="Type" { (strange(&head.kind)) }
            td data-label="About" { a.id href=(frame.link(&about)) { (cut(&head.subject)) } }
            td data-label="Tenant" { (strange(&head.tenant)) }
            td.wide data-label="Error" {
                @if let Some(error) = error {
                    @if is_past { (cut(&format!("before: {error}"))) } @else { (cut(error)) }
                }
            }
        }
    }
}
