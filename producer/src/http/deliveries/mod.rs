//! `/v1/deliveries`: looking, sending again, cancelling.

pub(super) mod explain;
pub mod operations;
pub mod replay;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::id::DeliveryId;
use posthaste_shared::domain::view::{DeliveryDetail, DeliveryView};

use crate::http::auth::{Admin, Reader};
use crate::http::deliveries::operations::DeliveryQuery;
use crate::http::problem::Problem;
use crate::http::request::extract::{Id, Params};
use crate::http::request::page::PageView;
use crate::http::state::Api;

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
    operations::list(&api, &caller, query).await.map(Json)
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
    operations::show(&api, &caller, id).await.map(Json)
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
    operations::retry(&api, &caller, id).await.map(Json)
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
    operations::cancel(&api, &caller, id).await.map(Json)
}
