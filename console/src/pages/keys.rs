//! `/console/keys`: who may do what.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::operations::keys;
use posthaste_shared::domain::key::{ApiKey, Unusable};
use posthaste_shared::domain::time::Timestamp;

use crate::entry::visitor::Visitor;
use crate::pages::ask;
use crate::parts::chip::chip;
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::page;
use crate::parts::text::{cut, strange};
use crate::parts::time::{at, at_or};
use crate::state::Console;

/// The list.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Keys);
    let found = ask(&console, &frame, keys(&console.api, &visitor.caller)).await?;
    let now = console.now();
    let own = &visitor.caller.key().id;
    let body = html! {
        div.headline {
            h1 { "API keys" }
            div.actions { a.button href=(frame.link("/console/keys/new")) { "New key …" } }
        }
        div.scroll tabindex="0" role="region" aria-label="API keys" {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "State" }
                        th.wide scope="col" { "Name" }
                        th scope="col" { "Key" }
                        th scope="col" { "Scopes" }
                        th scope="col" { "Tenant" }
                        th scope="col" { "Last used" }
                        th scope="col" { "Created" }
                        th scope="col" { span.label { "Actions" } }
                    }
                }
                tbody { @for key in &found.items { (row(&frame, key, now, key.id == *own)) } }
            }
        }
    };
    Ok(page(&frame, "API keys", &body))
}

fn row(frame: &Frame, key: &ApiKey, now: Timestamp, is_own: bool) -> Markup {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    html! {
        tr id={ "k-" (key.id) } data-row {
            td data-label="State" {
                @match key.unusable(now) {
                    None => (chip("good", "✓", "works")),
                    Some(Unusable::Revoked) => (chip("off", "⊘", "revoked")),
                    Some(Unusable::Expired(_)) => (chip("late", "⧗", "expired")),
                }
            }
            td.wide data-label="Name" {
                (cut(&key.name)) @if is_own { " " span.muted { "(yours)" } }
            }
            td data-label="Key" { span.id { (key.id) } }
            td data-label="Scopes" { (scopes.join(", ")) }
            td data-label="Tenant" {
                @match &key.tenant {
                    Some(tenant) => (strange(tenant.as_str())),
                    None => span.muted { "every" },
                }
            }
            td data-label="Last used" { (at_or(key.last_used_at, "never")) }
            td data-label="Created" { (at(key.created_at)) }
            td data-label="Actions" {
                @if key.unusable(now).is_none() {
                    a href=(frame.link(&format!("/console/keys/{}/revoke", key.id))) {
                        "Revoke …"
                    }
                }
            }
        }
    }
}
