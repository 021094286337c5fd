//! What can be done with an endpoint besides changing it: enable, disable, rotate its secret, test
//! it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::EndpointView;
use posthaste_shared::domain::whole;
use serde::{Deserialize, Serialize};

use crate::enqueue::accept;
use crate::http::auth::Admin;
use crate::http::callers::Caller;
use crate::http::endpoints::edit::{edit, find};
use crate::http::endpoints::input::DEFAULT_OVERLAP_SECONDS;
use crate::http::endpoints::name::{EndpointName, EndpointTenant, IfMatch, shown};
use crate::http::endpoints::operations;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::JsonBytes;
use crate::http::request::json::parse_or_default;
use crate::http::state::Api;
use crate::http::wire_formats::TestReport;

/// The longest that an old secret may sign on: 30 days.
const MAX_OVERLAP_SECONDS: u64 = 30 * 24 * 3600;

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

/// How to rotate the signing secret of an endpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateRequest {
    /// How long the old secret keeps signing beside the new one, in seconds, 0 to 2,592,000 (30
    /// days). Default 86,400 (a day).
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::option"
    )]
    #[schema(maximum = 2_592_000)]
    pub overlap_seconds: Option<u64>,
    /// The new secret. Default: one that is generated, and shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// The result of rotating the signing secret of an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RotatedSecret {
    /// The new secret, shown only this once, and only if Posthaste generated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// When the old secret stops signing.
    pub old_secret_retires_at: Timestamp,
    /// The endpoint as it is now.
    pub endpoint: EndpointView,
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
    rotated(&api, &caller, &name, request).await.map(Json)
}

/// The new secret of an endpoint, and the endpoint with it.
pub(in crate::http) async fn rotated(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    request: RotateRequest,
) -> Result<RotatedSecret, Problem> {
    caller.must(Scope::Admin)?;
    let overlap = request.overlap_seconds.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    if overlap > MAX_OVERLAP_SECONDS {
        return Err(Problem::field(
            Code::Invalid,
            "overlap_seconds",
            format!("must be 0 to {MAX_OVERLAP_SECONDS}"),
        ));
    }
    // Read first, since what a secret looks like depends on the wire format.
    let found = find(api, caller, name).await?;
    let format = found.wire_format;
    let (secret, shown) = match request.secret {
        Some(own) => {
            let refused = |problem: String| Problem::field(Code::Invalid, "secret", problem);
            api.wire_formats
                .check_secret(format, &own)
                .map_err(refused)?;
            (own, None)
        }
        None => match api
            .wire_formats
            .new_secret(format, &found.confidential.settings)
        {
            Some(made) => (made.clone(), Some(made)),
            None => {
                return Err(Problem::field(
                    Code::Invalid,
                    "wire_format",
                    format!("{format} does not sign"),
                ));
            }
        },
    };
    let now = api.clock.now();
    let retires_at = now.after(Duration::from_secs(overlap));
    let endpoint = edit(api, caller, name, |endpoint| {
        endpoint
            .confidential
            .rotate(secret.clone(), now, retires_at);
        Ok(())
    })
    .await?;
    let endpoint = EndpointView::of(&endpoint, now);
    Ok(RotatedSecret {
        secret: shown,
        old_secret_retires_at: retires_at,
        endpoint,
    })
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
    let notification = match request.notification {
        Some(mut draft) => {
            // A test goes to this endpoint, whatever tenant the draft names.
            draft.tenant = Some(endpoint.tenant.clone());
            Some(accept(
                draft,
                endpoint.tenant.clone(),
                api.clock.now(),
                None,
            )?)
        }
        None => None,
    };
    Ok(Json(api.wire_formats.test(&endpoint, notification).await))
}
