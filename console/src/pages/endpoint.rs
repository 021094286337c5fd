//! `/console/endpoints/{id}`: what is wrong with it, and whether it is well again.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use posthaste_producer::http::operations::deliveries::DeliveryQuery;
use posthaste_producer::http::operations::{deliveries, endpoints};
use posthaste_producer::http::problem::Problem;
use posthaste_producer::http::wire_formats::TestReport;
use posthaste_shared::domain::endpoint::DisabledReason;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::view::{DeliveryView, EndpointView};

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::endpoints::types;
use crate::pages::{act, ask, done, health, must_manage};
use crate::parts::attempts::headers;
use crate::parts::commands::commands;
use crate::parts::frame::{Frame, Section};
use crate::parts::layout::{self, page, still};
use crate::parts::query::{Query, segment};
use crate::parts::text::{address, block, plain, strange, whole_id};
use crate::parts::time::{at, milliseconds};
use crate::parts::{actions, chip, json, request};
use crate::state::Console;

/// How many of its deliveries the page shows.
const RECENT: u32 = 15;

/// The page.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Endpoints);
    let (endpoint, recent, seen) = ask(&console, &frame, async {
        let endpoint = endpoints::show(&console.api, &visitor.caller, &parse(&id)?).await?;
        let query = DeliveryQuery {
            endpoint_id: endpoint.id.clone().into(),
            limit: Some(RECENT),
            ..DeliveryQuery::default()
        };
        let recent = deliveries::list(&console.api, &visitor.caller, query).await?;
        let query = &visitor.query;
        let seen = health::of_endpoint(&console.api, &visitor.caller, &endpoint.id, query);
        let seen = seen.await?;
        Ok((endpoint, recent.items, seen))
    })
    .await?;
    let body = html! {
        (heading(&frame, &endpoint))
        p.said dir="auto" { (plain(&state(&endpoint))) }
        (health::section(&path(&endpoint.id), &visitor.query, &seen))
        (facts(&endpoint))
        (deliveries_of(&frame, &endpoint, &recent))
        (settings(&endpoint))
        @let id = endpoint.id.as_str();
        (commands(&format!("/v1/endpoints/{}", segment(id)), &["endpoint", "show", id]))
    };
    let title = format!("Endpoint {}", address(&endpoint.url));
    Ok(page(&frame, &title, &body))
}

fn heading(frame: &Frame, endpoint: &EndpointView) -> Markup {
    let path = path(&endpoint.id);
    html! {
        div.headline {
            h1 { (chip::endpoint(endpoint)) " " span.title { (strange(address(&endpoint.url))) } }
            @if frame.may_manage {
                div.actions {
                    (actions::button(frame, &format!("{path}/test"), "Send a test", false))
                    @if endpoint.enabled {
                        (actions::question(frame, &format!("{path}/disable"), "Disable …"))
                    } @else {
                        (actions::button(frame, &format!("{path}/enable"), "Enable", true))
                    }
                    a.button href=(frame.link(&format!("{path}/settings"))) { "Settings" }
                    a.button href=(frame.link(&format!("{path}/transform"))) { "Transform" }
                    @if endpoint.has_secret {
                        (actions::question(frame, &format!("{path}/secret"), "New secret …"))
                    }
                    (actions::question(frame, &format!("{path}/delete"), "Delete …"))
                }
            }
        }
    }
}

/// How it is, in sentences.
fn state(endpoint: &EndpointView) -> String {
    if !endpoint.enabled {
        let why = match endpoint.disabled_reason {
            Some(DisabledReason::Gone) => "because it answered 410 Gone",
            Some(DisabledReason::Failing) => "because all its attempts failed for too long",
            Some(DisabledReason::Manual) | None => "by hand",
        };
        return format!(
            "It was disabled {why}. What names it waits until it is enabled; new notifications \
             that only match its subscription are not delivered to it, not even later."
        );
    }
    let Some(health) = &endpoint.health else {
        return "It is enabled, and nothing keeps it from being called.".to_owned();
    };
    let mut sentences = Vec::new();
    if let Some(sick) = &health.unhealthy {
        sentences.push(format!(
            "It has failed {} times in a row since {}. A single request tries it from time to \
             time, not before {}. The last error: {}.",
            sick.failures,
            sick.since,
            sick.open_until,
            sick.last_error.trim_end_matches('.')
        ));
    }
    if let Some(until) = health.paused_until {
        sentences.push(format!("It asked for a pause until {until}."));
    }
    sentences.join(" ")
}

