//! Who did what: one line in the log for each request that changed something by the scope `admin`,
//! with the key's id. Enqueueing is not among it: notifications are recorded themselves.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use posthaste_shared::domain::id::{KeyId, TenantId};

use crate::http::callers::Caller;

/// Where a request notes whose key it came with.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Audit(Arc<OnceLock<(KeyId, Option<TenantId>)>>);

impl Audit {
    /// The request is this caller's, who may do what it asks for.
    pub(in crate::http) fn note(&self, caller: &Caller) {
        // A second look at the same key says the same.
        let _ = self
            .0
            .set((caller.key().id.clone(), caller.bound_to().cloned()));
    }
}

/// Logs requests that change something.
pub(in crate::http) async fn log(mut request: Request, next: Next) -> Response {
    if matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    ) {
        return next.run(request).await;
    }
    // The key is known only deep inside, to the extractor of the caller; this carries it out again.
    let audit = Audit::default();
    request.extensions_mut().insert(audit.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    // Logged after the answer is known: whether it was done is what an operator looks for.
    let response = next.run(request).await;
    if let Some((key, tenant)) = audit.0.get() {
        let tenant = tenant.as_ref().map(TenantId::as_str);
        let status = response.status().as_u16();
        // Without the request's id: the span that this is in has it, so each line does.
        tracing::info!(
            key.id = %key,
            key.tenant = tenant,
            http.status = status,
            "{method} {path}"
        );
    }
    response
}
