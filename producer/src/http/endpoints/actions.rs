//! What can be done with an endpoint besides changing it: enable, disable, rotate its secret, test
//! it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::view::EndpointView;
use serde::{Deserialize, Serialize};

use crate::http::auth::Admin;
use crate::http::callers::Caller;
use crate::http::endpoints::edit::find;
use crate::http::endpoints::input::{RotateRequest, RotatedSecret};
use crate::http::endpoints::name::{EndpointName, EndpointTenant, IfMatch, shown};
use crate::http::endpoints::operations;
use crate::http::endpoints::preview::notification;
use crate::http::problem::Problem;
use crate::http::request::extract::JsonBytes;
use crate::http::request::json::parse_or_default;
use crate::http::state::Api;
use crate::http::wire_formats::TestReport;

/// Call an endpoint again
///
/// What waited for it is sent.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/enable", tag = "endpoints", operation_id = "enable_endpoint",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's id or uid"),
        EndpointTenant,
        IfMatch,
    ),
    responses((status = 200, description = "The endpoint as it is now", body = EndpointView))
)]
pub(in crate::http) async fn enable(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    name: EndpointName,
) -> Result<Response, Problem> {
    switched(&api, &caller, &name, true).await
}

/// Stop calling an endpoint
///
/// Deliveries to it wait until they expire or it is enabled again.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/disable", tag = "endpoints", operation_id = "disable_endpoint",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's id or uid"),
        EndpointTenant,
        IfMatch,
    ),
    responses((status = 200, description = "The endpoint as it is now", body = EndpointView))
)]
pub(in crate::http) async fn disable(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    name: EndpointName,
) -> Result<Response, Problem> {
    switched(&api, &caller, &name, false).await
}

async fn switched(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    enabled: bool,
) -> Result<Response, Problem> {
    let endpoint = operations::switched(api, caller, name, enabled).await?;
    Ok(shown(
        StatusCode::OK,
        &endpoint,
        EndpointView::of(&endpoint, api.clock.now()),
    ))
}

/// Rotate an endpoint's signing secret
///
/// Requests are signed with the new and the old secret until the overlap ends.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/rotate-secret", tag = "endpoints",
    operation_id = "rotate_secret",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's id or uid"),
        EndpointTenant,
        IfMatch,
    ),
    request_body = Option<RotateRequest>,
    responses((status = 200, description = "The new secret and the endpoint", body = RotatedSecret))
)]
pub(in crate::http) async fn rotate_secret(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    name: EndpointName,
    JsonBytes(body): JsonBytes,
) -> Result<Json<RotatedSecret>, Problem> {
    let request: RotateRequest = parse_or_default(&body)?;
    operations::rotated(&api, &caller, &name, request)
        .await
        .map(Json)
}

/// What to send to the endpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestEndpointRequest {
    /// The notification to send. Default: a small one that says that it is a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification: Option<NotificationDraft>,
}

/// Send a test notification now
///
/// Sends one request, which is not queued, not retried and not recorded; the answer describes it.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/test", tag = "endpoints", operation_id = "test_endpoint",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's id or uid"),
        EndpointTenant,
        IfMatch,
    ),
    request_body = Option<TestEndpointRequest>,
    responses((
        status = 200,
        description = "The request, the answer and the verdict",
        body = TestReport,
    ))
)]
pub(in crate::http) async fn test(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    name: EndpointName,
    JsonBytes(body): JsonBytes,
) -> Result<Json<TestReport>, Problem> {
    let request: TestEndpointRequest = parse_or_default(&body)?;
    let endpoint = find(&api, &caller, &name).await?;
    let notification = notification(&api, &endpoint, request.notification)?;
    let tested = operations::tested(&api, &caller, &endpoint, notification);
    tested.await.map(Json)
}
