//! `/v1/dead-letters`: messages that could not be read or handled. They belong to no tenant, so
//! keys that are bound to one do not see them.

pub(super) mod redrives;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use posthaste_shared::broker::{DeadLetter, Redriven};
use posthaste_shared::domain::audit::Action;
use posthaste_shared::domain::key::Scope;
use serde::{Deserialize, Serialize};

use crate::http::auth::Admin;
use crate::http::callers::Caller;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::{JsonBytes, Params};
use crate::http::request::json::parse;
use crate::http::state::Api;

/// The most dead letters that are looked at or moved in one request.
const MAX_DEAD_LETTERS: u32 = 1_000;
/// How many are listed when the client does not say.
const DEFAULT_LIMIT: u32 = 50;

/// How many dead letters to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadLetterQuery {
    /// The most dead letters to list, 1 to 1,000. Default 50.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// Dead letters, the oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLettersView {
    /// The dead letters, the oldest first.
    pub items: Vec<DeadLetter>,
}

/// Look at dead letters, the oldest first
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead letters", operation_id = "list_dead_letters",
    params(DeadLetterQuery),
    responses((
        status = 200,
        description = "The oldest dead letters, up to `limit`",
        body = DeadLettersView,
    ))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    Params(query): Params<DeadLetterQuery>,
) -> Result<Json<DeadLettersView>, Problem> {
    look(&api, &caller, query.limit).await.map(Json)
}

/// Looks at the oldest dead letters, up to `limit` (1 to 1,000, by default 50).
///
/// # Errors
/// The caller may not manage or is bound to a tenant; the limit is wrong; the broker failed.
pub async fn look(
    api: &Api,
    caller: &Caller,
    limit: Option<u32>,
) -> Result<DeadLettersView, Problem> {
    caller.must(Scope::Admin)?;
    caller.must_be_unbound()?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_DEAD_LETTERS).contains(&limit) {
        return Err(Problem::field(
            Code::InvalidQuery,
            "limit",
            format!("must be 1 to {MAX_DEAD_LETTERS}"),
        ));
    }
    Ok(DeadLettersView {
        items: api.broker.dead_letters(limit).await?,
    })
}

/// Which dead letters to put back on the work queue: `ids`, or `all` (up to 1,000 a request).
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedriveRequest {
    /// The ids of the dead letters to put back, 1 to 1,000 of them.
    #[schema(min_items = 1, max_items = 1_000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// Put all of them back, up to 1,000 in one request. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// How many dead letters went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RedriveView {
    /// Dead letters that are back on the work queue, each once.
    pub redriven: u64,
    /// Of these, bodies that are not a notification in JSON: they will be dead-lettered again.
    #[serde(default)]
    pub undecodable: u64,
}

/// Put dead letters back on the work queue
#[utoipa::path(
    post, path = "/v1/dead-letters/redrive", tag = "dead letters",
    operation_id = "redrive_dead_letters",
    request_body = RedriveRequest,
    responses((status = 200, description = "How many dead letters went back", body = RedriveView))
)]
pub(super) async fn redrive(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    JsonBytes(body): JsonBytes,
) -> Result<Json<RedriveView>, Problem> {
    // Before the body: whoever may not redrive learns nothing about how.
    caller.must_be_unbound()?;
    move_back(&api, &caller, &parse(&body)?).await.map(Json)
}

/// Puts dead letters back on the work queue.
///
/// # Errors
/// The caller may not manage or is bound to a tenant; the request is wrong; the broker failed.
pub async fn move_back(
    api: &Api,
    caller: &Caller,
    request: &RedriveRequest,
) -> Result<RedriveView, Problem> {
    caller.must(Scope::Admin)?;
    caller.must_be_unbound()?;
    let ids = match (&request.ids, request.all) {
        (Some(ids), false) if !ids.is_empty() && ids.len() <= MAX_DEAD_LETTERS as usize => {
            Some(ids.as_slice())
        }
        (Some(_), false) => {
            return Err(Problem::field(
                Code::Invalid,
                "ids",
                format!("must have 1 to {MAX_DEAD_LETTERS} ids"),
            ));
        }
        (None, true) => None,
        (Some(_), true) | (None, false) => {
            return Err(Problem::field(
                Code::Invalid,
                "",
                "must have either ids or \"all\": true",
            ));
        }
    };
    // Before, as the broker has no part in a transaction of the store.
    let act = caller.act(Action::DeadLettersRedrive, None, None, api.clock.now());
    api.store.note_act(&act).await?;
    let Redriven { moved, undecodable } = api.broker.redrive(ids, MAX_DEAD_LETTERS).await?;
    Ok(RedriveView {
        redriven: moved,
        undecodable,
    })
}