pub(super) fn facts(endpoint: &EndpointView) -> Markup {
    html! {
        dl.facts {
            div { dt { "Endpoint" } dd { (whole_id(endpoint.id.as_str())) } }
            @if let Some(uid) = &endpoint.uid {
                div { dt { "Uid" } dd { (whole_id(uid.as_str())) } }
            }
            div { dt { "URL" } dd dir="auto" { (plain(&endpoint.url)) } }
            div { dt { "Tenant" } dd { (strange(endpoint.tenant.as_str())) } }
            div { dt { "Format" } dd { (endpoint.wire_format.as_str()) } }
            div { dt { "Types" } dd { (strange(&types(endpoint))) } }
            @if !endpoint.description.is_empty() {
                div { dt { "Description" } dd dir="auto" { (plain(&endpoint.description)) } }
            }
            div { dt { "Timeout" } dd { (milliseconds(endpoint.timeout_ms as f64)) } }
            div { dt { "Max in flight" } dd { (endpoint.max_in_flight) } }
            @if let Some(rate) = endpoint.rate_limit_per_second {
                div { dt { "Rate" } dd { "up to " (rate) " a second" } }
            }
            div { dt { "Retries" } dd { (retry(&endpoint.retry)) } }
            div { dt { "Secret" } dd {
                @if !endpoint.has_secret { "none" }
                @else if endpoint.retiring_secrets == 0 { "set" }
                @else { "set, and " (endpoint.retiring_secrets) " older that still sign" }
            } }
            div { dt { "Created" } dd { (at(endpoint.created_at)) } }
            div { dt { "Changed" } dd { (at(endpoint.updated_at)) } }
        }
    }
}

fn deliveries_of(frame: &Frame, endpoint: &EndpointView, recent: &[DeliveryView]) -> Markup {
    let id = endpoint.id.as_str();
    let all = Query::default()
        .with("endpoint_id", id)
        .with("window", "all");
    let parked = all.with("status", "pending");
    let failed = all.with("status", "failed");
    let urls = HashMap::from([(endpoint.id.clone(), endpoint.url.clone())]);
    html! {
        div.headline {
            h2 { "Latest deliveries" }
            ul.saved aria-label="Deliveries of this endpoint" {
                @for (name, query) in [("all", all), ("failed", failed), ("waiting", parked)] {
                    li { a href={ "/console/deliveries" (query) } { (name) } }
                }
            }
        }
        @if recent.is_empty() { p.muted { "There are none." } }
        @else { (super::deliveries::table(frame, recent, &urls)) }
    }
}

fn settings(endpoint: &EndpointView) -> Markup {
    let shown = |name: &str, map: &serde_json::Map<String, serde_json::Value>| {
        let text = serde_json::to_string(map).unwrap_or_default();
        html! { @if !map.is_empty() { section.pane { h2 { (name) } (json::pretty(&text)) } } }
    };
    html! {
        div.panes {
            (shown("Settings", &endpoint.settings))
            (shown("Headers", &endpoint.headers))
        }
    }
}

/// How often and when a failed attempt is tried again, in a line.
fn retry(policy: &RetryPolicy) -> String {
    let seconds = |ms: u64| milliseconds(ms as f64);
    let when = match &policy.delays_ms {
        Some(delays) => {
            let delays: Vec<String> = delays.iter().copied().map(seconds).collect();
            format!("after {}", delays.join(", "))
        }
        None => format!(
            "the first after {}, each next after {} times as long, up to {}",
            seconds(policy.initial_delay_ms),
            policy.multiplier,
            seconds(policy.max_delay_ms)
        ),
    };
    match policy.max_retries {
        0 => "never".to_owned(),
        most => format!("up to {most}: {when}"),
    }
}

