//! `/v1/deliveries/replay` and `/v1/replays`: sending again all that match a filter, in the background.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use posthaste_shared::domain::delivery::Status;
use posthaste_shared::store::deliveries::DeliveryFilter;
use posthaste_shared::store::replays::Replay;
use uuid::Uuid;

use super::auth::{Admin, Reader};
use super::extract::{Id, JsonBytes};
use super::json::parse;
use super::problem::{Code, Problem};
use super::state::Api;

/// Refuses a filter that would send everything again by mistake, and one that can match nothing.
fn check(filter: &DeliveryFilter) -> Result<(), Problem> {
    if filter.status == Some(Status::Pending) {
        return Err(Problem::field(
            Code::Invalid,
            "status",
            "must be a final one: pending deliveries are on their way",
        ));
    }
    let everything = DeliveryFilter { tenant: filter.tenant.clone(), ..DeliveryFilter::default() };
    if *filter == everything {
        let problem = "must name at least one of status, endpoint_id, notification_id, type, since and until";
        return Err(Problem::field(Code::Invalid, "", problem));
    }
    Ok(())
}

/// Send again all deliveries that match a filter
///
/// Starts a job; `Location` says where to follow it. Each matching delivery that is at its end, and whose
/// time has not run out, starts a new round of attempts.
#[utoipa::path(
    post, path = "/v1/deliveries/replay", tag = "deliveries", operation_id = "replay_deliveries",
    request_body = DeliveryFilter,
    responses((status = 202, description = "The job has begun", body = Replay, headers(("Location" = String, description = "Where to follow the job"))))
)]
pub(super) async fn start(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    JsonBytes(body): JsonBytes,
) -> Result<Response, Problem> {
    let mut filter: DeliveryFilter = parse(&body)?;
    check(&filter)?;
    filter.tenant = caller.tenant(filter.tenant.as_ref())?;
    let replay = api.store.create_replay(&filter, api.clock.now()).await?;
    let location = format!("/v1/replays/{}", replay.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(replay)).into_response())
}

/// Show how far a replay is
#[utoipa::path(
    get, path = "/v1/replays/{id}", tag = "deliveries", operation_id = "show_replay",
    params(("id" = String, Path, description = "The replay's id")),
    responses((status = 200, description = "The job", body = Replay))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Id(id): Id<Uuid>,
) -> Result<Json<Replay>, Problem> {
    let replay = api.store.replay(id).await?;
    // A key that is bound to a tenant starts replays of that tenant alone, and sees no others.
    let seen =
        replay.filter(|replay| caller.bound_to().is_none() || replay.filter.tenant.as_ref() == caller.bound_to());
    seen.map(Json).ok_or_else(|| Problem::not_found("replay"))
}
