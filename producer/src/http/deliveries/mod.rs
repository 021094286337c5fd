//! `/v1/deliveries`: looking, sending again, cancelling.

pub(super) mod explain;
pub(super) mod replay;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::delivery::{Delivery, FailureReason, Hold, Status};
use posthaste_shared::domain::id::{
    DeliveryId, EndpointId, NotificationId, NotificationType, TenantId,
};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::{AttemptView, DeliveryDetail, DeliveryView};
use posthaste_shared::store::deliveries::{Cancelled, DeliveryFilter, RetriedNow};
use posthaste_shared::store::several::{Several, StatusCode};
use serde::Deserialize;

use crate::http::auth::{Admin, Reader};
use crate::http::callers::Caller;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::{Id, Params};
use crate::http::request::page::{self, PageView};
use crate::http::state::Api;

/// Which deliveries to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// Their status: one, or several with commas between them.
    #[serde(default)]
    #[param(value_type = Vec<Status>, required = false, style = Form, explode = false)]
    status: Several<Status>,
    /// Why they failed: one reason, or several.
    #[serde(default)]
    #[param(value_type = Vec<FailureReason>, required = false, style = Form, explode = false)]
    reason: Several<FailureReason>,
    /// The status code that their last attempt was answered with: one, or several.
    #[serde(default)]
    #[param(value_type = Vec<StatusCode>, required = false, style = Form, explode = false)]
    status_code: Several<StatusCode>,
    /// What holds them back while they are parked: one, or several.
    #[serde(default)]
    #[param(value_type = Vec<Hold>, required = false, style = Form, explode = false)]
    hold: Several<Hold>,
    /// The endpoints that they are for: one, or several.
    #[serde(default)]
    #[param(value_type = Vec<EndpointId>, required = false, style = Form, explode = false)]
    endpoint_id: Several<EndpointId>,
    /// The notification that they deliver.
    notification_id: Option<NotificationId>,
    /// The tenant that owns them. Default: the key's tenant, else every tenant.
    tenant: Option<TenantId>,
    /// The notification's type: one, or several.
    #[serde(rename = "type", default)]
    #[param(value_type = Vec<NotificationType>, required = false, style = Form, explode = false)]
    kind: Several<NotificationType>,
    /// Accepted at this time or later.
    since: Option<Timestamp>,
    /// Accepted before this time.
    until: Option<Timestamp>,
    /// The most deliveries on a page, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List deliveries, the newest first
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "deliveries", operation_id = "list_deliveries",
    params(DeliveryQuery),
    responses((status = 200, description = "A page of deliveries", body = PageView<DeliveryView>))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<DeliveryQuery>,
) -> Result<Json<PageView<DeliveryView>>, Problem> {
    let filter = DeliveryFilter {
        tenant: caller.tenant(query.tenant.as_ref())?,
        status: query.status,
        reason: query.reason,
        status_code: query.status_code,
        hold: query.hold,
        endpoint_id: query.endpoint_id,
        notification_id: query.notification_id,
        kind: query.kind,
        since: query.since,
        until: query.until,
    };
    page::list(
        query.limit,
        query.cursor.as_deref(),
        async |page| api.store.deliveries(&filter, &page).await,
        |delivery| DeliveryView::from(&delivery),
    )
    .await
}

/// Show a delivery with its attempts
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", tag = "deliveries", operation_id = "show_delivery",
    params(("id" = DeliveryId, Path, description = "The id of the delivery")),
    responses((status = 200, description = "The delivery with its attempts", body = DeliveryDetail))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Id(id): Id<DeliveryId>,
) -> Result<Json<DeliveryDetail>, Problem> {
    let (delivery, attempts) = find(&api, &caller, id).await?;
    Ok(Json(DeliveryDetail {
        delivery: DeliveryView::from(&delivery),
        attempts: attempts.iter().map(AttemptView::from).collect(),
    }))
}

/// Send a delivery now
///
/// A pending delivery is due at once; a finished one starts a new round of attempts.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/retry", tag = "deliveries", operation_id = "retry_delivery",
    params(("id" = DeliveryId, Path, description = "The id of the delivery")),
    responses((status = 200, description = "It is due now", body = DeliveryView))
)]
pub(super) async fn retry(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Id(id): Id<DeliveryId>,
) -> Result<Json<DeliveryView>, Problem> {
    // The store's update knows no callers: whether this one may see the delivery is asked before.
    find(&api, &caller, id).await?;
    match api.store.retry_now(id, api.clock.now()).await? {
        RetriedNow::Done(delivery) => Ok(Json(DeliveryView::from(&delivery))),
        RetriedNow::InFlight => Err(wrong_state("it is being sent at this moment")),
        RetriedNow::Expired => Err(wrong_state(
            "its time ran out: an expired notification is never sent",
        )),
        RetriedNow::EndpointGone => Err(wrong_state("its endpoint was deleted")),
        RetriedNow::NotFound => Err(Problem::not_found("delivery")),
    }
}

/// Cancel a pending delivery
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries", operation_id = "cancel_delivery",
    params(("id" = DeliveryId, Path, description = "The id of the delivery")),
    responses((status = 200, description = "It will not be sent", body = DeliveryView))
)]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Id(id): Id<DeliveryId>,
) -> Result<Json<DeliveryView>, Problem> {
    find(&api, &caller, id).await?;
    match api.store.cancel(id, api.clock.now()).await? {
        Cancelled::Done => Ok(Json(DeliveryView::from(&find(&api, &caller, id).await?.0))),
        Cancelled::NotPending(status) => {
            Err(wrong_state(&format!("it is {} already", status.as_str())))
        }
        Cancelled::InFlight => Err(wrong_state("it is being sent at this moment")),
        Cancelled::NotFound => Err(Problem::not_found("delivery")),
    }
}

fn wrong_state(detail: &str) -> Problem {
    Problem::new(Code::WrongState, detail)
}

/// The delivery, if there is one that this caller may see.
pub(super) async fn find(
    api: &Api,
    caller: &Caller,
    id: DeliveryId,
) -> Result<(Delivery, Vec<Attempt>), Problem> {
    let found = api.store.delivery(id).await?;
    found
        .filter(|(delivery, _)| caller.sees(&delivery.tenant))
        .ok_or_else(|| Problem::not_found("delivery"))
}
