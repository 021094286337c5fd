//! `GET /v1/audit`: who did what to what. Only for keys that are bound to no tenant.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::audit::{Action, AuditEntry};
use posthaste_shared::domain::id::{KeyId, TenantId};
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::audit::AuditFilter;
use serde::Deserialize;

use crate::http::auth::Admin;
use crate::http::callers::Caller;
use crate::http::problem::Problem;
use crate::http::request::extract::Params;
use crate::http::request::page::{self, PageView};
use crate::http::state::Api;

/// Which entries to list.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// The id of the API key that it was done with.
    pub key_id: Option<KeyId>,
    /// What was done, such as `endpoint.create`.
    pub action: Option<Action>,
    /// The id of what it was done to: of an endpoint, a delivery, a key, a job.
    pub object: Option<String>,
    /// The tenant that this belongs to. Default: every tenant.
    pub tenant: Option<TenantId>,
    /// Done at this time or later.
    pub since: Option<Timestamp>,
    /// Done before this time.
    pub until: Option<Timestamp>,
    /// The most entries on a page, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// List who did what, the newest first
///
/// Kept for 90 days longer than deliveries are (`retention`). Enqueueing is not among it.
#[utoipa::path(
    get, path = "/v1/audit", tag = "keys", operation_id = "list_audit",
    params(AuditQuery),
    responses((status = 200, description = "A page of entries", body = PageView<AuditEntry>))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Params(query): Params<AuditQuery>,
) -> Result<Json<PageView<AuditEntry>>, Problem> {
    list_page(&api, &caller, query).await.map(Json)
}

/// Lists who did what, the newest first.
///
/// # Errors
/// The caller may not manage or is bound to a tenant; the query is wrong; the store failed.
pub async fn list_page(
    api: &Api,
    caller: &Caller,
    query: AuditQuery,
) -> Result<PageView<AuditEntry>, Problem> {
    caller.must(Scope::Admin)?;
    caller.must_be_unbound()?;
    let filter = AuditFilter {
        key_id: query.key_id,
        object: query.object,
        action: query.action,
        tenant: query.tenant,
        since: query.since,
        until: query.until,
    };
    page::list(
        query.limit,
        query.cursor.as_deref(),
        async |page| api.store.audit(&filter, &page).await,
        |entry| entry,
    )
    .await
}
