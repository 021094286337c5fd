//! `GET /v1/notifications`: which notifications were taken up, those that nobody subscribed to
//! among them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::id::{EndpointId, NotificationId, NotificationType, TenantId};
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::notification::Priority;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::notification_list::{Listed, NotificationFilter};
use posthaste_shared::store::several::Several;
use serde::{Deserialize, Serialize};

use crate::http::auth::Reader;
use crate::http::callers::Caller;
use crate::http::endpoints::name;
use crate::http::problem::Problem;
use crate::http::request::extract::Params;
use crate::http::request::page::{self, PageView};
use crate::http::state::Api;

/// Which notifications to list.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NotificationQuery {
    /// The tenant that they belong to. Default: the key's tenant, else all.
    pub tenant: Option<TenantId>,
    /// Their type: one, or several with commas between them.
    #[serde(rename = "type", default)]
    #[param(value_type = Vec<NotificationType>, required = false, style = Form, explode = false)]
    pub kind: Several<NotificationType>,
    /// The one endpoint that they were enqueued for, by id or uid.
    pub endpoint_id: Option<EndpointId>,
    /// `true`: only those without a delivery, as no endpoint subscribed to them. `false`: only the
    /// others.
    pub unmatched: Option<bool>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Accepted before this time.
    pub until: Option<Timestamp>,
    /// The most notifications on a page, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A notification in a list: without its payload and its deliveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotificationSummary {
    /// The notification's id, unique in its tenant.
    pub id: NotificationId,
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// What it reports, such as `order.paid`.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// The one endpoint that it was enqueued for; null: for all that subscribe.
    pub endpoint_id: Option<EndpointId>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Not sent before this time.
    pub deliver_at: Option<Timestamp>,
    /// Not sent after this time.
    pub expires_at: Option<Timestamp>,
    /// Whether it goes before others.
    pub priority: Priority,
    /// How many deliveries it has; 0: no endpoint subscribed to it.
    pub deliveries: u32,
}

impl From<Listed> for NotificationSummary {
    fn from(listed: Listed) -> Self {
        let Listed {
            notification,
            fan_out,
        } = listed;
        Self {
            id: notification.id,
            tenant: notification.tenant,
            kind: notification.kind,
            endpoint_id: notification.target,
            accepted_at: notification.accepted_at,
            deliver_at: notification.deliver_at,
            expires_at: notification.expires_at,
            priority: notification.priority,
            deliveries: fan_out,
        }
    }
}

/// List notifications, the newest first
///
/// Those that a worker has taken up. Each has the number of its deliveries: none where no endpoint
/// subscribed to it.
#[utoipa::path(
    get, path = "/v1/notifications", tag = "notifications", operation_id = "list_notifications",
    params(NotificationQuery),
    responses((
        status = 200,
        description = "A page of notifications",
        body = PageView<NotificationSummary>,
    ))
)]
pub(in crate::http) async fn list(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<NotificationQuery>,
) -> Result<Json<PageView<NotificationSummary>>, Problem> {
    list_page(&api, &caller, query).await.map(Json)
}

/// Lists notifications that a worker has taken up, the newest first.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the query is wrong; the store failed.
pub async fn list_page(
    api: &Api,
    caller: &Caller,
    query: NotificationQuery,
) -> Result<PageView<NotificationSummary>, Problem> {
    caller.must(Scope::Read)?;
    let tenant = caller.tenant(query.tenant.as_ref())?;
    let named = query.endpoint_id.into();
    let endpoint = name::ids(api, caller, tenant.as_ref(), named).await?;
    let filter = NotificationFilter {
        tenant,
        kind: query.kind,
        endpoint_id: endpoint.values().first().cloned(),
        unmatched: query.unmatched,
        since: query.since,
        until: query.until,
    };
    page::list(
        query.limit,
        query.cursor.as_deref(),
        async |page| api.store.list_notifications(&filter, &page).await,
        NotificationSummary::from,
    )
    .await
}
