//! Attempts that are counted in memory, by minute and endpoint, once their outcome is in the store;
//! [`crate::background::stats`] adds them up there every 10 s.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::stats::{MinuteOfEndpoint, Step, Tally};
use posthaste_shared::domain::time::Timestamp;

/// The most minutes of endpoints in memory: about 4 MB. While the store is away for long, or more
/// endpoints than this are called within 10 s, what comes on top is not counted.
const MOST: usize = 10_000;

/// What was counted since the last look.
#[derive(Debug, Default)]
pub struct Stats(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    minutes: BTreeMap<Timestamp, HashMap<EndpointId, Tally>>,
    /// The minutes of endpoints in there.
    rows: usize,
    left_out: u64,
}

/// What [`Stats::take`] gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// What was counted, in the order of minute and endpoint.
    pub minutes: Vec<MinuteOfEndpoint>,
    /// Attempts that were not counted, for want of room.
    pub left_out: u64,
}

impl Stats {
    /// Counts an attempt. Allocates for the first at an endpoint in a minute alone.
    pub(super) fn note(&self, endpoint: &EndpointId, attempt: &Attempt) {
        let ended = attempt.started_at.after(attempt.duration);
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counted {
            minutes,
            rows,
            left_out,
        } = &mut *counted;
        let endpoints = minutes.entry(Step::Minute.start_of(ended)).or_default();
        if let Some(tally) = endpoints.get_mut(endpoint) {
            tally.note(attempt);
        } else if *rows < MOST {
            let mut tally = Tally::default();
            tally.note(attempt);
            endpoints.insert(endpoint.clone(), tally);
            *rows += 1;
        } else {
            *left_out += 1;
        }
    }

    /// What was counted since the last time.
    #[must_use]
    pub fn take(&self) -> Taken {
        let counted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut minutes = Vec::with_capacity(counted.rows);
        for (minute, endpoints) in counted.minutes {
            let begin = minutes.len();
            minutes.extend(
                endpoints
                    .into_iter()
                    .map(|(endpoint, tally)| MinuteOfEndpoint {
                        minute,
                        endpoint,
                        tally,
                    }),
            );
            minutes[begin..].sort_unstable_by(|one, two| one.endpoint.cmp(&two.endpoint));
        }
        Taken {
            minutes,
            left_out: counted.left_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use posthaste_shared::domain::attempt::{AttemptResult, Phases};

    use super::*;

    fn attempt(started_ms: i64, ms: u64) -> Attempt {
        Attempt {
            number: 1,
            round: 1,
            started_at: Timestamp::from_micros(started_ms * 1_000),
            duration: Duration::from_millis(ms),
            phases: Phases::default(),
            result: AttemptResult::Success,
            status_code: Some(200),
            error: None,
            response_body: None,
            resolved_address: None,
            request_headers: vec![],
            worker: String::new(),
            console: None,
        }
    }

    fn id(text: &str) -> EndpointId {
        EndpointId::parse(text).unwrap()
    }

    #[test]
    fn attempts_are_counted_in_the_minute_in_which_they_ended() {
        let stats = Stats::default();
        stats.note(&id("ep_b"), &attempt(59_000, 999));
        stats.note(&id("ep_b"), &attempt(59_000, 1_000));
        stats.note(&id("ep_a"), &attempt(60_000, 5));
        stats.note(&id("ep_a"), &attempt(61_000, 5));
        let taken = stats.take();
        let seen: Vec<_> = taken
            .minutes
            .iter()
            .map(|one| {
                let minute = one.minute.as_micros() / 60_000_000;
                (minute, one.endpoint.as_str(), one.tally.attempts())
            })
            .collect();
        assert_eq!(seen, [(0, "ep_b", 1), (1, "ep_a", 2), (1, "ep_b", 1)]);
        assert_eq!(taken.left_out, 0);
        assert_eq!(stats.take(), Taken::default(), "nothing is counted twice");
    }

    #[test]
    fn memory_has_a_bound_and_what_is_left_out_is_known() {
        let stats = Stats::default();
        for n in 0..MOST + 7 {
            stats.note(&id(&format!("ep_{n}")), &attempt(0, 5));
        }
        stats.note(&id("ep_0"), &attempt(0, 5));
        let taken = stats.take();
        assert_eq!((taken.minutes.len(), taken.left_out), (MOST, 7));
        stats.note(&id("ep_late"), &attempt(0, 5));
        assert_eq!(stats.take().minutes.len(), 1, "there is room again");
    }
}
