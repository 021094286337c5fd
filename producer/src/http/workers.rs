//! `/v1/workers`: who delivers, and how busy they are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::worker_reports::ReportedWorker;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::auth::Reader;
use crate::http::callers::Caller;
use crate::http::problem::Problem;
use crate::http::state::Api;

/// The most workers of an answer.
const MOST: u32 = 200;

/// A worker, as it last reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkerView {
    /// This run of the worker: one that is started again has another id.
    pub id: Uuid,
    /// What its operator calls it.
    pub name: String,
    /// Whether it was seen within 5 s. One that is not alive did not stop by itself: it was killed,
    /// hangs, or is cut off from the store.
    pub alive: bool,
    /// The version of its program. Null, as all that follows, until a worker that has just started
    /// has reported.
    pub version: Option<String>,
    /// How many requests it may have in flight.
    pub slots: Option<u32>,
    /// How many requests it had in flight when it was last seen.
    pub in_flight: Option<u32>,
    /// Endpoints that are at a limit there, so that their deliveries wait in line: the first 100.
    pub at_limit: Vec<EndpointId>,
    /// When this run of it started.
    pub started_at: Option<Timestamp>,
    /// When it last reported, which it does every 10 s.
    pub last_seen: Option<Timestamp>,
}

/// The workers, alive and silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkersView {
    /// The workers that are alive, and those that fell silent within the last day; the alive ones
    /// first, by name; the first 200.
    pub items: Vec<WorkerView>,
}

/// List the workers that deliver
///
/// Those that are alive, and those that fell silent within the last day without having stopped. For
/// keys that are bound to no tenant.
#[utoipa::path(
    get, path = "/v1/workers", tag = "operations", operation_id = "list_workers",
    responses((status = 200, description = "The workers, alive and silent", body = WorkersView))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
) -> Result<Json<WorkersView>, Problem> {
    find(&api, &caller).await.map(Json)
}

/// Lists the workers.
///
/// # Errors
/// The caller may not read or is bound to a tenant; the store failed.
pub async fn find(api: &Api, caller: &Caller) -> Result<WorkersView, Problem> {
    caller.must(Scope::Read)?;
    // It names the endpoints of every tenant.
    caller.must_be_unbound()?;
    let workers = api.store.reported_workers(api.clock.now(), MOST).await?;
    Ok(WorkersView {
        items: workers.into_iter().map(view).collect(),
    })
}

fn view(worker: ReportedWorker) -> WorkerView {
    let ReportedWorker {
        worker: id,
        name,
        alive,
        said,
    } = worker;
    let at_limit = said.as_ref().map(|said| said.at_limit.clone());
    let said = said.as_ref();
    WorkerView {
        id: id.0,
        name,
        alive,
        version: said.map(|said| said.version.clone()),
        slots: said.map(|said| said.slots),
        in_flight: said.map(|said| said.in_flight),
        at_limit: at_limit.unwrap_or_default(),
        started_at: said.map(|said| said.started_at),
        last_seen: said.map(|said| said.at),
    }
}
