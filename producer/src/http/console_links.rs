//! `POST /v1/console-links`: links that sign in to the web console once.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};

use crate::http::auth::{Reader, bearer};
use crate::http::callers::key_cache::hash_key;
use crate::http::problem::{Code, Problem};
use crate::http::sign_in::{self, ConsoleLink};
use crate::http::state::Api;

/// Create a link that signs in to the console
///
/// It works once, for 10 minutes, and signs in the API key that created it. Whoever has the link
/// can sign in with it.
#[utoipa::path(
    post, path = "/v1/console-links", tag = "keys", operation_id = "create_console_link",
    responses((status = 201, description = "The link, shown only this once", body = ConsoleLink))
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<ConsoleLink>), Problem> {
    if !api.settings.console {
        // A link would lead to nothing.
        return Err(Problem::new(
            Code::UnknownRoute,
            "this process serves no web console: its setting console is off",
        ));
    }
    let key_id = &caller.key().id;
    tracing::info!(key.id = %key_id, "a link that signs in to the console was created");
    let link = sign_in::new_link(&api, &hash_key(bearer(&headers)?)).await?;
    Ok((StatusCode::CREATED, Json(link)))
}
