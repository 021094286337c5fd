//! `/console/notifications`: what came in, and what of it matched no subscription.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::body::NotificationSummary;
use posthaste_producer::http::operations::notifications;

use crate::entry::visitor::Visitor;
use crate::pages::{ask, operation_query};
use crate::parts::chip::chip;
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{failed, page};
use crate::parts::list::{self, field};
use crate::parts::query::{Query, segment};
use crate::parts::text::{cut, strange};
use crate::parts::time::{at_or, in_list};
use crate::state::Console;

const PATH: &str = "/console/notifications";
/// The filters of the list, and what their chips say.
const FILTERS: [(&str, &str); 5] = [
    ("unmatched", "unmatched"),
    ("type", "type"),
    ("endpoint_id", "for the endpoint"),
    ("since", "since"),
    ("until", "until"),
];

/// The list.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Notifications);
    let asked = operation_query(&visitor.query, console.now().as_micros())
        .map_err(|problem| failed(Some(&frame), &problem))?;
    let found = ask(
        &console,
        &frame,
        notifications(&console.api, &visitor.caller, asked),
    )
    .await?;
    let query = &visitor.query;
    let set = list::set(query, &FILTERS);
    let unmatched = query
        .without(&["cursor", "notice"])
        .with("unmatched", "true");
    let body = html! {
        div.headline {
            h1 { "Notifications" }
            (list::chips(PATH, &set))
            ul.saved aria-label="Views" {
                li { a href={ (PATH) (unmatched) } { "matched nothing" } }
            }
        }
        (list::filter_form(PATH, query, &fields(query)))
        @if found.items.is_empty() {
            (list::empty(PATH, query, &set, &html! { p { "No notification was taken up yet." } }))
        } @else {
            (table(&frame, &found.items))
        }
        (list::pager(PATH, query, found.next_cursor.as_deref()))
    };
    Ok(page(&frame, "Notifications", &body))
}

fn fields(query: &Query) -> Markup {
    html! {
        (list::boxes(query, "unmatched", "Matched no subscription", &["true"]))
        (field(query, "type", "Type", "order.paid"))
        (field(query, "endpoint_id", "For the endpoint", "ep_…"))
        (list::window_field("Accepted", query))
    }
}

fn table(frame: &Frame, items: &[NotificationSummary]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Notifications" {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Accepted" }
                        th scope="col" { "Deliveries" }
                        th.wide scope="col" { "Notification" }
                        th scope="col" { "Type" }
                        th scope="col" { "Tenant" }
                        th scope="col" { "Not before" }
                        th scope="col" { "Expires" }
                    }
                }
                tbody { @for item in items { (row(frame, item)) } }
            }
        }
    }
}

fn row(frame: &Frame, item: &NotificationSummary) -> Markup {
    let path = format!(
        "{PATH}/{}/{}",
        segment(item.tenant.as_str()),
        segment(item.id.as_str())
    );
    html! {
        tr id={ "n-" (segment(item.tenant.as_str())) "-" (segment(item.id.as_str())) } data-row {
            td data-label="Accepted" { (in_list(item.accepted_at)) }
            td data-label="Deliveries" {
                @if item.deliveries == 0 { (chip("late", "!", "matched nothing")) }
                @else { (item.deliveries) }
            }
            td.wide data-label="Notification" {
                a href=(frame.link(&path)) { (cut(item.id.as_str())) }
            }
            td data-label="Type" { (cut(item.kind.as_str())) }
            td data-label="Tenant" { (strange(item.tenant.as_str())) }
            td data-label="Not before" { (at_or(item.deliver_at, "—")) }
            td data-label="Expires" { (at_or(item.expires_at, "never")) }
        }
    }
}
