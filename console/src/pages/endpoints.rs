//! `/console/endpoints`: which receivers are sick.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::body::EndpointStats;
use posthaste_producer::http::operations::{endpoints, read_query};
use posthaste_shared::domain::view::EndpointView;

use crate::entry::visitor::Visitor;
use crate::pages::ask;
use crate::pages::health::{self, OfHour};
use crate::parts::chart::{duration, shares, success};
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{self, page};
use crate::parts::query::{Query, segment};
use crate::parts::text::{address, cut, strange};
use crate::parts::time::in_list;
use crate::parts::{chip, list};
use crate::state::Console;

const PATH: &str = "/console/endpoints";

/// The list.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Endpoints);
    let query = &visitor.query;
    let asked = read_query(&query.without(&["notice"]).text())
        .map_err(|problem| layout::failed(Some(&frame), &problem))?;
    let both = async {
        let found = endpoints::list(&console.api, &visitor.caller, asked).await?;
        let hour = health::of_hour(&console.api, &visitor.caller, &found.items).await?;
        Ok((found, hour))
    };
    let (found, hour) = ask(&console, &frame, both).await?;
    let base = query.without(&["cursor", "notice", "enabled"]);
    let body = html! {
        div.headline {
            h1 { "Endpoints" }
            ul.saved aria-label="Views" {
                (choice(query, "all", None, &base))
                (choice(query, "enabled", Some("true"), &base))
                (choice(query, "disabled", Some("false"), &base))
            }
            @if frame.may_manage {
                div.actions {
                    a.button href=(frame.link("/console/endpoints/new")) { "New endpoint …" }
                }
            }
        }
        @if found.items.is_empty() {
            div.empty { (nothing(query, &base)) }
        } @else {
            (table(&frame, &found.items, &hour))
        }
        (list::pager(PATH, query, found.next_cursor.as_deref()))
    };
    Ok(page(&frame, "Endpoints", &body))
}

fn choice(query: &Query, name: &str, value: Option<&str>, base: &Query) -> Markup {
    let is_chosen = query.get("enabled") == value;
    let to = value.map_or_else(|| base.clone(), |value| base.with("enabled", value));
    html! {
        li { a href={ (PATH) (to) } aria-current=[is_chosen.then_some("true")] { (name) } }
    }
}

fn nothing(query: &Query, base: &Query) -> Markup {
    html! {
        @if query.get("enabled").is_some() || query.get("cursor").is_some() {
            p { "No endpoint is in this state." }
            p { a href={ (PATH) (base) } { "Show all" } }
        } @else {
            p { "There are no endpoints yet." }
            pre tabindex="0" { "posthaste endpoint add --url https://hooks.example/orders" }
        }
    }
}

fn table(frame: &Frame, items: &[EndpointView], hour: &OfHour) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Endpoints and their last hour" {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "State" }
                        th.wide scope="col" { "URL" }
                        th scope="col" { "Tenant" }
                        th scope="col" { "Format" }
                        th.number scope="col" { "Success" }
                        th.number scope="col" { "p99" }
                        th scope="col" { "Last hour" }
                        th.wide scope="col" { "Types" }
                        th scope="col" { "Changed" }
                    }
                }
                tbody { @for endpoint in items {
                    (row(frame, endpoint, hour.get(&endpoint.id)))
                } }
            }
        }
    }
}

fn row(frame: &Frame, endpoint: &EndpointView, hour: Option<&EndpointStats>) -> Markup {
    let id = endpoint.id.as_str();
    html! {
        tr id={ "e-" (segment(id)) } data-row {
            td data-label="State" { (chip::endpoint(endpoint)) }
            td.wide data-label="URL" {
                a href=(frame.link(&format!("{PATH}/{}", segment(id)))) {
                    (cut(address(&endpoint.url)))
                }
                @if !endpoint.description.is_empty() {
                    span.muted.under { (cut(&endpoint.description)) }
                }
            }
            td data-label="Tenant" { (strange(endpoint.tenant.as_str())) }
            td data-label="Format" { (endpoint.wire_format.as_str()) }
            @match hour {
                Some(hour) => {
                    td.number data-label="Success" { (success(&hour.tally)) }
                    td.number data-label="p99" { (duration(hour.tally.p99_ms)) }
                    td data-label="Last hour" { (shares(&hour.recent)) }
                },
                None => {
                    td.number data-label="Success" { span.muted { "–" } }
                    td.number data-label="p99" { span.muted { "–" } }
                    td data-label="Last hour" { span.muted { "not called" } }
                },
            }
            td.wide data-label="Types" { (cut(&types(endpoint))) }
            td data-label="Changed" { (in_list(endpoint.updated_at)) }
        }
    }
}

/// The types that an endpoint takes, in a line.
pub(crate) fn types(endpoint: &EndpointView) -> String {
    let patterns = &endpoint.subscription.types;
    if patterns.is_empty() {
        return "all".to_owned();
    }
    let texts: Vec<String> = patterns.iter().cloned().map(String::from).collect();
    texts.join(", ")
}
