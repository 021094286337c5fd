//! `/v1/endpoints`: making, showing, changing and deleting endpoints.

pub(super) mod actions;
mod check;
mod create;
mod edit;
pub(super) mod input;
pub(in crate::http) mod name;
pub mod operations;
pub(in crate::http) mod preview;
pub(super) mod put;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::view::EndpointView;

use crate::http::auth::{Admin, Reader};
use crate::http::endpoints::input::{CreatedEndpoint, EndpointDraft, EndpointPatch};
use crate::http::endpoints::name::{EndpointName, EndpointTenant, IfMatch, shown, tag};
use crate::http::endpoints::operations::EndpointQuery;
use crate::http::problem::Problem;
use crate::http::request::extract::{JsonBytes, Params};
use crate::http::request::json::parse;
use crate::http::request::page::PageView;
use crate::http::state::Api;

/// Create a new endpoint
#[utoipa::path(
    post, path = "/v1/endpoints", tag = "endpoints", operation_id = "create_endpoint",
    request_body = EndpointDraft,
    responses((
        status = 201,
        description = "The endpoint, with its new secret",
        body = CreatedEndpoint,
        headers(("Location" = String, description = "The path of the new endpoint")),
    ))
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    JsonBytes(body): JsonBytes,
) -> Result<Response, Problem> {
    let (saved, view) = operations::created(&api, &caller, parse(&body)?).await?;
    let location = format!("/v1/endpoints/{}", saved.id);
    let headers = [(header::LOCATION, location), (header::ETAG, tag(&saved))];
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

/// List endpoints, the oldest first
#[utoipa::path(
    get, path = "/v1/endpoints", tag = "endpoints", operation_id = "list_endpoints",
    params(EndpointQuery),
    responses((status = 200, description = "A page of endpoints", body = PageView<EndpointView>))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<EndpointQuery>,
) -> Result<Json<PageView<EndpointView>>, Problem> {
    operations::list(&api, &caller, query).await.map(Json)
}

/// Show an endpoint, without its secrets
#[utoipa::path(
    get, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "show_endpoint",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's id or uid"),
        EndpointTenant,
        IfMatch,
    ),
    responses((status = 200, description = "The endpoint as it is now", body = EndpointView))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    name: EndpointName,
) -> Result<Response, Problem> {
    let (endpoint, view) = operations::find_shown(&api, &caller, &name).await?;
    Ok(shown(StatusCode::OK, &endpoint, view))
}

/// Change members of an endpoint
#[utoipa::path(
    patch, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "change_endpoint",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's id or uid"),
        EndpointTenant,
        IfMatch,
    ),
    request_body(content(
        (EndpointPatch = "application/json"),
        (EndpointPatch = "application/merge-patch+json"),
    )),
    responses((status = 200, description = "The endpoint as it is now", body = EndpointView))
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    name: EndpointName,
    JsonBytes(body): JsonBytes,
) -> Result<Response, Problem> {
    let patch = input::patch(&body)?;
    let changed = operations::changed(&api, &caller, &name, patch).await?;
    Ok(shown(
        StatusCode::OK,
        &changed,
        EndpointView::of(&changed, api.clock.now()),
    ))
}

/// Delete an endpoint for good
///
/// Its pending deliveries fail with `endpoint_deleted`.
#[utoipa::path(
    delete, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "delete_endpoint",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's id or uid"),
        EndpointTenant,
        IfMatch,
    ),
    responses((status = 204, description = "The endpoint is deleted"))
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    name: EndpointName,
) -> Result<StatusCode, Problem> {
    operations::deleted(&api, &caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