/// Asks before an endpoint is disabled.
pub(crate) async fn ask_disable(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::Endpoints);
    let endpoint = ask(&console, &frame, async {
        let endpoint = endpoints::show(&console.api, &visitor.caller, &parse(&id)?).await?;
        must_manage(&frame).map(|()| endpoint)
    })
    .await?;
    let path = path(&endpoint.id);
    let title = "Disable this endpoint?";
    let words = html! {
        p { "Nothing is sent to " b { (strange(address(&endpoint.url))) } " any more. Its \
            pending deliveries wait, as does what names it, and are sent when it is enabled again; \
            what expires meanwhile is not." }
        p { b { "New notifications that only match its subscription are not delivered to it, not \
            even later." } }
        (facts(&endpoint))
    };
    let confirm = actions::Confirm {
        title,
        words,
        action: &format!("{path}/disable"),
        label: "Disable it",
        typed: None,
        back: &path,
    };
    let body = actions::confirm(&frame, &confirm);
    Ok(still(&frame, StatusCode::OK, title, &body))
}

/// Disables it.
pub(crate) async fn disable(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    switch(&console, &id, &form.visitor, false).await
}

/// Enables it.
pub(crate) async fn enable(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    switch(&console, &id, &form.visitor, true).await
}

async fn switch(
    console: &Console,
    id: &str,
    visitor: &Visitor,
    enabled: bool,
) -> Result<Response, Response> {
    let word = if enabled { "enabled" } else { "disabled" };
    let work =
        async { endpoints::enable(&console.api, &visitor.caller, &parse(id)?, enabled).await };
    let changed = act(visitor, &format!("endpoint {id} {word}"), work).await?;
    Ok(done(&visitor.frame, &path(&changed.id), word))
}

/// Sends the example of its wire format, once, and shows what came back.
pub(crate) async fn test(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let frame = visitor.at(Section::Endpoints);
    let work = async {
        let endpoint = endpoints::show(&console.api, &visitor.caller, &parse(&id)?).await?;
        let report = endpoints::test(&console.api, &visitor.caller, &endpoint.id).await?;
        Ok((endpoint, report))
    };
    let (endpoint, report) = act(&visitor, &format!("test endpoint {id}"), work).await?;
    let body = html! {
        div.headline { h1 { "Test of " (strange(address(&endpoint.url))) } }
        p.said dir="auto" { (plain(&layout::sentence(&report.verdict))) }
        p.muted { "One request was sent, in " (milliseconds(report.duration_ms)) ". It is not \
            recorded and not tried again." }
        (report_panes(&report))
        div.actions {
            @let again = format!("{}/test", path(&endpoint.id));
            (actions::button(&frame, &again, "Send another", false))
            a.button href=(frame.link(&path(&endpoint.id))) { "Back to the endpoint" }
        }
    };
    Ok(still(&frame, StatusCode::OK, "Test", &body))
}

fn report_panes(report: &TestReport) -> Markup {
    html! {
        div.panes {
            section.pane {
                h2 { "Request" }
                @match &report.request {
                    Some(request) => (request::shown(request)),
                    None => p.muted { "None could be written." },
                }
            }
            section.pane {
                h2 { "Answer" }
                @if let Some(error) = &report.error {
                    p.error { (plain(&layout::sentence(&error.text))) }
                }
                @match &report.response {
                    Some(response) => {
                        p.line { code { (response.status) } }
                        (headers(&response.headers))
                        (request::body(&response.body))
                    },
                    None => p.muted { "There was no answer." },
                }
                @if let Some(console) = &report.console {
                    h3 { "The script's console" }
                    (block(console))
                }
            }
        }
    }
}

pub(super) fn parse(id: &str) -> Result<EndpointId, Problem> {
    EndpointId::parse(id).map_err(|_| Problem::not_found("endpoint"))
}

pub(super) fn path(id: &EndpointId) -> String {
    format!("/console/endpoints/{}", segment(id.as_str()))
}
