//! What helps to write a notification: the types that there were, and who would get it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::event::check_type;
use posthaste_shared::domain::id::{EndpointId, NotificationType, TenantId};
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::notification::{NotificationDraft, Origin};
use posthaste_shared::domain::wire_format::WireFormat;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::enqueue::accept;
use crate::http::auth::Reader;
use crate::http::callers::Caller;
use crate::http::problem::{Code, FieldProblem, Problem};
use crate::http::request::extract::{JsonBytes, Params};
use crate::http::request::json::parse;
use crate::http::state::Api;

/// The most types that are listed.
const MOST_TYPES: u32 = 200;
/// The most endpoints that are listed.
const MOST_ENDPOINTS: usize = 100;

/// Whose types to list.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct TypesQuery {
    /// The tenant whose types are wanted. Default: the key's tenant, else every tenant.
    pub(in crate::http) tenant: Option<TenantId>,
}

/// The types of notifications that there were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TypesView {
    /// The types, in alphabetical order, up to 200 of them.
    pub items: Vec<NotificationType>,
}

/// List the types of notifications
///
/// Of all recorded deliveries; of one tenant, those of its latest 2,000. Without Posthaste's own
/// events.
#[utoipa::path(
    get, path = "/v1/types", tag = "notifications", operation_id = "list_types",
    params(TypesQuery),
    responses((status = 200, description = "The types that there were", body = TypesView))
)]
pub(in crate::http) async fn list_types(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<TypesQuery>,
) -> Result<Json<TypesView>, Problem> {
    types(&api, &caller, query.tenant.as_ref()).await.map(Json)
}

/// Lists the types of notifications that there were.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the store failed.
pub async fn types(
    api: &Api,
    caller: &Caller,
    tenant: Option<&TenantId>,
) -> Result<TypesView, Problem> {
    caller.must(Scope::Read)?;
    let tenant = caller.tenant(tenant)?;
    let mut items = api
        .store
        .delivery_types(tenant.as_ref(), MOST_TYPES)
        .await?;
    // Nobody may enqueue a notification of one of those.
    items.retain(|kind| check_type(kind, Origin::Producer).is_ok());
    Ok(TypesView { items })
}

/// An endpoint that would get a notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AudienceEndpoint {
    /// The id of the endpoint.
    pub id: EndpointId,
    /// The URL that requests go to.
    pub url: String,
    /// The name of its wire format.
    pub wire_format: WireFormat,
    /// Whether it is enabled. What names a disabled endpoint waits for it.
    pub enabled: bool,
    /// What the notification lacks for it, or has wrong; empty if nothing.
    pub problems: Vec<FieldProblem>,
}

/// Who would get a notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AudienceView {
    /// The tenant that it would belong to.
    pub tenant: TenantId,
    /// How many endpoints would get it.
    pub count: usize,
    /// Those endpoints, up to 100 of them.
    pub endpoints: Vec<AudienceEndpoint>,
}

/// Show who would get a notification
///
/// As subscriptions are now. Nothing is enqueued.
#[utoipa::path(
    post, path = "/v1/notifications/audience", tag = "notifications",
    operation_id = "show_audience",
    request_body = NotificationDraft,
    responses((status = 200, description = "The endpoints that would get it", body = AudienceView))
)]
pub(in crate::http) async fn show(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    JsonBytes(body): JsonBytes,
) -> Result<Json<AudienceView>, Problem> {
    find(&api, &caller, parse(&body)?).await.map(Json)
}

/// Finds out who would get a notification.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the notification is wrong; the store
/// failed.
pub async fn find(
    api: &Api,
    caller: &Caller,
    draft: NotificationDraft,
) -> Result<AudienceView, Problem> {
    caller.must(Scope::Read)?;
    let tenant = caller.tenant_or_default(draft.tenant.as_ref())?;
    let target = draft.endpoint_id.clone();
    let notification = accept(draft, tenant.clone(), api.clock.now(), None)?;
    let chosen = match target {
        Some(id) => {
            let found = api.directory.find(&api.store, &tenant, &id, Instant::now());
            let unknown = || {
                let problem = format!("does not name an endpoint of the tenant {tenant}");
                Problem::field(Code::UnknownEndpoint, "endpoint_id", problem)
            };
            vec![found.await?.ok_or_else(unknown)?]
        }
        None => api.directory.subscribers(&api.store, &notification).await?,
    };
    let shown = |endpoint: &Arc<Endpoint>| {
        let checked = api
            .wire_formats
            .check_notification(Some(endpoint), &notification);
        AudienceEndpoint {
            id: endpoint.id.clone(),
            url: endpoint.url.to_string(),
            wire_format: endpoint.wire_format,
            enabled: endpoint.is_enabled(),
            problems: checked.err().unwrap_or_default(),
        }
    };
    Ok(AudienceView {
        tenant,
        count: chosen.len(),
        endpoints: chosen.iter().take(MOST_ENDPOINTS).map(shown).collect(),
    })
}
