//! `/console/deliveries`: which ones, and what they have in common.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::operations::{deliveries, endpoints};
use posthaste_shared::domain::delivery::{FailureReason, Hold, Status};
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::view::DeliveryView;

use crate::entry::visitor::Visitor;
use crate::pages::{ask, operation_query, replays, selected};
use crate::parts::chip;
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{failed, page};
use crate::parts::list::{self, boxes, field};
use crate::parts::query::{Query, segment};
use crate::parts::text::{address, cut, short_id, strange};
use crate::parts::time::in_list;
use crate::state::Console;

const PATH: &str = "/console/deliveries";
/// The filters of the list, and what their chips say.
const FILTERS: [(&str, &str); 9] = [
    ("status", ""),
    ("reason", "reason"),
    ("hold", "parked by"),
    ("status_code", "answer"),
    ("type", "type"),
    ("endpoint_id", "endpoint"),
    ("notification_id", "notification"),
    ("since", "since"),
    ("until", "until"),
];

/// The list.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Deliveries);
    let asked = operation_query(&visitor.query, console.now().as_micros())
        .map_err(|problem| failed(Some(&frame), &problem))?;
    let (found, urls) = ask(&console, &frame, async {
        let found = deliveries::list(&console.api, &visitor.caller, asked).await?;
        let ids = found.items.iter().map(|delivery| &delivery.endpoint_id);
        let urls = endpoints::urls(&console.api, &visitor.caller, ids).await?;
        Ok((found, urls))
    })
    .await?;
    let query = &visitor.query;
    let set = list::set(query, &FILTERS);
    let body = html! {
        div.headline {
            h1 { "Deliveries" }
            (list::chips(PATH, &set))
            (saved(query))
            @if !found.items.is_empty() { (replays::link(&frame, query, &set)) }
        }
        (list::filter_form(PATH, query, &fields(query)))
        @if found.items.is_empty() {
            (list::empty(PATH, query, &set, &nothing_yet()))
        } @else {
            (rows(&frame, &found.items, &urls, frame.may_manage))
            @if frame.may_manage { (selected::actions(&frame, query)) }
        }
        (list::pager(PATH, query, found.next_cursor.as_deref()))
    };
    Ok(page(&frame, "Deliveries", &body))
}

/// Questions that are asked every day, as links.
fn saved(query: &Query) -> Markup {
    let views = [
        ("failed today", vec![("status", "failed")]),
        ("waiting", vec![("status", "pending"), ("window", "7d")]),
        ("expired", vec![("status", "expired")]),
    ];
    html! {
        ul.saved aria-label="Views" {
            @for (name, filters) in views {
                li { a href={ (PATH) (view(query, &filters)) } { (name) } }
            }
        }
    }
}

fn view(query: &Query, filters: &[(&str, &str)]) -> Query {
    let base = match query.get("tenant") {
        Some(tenant) => Query::default().with("tenant", tenant),
        None => Query::default(),
    };
    filters
        .iter()
        .fold(base, |query, (name, value)| query.with(name, value))
}

fn fields(query: &Query) -> Markup {
    let statuses = Status::ALL.map(|status| status.as_str());
    let reasons = FailureReason::ALL.map(|reason| reason.as_str());
    let holds = Hold::ALL.map(|hold| hold.as_str());
    html! {
        (boxes(query, "status", "Status", &statuses))
        (boxes(query, "reason", "Why it failed", &reasons))
        (boxes(query, "hold", "What it is parked by", &holds))
        (field(query, "type", "Type", "order.paid"))
        (field(query, "status_code", "Last status code", "503"))
        (field(query, "endpoint_id", "Endpoint", "ep_…"))
        (field(query, "notification_id", "Notification", "order-1042"))
        (list::window_field("Accepted", query))
    }
}

/// Deliveries in a table. Used by the page of a notification and of an endpoint, too.
pub(crate) fn table(
    frame: &Frame,
    items: &[DeliveryView],
    urls: &HashMap<EndpointId, String>,
) -> Markup {
    rows(frame, items, urls, false)
}

/// The table, with a box for each row where rows can be selected.
fn rows(
    frame: &Frame,
    items: &[DeliveryView],
    urls: &HashMap<EndpointId, String>,
    can_select: bool,
) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Deliveries" {
            table.rows {
                thead {
                    tr {
                        @if can_select { th.select scope="col" { span.hidden { "Select" } } }
                        th scope="col" { "Accepted" }
                        th scope="col" { "Status" }
                        th scope="col" { "Delivery" }
                        th scope="col" { "Type" }
                        th.wide scope="col" { "Endpoint" }
                        th.number scope="col" { "Tries" }
                        th.wide scope="col" { "Last error" }
                    }
                }
                tbody { @for delivery in items { (row(frame, delivery, urls, can_select)) } }
            }
        }
    }
}

fn row(
    frame: &Frame,
    delivery: &DeliveryView,
    urls: &HashMap<EndpointId, String>,
    can_select: bool,
) -> Markup {
    let id = delivery.id.to_string();
    let endpoint = &delivery.endpoint_id;
    html! {
        tr id={ "d-" (id) } data-row {
            @if can_select { td.select { (selected::check(&id, &id[..8])) } }
            td data-label="Accepted" { (in_list(delivery.created_at)) }
            td data-label="Status" { (chip::delivery(delivery)) }
            td data-label="Delivery" {
                a href=(frame.link(&format!("{PATH}/{id}"))) { (short_id(&id)) }
            }
            td data-label="Type" { (cut(delivery.kind.as_str())) }
            td.wide data-label="Endpoint" {
                a href=(frame.link(&format!("/console/endpoints/{}", segment(endpoint.as_str())))) {
                    @match urls.get(endpoint) {
                        Some(url) => (cut(address(url))),
                        None => span.muted { (strange(endpoint.as_str())) },
                    }
                }
            }
            td.number data-label="Tries" { (delivery.attempt_count) }
            td.wide data-label="Last error" {
                @if let Some(error) = &delivery.last_error { (cut(in_short(error))) }
            }
        }
    }
}

/// An error without the beginning that most of them have, so that what differs is seen.
fn in_short(error: &str) -> &str {
    error
        .strip_prefix("the endpoint answered ")
        .unwrap_or(error)
}

fn nothing_yet() -> Markup {
    html! {
        p { "There are no deliveries yet." }
        p { "Send a notification, and look again:" }
        pre tabindex="0" { "posthaste send order.paid --payload '{\"order\":1042}'" }
    }
}
