//! `/console/audit`: who did what to what. For keys that are bound to no tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::operations::audit;
use posthaste_shared::domain::audit::{Action, AuditEntry};

use crate::entry::visitor::Visitor;
use crate::pages::{ask, operation_query};
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{failed, page};
use crate::parts::list::{self, field};
use crate::parts::query::{Query, segment};
use crate::parts::text::{cut, strange};
use crate::parts::time::in_list;
use crate::state::Console;

const PATH: &str = "/console/audit";
/// The filters of the list, and what their chips say.
const FILTERS: [(&str, &str); 5] = [
    ("action", ""),
    ("key_id", "key"),
    ("object", "of"),
    ("since", "since"),
    ("until", "until"),
];

/// The list.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Audit);
    let query = &visitor.query;
    let asked = operation_query(query, console.now().as_micros())
        .map_err(|problem| failed(Some(&frame), &problem))?;
    let found = ask(
        &console,
        &frame,
        audit(&console.api, &visitor.caller, asked),
    )
    .await?;
    let set = list::set(query, &FILTERS);
    let nothing = html! { p { "Nobody did anything." } };
    let body = html! {
        div.headline {
            h1 { "Audit" }
            (list::chips(PATH, &set))
        }
        (list::filter_form(PATH, query, &fields(query)))
        @if found.items.is_empty() { (list::empty(PATH, query, &set, &nothing)) }
        @else { (table(&frame, &found.items)) }
        (list::pager(PATH, query, found.next_cursor.as_deref()))
    };
    Ok(page(&frame, "Audit", &body))
}

fn fields(query: &Query) -> Markup {
    let chosen = query.get("action").unwrap_or_default();
    html! {
        div.field {
            label for="f-action" { "What was done" }
            select #f-action name="action" {
                option value="" { "anything" }
                @for action in Action::ALL {
                    option value=(action.as_str()) selected[action.as_str() == chosen] {
                        (action.as_str())
                    }
                }
            }
        }
        (field(query, "key_id", "By the key", "key_…"))
        (field(query, "object", "To", "the id of an endpoint, a delivery, a key"))
        (list::window_field("Done", query))
    }
}

fn table(frame: &Frame, entries: &[AuditEntry]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Audit" {
            table.rows {
                thead { tr {
                    th scope="col" { "When" }
                    th scope="col" { "What" }
                    th.wide scope="col" { "To" }
                    th scope="col" { "Tenant" }
                    th.wide scope="col" { "By the key" }
                    th scope="col" { "Request" }
                } }
                tbody { @for entry in entries { (row(frame, entry)) } }
            }
        }
    }
}

fn row(frame: &Frame, entry: &AuditEntry) -> Markup {
    let by = Query::default().with("key_id", entry.key_id.as_str());
    html! {
        tr id={ "a-" (entry.id) } data-row {
            td data-label="When" { (in_list(entry.at)) }
            td data-label="What" { b { (entry.action.as_str()) } }
            td.wide data-label="To" {
                @if let Some(object) = &entry.object {
                    @match page_of(entry.action, object) {
                        Some(page) => a.id href=(frame.link(&page)) { (cut(object)) },
                        None => span.id { (cut(object)) },
                    }
                }
            }
            td data-label="Tenant" {
                @if let Some(tenant) = &entry.tenant { (cut(tenant.as_str())) }
            }
            td.wide data-label="By the key" {
                a href=(frame.link_with(PATH, &by)) { (cut(&entry.key_name)) }
            }
            td data-label="Request" {
                @if let Some(id) = &entry.request_id { span.id { (strange(&short(id))) } }
            }
        }
    }
}

/// Where what it was done to is shown, if it is still there.
fn page_of(action: Action, object: &str) -> Option<String> {
    let (kind, _) = action.as_str().split_once('.')?;
    let list = match kind {
        "endpoint" if action != Action::EndpointDelete => "endpoints",
        "delivery" => "deliveries",
        "replay" => "replays",
        _ => return None,
    };
    Some(format!("/console/{list}/{}", segment(object)))
}

/// The end of an id: what differs between UUIDs of about the same time.
fn short(id: &str) -> String {
    let length = id.chars().count();
    if length <= 13 {
        return id.to_owned();
    }
    let end: String = id.chars().skip(length - 12).collect();
    format!("…{end}")
}
