//! `/v1/overview` and `/v1/failures`: whether all is well, and if not, what is wrong. What it costs
//! grows with what is pending, not with what is finished, and is looked at once in 5 s at most.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::overview::{FailingEndpoint, FailureGroup};
use posthaste_shared::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::http::auth::Reader;
use crate::http::callers::Caller;
use crate::http::installation::InstallationView;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::Params;
use crate::http::state::Api;

/// The most failing endpoints that are named.
const FAILING: u32 = 20;
/// The most groups of failures in an answer, and how many come when nothing was said.
const GROUPS: u32 = 100;
const DEFAULT_GROUPS: u32 = 20;

/// How the installation and its endpoints are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OverviewView {
    /// When this was looked at: up to 5 s ago, or longer where counting takes more than a tenth of
    /// a second.
    pub at: Timestamp,
    /// The installation as a whole; null for a key that is bound to a tenant.
    pub installation: Option<InstallationView>,
    /// Endpoints that fail, the longest first: the first 20.
    pub failing: Vec<FailingEndpoint>,
}

/// Whose failing endpoints to name.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OverviewQuery {
    /// The tenant whose failing endpoints are wanted. Default: the key's tenant, else every tenant.
    pub tenant: Option<TenantId>,
}

/// Show whether all is well
///
/// What waits, who works and which endpoints fail. A key that is bound to a tenant gets that
/// tenant's endpoints alone.
#[utoipa::path(
    get, path = "/v1/overview", tag = "operations", operation_id = "overview",
    params(OverviewQuery),
    responses((
        status = 200,
        description = "How the installation and endpoints are",
        body = OverviewView,
    ))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<OverviewQuery>,
) -> Result<Json<OverviewView>, Problem> {
    find(&api, &caller, query).await.map(Json)
}

/// Looks whether all is well.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the store failed.
pub async fn find(
    api: &Api,
    caller: &Caller,
    query: OverviewQuery,
) -> Result<OverviewView, Problem> {
    caller.must(Scope::Read)?;
    let tenant = caller.tenant(query.tenant.as_ref())?;
    // Numbers of the whole would tell of other tenants.
    let (at, installation) = if caller.must_be_unbound().is_ok() {
        let (at, seen) = api
            .last_look
            .fresh(&api.store, &*api.broker, api.clock.now())
            .await?;
        (at, Some(seen))
    } else {
        (api.clock.now(), None)
    };
    let failing = api
        .store
        .failing_endpoints(tenant.as_ref(), FAILING)
        .await?;
    Ok(OverviewView {
        at,
        installation,
        failing,
    })
}

/// Which failures to group.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FailuresQuery {
    /// The tenant that they belong to. Default: the key's tenant, else every tenant.
    pub tenant: Option<TenantId>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// The most groups, 1 to 100. Default 20.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
}

/// Groups of failures, the largest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailuresView {
    /// The groups, the largest first.
    pub items: Vec<FailureGroup>,
}

/// Group the newest failures by endpoint and error
///
/// The newest 1,000 deliveries that failed: what they have in common shows whose fault it is.
#[utoipa::path(
    get, path = "/v1/failures", tag = "deliveries", operation_id = "list_failures",
    params(FailuresQuery),
    responses((status = 200, description = "The largest groups of failures", body = FailuresView))
)]
pub(super) async fn failures(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<FailuresQuery>,
) -> Result<Json<FailuresView>, Problem> {
    group(&api, &caller, query).await.map(Json)
}

/// Groups the newest failures by endpoint and error.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the limit is wrong; the store failed.
pub async fn group(
    api: &Api,
    caller: &Caller,
    query: FailuresQuery,
) -> Result<FailuresView, Problem> {
    caller.must(Scope::Read)?;
    let tenant = caller.tenant(query.tenant.as_ref())?;
    let limit = query.limit.unwrap_or(DEFAULT_GROUPS);
    if !(1..=GROUPS).contains(&limit) {
        let rule = format!("must be 1 to {GROUPS}");
        return Err(Problem::field(Code::InvalidQuery, "limit", rule));
    }
    let groups = api
        .store
        .failure_groups(tenant.as_ref(), query.since, limit);
    Ok(FailuresView {
        items: groups.await?,
    })
}
