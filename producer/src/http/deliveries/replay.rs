//! `/v1/deliveries/replay` and `/v1/replays`: sending again all that match a filter, in the
//! background.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use posthaste_shared::domain::audit::Action;
use posthaste_shared::domain::delivery::Status;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::deliveries::DeliveryFilter;
use posthaste_shared::store::replays::{JobCancelled, Matching, Replay};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::auth::{Admin, Reader};
use crate::http::callers::Caller;
use crate::http::endpoints::name;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::{Id, JsonBytes, Params};
use crate::http::request::json::parse;
use crate::http::request::page::{self, PageView};
use crate::http::state::Api;

/// Refuses a filter that would send everything again by mistake, and one that can match nothing.
fn check(filter: &DeliveryFilter) -> Result<(), Problem> {
    if filter.status.values().contains(&Status::Pending) {
        return Err(Problem::field(
            Code::Invalid,
            "status",
            "must not be pending: pending deliveries are sent without a replay",
        ));
    }
    if filter.status.values() == [Status::Expired] {
        return Err(Problem::field(
            Code::Invalid,
            "status",
            "must not be expired alone: what has expired is not sent again; enqueue it again",
        ));
    }
    let everything = DeliveryFilter {
        tenant: filter.tenant.clone(),
        ..DeliveryFilter::default()
    };
    if *filter == everything {
        let problem = "must name at least one of status, reason, status_code, hold, endpoint_id, \
                       notification_id, type, since and until";
        return Err(Problem::field(Code::Invalid, "", problem));
    }
    Ok(())
}

/// Whether to replay, or only to say what would be replayed.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct StartQuery {
    /// Only say how many deliveries match, and start nothing. Default false.
    #[serde(default)]
    dry_run: bool,
}

/// What a replay would look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplayPreview {
    /// Deliveries that match the filter now, with those that a replay leaves alone: pending ones,
    /// and those whose time ran out or whose endpoint was deleted.
    pub matched: u64,
    /// When the oldest of them was created; null when none matches.
    pub oldest: Option<Timestamp>,
    /// When the newest of them was created; null when none matches.
    pub newest: Option<Timestamp>,
}

/// Send again all deliveries that match a filter
///
/// Starts a job; `Location` says where to follow it. Each matching delivery that is finished, and
/// whose time has not run out, starts a new round of attempts. With `dry_run=true` it only says how
/// many match.
#[utoipa::path(
    post, path = "/v1/deliveries/replay", tag = "deliveries", operation_id = "replay_deliveries",
    params(StartQuery),
    request_body = DeliveryFilter,
    responses(
        (
            status = 200,
            description = "With `dry_run=true`: how many deliveries match",
            body = ReplayPreview,
        ),
        (
            status = 202,
            description = "The job has begun",
            body = Replay,
            headers(("Location" = String, description = "Where to follow the job")),
        ),
    )
)]
pub(in crate::http) async fn start(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Params(query): Params<StartQuery>,
    JsonBytes(body): JsonBytes,
) -> Result<Response, Problem> {
    let filter: DeliveryFilter = parse(&body)?;
    if query.dry_run {
        return Ok(Json(preview(&api, &caller, filter).await?).into_response());
    }
    let replay = begin(&api, &caller, filter).await?;
    let location = format!("/v1/replays/{}", replay.id);
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        Json(replay),
    )
        .into_response())
}

/// Says what a replay with this filter would look at.
///
/// # Errors
/// The caller may not manage or is bound to another tenant; the filter is wrong; the store failed.
pub async fn preview(
    api: &Api,
    caller: &Caller,
    filter: DeliveryFilter,
) -> Result<ReplayPreview, Problem> {
    let filter = checked(api, caller, filter).await?;
    let Matching {
        count,
        oldest,
        newest,
    } = api
        .store
        .matching_deliveries(&filter, api.clock.now())
        .await?;
    Ok(ReplayPreview {
        matched: count,
        oldest,
        newest,
    })
}

/// Begins a replay of all deliveries that match the filter.
///
/// # Errors
/// As [`preview`].
pub async fn begin(api: &Api, caller: &Caller, filter: DeliveryFilter) -> Result<Replay, Problem> {
    let filter = checked(api, caller, filter).await?;
    let now = api.clock.now();
    let act = caller.act(Action::ReplayStart, None, filter.tenant.as_ref(), now);
    Ok(api.store.for_act(act).create_replay(&filter, now).await?)
}

