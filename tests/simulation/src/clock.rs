//! The clocks of the machines, which drift and jump.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthaste_shared::clock::Clock;
use posthaste_shared::domain::time::Timestamp;
use tokio::time::Instant;

/// What every clock shows when a run begins: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// The clock of a machine. Outlives its processes.
#[derive(Debug)]
pub struct MachineClock(Mutex<State>);

#[derive(Debug)]
struct State {
    /// It showed this …
    shown: Timestamp,
    /// … at this time, …
    at: Instant,
    /// … and since then goes on so many times as fast as time.
    speed: f64,
}

impl MachineClock {
    /// A clock that shows the time.
    #[must_use]
    pub fn right(begun: Instant) -> Self {
        Self(Mutex::new(State {
            shown: START,
            at: begun,
            speed: 1.0,
        }))
    }

    /// Puts it forth or back.
    pub fn jump(&self, by: Duration, forth: bool) {
        let mut state = self.state();
        let now = state.now();
        state.shown = if forth { now.after(by) } else { now.before(by) };
        state.at = Instant::now();
    }

    /// Has it run fast or slow from now on.
    pub fn drift(&self, speed: f64) {
        let mut state = self.state();
        state.shown = state.now();
        state.at = Instant::now();
        state.speed = speed;
    }

    /// Puts it right.
    pub fn heal(&self, begun: Instant) {
        *self.state() = State {
            shown: START,
            at: begun,
            speed: 1.0,
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self) -> Timestamp {
        self.shown.after(self.at.elapsed().mul_f64(self.speed))
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        self.state().now()
    }
}

/// A planted fault: shows a delivery, until it is sent, the time at which it was taken up. So the
/// check after admission, of whether it has expired meanwhile, finds nothing.
pub struct StaleClock<C> {
    clock: C,
    seen: Mutex<HashMap<tokio::task::Id, (Timestamp, u32)>>,
}

/// How often a delivery with an expiry asks for the time until it is sent: before admission, for
/// how long it may wait there, and after it.
const ASKED: u32 = 3;

impl<C> StaleClock<C> {
    /// The fault, planted in a clock.
    #[must_use]
    pub fn new(clock: C) -> Self {
        Self {
            clock,
            seen: Mutex::default(),
        }
    }
}

impl<C: Clock> Clock for StaleClock<C> {
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        let Some(task) = tokio::task::try_id() else {
            return now;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, asked) = seen.entry(task).or_insert((now, 0));
        *asked += 1;
        if *asked <= ASKED { *first } else { now }
    }
}

impl<C: Clock + ?Sized> Clock for Shared<C> {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

/// A clock that others have, too.
pub struct Shared<C: ?Sized>(pub std::sync::Arc<C>);
