//! What a finished request says about its endpoint.

use std::time::Duration;

use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::retry::RetryOn;

use super::breaker::Verdict;
use crate::wire::outcome::Outcome;

/// Answers that take longer than this and fail have cost about as much as a time-out.
const SLOW_FAILURE: Duration = Duration::from_secs(1);
/// The longest pause that an endpoint can ask for.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// How much longer than asked for a pause may be, so that not all workers begin in the same moment.
const PAUSE_JITTER: f64 = 0.1;

/// What a request that ended says.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// How its endpoint does.
    pub verdict: Verdict,
    /// How long it took.
    pub latency: Duration,
    /// 429 or 503.
    pub overloaded: bool,
    /// The endpoint asked for a pause of this length.
    pub pause: Option<Duration>,
}

impl End {
    /// What an attempt says about its endpoint; `None` where it says nothing, because the egress
    /// policy forbade it. `jitter` is a random number from 0 to 1.
    #[must_use]
    pub fn of(
        outcome: &Outcome,
        status: Option<u16>,
        latency: Duration,
        jitter: f64,
    ) -> Option<Self> {
        let overloaded = matches!(status, Some(429 | 503));
        let (verdict, pause) = match outcome {
            Outcome::Refused {
                reason: FailureReason::Blocked,
                ..
            } => return None,
            // It answers. That it does not want this notification is no trouble of it.
            Outcome::Accepted { .. } | Outcome::Refused { .. } => (Verdict::Healthy, None),
            Outcome::Transient {
                kind, retry_after, ..
            } => {
                let slow = *kind == RetryOn::Timeout || latency >= SLOW_FAILURE;
                let verdict = if slow {
                    Verdict::TimedOut
                } else {
                    Verdict::Failed
                };
                (verdict, retry_after.filter(|_| overloaded))
            }
        };
        Some(Self {
            verdict,
            latency,
            overloaded,
            pause: pause.map(|pause| pause.min(PAUSE_MAX).mul_f64(1.0 + PAUSE_JITTER * jitter)),
        })
    }
}