async fn checked(
    api: &Api,
    caller: &Caller,
    mut filter: DeliveryFilter,
) -> Result<DeliveryFilter, Problem> {
    caller.must(Scope::Admin)?;
    check(&filter)?;
    filter.tenant = caller.tenant(filter.tenant.as_ref())?;
    filter.endpoint_id = name::ids(api, caller, filter.tenant.as_ref(), filter.endpoint_id).await?;
    Ok(filter)
}

/// Which page of a list of jobs.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobsQuery {
    /// The most items, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// List replays, the newest first
#[utoipa::path(
    get, path = "/v1/replays", tag = "deliveries", operation_id = "list_replays",
    params(JobsQuery),
    responses((status = 200, description = "A page of the jobs", body = PageView<Replay>))
)]
pub(in crate::http) async fn list(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<JobsQuery>,
) -> Result<Json<PageView<Replay>>, Problem> {
    list_page(&api, &caller, query).await.map(Json)
}

/// Lists replays, the newest first: those of the key's tenant, where it is bound to one.
///
/// # Errors
/// The caller may not read; the query is wrong; the store failed.
pub async fn list_page(
    api: &Api,
    caller: &Caller,
    query: JobsQuery,
) -> Result<PageView<Replay>, Problem> {
    caller.must(Scope::Read)?;
    page::list(
        query.limit,
        query.cursor.as_deref(),
        async |page| api.store.replays(caller.bound_to(), &page).await,
        |replay| replay,
    )
    .await
}

/// Show how far a replay is
#[utoipa::path(
    get, path = "/v1/replays/{id}", tag = "deliveries", operation_id = "show_replay",
    params(("id" = Uuid, Path, description = "The id of the replay")),
    responses((status = 200, description = "The job as it stands now", body = Replay))
)]
pub(in crate::http) async fn show(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Id(id): Id<Uuid>,
) -> Result<Json<Replay>, Problem> {
    find(&api, &caller, id).await.map(Json)
}

/// Cancel a running replay
///
/// What it has not looked at is not sent again. What it had put into a new round by then is, and is
/// counted in `replayed`.
#[utoipa::path(
    post, path = "/v1/replays/{id}/cancel", tag = "deliveries", operation_id = "cancel_replay",
    params(("id" = Uuid, Path, description = "The id of the replay")),
    responses((status = 200, description = "The job, which is cancelled", body = Replay))
)]
pub(in crate::http) async fn cancel(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Id(id): Id<Uuid>,
) -> Result<Json<Replay>, Problem> {
    stop(&api, &caller, id).await.map(Json)
}

/// Cancels a running replay.
///
/// # Errors
/// The caller may not manage; there is no such replay for this caller, or it is not running; the
/// store failed.
pub async fn stop(api: &Api, caller: &Caller, id: Uuid) -> Result<Replay, Problem> {
    caller.must(Scope::Admin)?;
    let found = find(api, caller, id).await?;
    let (now, name, tenant) = (api.clock.now(), id.to_string(), found.filter.tenant);
    let act = caller.act(Action::ReplayCancel, Some(&name), tenant.as_ref(), now);
    match api.store.for_act(act).cancel_replay(id, now).await? {
        JobCancelled::Done => find(api, caller, id).await,
        JobCancelled::NotRunning => Err(Problem::new(
            Code::WrongState,
            "the replay is finished already, or was cancelled before",
        )),
    }
}

/// Shows how far a replay is. A key that is bound to a tenant starts replays of that tenant alone,
/// and sees no others.
///
/// # Errors
/// The caller may not read; there is no such replay for this caller; the store failed.
pub async fn find(api: &Api, caller: &Caller, id: Uuid) -> Result<Replay, Problem> {
    caller.must(Scope::Read)?;
    let replay = api.store.replay(id).await?;
    let seen = replay.filter(|replay| {
        caller.bound_to().is_none() || replay.filter.tenant.as_ref() == caller.bound_to()
    });
    seen.ok_or_else(|| Problem::not_found("replay"))
}
