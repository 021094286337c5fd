//! The retry policy's answer to an attempt's outcome. Pure.

use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::time::Timestamp;

use crate::wire::outcome::{Outcome, Verdict};

/// An attempt, as far as the policy is concerned.
#[derive(Debug, Clone, Copy)]
pub struct AttemptFacts {
    /// Its number within the delivery's round, from 1.
    pub number: u32,
    /// When the delivery expires.
    pub expires_at: Option<Timestamp>,
    /// When the attempt was over.
    pub now: Timestamp,
    /// A random number from 0 to 1.
    pub jitter: f64,
}

/// What we do after an attempt.
#[must_use]
pub fn decide(outcome: &Outcome, policy: &RetryPolicy, attempt: AttemptFacts) -> Verdict {
    match outcome {
        Outcome::Accepted { .. } => Verdict::Complete,
        Outcome::Refused { reason, .. } => Verdict::GiveUp(*reason),
        Outcome::Transient {
            kind, retry_after, ..
        } => {
            if attempt.number > policy.retries() || !policy.retries_on(*kind) {
                Verdict::GiveUp(FailureReason::RetriesExhausted)
            } else if attempt.expires_at.is_some_and(|at| at <= attempt.now) {
                Verdict::Expire
            } else {
                // A retry due after the expiry is recorded all the same: the delivery expires on
                // time, not early.
                Verdict::RetryAt(attempt.now.after(policy.delay(
                    attempt.number,
                    attempt.jitter,
                    *retry_after,
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use posthaste_shared::domain::attempt::AttemptError;
    use posthaste_shared::domain::retry::RetryOn;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-01-01T00:00:00Z").unwrap()
    }

    fn facts(number: u32) -> AttemptFacts {
        AttemptFacts {
            number,
            expires_at: None,
            now: now(),
            jitter: 0.0,
        }
    }

    fn transient(kind: RetryOn) -> Outcome {
        let error = AttemptError {
            code: "x".into(),
            text: "x".into(),
        };
        Outcome::Transient {
            kind,
            error,
            retry_after: None,
            provider_error_code: None,
        }
    }

    #[test]
    fn five_attempts_then_it_gives_up() {
        let policy = RetryPolicy::default();
        let outcome = transient(RetryOn::ServerError);
        for (number, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
            let due = now().after(Duration::from_secs(seconds));
            assert_eq!(
                decide(&outcome, &policy, facts(number)),
                Verdict::RetryAt(due)
            );
        }
        assert_eq!(
            decide(&outcome, &policy, facts(5)),
            Verdict::GiveUp(FailureReason::RetriesExhausted)
        );
    }

    #[test]
    fn what_the_policy_does_not_retry_is_given_up() {
        let policy = RetryPolicy {
            on: vec![RetryOn::Network],
            ..RetryPolicy::default()
        };
        let verdict = decide(&transient(RetryOn::Timeout), &policy, facts(1));
        assert_eq!(verdict, Verdict::GiveUp(FailureReason::RetriesExhausted));
        assert!(matches!(
            decide(&transient(RetryOn::Network), &policy, facts(1)),
            Verdict::RetryAt(_)
        ));
    }

    #[test]
    fn a_failure_after_the_expiry_expires() {
        let late = AttemptFacts {
            expires_at: Some(now()),
            ..facts(1)
        };
        assert_eq!(
            decide(&transient(RetryOn::Timeout), &RetryPolicy::default(), late),
            Verdict::Expire
        );
    }
}
