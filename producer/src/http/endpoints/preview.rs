//! What an endpoint would be sent: a notification rendered as it would go out, and a transform
//! tried before it is saved. Nothing is sent, queued or recorded.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::notification::{Notification, NotificationDraft};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::enqueue::accept;
use crate::http::auth::Admin;
use crate::http::callers::Caller;
use crate::http::endpoints::edit::find;
use crate::http::endpoints::name::{EndpointName, EndpointTenant, IfMatch};
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::JsonBytes;
use crate::http::request::json::{parse, parse_or_default};
use crate::http::state::Api;
use crate::http::wire_formats::{RenderReport, ScriptProblem, Uncompiled};

/// The setting that a transform stands in.
const TRANSFORM: &str = "transform";

/// What to render for the endpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RenderRequest {
    /// The notification to render. Default: the example of the endpoint's wire format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification: Option<NotificationDraft>,
}

/// Show the request that would be sent
///
/// Runs the endpoint's transform, renders and signs. Nothing is sent, queued or recorded.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/render", tag = "endpoints", operation_id = "render_endpoint",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's id or uid"),
        EndpointTenant,
        IfMatch,
    ),
    request_body = Option<RenderRequest>,
    responses((
        status = 200,
        description = "The request, or why there would be none",
        body = RenderReport,
    ))
)]
pub(in crate::http) async fn render(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    name: EndpointName,
    JsonBytes(body): JsonBytes,
) -> Result<Json<RenderReport>, Problem> {
    let request: RenderRequest = parse_or_default(&body)?;
    rendered(&api, &caller, &name, request).await.map(Json)
}

/// Renders a notification for an endpoint, by its id. Nothing is sent or recorded.
///
/// # Errors
/// The caller may not manage; there is no such endpoint for this caller; the notification is wrong;
/// the store failed.
pub async fn render_for(
    api: &Api,
    caller: &Caller,
    id: &EndpointId,
    request: RenderRequest,
) -> Result<RenderReport, Problem> {
    rendered(api, caller, &EndpointName::of(id.clone()), request).await
}

async fn rendered(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    request: RenderRequest,
) -> Result<RenderReport, Problem> {
    caller.must(Scope::Admin)?;
    let endpoint = find(api, caller, name).await?;
    let notification = notification(api, &endpoint, request.notification)?;
    Ok(api.wire_formats.render(&endpoint, notification).await)
}

/// A transform to try.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TryTransformRequest {
    /// The script, JavaScript or TypeScript, up to 100 KiB.
    pub transform: String,
    /// The notification to try it with. Default: the example of the endpoint's wire format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<NotificationDraft>,
}

/// What a transform did when it was tried.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TriedTransform {
    /// Why it does not compile; null if it does.
    pub problem: Option<ScriptProblem>,
    /// The notification before and after it, and the request; null if it does not compile.
    pub render: Option<RenderReport>,
}

/// Try a transform before it is saved
///
/// Compiles it, runs it on a notification, and shows the request that would go out, within the
/// limits of all scripts. Nothing is sent, saved or recorded.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/transform/try", tag = "endpoints",
    operation_id = "try_transform",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's id or uid"),
        EndpointTenant,
        IfMatch,
    ),
    request_body = TryTransformRequest,
    responses((
        status = 200,
        description = "Where it is wrong, or what it did",
        body = TriedTransform,
    ))
)]
pub(in crate::http) async fn try_transform(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    name: EndpointName,
    JsonBytes(body): JsonBytes,
) -> Result<Json<TriedTransform>, Problem> {
    tried(&api, &caller, &name, parse(&body)?).await.map(Json)
}

/// Tries a transform on an endpoint, by its id. Nothing is sent, saved or recorded.
///
/// # Errors
/// The caller may not manage; there is no such endpoint for this caller; the notification is wrong;
/// too many scripts are compiled now; the store failed.
pub async fn try_for(
    api: &Api,
    caller: &Caller,
    id: &EndpointId,
    request: TryTransformRequest,
) -> Result<TriedTransform, Problem> {
    tried(api, caller, &EndpointName::of(id.clone()), request).await
}

async fn tried(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    request: TryTransformRequest,
) -> Result<TriedTransform, Problem> {
    caller.must(Scope::Admin)?;
    let mut endpoint = find(api, caller, name).await?;
    let notification = notification(api, &endpoint, request.notification)?;
    let source = request.transform;
    let compiled = api.wire_formats.compile(&endpoint.tenant, &source).await;
    match compiled {
        Err(Uncompiled::Busy(why)) => return Err(Problem::new(Code::Unavailable, why)),
        Err(Uncompiled::Refused(problem)) => {
            return Ok(TriedTransform {
                problem: Some(problem),
                render: None,
            });
        }
        Ok(()) => {}
    }
    let settings = &mut endpoint.confidential.settings;
    settings.insert(TRANSFORM.to_owned(), Value::String(source));
    let render = api.wire_formats.render(&endpoint, notification).await;
    Ok(TriedTransform {
        problem: None,
        render: Some(render),
    })
}

/// A draft as a notification for this endpoint, whatever tenant it names.
pub(super) fn notification(
    api: &Api,
    endpoint: &Endpoint,
    draft: Option<NotificationDraft>,
) -> Result<Option<Notification>, Problem> {
    let Some(mut draft) = draft else {
        return Ok(None);
    };
    draft.tenant = Some(endpoint.tenant.clone());
    let accepted = accept(draft, endpoint.tenant.clone(), api.clock.now(), None)?;
    Ok(Some(accepted))
}
