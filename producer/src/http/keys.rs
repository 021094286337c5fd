//! `/v1/keys`: API keys. Only for keys that are bound to no tenant: a new key may have any tenant
//! and scope.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use posthaste_shared::domain::audit::Action;
use posthaste_shared::domain::id::{KeyId, TenantId};
use posthaste_shared::domain::key::{ApiKey, Scope};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::http::auth::Admin;
use crate::http::callers::Caller;
use crate::http::callers::key_cache::new_key;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::{Id, JsonBytes};
use crate::http::request::json::parse;
use crate::http::state::Api;

/// The longest name of a key, in characters.
const MAX_NAME: usize = 200;

/// An API key to create.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyDraft {
    /// A name for people, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// The tenant that the key is bound to. Default: none, so that it is good for every tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// What the key may do: one or more of `enqueue`, `read` and `admin`.
    #[schema(min_items = 1)]
    pub scopes: Vec<Scope>,
    /// When the key expires, later than now. Default: it works until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// An API key that was created.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedKey {
    /// The key as lists show it.
    #[serde(flatten)]
    pub info: ApiKey,
    /// The key itself, `ph_…`, shown only this once.
    pub key: Secret,
}

/// All keys, revoked and expired ones too.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeysView {
    /// The keys, without the secrets themselves.
    pub items: Vec<ApiKey>,
}

/// Create an API key
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", operation_id = "create_key",
    request_body = KeyDraft,
    responses((status = 201, description = "The key, shown only this once", body = CreatedKey))
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    JsonBytes(body): JsonBytes,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    // Before the body is read: what it must be is nothing to whoever may not create one.
    caller.must_be_unbound()?;
    let created = add(&api, &caller, parse(&body)?).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Creates an API key.
///
/// # Errors
/// The caller may not manage or is bound to a tenant; the draft is wrong; the store failed.
pub async fn add(api: &Api, caller: &Caller, draft: KeyDraft) -> Result<CreatedKey, Problem> {
    caller.must(Scope::Admin)?;
    caller.must_be_unbound()?;
    let KeyDraft {
        name,
        tenant,
        mut scopes,
        expires_at,
    } = draft;
    let length = name.chars().count();
    if !(1..=MAX_NAME).contains(&length) {
        return Err(Problem::field(
            Code::Invalid,
            "name",
            format!("must have 1 to {MAX_NAME} characters"),
        ));
    }
    // Sorted first: `dedup` compares neighbours alone.
    scopes.sort();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Problem::field(
            Code::Invalid,
            "scopes",
            "must have at least one of enqueue, read and admin",
        ));
    }
    let now = api.clock.now();
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Problem::field(
            Code::Invalid,
            "expires_at",
            format!("must be later than now, which is {now}"),
        ));
    }
    let (key, hash) = new_key();
    let id = KeyId::generate(now);
    let info = ApiKey {
        id,
        name,
        tenant,
        scopes,
        created_at: now,
        expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    let act = caller.act(
        Action::KeyCreate,
        Some(info.id.as_str()),
        info.tenant.as_ref(),
        now,
    );
    api.store.for_act(act).insert_key(&info, &hash).await?;
    Ok(CreatedKey { info, key })
}

/// List all API keys
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", operation_id = "list_keys",
    responses((
        status = 200,
        description = "What is known of each key, without the key itself",
        body = KeysView,
    ))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
) -> Result<Json<KeysView>, Problem> {
    list_all(&api, &caller).await.map(Json)
}

/// Lists all API keys, without the keys themselves.
///
/// # Errors
/// The caller may not manage or is bound to a tenant; the store failed.
pub async fn list_all(api: &Api, caller: &Caller) -> Result<KeysView, Problem> {
    caller.must(Scope::Admin)?;
    caller.must_be_unbound()?;
    Ok(KeysView {
        items: api.store.keys().await?,
    })
}

/// Revoke an API key
///
/// It stops working at once, and within 2 s in other processes of the API. Event streams that it
/// opened end.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", operation_id = "revoke_key",
    params(("id" = KeyId, Path, description = "The id of the key")),
    responses((status = 204, description = "The key is revoked"))
)]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Id(id): Id<KeyId>,
) -> Result<StatusCode, Problem> {
    end(&api, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revokes an API key.
///
/// # Errors
/// The caller may not manage or is bound to a tenant; no such key works; the store failed.
pub async fn end(api: &Api, caller: &Caller, id: &KeyId) -> Result<(), Problem> {
    caller.must(Scope::Admin)?;
    caller.must_be_unbound()?;
    let now = api.clock.now();
    let act = caller.act(Action::KeyRevoke, Some(id.as_str()), None, now);
    if !api.store.for_act(act).revoke_key(id, now).await? {
        return Err(Problem::not_found("key that still works"));
    }
    // Here at once; other processes believe it for a second.
    api.keys.forget_id(id);
    Ok(())
}
