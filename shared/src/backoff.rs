//! Growing intervals: for retries of deliveries and for reconnecting. The only place that knows the
//! `backoff` crate, and it uses its interval arithmetic alone: that crate is no longer maintained
//! (RUSTSEC-2025-0012, no known vulnerability), so another can take its place in this one file.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

use crate::chance;

/// The `n`th interval (from 0) of an exponential series: `initial * multiplier^n`, at most `max`.
#[must_use]
pub fn exponential(initial: Duration, multiplier: f64, max: Duration, n: u32) -> Duration {
    let mut series = ExponentialBackoff {
        current_interval: initial.min(max),
        initial_interval: initial.min(max),
        randomization_factor: 0.0,
        multiplier,
        max_interval: max,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let mut interval = initial.min(max);
    for _ in 0..=n {
        interval = series.next_backoff().unwrap_or(max);
        if interval >= max {
            return max;
        }
    }
    interval
}

/// Intervals between tries to reach a store or a broker: from 100 ms, doubling up to 5 s, each up
/// to half longer or shorter, so that many processes do not come back in step.
#[derive(Debug)]
pub struct Reconnect(ExponentialBackoff);

impl Default for Reconnect {
    fn default() -> Self {
        Self(ExponentialBackoff {
            current_interval: Duration::from_millis(100),
            initial_interval: Duration::from_millis(100),
            // Done in `next`, where the numbers are those of `chance`.
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: Duration::from_secs(5),
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }
}

impl Reconnect {
    /// How long to wait before the next try.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless series, not something to loop over"
    )]
    pub fn next(&mut self) -> Duration {
        let interval = self.0.next_backoff().unwrap_or(Duration::from_secs(5));
        interval.mul_f64(0.5 + chance::fraction())
    }

    /// Back to the shortest interval, after a success.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound() {
        let delays: Vec<u64> = (0..6)
            .map(|n| {
                exponential(Duration::from_secs(1), 2.0, Duration::from_secs(10), n).as_millis()
                    as u64
            })
            .collect();
        assert_eq!(delays, [1000, 2000, 4000, 8000, 10_000, 10_000]);
    }
}
