//! The pages, a file each: what an address asks for, the operation, and how its view looks.

pub(crate) mod audit;
pub(crate) mod dead_letters;
pub(crate) mod deliveries;
pub(crate) mod delivery;
pub(crate) mod endpoint;
pub(crate) mod endpoint_form;
pub(crate) mod endpoint_secret;
pub(crate) mod endpoints;
pub(crate) mod events;
pub(crate) mod go;
pub(crate) mod health;
pub(crate) mod key_form;
pub(crate) mod keys;
pub(crate) mod notification;
pub(crate) mod notifications;
pub(crate) mod overview;
pub(crate) mod replays;
pub(crate) mod selected;
pub(crate) mod send;
pub(crate) mod transform;
pub(crate) mod workers;

use std::time::Duration;

use axum::response::{IntoResponse as _, Redirect, Response};
use posthaste_producer::http::operations::read_query;
use posthaste_producer::http::problem::{Code, Problem};
use serde::de::DeserializeOwned;

use crate::entry::visitor::Visitor;
use crate::parts::frame::Frame;
use crate::parts::query::Query;
use crate::parts::{layout, list};
use crate::state::Console;

/// How long a page waits for its turn, and then for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does what a page asks for, in its turn and not for ever. What it cannot have is a page as well.
pub(crate) async fn ask<T>(
    console: &Console,
    frame: &Frame,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Response> {
    let in_turn = async {
        // Never closed, so an error means only that nobody waits in line.
        let _turn = console.pages.acquire().await.ok();
        work.await
    };
    match tokio::time::timeout(PATIENCE, in_turn).await {
        Ok(done) => done.map_err(|problem| layout::failed(Some(frame), &problem)),
        Err(_) => {
            let detail = "the store did not answer within 5 s: narrow the filters, or try again";
            let problem = Problem::new(Code::Unavailable, detail);
            Err(layout::failed(Some(frame), &problem))
        }
    }
}

/// Refuses whoever may only look.
pub(crate) fn must_manage(frame: &Frame) -> Result<(), Problem> {
    if frame.may_manage {
        Ok(())
    } else {
        Err(delivery::read_only())
    }
}

/// Changes something, and leaves one line in the log that says who did it. What was refused is a
/// page.
pub(crate) async fn act<T>(
    visitor: &Visitor,
    what: &str,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Response> {
    acting(visitor, what, work)
        .await
        .map_err(|problem| layout::failed(Some(&visitor.frame), &problem))
}

/// [`act`], for a form that says itself what was refused.
pub(crate) async fn acting<T>(
    visitor: &Visitor,
    what: &str,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let done = work.await;
    let key = visitor.caller.key();
    let status = done
        .as_ref()
        .map_or_else(|problem| problem.code.status().as_u16(), |_| 200);
    tracing::info!(
        key.id = %key.id,
        key.tenant = key.tenant.as_ref().map(|tenant| tenant.as_str()),
        http.status = status,
        "console: {what}"
    );
    done
}

/// Back to a page, which says what was done.
pub(crate) fn done(frame: &Frame, path: &str, notice: &str) -> Response {
    let mut query = Query::default();
    if let (Some(tenant), false) = (&frame.tenant, frame.is_bound) {
        query = query.with("tenant", tenant);
    }
    Redirect::to(&format!("{path}{}", query.with("notice", notice))).into_response()
}

/// The query of an operation from that of a page: without what only the page knows, and from the
/// beginning of the window that was chosen.
///
/// # Errors
/// `invalid_query`, with the parameter that is wrong.
pub(crate) fn operation_query<T: DeserializeOwned>(
    query: &Query,
    now_micros: i64,
) -> Result<T, Problem> {
    let mut asked = query.without(&["window", "notice"]);
    if asked.get("since").is_none()
        && let (_, _, Some(seconds)) = list::window(query)
    {
        let micros =
            now_micros.saturating_sub(i64::try_from(seconds).unwrap_or(i64::MAX) * 1_000_000);
        let since = posthaste_shared::domain::time::Timestamp::from_micros(micros);
        asked = asked.with("since", &since.to_string());
    }
    read_query(&asked.text())
}
