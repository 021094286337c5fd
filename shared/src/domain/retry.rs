//! When a failed attempt is tried again. Pure: the answer of an attempt, the attempt's number and
//! the jitter come in as arguments. Whether (`RetryOn`) is kept apart from when (`delay`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::whole;
use crate::backoff::exponential;

/// No two attempts of a delivery come closer than this so that an endpoint in trouble is not called
/// in a loop.
pub const MIN_DELAY: Duration = Duration::from_secs(1);
/// How far a `Retry-After` may push the next attempt out, unless the policy's own bound is higher:
/// a day.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// The longest delay that a policy may name: 30 days.
pub const MAX_DELAY: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most retries that a policy may ask for.
pub const MAX_RETRIES: u32 = 100;

/// A kind of failure that may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum RetryOn {
    /// Any status of 500 or more: some load balancers send statuses above 599.
    #[serde(rename = "5xx")]
    ServerError,
    /// 408 Request Timeout: the server gave up waiting for the request.
    #[serde(rename = "408")]
    RequestTimeout,
    /// 425 Too Early: the server will not risk a replay.
    #[serde(rename = "425")]
    TooEarly,
    /// 429 Too Many Requests: the server limits the rate.
    #[serde(rename = "429")]
    TooManyRequests,
    /// No complete answer within the endpoint's timeout.
    #[serde(rename = "timeout")]
    Timeout,
    /// Connection refused or reset, TLS or DNS failure.
    #[serde(rename = "network")]
    Network,
}

impl RetryOn {
    /// All kinds: the default of a policy.
    pub const ALL: [Self; 6] = [
        Self::ServerError,
        Self::RequestTimeout,
        Self::TooEarly,
        Self::TooManyRequests,
        Self::Timeout,
        Self::Network,
    ];

    /// The kind that an HTTP status belongs to; `None` when no policy retries it.
    #[must_use]
    pub const fn of_status(status: u16) -> Option<Self> {
        match status {
            408 => Some(Self::RequestTimeout),
            425 => Some(Self::TooEarly),
            429 => Some(Self::TooManyRequests),
            500.. => Some(Self::ServerError),
            _ => None,
        }
    }
}

/// An endpoint's retry policy. The defaults are 4 retries after 1, 2, 4 and 8 s, each up to 20 %
/// later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Retries after the first attempt, 0 to 100. Default 4. A list in `delays_ms` counts in its
    /// place.
    #[schema(maximum = 100)]
    #[serde(deserialize_with = "whole::number")]
    pub max_retries: u32,
    /// Delay before the first retry, 1,000 ms or more. Default 1,000.
    #[schema(minimum = 1_000, maximum = 2_592_000_000_i64)]
    #[serde(deserialize_with = "whole::number")]
    pub initial_delay_ms: u64,
    /// What each delay is multiplied with for the next, 1 to 10. Default 2.
    #[schema(minimum = 1, maximum = 10)]
    pub multiplier: f64,
    /// The longest delay, up to 30 days. Default an hour.
    #[schema(minimum = 1_000, maximum = 2_592_000_000_i64)]
    #[serde(deserialize_with = "whole::number")]
    pub max_delay_ms: u64,
    /// The greatest part of a delay that is added at random, 0 to 1. Default 0.2.
    #[schema(minimum = 0, maximum = 1)]
    pub jitter: f64,
    /// An explicit list of delays, each 1,000 ms to 30 days, in place of the exponential. Default
    /// none.
    #[schema(schema_with = delays)]
    #[serde(deserialize_with = "whole::list")]
    pub delays_ms: Option<Vec<u64>>,
    /// What is retried. Default all.
    pub on: Vec<RetryOn>,
}

/// The schema of [`RetryPolicy::delays_ms`].
fn delays() -> utoipa::openapi::schema::Array {
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
    let delay = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1_000))
        .maximum(Some(2_592_000_000_i64));
    let described = "An explicit list of 1 to 100 delays, each 1,000 ms to 30 days, in place of \
                     the exponential. \
                     Default none.";
    let mut list = ArrayBuilder::new()
        .items(delay)
        .min_items(Some(1))
        .max_items(Some(100));
    list = list
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .description(Some(described));
    list.build()
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 4,
            initial_delay_ms: 1_000,
            multiplier: 2.0,
            max_delay_ms: 3_600_000,
            jitter: 0.2,
            delays_ms: None,
            on: RetryOn::ALL.to_vec(),
        }
    }
}

