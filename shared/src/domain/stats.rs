//! Roll-ups of attempts: how many ended how, and how long they took, by the minute and by the hour.
//! Workers count in memory once an attempt's outcome is in the store, and add their counts up in
//! [`crate::store::stats`]; nothing of a delivery ever waits for them.

use std::time::Duration;

use super::attempt::{Attempt, AttemptResult};
use super::id::EndpointId;
use super::time::Timestamp;

/// The upper bounds of the histogram of durations, in milliseconds: each is about 1.6 times the one
/// before (the series R5 of ISO 3). What took longer than the last is counted beyond it.
pub const BOUNDS_MS: [u32; 24] = [
    1, 2, 3, 4, 6, 10, 16, 25, 40, 63, 100, 160, 250, 400, 630, 1_000, 1_600, 2_500, 4_000, 6_300,
    10_000, 16_000, 25_000, 40_000,
];
/// What a duration beyond the last bound counts as at the most, in milliseconds.
const BEYOND_MS: u32 = 63_000;

const RESULTS: usize = AttemptResult::ALL.len();
const SUCCEEDED: usize = RESULTS;
const FIRST_TRIES: usize = SUCCEEDED + 1;
const FIRST_SUCCESSES: usize = FIRST_TRIES + 1;
const LATENCY: usize = FIRST_SUCCESSES + 1;
/// The numbers of a [`Tally`].
pub const NUMBERS: usize = LATENCY + BOUNDS_MS.len() + 1;

/// How long a roll-up is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A minute; kept for 48 hours.
    Minute,
    /// An hour; kept as long as finished deliveries.
    Hour,
}

impl Step {
    /// Its length in seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// When the one began in which this moment lies.
    #[must_use]
    pub const fn start_of(self, at: Timestamp) -> Timestamp {
        start_of(at, self.seconds())
    }
}

/// The last moment, not after `at`, that is a whole number of so many seconds after 1970.
#[must_use]
pub const fn start_of(at: Timestamp, seconds: u32) -> Timestamp {
    let step = seconds as i64 * 1_000_000;
    Timestamp::from_micros(at.as_micros().div_euclid(step) * step)
}

/// Counts of attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally([u64; NUMBERS]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; NUMBERS])
    }
}

impl Tally {
    /// From the numbers that [`Tally::numbers`] gave.
    #[must_use]
    pub const fn from_numbers(numbers: [u64; NUMBERS]) -> Self {
        Self(numbers)
    }

    /// Each count: the results as in [`AttemptResult::ALL`], successes, first tries, successes of
    /// first tries, then the histogram.
    #[must_use]
    pub const fn numbers(&self) -> &[u64; NUMBERS] {
        &self.0
    }

    /// Counts an attempt.
    pub fn note(&mut self, attempt: &Attempt) {
        let success = u64::from(attempt.error.is_none());
        let first = u64::from(attempt.number == 1);
        self.0[attempt.result as usize] += 1;
        self.0[SUCCEEDED] += success;
        self.0[FIRST_TRIES] += first;
        self.0[FIRST_SUCCESSES] += success * first;
        // Nothing was sent, so it says nothing of how fast the endpoint is.
        if attempt.result != AttemptResult::Blocked {
            self.0[LATENCY + bucket(attempt.duration)] += 1;
        }
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (one, more) in self.0.iter_mut().zip(other.0) {
            *one += more;
        }
    }

    /// How many attempts ended so.
    #[must_use]
    pub const fn of(&self, result: AttemptResult) -> u64 {
        self.0[result as usize]
    }

    /// All attempts.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.0[..RESULTS].iter().sum()
    }

    /// The attempts with which a delivery was delivered.
    #[must_use]
    pub const fn succeeded(&self) -> u64 {
        self.0[SUCCEEDED]
    }

    /// The attempts that were the first of their delivery.
    #[must_use]
    pub const fn first_tries(&self) -> u64 {
        self.0[FIRST_TRIES]
    }

    /// The first attempts with which their delivery was delivered.
    #[must_use]
    pub const fn first_successes(&self) -> u64 {
        self.0[FIRST_SUCCESSES]
    }

    /// The duration that this share of the attempts (0 to 1) did not exceed, in milliseconds; none
    /// without attempts. Between two neighbours of [`BOUNDS_MS`] it is a guess, so it is right to
    /// within the factor between those, 1.6; below 3 ms, to within a millisecond. Never over 63 s.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let counts = &self.0[LATENCY..];
        let all: u64 = counts.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = (share.clamp(0.0, 1.0) * all as f64).max(1.0);
        let mut below = 0.0;
        for (index, count) in counts.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                let low = index.checked_sub(1).map_or(0, |before| BOUNDS_MS[before]);
                let high = BOUNDS_MS.get(index).copied().unwrap_or(BEYOND_MS);
                let part = (wanted - below) / count;
                return Some(f64::from(low) + part * f64::from(high - low));
            }
            below += count;
        }
        Some(f64::from(BEYOND_MS))
    }
}

