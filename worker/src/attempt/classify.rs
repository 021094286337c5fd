//! From an exchange to what happened. Answers are read by the wire format; where there is no
//! answer, all wire formats agree.

use posthaste_shared::domain::attempt::AttemptResult;
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::time::Timestamp;

use crate::send::SendError;
use crate::wire::outcome::Outcome;
use crate::wire::{self, Reply};

/// The outcome of an exchange: what the wire format reads from the answer, or the kind of failure
/// where none came. `now` is when the exchange finished; a `Retry-After` with a date counts from
/// then.
#[must_use]
pub fn classify(endpoint: &Endpoint, result: &Result<Reply, SendError>, now: Timestamp) -> Outcome {
    match result {
        Ok(reply) => wire::of(endpoint.wire_format).classify(endpoint, reply, now),
        Err(failure) => {
            let error = failure.error();
            match failure.retry_kind() {
                Some(kind) => Outcome::Transient {
                    kind,
                    error,
                    retry_after: None,
                    provider_error_code: None,
                },
                // What no policy may retry is what the egress policy forbids; it would be forbidden
                // again.
                None => Outcome::Refused {
                    reason: FailureReason::Blocked,
                    error,
                    provider_error_code: None,
                },
            }
        }
    }
}

/// The result of an exchange in one word, for the attempt's row and the metrics.
#[must_use]
pub const fn result(result: &Result<Reply, SendError>) -> AttemptResult {
    match result {
        Ok(reply) => AttemptResult::of_status(reply.status),
        Err(SendError::Timeout(_)) => AttemptResult::Timeout,
        Err(SendError::Network(_)) => AttemptResult::Network,
        Err(SendError::Blocked(_)) => AttemptResult::Blocked,
    }
}
