//! `/v1/redrives`: putting all dead letters back on the work queue, in the background. Dead letters
//! belong to no tenant, so keys that are bound to one do not see these jobs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use posthaste_shared::domain::audit::Action;
use posthaste_shared::store::redrives::Redrive;
use posthaste_shared::store::replays::JobCancelled;
use uuid::Uuid;

use crate::http::auth::Admin;
use crate::http::deliveries::replay::JobsQuery;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::{Id, Params};
use crate::http::request::page::{self, PageView};
use crate::http::state::Api;

/// Put all dead letters back on the work queue
///
/// Starts a job that takes as many as there are now, the oldest first: what dies again meanwhile is
/// left for the next. `Location` says where to follow it.
#[utoipa::path(
    post, path = "/v1/redrives", tag = "dead letters", operation_id = "start_redrive",
    responses((
        status = 202,
        description = "The job has begun",
        body = Redrive,
        headers(("Location" = String, description = "Where to follow the job")),
    ))
)]
pub(in crate::http) async fn start(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
) -> Result<Response, Problem> {
    caller.must_be_unbound()?;
    let total = api.broker.depths().await?.get("dead").copied().unwrap_or(0);
    let now = api.clock.now();
    let act = caller.act(Action::RedriveStart, None, None, now);
    let redrive = api.store.for_act(act).create_redrive(total, now).await?;
    let location = format!("/v1/redrives/{}", redrive.id);
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        Json(redrive),
    )
        .into_response())
}

/// List redrives, the newest first
#[utoipa::path(
    get, path = "/v1/redrives", tag = "dead letters", operation_id = "list_redrives",
    params(JobsQuery),
    responses((status = 200, description = "A page of the jobs", body = PageView<Redrive>))
)]
pub(in crate::http) async fn list(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Params(query): Params<JobsQuery>,
) -> Result<Json<PageView<Redrive>>, Problem> {
    caller.must_be_unbound()?;
    page::list(
        query.limit,
        query.cursor.as_deref(),
        async |page| api.store.redrives(&page).await,
        |redrive| redrive,
    )
    .await
    .map(Json)
}

/// Show how far a redrive is
#[utoipa::path(
    get, path = "/v1/redrives/{id}", tag = "dead letters", operation_id = "show_redrive",
    params(("id" = Uuid, Path, description = "The id of the redrive")),
    responses((status = 200, description = "The job as it stands now", body = Redrive))
)]
pub(in crate::http) async fn show(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Id(id): Id<Uuid>,
) -> Result<Json<Redrive>, Problem> {
    caller.must_be_unbound()?;
    api.store
        .redrive(id)
        .await?
        .map(Json)
        .ok_or_else(|| Problem::not_found("redrive"))
}

/// Cancel a running redrive
///
/// Letters that it has not come to stay on the dead-letter queue. A step of up to 100 letters that
/// is under way is finished, and counted in `redriven` when it is.
#[utoipa::path(
    post, path = "/v1/redrives/{id}/cancel", tag = "dead letters", operation_id = "cancel_redrive",
    params(("id" = Uuid, Path, description = "The id of the redrive")),
    responses((status = 200, description = "The job, which is cancelled", body = Redrive))
)]
pub(in crate::http) async fn cancel(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Id(id): Id<Uuid>,
) -> Result<Json<Redrive>, Problem> {
    caller.must_be_unbound()?;
    let (now, name) = (api.clock.now(), id.to_string());
    let act = caller.act(Action::RedriveCancel, Some(&name), None, now);
    match api.store.for_act(act).cancel_redrive(id, now).await? {
        JobCancelled::Done => {}
        JobCancelled::NotRunning => {
            api.store
                .redrive(id)
                .await?
                .ok_or_else(|| Problem::not_found("redrive"))?;
            return Err(Problem::new(
                Code::WrongState,
                "the redrive is finished already, or was cancelled before",
            ));
        }
    }
    api.store
        .redrive(id)
        .await?
        .map(Json)
        .ok_or_else(|| Problem::not_found("redrive"))
}
