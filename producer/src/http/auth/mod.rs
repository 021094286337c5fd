//! What a request may do, by the scopes of its API key.

pub(super) mod audit;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};
use posthaste_shared::domain::key::Scope;

use crate::http::auth::audit::Audit;
use crate::http::callers::Caller;
use crate::http::circle;
use crate::http::problem::{Code, Problem};
use crate::http::state::Api;

macro_rules! permission {
    ($(#[$doc:meta])* $name:ident, $scope:expr) => {
        $(#[$doc])*
        pub(super) struct $name(pub(super) Caller);

        impl FromRequestParts<Arc<Api>> for $name {
            type Rejection = Problem;

            async fn from_request_parts(
                parts: &mut Parts,
                api: &Arc<Api>,
            ) -> Result<Self, Problem> {
                authorise(parts, api, $scope).await.map($name)
            }
        }
    };
}

permission!(
    /// A caller who may enqueue.
    Enqueuer, Scope::Enqueue
);
permission!(
    /// A caller who may look.
    Reader, Scope::Read
);
permission!(
    /// A caller who may manage.
    Admin, Scope::Admin
);

async fn authorise(parts: &Parts, api: &Api, scope: Scope) -> Result<Caller, Problem> {
    let key = bearer(&parts.headers)?;
    let caller = api.keys.look_up(&api.store, &*api.clock, key).await?;
    caller.must(scope)?;
    // Before it is noted as done by this key: what goes round in a circle is not done.
    circle::check(parts)?;
    if let (Scope::Admin, Some(audit)) = (scope, parts.extensions.get::<Audit>()) {
        audit.note(&caller);
    }
    Ok(caller)
}

/// The key that a request came with still works. For requests that are long under way: a key may be
/// revoked meanwhile. Costs a visit to the store only where the key has not been looked at for a
/// second.
///
/// # Errors
/// It was revoked or has expired, or the store cannot say.
pub(super) async fn still_works(headers: &HeaderMap, api: &Api) -> Result<(), Problem> {
    caller_of(headers, api).await.map(drop)
}

/// Who sent a request with these headers, whatever they may do.
///
/// # Errors
/// There is no key, it does not work, or the store cannot say.
pub(super) async fn caller_of(headers: &HeaderMap, api: &Api) -> Result<Caller, Problem> {
    api.keys
        .look_up(&api.store, &*api.clock, bearer(headers)?)
        .await
}

pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || {
        Problem::new(
            Code::MissingKey,
            "send the header Authorization: Bearer <API key>",
        )
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let (scheme, key) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(missing)?;
    // Schemes are compared without case (RFC 9110, section 11.1).
    if scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty() {
        Ok(key.trim())
    } else {
        Err(missing())
    }
}
