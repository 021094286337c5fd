//! The outcome of an attempt whose script or transform failed. Answers and network failures are
//! read by [`mod@super::classify`].

use posthaste_shared::domain::attempt::{AttemptError, AttemptResult};
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::retry::RetryOn;

use super::classify::result;
use super::transform;
use crate::script::ScriptError;
use crate::wire::RenderError;
use crate::wire::outcome::Outcome;

/// What a script that did not return means: as for a request, a time-out and a failure of the
/// network may be tried again; all else is the script's own fault.
pub(super) fn script_failed(endpoint: &Endpoint, error: ScriptError) -> (AttemptResult, Outcome) {
    let refused = |reason, code: &str, text| {
        let error = AttemptError {
            code: code.to_owned(),
            text,
        };
        Outcome::Refused {
            reason,
            error,
            provider_error_code: None,
        }
    };
    match error {
        // `Busy` does not get here: nothing ran then, and the delivery is parked.
        ScriptError::Busy | ScriptError::TimedOut => {
            let text = format!(
                "the script did not end within {} ms",
                endpoint.timeout.as_millis()
            );
            let error = AttemptError {
                code: "timeout".to_owned(),
                text,
            };
            let kind = RetryOn::Timeout;
            let outcome = Outcome::Transient {
                kind,
                error,
                retry_after: None,
                provider_error_code: None,
            };
            (AttemptResult::Timeout, outcome)
        }
        ScriptError::Fetch { error, text } => {
            let word = error.error().code;
            let outcome = match error.retry_kind() {
                // As for a delivery: what the egress policy forbids is not tried again.
                None => refused(FailureReason::Blocked, &word, text),
                Some(kind) => {
                    let error = AttemptError { code: word, text };
                    Outcome::Transient {
                        kind,
                        error,
                        retry_after: None,
                        provider_error_code: None,
                    }
                }
            };
            (result(&Err(error)), outcome)
        }
        ScriptError::OutOfMemory => (
            AttemptResult::Script,
            refused(
                FailureReason::Rejected,
                "script_memory",
                ScriptError::OutOfMemory.to_string(),
            ),
        ),
        ScriptError::Threw { text } => (
            AttemptResult::Script,
            refused(FailureReason::Rejected, "script_threw", text),
        ),
        ScriptError::Unusable { text } => (
            AttemptResult::Script,
            refused(FailureReason::Rejected, "script_unusable", text),
        ),
    }
}

/// What a transform that did not return means: a time-out may be tried again, as a script's; else
/// there is nothing to send.
pub(super) fn transform_failed(
    endpoint: &Endpoint,
    error: ScriptError,
) -> (AttemptResult, Outcome) {
    // A machine under load can be the cause, and the next attempt may be in time.
    if error == ScriptError::TimedOut {
        let (result, outcome) = script_failed(endpoint, error);
        return (result, outcome.about("settings.transform"));
    }
    render_failed(&transform::refused(&error))
}

/// There is nothing to send: a fault of the transform, or of the notification as the transform left
/// it.
pub(super) fn render_failed(error: &RenderError) -> (AttemptResult, Outcome) {
    let reason = FailureReason::RenderError;
    let error = AttemptError {
        code: reason.as_str().to_owned(),
        text: error.to_string(),
    };
    let outcome = Outcome::Refused {
        reason,
        error,
        provider_error_code: None,
    };
    (AttemptResult::Script, outcome)
}