fn bucket(duration: Duration) -> usize {
    BOUNDS_MS.partition_point(|bound| Duration::from_millis(u64::from(*bound)) < duration)
}

/// The attempts at an endpoint that ended in one minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinuteOfEndpoint {
    /// When the minute began.
    pub minute: Timestamp,
    /// The endpoint that was called.
    pub endpoint: EndpointId,
    /// The attempts.
    pub tally: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attempt::{AttemptError, Phases};

    fn attempt(number: u32, result: AttemptResult, ms: u64) -> Attempt {
        let failed = result != AttemptResult::Success;
        Attempt {
            number,
            round: 1,
            started_at: Timestamp::from_micros(0),
            duration: Duration::from_millis(ms),
            phases: Phases::default(),
            result,
            status_code: None,
            error: failed.then(|| AttemptError {
                code: "x".to_owned(),
                text: "x".to_owned(),
            }),
            response_body: None,
            resolved_address: None,
            request_headers: vec![],
            worker: String::new(),
            console: None,
        }
    }

    #[test]
    fn results_have_a_number_each_in_the_order_of_all() {
        for (index, result) in AttemptResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, index);
        }
    }

    #[test]
    fn attempts_are_counted_by_result_and_try() {
        let mut tally = Tally::default();
        tally.note(&attempt(1, AttemptResult::Success, 5));
        tally.note(&attempt(1, AttemptResult::Timeout, 5_000));
        tally.note(&attempt(2, AttemptResult::Success, 5));
        tally.note(&attempt(1, AttemptResult::Blocked, 0));
        assert_eq!(tally.attempts(), 4);
        assert_eq!(tally.of(AttemptResult::Success), 2);
        assert_eq!(tally.of(AttemptResult::Timeout), 1);
        assert_eq!((tally.succeeded(), tally.first_tries()), (2, 3));
        assert_eq!(tally.first_successes(), 1);
        let mut twice = tally.clone();
        twice.add(&tally);
        assert_eq!((twice.attempts(), twice.first_tries()), (8, 6));
        // What was blocked has no duration.
        assert_eq!(tally.numbers()[LATENCY..].iter().sum::<u64>(), 3);
    }

    #[test]
    fn a_quantile_is_right_to_within_its_bounds() {
        let mut tally = Tally::default();
        assert_eq!(tally.quantile_ms(0.5), None);
        for ms in 1..=1_000 {
            tally.note(&attempt(1, AttemptResult::Success, ms));
        }
        for (share, exact) in [(0.01, 10.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let guess = tally.quantile_ms(share).unwrap();
            assert!(
                guess >= exact / 1.6 && guess <= exact * 1.6,
                "{share}: {guess} for {exact}"
            );
        }
        tally = Tally::default();
        tally.note(&attempt(1, AttemptResult::Timeout, 3_600_000));
        assert_eq!(tally.quantile_ms(0.99), Some(63_000.0));
    }

    #[test]
    fn each_bound_belongs_to_the_bucket_that_it_closes() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_millis(1)), 0);
        assert_eq!(bucket(Duration::from_micros(1_001)), 1);
        assert_eq!(bucket(Duration::from_millis(40_000)), 23);
        assert_eq!(bucket(Duration::from_millis(40_001)), 24);
    }

    #[test]
    fn minutes_and_hours_begin_where_clocks_show_it() {
        let at = Timestamp::parse("2026-01-31T12:34:56.789Z").unwrap();
        let start = |step: Step| step.start_of(at).to_string();
        assert!(start(Step::Minute).starts_with("2026-01-31T12:34:00"));
        assert!(start(Step::Hour).starts_with("2026-01-31T12:00:00"));
        let before = Timestamp::from_micros(-1);
        assert_eq!(Step::Minute.start_of(before).as_micros(), -60_000_000);
    }
}
