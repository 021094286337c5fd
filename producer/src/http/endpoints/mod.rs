//! `/v1/endpoints`: making, showing, changing and deleting endpoints.

pub(super) mod actions;
mod check;
mod create;
mod edit;
pub(super) mod input;
mod name;
pub(super) mod put;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::view::EndpointView;
use posthaste_shared::store::endpoints::EndpointFilter;
use serde::Deserialize;

use crate::http::auth::{Admin, Reader};
use crate::http::endpoints::check::{check, check_called_urls, check_scripts, check_url, no_url};
use crate::http::endpoints::create::{apply, make};
use crate::http::endpoints::edit::{TRIES, edit, edit_conflict, find, not_inserted, switch};
use crate::http::endpoints::input::CreatedEndpoint;
use crate::http::endpoints::input::{EndpointDraft, EndpointPatch};
use crate::http::endpoints::name::{EndpointName, EndpointTenant, IfMatch, shown, tag};
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::{JsonBytes, Params};
use crate::http::request::json::parse;
use crate::http::request::page::{PageView, page_request};
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
    let draft: EndpointDraft = parse(&body)?;
    if draft
        .uid
        .as_ref()
        .is_some_and(|uid| uid.as_str().starts_with("ep_"))
    {
        return Err(Problem::field(
            Code::Invalid,
            "uid",
            "must not begin with ep_, as ids do that Posthaste makes",
        ));
    }
    let tenant = caller.tenant_or_default(draft.tenant.as_ref())?;
    let url = match &draft.url {
        Some(text) => check_url(&api, text).await?,
        None if !draft.wire_format.has_url() => no_url(),
        None => {
            return Err(Problem::field(
                Code::Invalid,
                "url",
                "is missing: where requests go, https://…",
            ));
        }
    };
    let now = api.clock.now();
    let (endpoint, secret) = make(&api, draft, tenant, url, now)?;
    check(&api, &endpoint)?;
    check_called_urls(&api, None, &endpoint).await?;
    check_scripts(&api, None, &endpoint).await?;
    let saved = api
        .store
        .insert_endpoint_within(&endpoint, api.settings.tenant_max_endpoints)
        .await
        .map_err(not_inserted)?;
    let location = format!("/v1/endpoints/{}", saved.id);
    let view = CreatedEndpoint {
        endpoint: EndpointView::of(&saved, now),
        secret,
    };
    let headers = [(header::LOCATION, location), (header::ETAG, tag(&saved))];
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

/// Which endpoints to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EndpointQuery {
    /// The tenant that owns them. Default: the key's tenant, else every tenant.
    tenant: Option<TenantId>,
    /// Only enabled endpoints (`true`) or only disabled ones (`false`). Default: both.
    enabled: Option<bool>,
    /// The most endpoints on a page, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
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
    let page = page_request(query.limit, query.cursor.as_deref())?;
    let filter = EndpointFilter {
        tenant: caller.tenant(query.tenant.as_ref())?,
        enabled: query.enabled,
    };
    let now = api.clock.now();
    let found = api.store.endpoints(&filter, &page).await?;
    Ok(Json(PageView::of(found, |endpoint| {
        EndpointView::of(&endpoint, now)
    })))
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
    let endpoint = find(&api, &caller, &name).await?;
    Ok(shown(
        StatusCode::OK,
        &endpoint,
        EndpointView::of(&endpoint, api.clock.now()),
    ))
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
    let patch: EndpointPatch = parse(&body)?;
    find(&api, &caller, &name).await?;
    let url = match &patch.url {
        Some(text) => Some((check_url(&api, text).await?, text)),
        None => None,
    };
    let changed = edit(&api, &caller, &name, |endpoint| {
        if let Some((url, text)) = &url {
            endpoint.set_url(url.clone(), text);
        }
        if let Some(enabled) = patch.enabled {
            switch(endpoint, enabled);
        }
        apply(patch.clone(), endpoint)?;
        check(&api, endpoint)
    })
    .await?;
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
    for _ in 0..TRIES {
        // As it is now, or the answer says why not: gone, or not in the state that `If-Match` asks
        // for.
        let endpoint = find(&api, &caller, &name).await?;
        if api
            .store
            .delete_endpoint(&endpoint.id, Some(endpoint.version), api.clock.now())
            .await?
        {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    Err(edit_conflict())
}
