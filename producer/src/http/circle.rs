//! Requests that Posthaste itself sends: a delivery whose URL leads back to this API, or a script
//! that calls it. So that no circle goes on for ever, one may come round a few times with new
//! notifications, and may change nothing else.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use posthaste_shared::domain::hops::{self, Hops};

use crate::http::problem::{Code, Problem};

/// How often Posthaste itself has sent what a request with these headers comes from; 0 for
/// everybody else's.
pub(super) fn hops_of(headers: &HeaderMap) -> Hops {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let by_agent = agent.map_or_else(Hops::default, Hops::of_agent);
    // Whoever adds a second header to the one of Posthaste gains nothing.
    let values = headers
        .get_all(hops::HEADER)
        .iter()
        .filter_map(|value| value.to_str().ok());
    // A proxy may have folded several into one.
    let each = values.flat_map(|value| value.split(','));
    each.map(Hops::parse).fold(by_agent, Hops::max)
}

/// Refuses what would go round for ever.
pub(super) async fn end(request: Request, next: Next) -> Response {
    let hops = hops_of(request.headers());
    // A request that only reads cannot keep a circle going.
    if hops == Hops::default() || request.method().is_safe() {
        return next.run(request).await;
    }
    // Anything else that a delivery could change, such as an endpoint, carries no count of hops on.
    if !matches!(
        request.uri().path(),
        "/v1/notifications" | "/v1/notifications/batch"
    ) {
        let detail = "this request was sent by Posthaste itself, as its User-Agent or its header \
                      posthaste-hops says; such a request may only enqueue notifications";
        return Problem::new(Code::TooManyHops, detail).into_response();
    }
    if hops.is_too_many() {
        let detail = format!(
            "Posthaste has sent this notification on {hops} times, and {} are allowed: an endpoint \
             leads back to this API in a loop",
            Hops::MAX
        );
        return Problem::new(Code::TooManyHops, detail).into_response();
    }
    next.run(request).await
}
