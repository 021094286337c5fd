//! `/console/notifications/{tenant}/{id}`: whether it came in, and who got it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::operations::{endpoints, notification};
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_shared::domain::id::{NotificationId, TenantId};
use posthaste_shared::domain::notification::Priority;
use posthaste_shared::domain::view::NotificationView;

use crate::entry::visitor::Visitor;
use crate::pages::{ask, deliveries};
use crate::parts::commands::commands;
use crate::parts::frame::{Frame, Section};
use crate::parts::json;
use crate::parts::layout::page;
use crate::parts::query::{Query, segment};
use crate::parts::text::{copy, strange, whole_id};
use crate::parts::time::{at, at_or};
use crate::state::Console;

/// The most deliveries that are listed on the page.
const MOST: usize = 200;

/// The page.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    Path((tenant, id)): Path<(String, String)>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Notifications);
    let asked = async {
        let unknown = || Problem::not_found("notification");
        let tenant = TenantId::parse(&tenant).map_err(|_| unknown())?;
        let id = NotificationId::parse(&id).map_err(|_| unknown())?;
        let found = notification(&console.api, &visitor.caller, &id, Some(&tenant)).await?;
        let ids = found
            .deliveries
            .iter()
            .map(|delivery| &delivery.endpoint_id);
        let urls = endpoints::urls(&console.api, &visitor.caller, ids).await?;
        Ok::<_, Problem>((found, urls))
    };
    let is_fresh = visitor.query.get("fresh").is_some();
    let found = ask(&console, &frame, async {
        match asked.await {
            // It was accepted here a moment ago, so the broker has it.
            Err(problem) if problem.code == Code::NotFound && is_fresh => Ok(None),
            found => found.map(Some),
        }
    });
    let Some((found, urls)) = found.await? else {
        return Ok(not_taken_up(&frame, &tenant, &id));
    };
    let shown = &found.deliveries[..found.deliveries.len().min(MOST)];
    let body = html! {
        div.headline {
            h1 { (strange(found.kind.as_str())) " " span.muted { (strange(found.id.as_str())) } }
            @if frame.may_enqueue { div.actions { (again(&frame, &found)) } }
        }
        (facts(&frame, &found))
        h2 { "Deliveries" }
        @if shown.is_empty() {
            p.said { "It matched nothing: when a worker took it up, no enabled endpoint's \
                subscription took its type." }
        } @else {
            (deliveries::table(&frame, shown, &urls))
        }
        @if shown.len() < found.deliveries.len() {
            p.muted { "These are the first " (shown.len()) " of " (found.deliveries.len()) "." }
        }
        h2 { "Payload" }
        (json::pretty(found.payload.as_str()))
        p { (copy(found.payload.as_str(), "Copy the payload")) }
        @if let Some(recipient) = &found.recipient {
            h2 { "Recipient" } (json::pretty(recipient.as_str()))
        }
        @if let Some(overrides) = &found.overrides {
            h2 { "Overrides" } (json::pretty(overrides.as_str()))
        }
        (on_the_command_line(&found))
    };
    Ok(page(&frame, &format!("Notification {}", found.id), &body))
}

/// Leads to a new notification that begins as this one.
fn again(frame: &Frame, found: &NotificationView) -> Markup {
    let like = Query::default()
        .with("like", found.id.as_str())
        .with("of", found.tenant.as_str());
    html! { a.button href=(frame.link_with("/console/send", &like)) { "Send one like it …" } }
}

/// A notification that was accepted and is not recorded yet.
fn not_taken_up(frame: &Frame, tenant: &str, id: &str) -> Response {
    let body = html! {
        div.headline { h1 { "Not recorded yet " span.muted { (strange(id)) } } }
        p.said { "What was accepted a moment ago is with the broker. It is recorded with the \
            result of its first attempt, and this page shows it then." }
        p { a.button href=(frame.link_with(&format!(
            "/console/notifications/{}/{}", segment(tenant), segment(id)
        ), &Query::default().with("fresh", "1"))) { "Look again" } }
    };
    page(frame, "Not recorded yet", &body)
}

fn on_the_command_line(found: &NotificationView) -> Markup {
    let (tenant, id) = (found.tenant.as_str(), found.id.as_str());
    let tenant_flag = format!("--tenant={tenant}");
    let path = format!(
        "/v1/notifications/{}?tenant={}",
        segment(id),
        segment(tenant)
    );
    // Behind `--` an id that looks like a flag is an id.
    commands(&path, &["notification", "show", &tenant_flag, "--", id])
}

fn facts(frame: &Frame, found: &NotificationView) -> Markup {
    html! {
        dl.facts {
            div { dt { "Notification" } dd { (whole_id(found.id.as_str())) } }
            div { dt { "Tenant" } dd { (strange(found.tenant.as_str())) } }
            div { dt { "For" } dd {
                @match &found.endpoint_id {
                    Some(id) => {
                        @let page = format!("/console/endpoints/{}", segment(id.as_str()));
                        a.id href=(frame.link(&page)) {
                            (strange(id.as_str()))
                        }
                    },
                    None => "all that subscribe",
                }
            } }
            div { dt { "Accepted" } dd { (at(found.accepted_at)) } }
            div { dt { "Not before" } dd { (at_or(found.deliver_at, "at once")) } }
            div { dt { "Expires" } dd { (at_or(found.expires_at, "never")) } }
            @if found.priority == Priority::High { div { dt { "Priority" } dd { "high" } } }
        }
    }
}
