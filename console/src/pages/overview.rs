//! `/console/overview`: is all well; if not, is it us or them?

mod hour;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use posthaste_producer::http::body::{InstallationView, OverviewView, Reachable};
use posthaste_producer::http::operations::{
    EndpointStatsQuery, FailuresQuery, OverviewQuery, StatsQuery, failures, overview, read_query,
    stats,
};
use posthaste_producer::http::problem::Problem;
use posthaste_shared::domain::overview::{FailingEndpoint, FailureGroup};
use posthaste_shared::domain::time::Timestamp;

use self::hour::{nothing_sent, tiles, worst, worst_endpoints};
use crate::entry::visitor::Visitor;
use crate::pages::{ask, operation_query};
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{failed, page};
use crate::parts::query::{Query, segment};
use crate::parts::text::{address, cut, strange};
use crate::parts::time::{at, in_list, number};
use crate::parts::{chart, chip};
use crate::state::Console;

/// All that is pending.
const PENDING: &str = "/console/deliveries?status=pending&window=all";
/// What waits for longer is late.
const LATE_SECONDS: u64 = 60;

/// The page.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Overview);
    let mut query = Query::default();
    if let Some(tenant) = visitor.query.get("tenant") {
        query = query.with("tenant", tenant);
    }
    let refused = |problem: Problem| failed(Some(&frame), &problem);
    let asked: OverviewQuery = read_query(&query.text()).map_err(refused)?;
    // Of the last 24 h, as every list where nothing else was chosen.
    let asked_of_failures: FailuresQuery =
        operation_query(&query, console.now().as_micros()).map_err(refused)?;
    let (of_hour, of_worst) = (read_query(&query.text()), read_query(&query.text()));
    let of_hour: StatsQuery = of_hour.map_err(refused)?;
    let of_worst: EndpointStatsQuery = of_worst.map_err(refused)?;
    let all = async {
        let seen = overview(&console.api, &visitor.caller, asked).await?;
        let failed = failures(&console.api, &visitor.caller, asked_of_failures).await?;
        let hour = stats(&console.api, &visitor.caller, of_hour).await?;
        let worst = worst(&console.api, &visitor.caller, of_worst).await?;
        Ok((seen, failed, hour, worst))
    };
    let (seen, failed, hour, worst) = ask(&console, &frame, all).await?;
    let needs = needs(&frame, &seen);
    let body = html! {
        div.headline { h1 { "Overview" } span.muted { (at(seen.at)) } }
        p.said { (sentence(needs.len())) }
        @if !needs.is_empty() {
            ul.needs { @for need in &needs { li { (need) } } }
        }
        (tiles(&hour, seen.installation.as_ref()))
        @if let Some(all) = &seen.installation { (who(all)) }
        h2 { "Results a minute, the last hour" }
        @if hour.total.attempts == 0 { (nothing_sent(&frame)) }
        @else { (chart::results("hour", &hour.items, &hour.total)) }
        @if !seen.failing.is_empty() { (failing(&frame, &seen.failing)) }
        @if hour.total.attempts > 0 { (worst_endpoints(&frame, &worst)) }
        (groups(&frame, &failed.items))
    };
    Ok(page(&frame, "Overview", &body))
}

fn sentence(needs: usize) -> String {
    match needs {
        0 => "All is well.".to_owned(),
        1 => "One thing needs attention; everything else is well.".to_owned(),
        several => format!("{several} things need attention; everything else is well."),
    }
}

/// What somebody should look at, the worst first.
fn needs(frame: &Frame, seen: &OverviewView) -> Vec<Markup> {
    let mut needs = Vec::new();
    if let Some(all) = &seen.installation {
        if all.workers == 0 {
            needs.push(need("No worker is alive: nothing is sent.", None));
        }
        if all.broker == Reachable::Unreachable {
            let text = "The broker does not answer: nothing new is accepted or taken up.";
            needs.push(need(text, None));
        }
        if let Some(due) = all.oldest_due.filter(|due| is_late(seen.at, *due)) {
            let text = format!("What has been due for longest waits since {due}.");
            needs.push(need(&text, Some(PENDING)));
        }
    }
    if !seen.failing.is_empty() {
        let text = match seen.failing.as_slice() {
            [one] => format!("{} fails since {}.", address(&one.url), one.since),
            several => format!("{} endpoints fail.", several.len()),
        };
        needs.push(need(&text, Some("#failing")));
    }
    if let Some(all) = &seen.installation {
        if let Some(dead) = all.dead_letters.filter(|dead| *dead > 0) {
            let text = format!("{}: nobody could read them.", count(dead, "dead letter"));
            let link = frame.may_manage.then_some("/console/dead-letters");
            needs.push(need(&text, link));
        }
        if all.endpoints_disabled > 0 {
            let text = match all.endpoints_disabled {
                1 => "One endpoint is disabled: what comes for it waits.".to_owned(),
                several => format!(
                    "{} endpoints are disabled: what comes for them waits.",
                    number(several)
                ),
            };
            let link = "/console/endpoints?enabled=false";
            needs.push(need(&text, Some(link)));
        }
        if let Some(oldest) = all.oldest_unpublished.filter(|it| is_late(seen.at, *it)) {
            let events = count(all.events_unpublished, "event");
            let text = format!("{events} not published yet, the oldest of {oldest}.");
            needs.push(need(&text, Some("/console/events")));
        }
    }
    needs
}

