//! Requests that Posthaste itself sends: a delivery whose URL leads back to this API, or a script
//! that calls it. So that no circle goes on for ever, one may come round a few times with new
//! notifications, and may change nothing else.

use http::request::Parts;
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

/// Refuses what would go round for ever. Asked once the caller is known to be allowed what the
/// request asks for: somebody without a key learns nothing of a route by a header.
///
/// # Errors
/// `too_many_hops`.
pub(super) fn check(parts: &Parts) -> Result<(), Problem> {
    let hops = hops_of(&parts.headers);
    // A request that only reads cannot keep a circle going.
    if hops == Hops::default() || parts.method.is_safe() {
        return Ok(());
    }
    // Anything else that a delivery could change, such as an endpoint, carries no count of hops on.
    if !matches!(
        parts.uri.path(),
        "/v1/notifications" | "/v1/notifications/batch"
    ) {
        let detail = "this request was sent by Posthaste itself, as its User-Agent or its header \
                      posthaste-hops says; such a request may only enqueue notifications";
        return Err(Problem::new(Code::TooManyHops, detail));
    }
    if hops.is_too_many() {
        let detail = format!(
            "Posthaste has sent this notification on {hops} times, and {} are allowed: an endpoint \
             leads back to this API in a loop",
            Hops::MAX
        );
        return Err(Problem::new(Code::TooManyHops, detail));
    }
    Ok(())
}
