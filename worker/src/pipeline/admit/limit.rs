//! How many requests an endpoint gets at once: what it answers well, between one and its
//! `max_in_flight`. Pure.
//!
//! 1. **Growing.** After each round in which the limit was used to the full it grows: doubled while
//!    it is new or its endpoint has just recovered (slow start), by an eighth otherwise.
//! 2. **Overload.** A time-out, a 429 or a 503 halves it, at most once a round: what was under way
//!    when the endpoint choked fails together.
//! 3. **Queueing.** Where even the fastest answer of a round took over four times as long as the
//!    fastest of the last minute, and 200 ms longer, requests wait for each other at the endpoint:
//!    a quarter less. The fastest and not the mean, because an endpoint may well be slow for some
//!    requests and quick for others.
//! 4. **Just slower.** Where that quarter less made nothing quicker, concurrency is not the reason:
//!    the new time is the normal one from then on, and the limit is as before.
//!
//! 200 ms, so that the worker's own load, which delays all answers alike, is not taken for theirs.

use std::time::Duration;

use super::terms::Moment;

/// The limit that a new endpoint begins with, if it may have that many.
const FIRST: f64 = 32.0;
/// The fewest answers that say something about a round.
const ROUND: f64 = 8.0;
/// How long the fastest answer is remembered: this long at least, twice as long at the most.
const MEMORY: Duration = Duration::from_secs(60);
/// How much longer than the fastest an answer takes that had to queue.
const QUEUED: u32 = 4;
/// And by how much at least.
const QUEUED_LEAST: Duration = Duration::from_millis(200);

/// One endpoint's limit.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    current: f64,
    slow_start: bool,
    round: Round,
    fastest: [Duration; 2],
    aged: Moment,
    /// While a quarter less is tried: the limit and the fastest answer before.
    tried: Option<(f64, Duration)>,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    answers: f64,
    fastest: Duration,
    full: bool,
    overloaded: bool,
}

impl Round {
    const fn new() -> Self {
        Self {
            answers: 0.0,
            fastest: Duration::MAX,
            full: false,
            overloaded: false,
        }
    }
}

impl Limit {
    pub(super) const fn new(now: Moment) -> Self {
        Self {
            current: FIRST,
            slow_start: true,
            round: Round::new(),
            fastest: [Duration::MAX; 2],
            aged: now,
            tried: None,
        }
    }

    /// From one on, doubling: for an endpoint that recovered, or whose work has waited.
    pub(super) fn slow_start(&mut self, now: Moment) {
        *self = Self {
            current: 1.0,
            ..Self::new(now)
        };
    }

    /// The limit under a `max_in_flight`.
    pub(super) fn of(&self, max_in_flight: usize) -> usize {
        // At least one, or an endpoint would never again show how quick it is; a `max_in_flight` of
        // zero is that of a worker which has no share of this endpoint.
        (self.current as usize).max(1).min(max_in_flight)
    }

    /// A request was answered. `full`: as many as allowed were under way.
    pub(super) fn answered(
        &mut self,
        latency: Duration,
        full: bool,
        max_in_flight: usize,
        now: Moment,
    ) {
        if now.saturating_sub(self.aged) > MEMORY {
            self.fastest = [Duration::MAX, self.fastest[0]];
            self.aged = now;
        }
        self.round.answers += 1.0;
        self.round.fastest = self.round.fastest.min(latency);
        self.round.full |= full;
        // A slow start is steered by few answers: there are only as many as there were requests.
        let whole = if self.slow_start {
            self.current
        } else {
            self.current.max(ROUND)
        };
        if self.round.answers < whole {
            return;
        }
        let round = std::mem::replace(&mut self.round, Round::new());
        let normal = self.fastest[0].min(self.fastest[1]);
        self.fastest[0] = self.fastest[0].min(round.fastest);
        let queued =
            normal < Duration::MAX && round.fastest > (normal * QUEUED).max(normal + QUEUED_LEAST);
        let ceiling = max_in_flight.max(1) as f64;
        match (queued, self.tried.take()) {
            (true, Some((before, fastest))) if round.fastest * 20 > fastest * 17 => {
                self.fastest = [round.fastest, Duration::MAX];
                self.current = before.min(ceiling);
            }
            (true, _) => {
                self.tried = Some((self.current, round.fastest));
                self.slow_start = false;
                self.current = (self.current * 0.75).max(1.0);
            }
            (false, _) if round.full && !round.overloaded => {
                let more = if self.slow_start {
                    self.current
                } else {
                    (self.current / 8.0).max(1.0)
                };
                self.current = (self.current + more).min(ceiling);
            }
            (false, _) => {}
        }
    }

    /// A request was not answered in time, or with 429 or 503.
    pub(super) fn overloaded(&mut self) {
        if self.round.overloaded {
            return;
        }
        self.current = (self.current / 2.0).max(1.0);
        self.slow_start = false;
        self.tried = None;
        self.round = Round {
            overloaded: true,
            ..Round::new()
        };
    }
}
