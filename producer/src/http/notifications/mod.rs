//! `/v1/notifications`: enqueueing one, and looking one up.

pub(in crate::http) mod audience;
pub(super) mod batch;
pub(super) mod intake;
pub(super) mod list;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use posthaste_shared::domain::id::{NotificationId, TenantId};
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::view::NotificationView;
use serde::Deserialize;

use crate::http::auth::{Enqueuer, Reader};
use crate::http::callers::Caller;
use crate::http::notifications::intake::{AcceptedView, Carried, Item, take_in};
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::{Id, JsonBytes, Params};
use crate::http::request::json::parse;
use crate::http::state::Api;

/// The longest `Idempotency-Key`, in bytes.
const MAX_IDEMPOTENCY_KEY: usize = 255;

/// Enqueue a single notification
///
/// 202 once the notification is durable: the broker has confirmed it. A repeated `Idempotency-Key`
/// or body `id` with the same notification is answered with the first one's id and `deduplicated`.
#[utoipa::path(
    post, path = "/v1/notifications", tag = "notifications", operation_id = "enqueue",
    params(IdempotencyKey),
    request_body = NotificationDraft,
    responses((
        status = 202,
        description = "The notification is accepted and durable",
        body = AcceptedView,
    ))
)]
pub(super) async fn enqueue(
    State(api): State<Arc<Api>>,
    Enqueuer(caller): Enqueuer,
    headers: HeaderMap,
    JsonBytes(body): JsonBytes,
) -> Result<(StatusCode, Json<AcceptedView>), Problem> {
    let draft: NotificationDraft = parse(&body)?;
    let item = Item {
        draft,
        idempotency_key: idempotency_key(&headers)?,
    };
    let accepted = enqueue_one(&api, &caller, Carried::by(&headers), item).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// Enqueues a single notification.
///
/// # Errors
/// The caller may not enqueue or is bound to another tenant; the draft is wrong; its id belongs to
/// another notification; the broker did not confirm; the store failed.
pub async fn add(
    api: &Api,
    caller: &Caller,
    draft: NotificationDraft,
) -> Result<AcceptedView, Problem> {
    caller.must(Scope::Enqueue)?;
    let item = Item {
        draft,
        idempotency_key: None,
    };
    enqueue_one(api, caller, Carried::by(&HeaderMap::new()), item).await
}

async fn enqueue_one(
    api: &Api,
    caller: &Caller,
    carried: Carried<'_>,
    item: Item,
) -> Result<AcceptedView, Problem> {
    let mut results = take_in(api, caller, carried, vec![Ok(item)]).await;
    results.pop().unwrap_or_else(|| Err(Problem::internal()))
}

/// The header that makes a request safe to send again.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(
    dead_code,
    reason = "for the specification; `idempotency_key` reads the header"
)]
pub(super) struct IdempotencyKey {
    /// 1 to 255 visible ASCII characters. The same request with the same key is done once; in a
    /// batch the key counts for each item by its place.
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$"
    )]
    idempotency_key: String,
}

/// The client's idempotency key.
///
/// # Errors
/// `invalid_header` when it is there and unusable.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("");
    if text.is_empty()
        || text.len() > MAX_IDEMPOTENCY_KEY
        || !text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        let rule = "must be 1 to 255 visible ASCII characters";
        return Err(Problem::field(Code::InvalidHeader, "Idempotency-Key", rule));
    }
    Ok(Some(text.to_owned()))
}

/// The tenant of a notification, where the key is good for several.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TenantQuery {
    /// The tenant that owns the notification; ids are unique only within a tenant. Default: the
    /// key's tenant, else any.
    pub(super) tenant: Option<TenantId>,
}

/// Show a notification with its deliveries
#[utoipa::path(
    get, path = "/v1/notifications/{id}", tag = "notifications", operation_id = "show_notification",
    params(("id" = NotificationId, Path, description = "The id of the notification"), TenantQuery),
    responses((
        status = 200,
        description = "The notification with its deliveries",
        body = NotificationView,
    ))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Id(id): Id<NotificationId>,
    Params(query): Params<TenantQuery>,
) -> Result<Json<NotificationView>, Problem> {
    find(&api, &caller, &id, query.tenant.as_ref())
        .await
        .map(Json)
}

/// Shows a notification with its deliveries; `tenant` is needed where several have the id.
///
/// # Errors
/// The caller may not read or is bound to another tenant; there is no such notification for this
/// caller; the store failed.
pub async fn find(
    api: &Api,
    caller: &Caller,
    id: &NotificationId,
    tenant: Option<&TenantId>,
) -> Result<NotificationView, Problem> {
    caller.must(Scope::Read)?;
    let tenant = caller.tenant(tenant)?;
    match api.store.notification(tenant.as_ref(), id).await? {
        Some((notification, deliveries)) => Ok(NotificationView::of(&notification, &deliveries)),
        None => Err(unknown()),
    }
}

/// The problem of a notification that the store does not have.
pub(super) fn unknown() -> Problem {
    Problem::new(
        Code::NotFound,
        "there is no such notification on record: it may still be with the broker, or was removed \
         after its retention",
    )
}