fn need(text: &str, link: Option<&str>) -> Markup {
    html! {
        span.mark aria-hidden="true" { "!" }
        span.what { (strange(text)) }
        @if let Some(link) = link { a href=(link) { "Look" } }
    }
}

fn is_late(now: Timestamp, at: Timestamp) -> bool {
    now.since(at).as_secs() >= LATE_SECONDS
}

fn count(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", number(count))
}

/// Who works, and for whom.
fn who(all: &InstallationView) -> Markup {
    html! {
        ul.saved aria-label="Who works, and for whom" {
            li { a href="/console/workers" { (count(all.workers, "worker")) " at work" } }
            li { a href="/console/endpoints?enabled=true" {
                (count(all.endpoints_enabled, "endpoint")) " enabled"
            } }
        }
    }
}

fn failing(frame: &Frame, endpoints: &[FailingEndpoint]) -> Markup {
    html! {
        h2 #failing { "Failing endpoints" }
        div.scroll tabindex="0" role="region" aria-label="Failing endpoints" {
            table.rows {
                thead { tr {
                    th scope="col" { "State" }
                    th.wide scope="col" { "URL" }
                    th scope="col" { "Tenant" }
                    th scope="col" { "Since" }
                    th.number scope="col" { "Failures" }
                    th.wide scope="col" { "Last error" }
                } }
                tbody { @for endpoint in endpoints {
                    tr id={ "e-" (segment(endpoint.endpoint_id.as_str())) } data-row {
                        td data-label="State" { (chip::chip("bad", "✕", "failing")) }
                        td.wide data-label="URL" {
                            a href=(of_endpoint(frame, endpoint.endpoint_id.as_str())) {
                                (cut(address(&endpoint.url)))
                            }
                        }
                        td data-label="Tenant" { (strange(endpoint.tenant.as_str())) }
                        td data-label="Since" { (in_list(endpoint.since)) }
                        td.number data-label="Failures" { (number(endpoint.failures.into())) }
                        td.wide data-label="Last error" { (cut(&endpoint.last_error)) }
                    }
                } }
            }
        }
    }
}

fn groups(frame: &Frame, groups: &[FailureGroup]) -> Markup {
    html! {
        h2 { "What failed in the last 24 h" }
        @if groups.is_empty() { p.muted { "Nothing." } }
        @else {
            div.scroll tabindex="0" role="region" aria-label="What failed" {
                table.rows {
                    thead { tr {
                        th.number scope="col" { "Deliveries" }
                        th scope="col" { "Reason" }
                        th scope="col" { "Endpoint" }
                        th scope="col" { "Tenant" }
                        th.wide scope="col" { "Last error" }
                        th scope="col" { "Newest" }
                    } }
                    tbody { @for group in groups { (row(frame, group)) } }
                }
            }
        }
    }
}

fn row(frame: &Frame, group: &FailureGroup) -> Markup {
    let id = group.endpoint_id.as_str();
    let query = Query::default()
        .with("status", "failed")
        .with("reason", group.reason.as_str())
        .with("endpoint_id", id);
    html! {
        tr data-row {
            td.number data-label="Deliveries" {
                a href=(frame.link_with("/console/deliveries", &query)) { (number(group.count)) }
            }
            td data-label="Reason" { (group.reason.as_str().replace('_', " ")) }
            td data-label="Endpoint" {
                a.id href=(of_endpoint(frame, id)) { (cut(id)) }
            }
            td data-label="Tenant" { (strange(group.tenant.as_str())) }
            td.wide data-label="Last error" { (cut(group.last_error.as_deref().unwrap_or("–"))) }
            td data-label="Newest" { (in_list(group.newest)) }
        }
    }
}

fn of_endpoint(frame: &Frame, id: &str) -> String {
    frame.link(&format!("/console/endpoints/{}", segment(id)))
}
