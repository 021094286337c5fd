//! The routes, and what is wrapped around all of them.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Method, Uri};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};

use crate::http::auth::audit;
use crate::http::once_only;
use crate::http::openapi;
use crate::http::problem::request_id;
use crate::http::problem::{Code, Problem};
use crate::http::request::trace;
use crate::http::routes::routes;
use crate::http::state::Api;

/// The HTTP API, version 1, with `/openapi.json`.
pub fn router(api: Arc<Api>) -> Router {
    let (routes, _) = routes().split_for_parts();
    let mut router = routes
        .route("/openapi.json", get(openapi::serve))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        // Within the audit, which so has no line for an answer that is only given again: nothing
        // was changed.
        .layer(from_fn_with_state(Arc::clone(&api), once_only::serve))
        .layer(from_fn(audit::log))
        // Bodies are read with limits of our own, see `extract`.
        .layer(DefaultBodyLimit::disable())
        // Outside of the handlers and within the request's id, so that the 500 and its line have
        // it.
        .layer(CatchPanicLayer::custom(panicked));
    if api.tracer.is_on() {
        router = router.layer(from_fn_with_state(Arc::clone(&api), trace::serve));
    }
    identified(router).with_state(api)
}

/// Gives each request of `router` an id: in its answer, in problems and on its lines of the log.
pub fn identified<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .layer(from_fn(request_id::with_id))
        .layer(PropagateRequestIdLayer::new(request_id::X_REQUEST_ID))
        .layer(SetRequestIdLayer::new(
            request_id::X_REQUEST_ID,
            request_id::NewId,
        ))
        // Outermost, before anything takes over an id that could forge a line of the log.
        .layer(from_fn(request_id::refuse_odd))
}

async fn unknown_route(method: Method, uri: Uri) -> Problem {
    let detail = format!(
        "{method} {} is not a route of this API: see /openapi.json",
        uri.path()
    );
    Problem::new(Code::UnknownRoute, detail)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        format!(
            "{} cannot be used with {method}: see /openapi.json",
            uri.path()
        ),
    )
}

/// A handler panicked: our fault. The panic's text goes to the log alone.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        panic = text.unwrap_or("without a text"),
        "handling a request panicked"
    );
    Problem::internal().into_response()
}
