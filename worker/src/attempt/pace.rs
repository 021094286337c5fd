//! Spaces requests evenly under a rate: each takes the next turn, and turns are as far apart as the
//! rate says.

use std::time::Duration;

use tokio::time::Instant;

/// How long work waits in memory, for its turn or for its endpoint, before it is parked: long
/// enough for a healthy endpoint to make room (a request or two), short enough to be no
/// burden.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

/// The slowest and the fastest rate that is kept, in requests a second: the time between two must
/// be a number.
const RATES: (f64, f64) = (1e-6, 1e6);

/// When the next request may begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    next_turn: Instant,
}

impl Pace {
    /// The first turn is at once.
    pub(crate) fn new() -> Self {
        Self {
            next_turn: Instant::now(),
        }
    }

    /// Takes the next turn at `rate` requests a second: when it is, which may be now. `None`, and
    /// nothing is taken, when it is farther off than [`PATIENCE`].
    pub(crate) fn take(&mut self, rate: f64) -> Option<Instant> {
        let now = Instant::now();
        // Turns that nobody used are gone: after a pause there is no burst to make up for it.
        let turn = self.next_turn.max(now);
        if turn > now + PATIENCE {
            return None;
        }
        self.next_turn = turn + Duration::from_secs_f64(1.0 / rate.clamp(RATES.0, RATES.1));
        Some(turn)
    }
}