/// Why a policy is refused: the member and its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {rule}")]
pub struct InvalidRetryPolicy {
    /// The member, such as `retry.jitter`.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

impl RetryPolicy {
    /// Checks the bounds of every member.
    ///
    /// # Errors
    /// The first member that is out of its bounds.
    pub fn check(&self) -> Result<(), InvalidRetryPolicy> {
        let rule = |holds: bool, field, rule| {
            if holds {
                Ok(())
            } else {
                Err(InvalidRetryPolicy { field, rule })
            }
        };
        let delay = |ms: u64| {
            Duration::from_millis(ms) >= MIN_DELAY && Duration::from_millis(ms) <= MAX_DELAY
        };
        rule(
            self.max_retries <= MAX_RETRIES,
            "retry.max_retries",
            "0 to 100",
        )?;
        rule(
            delay(self.initial_delay_ms),
            "retry.initial_delay_ms",
            "1000 (1 s) to 2592000000 (30 days)",
        )?;
        rule(
            delay(self.max_delay_ms),
            "retry.max_delay_ms",
            "1000 (1 s) to 2592000000 (30 days)",
        )?;
        rule(
            (1.0..=10.0).contains(&self.multiplier),
            "retry.multiplier",
            "1 to 10",
        )?;
        rule((0.0..=1.0).contains(&self.jitter), "retry.jitter", "0 to 1")?;
        if let Some(delays) = &self.delays_ms {
            let fits = !delays.is_empty() && delays.len() <= MAX_RETRIES as usize;
            rule(
                fits,
                "retry.delays_ms",
                "a list of 1 to 100 delays, or null",
            )?;
            rule(
                delays.iter().all(|ms| delay(*ms)),
                "retry.delays_ms",
                "delays of 1000 (1 s) to 2592000000 (30 days)",
            )?;
        }
        Ok(())
    }

    /// How many retries follow the first attempt: the length of the list, or else `max_retries`.
    #[must_use]
    pub fn retries(&self) -> u32 {
        let listed = self
            .delays_ms
            .as_ref()
            .and_then(|delays| u32::try_from(delays.len()).ok());
        listed.unwrap_or(self.max_retries)
    }

    /// Whether failures of that kind are retried.
    #[must_use]
    pub fn retries_on(&self, kind: RetryOn) -> bool {
        self.on.contains(&kind)
    }

    /// How long to wait after attempt `attempt` (from 1) before the next. `jitter` is a random
    /// number from 0 to 1. A `retry_after` of the endpoint lengthens the delay, up to a day or the
    /// policy's own longest delay, and never shortens it. Never under 1 s.
    #[must_use]
    pub fn delay(&self, attempt: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
        // The first retry follows attempt 1, and is the series' 0th.
        let n = attempt.saturating_sub(1);
        let max = Duration::from_millis(self.max_delay_ms);
        let base = match &self.delays_ms {
            Some(delays) => {
                let listed = delays.get(n as usize).or(delays.last()).copied();
                Duration::from_millis(listed.unwrap_or(self.initial_delay_ms))
            }
            None => exponential(
                Duration::from_millis(self.initial_delay_ms),
                self.multiplier,
                max,
                n,
            ),
        };
        // Later and never earlier, so that the delay that was configured is the least, while a
        // receiver that comes back is not met by all its deliveries at once.
        let spread = base.mul_f64(1.0 + self.jitter.clamp(0.0, 1.0) * jitter.clamp(0.0, 1.0));
        let asked = retry_after
            .unwrap_or_default()
            .min(MAX_RETRY_AFTER.max(max));
        // Whichever is longer: `Retry-After: 0` does not shorten the policy's own delay.
        spread.max(asked).max(MIN_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_is_four_retries_that_double() {
        let policy = RetryPolicy::default();
        policy.check().unwrap();
        assert_eq!(policy.retries(), 4);
        let delays: Vec<u128> = (1..=4)
            .map(|attempt| policy.delay(attempt, 0.0, None).as_millis())
            .collect();
        assert_eq!(delays, [1000, 2000, 4000, 8000]);
        assert_eq!(policy.delay(1, 1.0, None).as_millis(), 1200);
    }

    #[test]
    fn a_list_replaces_the_exponential() {
        let policy = RetryPolicy {
            delays_ms: Some(vec![5_000, 300_000]),
            jitter: 0.0,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.retries(), 2);
        assert_eq!(policy.delay(2, 0.5, None), Duration::from_secs(300));
    }

    #[test]
    fn retry_after_lengthens_but_never_shortens() {
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.delay(1, 0.0, Some(Duration::from_secs(3))),
            Duration::from_secs(3)
        );
        assert_eq!(
            policy.delay(4, 0.0, Some(Duration::from_secs(3))),
            Duration::from_secs(8)
        );
        assert_eq!(policy.delay(1, 0.0, Some(Duration::MAX)), MAX_RETRY_AFTER);
    }

    proptest! {
        #[test]
        fn a_delay_keeps_its_bounds(
            attempt in 1_u32..200,
            jitter in 0.0_f64..=1.0,
            initial in 1_000_u64..100_000,
            multiplier in 1.0_f64..=10.0,
            max in 1_000_u64..10_000_000,
            spread in 0.0_f64..=1.0,
        ) {
            let policy = RetryPolicy {
                initial_delay_ms: initial,
                multiplier,
                max_delay_ms: max,
                jitter: spread,
                ..RetryPolicy::default()
            };
            policy.check().unwrap();
            let delay = policy.delay(attempt, jitter, None);
            prop_assert!(delay >= MIN_DELAY);
            let longest = Duration::from_millis(max).mul_f64(1.0 + spread);
            prop_assert!(delay <= longest + Duration::from_millis(1));
            prop_assert!(policy.delay(attempt, 0.0, None) <= policy.delay(attempt + 1, 0.0, None));
        }
    }
}
