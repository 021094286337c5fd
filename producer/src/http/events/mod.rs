//! `/v1/events` and `/v1/events/stream`: what Posthaste tells about itself.

pub(super) mod cloud_event;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use futures::stream::{self, Stream, StreamExt};
use http::HeaderMap;
use posthaste_shared::domain::event::{Event, EventType};
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::StoreError;
use posthaste_shared::store::events::EventFilter;
use posthaste_shared::store::several::Several;
use serde::Deserialize;

use crate::http::auth::{Reader, still_works};
use crate::http::callers::Caller;
use crate::http::events::cloud_event::CloudEvent;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::Params;
use crate::http::request::page::{self, PageView};
use crate::http::state::Api;
use crate::http::tenant_limits::OpenStream;

/// How often the store is asked for new events, for each open stream.
const POLL: Duration = Duration::from_millis(500);
/// How often a comment is sent so that proxies keep a quiet stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The most events read at once.
const BATCH: u32 = 100;

/// Which events to list.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// The tenant that they belong to. Default: the key's tenant, else every tenant.
    pub tenant: Option<TenantId>,
    /// Their type: one, or several with commas between them.
    #[serde(rename = "type", default)]
    #[param(value_type = Vec<EventType>, required = false, style = Form, explode = false)]
    pub kind: Several<EventType>,
    /// Only events at this time or later.
    pub since: Option<Timestamp>,
    /// Only events before this time.
    pub until: Option<Timestamp>,
    /// The most events on a page, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// List events, the newest first
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "list_events",
    params(EventQuery),
    responses((status = 200, description = "A page of CloudEvents", body = PageView<CloudEvent>))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<EventQuery>,
) -> Result<Json<PageView<RawJson>>, Problem> {
    list_page(&api, &caller, query).await.map(Json)
}

/// Lists events as CloudEvents, the newest first.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the query is wrong; the store failed.
pub async fn list_page(
    api: &Api,
    caller: &Caller,
    query: EventQuery,
) -> Result<PageView<RawJson>, Problem> {
    caller.must(Scope::Read)?;
    let filter = EventFilter {
        tenant: caller.tenant(query.tenant.as_ref())?,
        kind: query.kind,
        since: query.since,
        until: query.until,
    };
    page::list(
        query.limit,
        query.cursor.as_deref(),
        async |page| api.store.events(&filter, &page).await,
        |event| event.body,
    )
    .await
}

/// Which events to stream.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// The tenant that they belong to. Default: the key's tenant, else every tenant.
    tenant: Option<TenantId>,
    /// Their type: one, or several with commas between them.
    #[serde(rename = "type", default)]
    #[param(value_type = Vec<EventType>, required = false, style = Form, explode = false)]
    kind: Several<EventType>,
}

/// Follow events as they happen
///
/// Server-Sent Events: `event` is the type, `data` the CloudEvent, `id` a number to come back with
/// in `Last-Event-ID`, which sends what was missed. The stream ends when its key is revoked.
/// Without it the stream begins now; its first line says the id of now.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "events", operation_id = "stream_events",
    params(
        StreamQuery,
        (
            "Last-Event-ID" = Option<i64>,
            Header,
            description = "The id of the last event that was seen",
        ),
    ),
    responses((
        status = 200,
        description = "A stream of Server-Sent Events",
        content_type = "text/event-stream",
        body = String,
    ))
)]
pub(super) async fn follow(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    headers: HeaderMap,
    Params(query): Params<StreamQuery>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let filter = EventFilter {
        tenant: caller.tenant(query.tenant.as_ref())?,
        kind: query.kind,
        since: None,
        until: None,
    };
    let cursor = match last_event_id(&headers)? {
        Some(id) => id,
        None => api.store.last_event_sequence().await?,
    };
    // Counted last: a request that is refused, or waits for the store, takes no place.
    let open = api.tenants.open_stream(filter.tenant.as_ref())?;
    let shutdown = api.shutdown.clone();
    let batches = stream::unfold(
        Position {
            api,
            headers,
            filter,
            cursor,
            open,
        },
        next_batch,
    );
    // Whoever loses the connection before the first event comes back with the id of the beginning.
    let beginning = Ok(sse::Event::default()
        .id(cursor.to_string())
        .comment("from here"));
    let events = batches
        .flat_map(stream::iter)
        // A stream has no end of its own, and would hold the process up until its grace is over.
        .take_until(shutdown.cancelled_owned());
    Ok(Sse::new(stream::iter([beginning]).chain(events))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let wrong = || {
        Problem::field(
            Code::InvalidHeader,
            "Last-Event-ID",
            "must be the id of an event of this stream",
        )
    };
    id.map(Some).ok_or_else(wrong)
}

/// Where a stream is.
struct Position {
    api: Arc<Api>,
    /// With the key that the stream was asked for with.
    headers: HeaderMap,
    filter: EventFilter,
    /// The sequence number of the last event that was sent.
    cursor: i64,
    open: OpenStream,
}

/// Waits for events after the position. A store that is away is asked again at the next turn.
/// `None`, which ends the stream, when its key was revoked.
async fn next_batch(position: Position) -> Option<(Vec<Result<sse::Event, Infallible>>, Position)> {
    let Position {
        api,
        headers,
        filter,
        cursor,
        open,
    } = position;
    if let Err(problem) = still_works(&headers, &api).await
        && problem.code == Code::InvalidKey
    {
        return None;
    }
    let found: Result<Vec<(i64, Event)>, StoreError> =
        api.store.events_after(Some(cursor), &filter, BATCH).await;
    let events = match found {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!(error = %error, "an event stream could not read the store and tries \
                again");
            Vec::new()
        }
    };
    if events.is_empty() {
        tokio::time::sleep(POLL).await;
    }
    let next = events.last().map_or(cursor, |(sequence, _)| *sequence);
    let shown = events
        .iter()
        .map(|(sequence, event)| Ok(server_sent(*sequence, event)))
        .collect();
    Some((
        shown,
        Position {
            api,
            headers,
            filter,
            cursor: next,
            open,
        },
    ))
}

fn server_sent(sequence: i64, event: &Event) -> sse::Event {
    sse::Event::default()
        .id(sequence.to_string())
        .event(event.kind.as_str())
        .data(event.body.as_str())
}
