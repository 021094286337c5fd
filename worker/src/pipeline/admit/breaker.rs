//! A circuit breaker: an endpoint that fails gets no requests but a probe now and then, until it
//! answers again. Pure: time and results come in as arguments.
//!
//! | state | what it lets through | goes on by |
//! | --- | --- | --- |
//! | closed | everything | failures in a row, or the share of failures: open |
//! | open | nothing | its time: half open; a success of a request that was under way: half open |
//! | half open | one probe | the probe succeeds: closed; it fails: open, for twice as long |
//!
//! Failures count by their cost: a request that timed out held a slot for all of its time, so it
//! counts as two that were refused at once. An answer that says no to this one
//! notification (400, say) is a success here: the endpoint answers.
//!
//! The state is one worker's, and gone with it: after a restart the endpoint begins closed.

use std::time::Duration;

use super::terms::Moment;

/// How many quick failures a time-out counts as.
const TIMEOUT_WEIGHT: u32 = 2;
/// The share of failures is taken over this time.
const WINDOW: Duration = Duration::from_secs(10);
/// The fewest attempts within [`WINDOW`] that a share is taken of: below it one bad second of a
/// quiet endpoint would be a share of everything.
const FEWEST: u32 = 20;
/// The share of failures that opens the breaker: half.
const SHARE: u32 = 2;

/// When breakers open, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRules {
    /// The failures in a row that open a breaker; a time-out counts as two. Default 10. 0: none
    /// ever opens.
    pub failures: u32,
    /// How long a breaker is open at first. Default 1 s.
    pub open_min: Duration,
    /// The longest that it is open; the time doubles with each probe that fails. Default 30 s.
    pub open_max: Duration,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            failures: 10,
            open_min: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
        }
    }
}

/// What a finished request says about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answered, and not that it is in trouble.
    Healthy,
    /// It failed within a moment: refused, reset, a 5xx.
    Failed,
    /// It did not answer in time.
    TimedOut,
}

/// A change of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened, or stays open after a failed probe.
    Opened {
        /// How long until it lets a probe through.
        length: Duration,
        /// Whether it was closed before.
        first: bool,
        /// The failures in a row so far.
        failures: u32,
    },
    /// It closed: the endpoint answers again.
    Closed,
}

/// One endpoint's breaker.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    state: State,
    /// Failures in a row, each counted once.
    row: u32,
    /// Failures in a row by their weight.
    weight: u32,
    seen: [Seen; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Moment,
        length: Duration,
    },
    HalfOpen {
        probing: bool,
        /// How long it was open before.
        length: Duration,
    },
}

/// Attempts and failures in one half of [`WINDOW`].
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    half: u64,
    attempts: u32,
    failures: u32,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            state: State::Closed,
            row: 0,
            weight: 0,
            seen: [Seen::default(); 2],
        }
    }

    /// How many requests may begin now. Turns half open once the time is over.
    pub(super) fn admits(&mut self, now: Moment) -> usize {
        if let State::Open { until, length } = self.state
            && until <= now
        {
            self.state = State::HalfOpen {
                probing: false,
                length,
            };
        }
        match self.state {
            State::Closed => usize::MAX,
            State::Open { .. } | State::HalfOpen { probing: true, .. } => 0,
            State::HalfOpen { probing: false, .. } => 1,
        }
    }

    /// A request begins.
    pub(super) fn began(&mut self) {
        if let State::HalfOpen { probing, .. } = &mut self.state {
            *probing = true;
        }
    }

    /// A request ended without saying anything about the endpoint: the next one is the probe.
    pub(super) fn untold(&mut self) {
        if let State::HalfOpen { probing, .. } = &mut self.state {
            *probing = false;
        }
    }

    /// Closes it: another worker found that the endpoint answers, or somebody changed the endpoint.
    /// What is under way counts anew.
    pub(super) fn close(&mut self) {
        *self = Self::new();
    }

    /// Whether it is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// A request ended.
    pub(super) fn ended(
        &mut self,
        verdict: Verdict,
        now: Moment,
        rules: &BreakerRules,
    ) -> Option<Change> {
        if rules.failures == 0 {
            return None;
        }
        let failed = verdict != Verdict::Healthy;
        self.count(failed, now);
        if failed {
            self.row = self.row.saturating_add(1);
            let weight = if verdict == Verdict::TimedOut {
                TIMEOUT_WEIGHT
            } else {
                1
            };
            self.weight = self.weight.saturating_add(weight);
        } else {
            self.row = 0;
            self.weight = 0;
        }
        match (self.state, failed) {
            (State::Closed, true) => {
                let opens = self.weight >= rules.failures || self.mostly_fails(now);
                opens.then(|| self.open(rules.open_min, now, true))
            }
            // Requests that began before it opened still end; their failures are known.
            (State::Closed, false) | (State::Open { .. }, true) => None,
            // It answers while it is open: no reason to wait for the rest of the time.
            (State::Open { length, .. }, false) => {
                self.state = State::HalfOpen {
                    probing: false,
                    length,
                };
                None
            }
            (State::HalfOpen { length, .. }, true) => {
                let longer = (length * 2).clamp(rules.open_min, rules.open_max.max(rules.open_min));
                Some(self.open(longer, now, false))
            }
            (State::HalfOpen { .. }, false) => {
                *self = Self::new();
                Some(Change::Closed)
            }
        }
    }

    fn open(&mut self, length: Duration, now: Moment, first: bool) -> Change {
        let until = now + length;
        self.state = State::Open { until, length };
        Change::Opened {
            length,
            first,
            failures: self.row,
        }
    }

    fn count(&mut self, failed: bool, now: Moment) {
        let half = half(now);
        if self.seen[0].half != half {
            self.seen[1] = self.seen[0];
            self.seen[0] = Seen {
                half,
                ..Seen::default()
            };
        }
        self.seen[0].attempts += 1;
        self.seen[0].failures += u32::from(failed);
    }

    /// Whether half of the attempts of the last five to ten seconds failed.
    fn mostly_fails(&self, now: Moment) -> bool {
        let recent = self.seen.iter().filter(|seen| seen.half + 1 >= half(now));
        let (attempts, failures) = recent.fold((0, 0), |(attempts, failures), seen| {
            (attempts + seen.attempts, failures + seen.failures)
        });
        attempts >= FEWEST && failures * SHARE >= attempts
    }
}

fn half(now: Moment) -> u64 {
    u64::try_from(now.as_millis() / (WINDOW.as_millis() / 2)).unwrap_or(u64::MAX)
}
