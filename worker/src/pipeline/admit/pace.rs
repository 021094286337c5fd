//! An endpoint's turns under its rate limit. Pure.
//!
//! 1. **Spaced.** Requests are spaced evenly: a limit of 50/s is one every 20 ms, and never 50 at
//!    once.
//! 2. **Reserved.** The limit holds over all workers: turns come from the store, some at a time.
//!    Enough for what waits, or for what came in of late, and for half a second at the most. Turns
//!    that a killed worker had reserved are lost, and nothing else.
//! 3. **Missed.** A turn that nobody used is gone, so that no burst makes up for a pause. One that
//!    the worker was too busy to use may be made up for within [`CATCH_UP`].

use std::collections::VecDeque;
use std::time::Duration;

use posthaste_shared::store::turns::MAX_TURNS;

use super::terms::Moment;

/// The slowest and the fastest rate that is kept, in requests a second: the time between two must
/// be a number.
const RATES: (f64, f64) = (1e-6, 1e6);
/// Turns that fell due while the worker was busy may be made up for, as long as they are no older:
/// on a busy machine timers come some milliseconds late.
const CATCH_UP: Duration = Duration::from_millis(20);
/// For how long turns are reserved.
const AHEAD: Duration = Duration::from_millis(500);

/// Turns from a moment on, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When the first of them is.
    pub first: Moment,
    /// The time from each to the next.
    pub spacing: Duration,
    /// How many there are.
    pub count: u32,
}

impl Run {
    /// When the turn after the last of them would be.
    fn end(&self) -> Moment {
        self.first.saturating_add(self.spacing * self.count)
    }

    /// Gives up the turns before that moment.
    fn skip_to(&mut self, moment: Moment) {
        let late = moment.saturating_sub(self.first).as_nanos();
        let missed = late.div_ceil(self.spacing.as_nanos().max(1));
        let missed = u32::try_from(missed).unwrap_or(u32::MAX).min(self.count);
        self.first += self.spacing * missed;
        self.count -= missed;
    }
}

/// Spaces requests evenly under a rate.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Requests a second, by the endpoint's own limit.
    pub(super) own: Option<f64>,
    /// The receiver asked for this.
    pub(super) wished: Option<f64>,
    /// The turns that are this worker's.
    runs: VecDeque<Run>,
    /// Some were asked for, and are not there yet.
    asked: bool,
}

impl Pace {
    /// Requests a second, if there is a limit.
    pub(super) fn rate(&self) -> Option<f64> {
        let rate = self.own.into_iter().chain(self.wished).reduce(f64::min)?;
        Some(rate.clamp(RATES.0, RATES.1))
    }

    /// The time between two requests, if there is a limit.
    pub(super) fn spacing(&self) -> Option<Duration> {
        Some(Duration::from_secs_f64(1.0 / self.rate()?))
    }

    /// Whether a request may begin.
    pub(super) fn may(&mut self, now: Moment) -> bool {
        self.spacing().is_none() || self.next(now).is_some_and(|next| next <= now)
    }

    /// The next turn that is reserved. Gives up those that were missed.
    pub(super) fn next(&mut self, now: Moment) -> Option<Moment> {
        loop {
            let run = self.runs.front_mut()?;
            run.skip_to(now.saturating_sub(CATCH_UP));
            if run.count > 0 {
                return Some(run.first);
            }
            self.runs.pop_front();
        }
    }

    /// Takes a turn, which must have come.
    pub(super) fn take(&mut self) {
        if self.spacing().is_none() {
            return;
        }
        if let Some(run) = self.runs.front_mut() {
            run.first += run.spacing;
            run.count -= 1;
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// How many turns it is worth reserving now, for so many that wait and so many that came in
    /// within a second.
    pub(super) fn wanted(&self, waiting: usize, recent: u32) -> u32 {
        let Some(spacing) = self.spacing().filter(|_| !self.asked) else {
            return 0;
        };
        let ahead = AHEAD.as_nanos().div_ceil(spacing.as_nanos().max(1));
        // A tenth of a second's worth of what came in: where a limit is not reached, turns that
        // nobody uses harm nobody, and asking for each one by itself would cost a commit each.
        let wanted = waiting.max(recent as usize / 10);
        let wanted = u32::try_from(ahead.min(wanted as u128))
            .unwrap_or(u32::MAX)
            .min(MAX_TURNS);
        let left: u32 = self.runs.iter().map(|run| run.count).sum();
        // In time, but not for each one by itself.
        if left * 2 > wanted { 0 } else { wanted - left }
    }

    /// Turns are being asked for.
    pub(super) const fn ask(&mut self) {
        self.asked = true;
    }

    /// The store answered; `None`: with an error.
    pub(super) fn answered(&mut self, run: Option<Run>) {
        self.asked = false;
        self.runs.extend(run.filter(|run| run.count > 0));
    }

    /// How long the last of so many requests waits for its turn, if no other worker calls the
    /// endpoint.
    pub(super) fn wait(&mut self, ahead: u32, now: Moment) -> Duration {
        let Some(spacing) = self.spacing() else {
            return Duration::ZERO;
        };
        let mut ahead = ahead.saturating_sub(1);
        let mut from = self.next(now).unwrap_or(now);
        for run in &self.runs {
            if ahead < run.count {
                return (run.first + run.spacing * ahead).saturating_sub(now);
            }
            ahead -= run.count;
            from = run.end();
        }
        from.saturating_sub(now) + spacing.saturating_mul(ahead)
    }

    /// Whether forgetting it would change nothing.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        !self.asked && self.runs.iter().all(|run| run.end() <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn limited(rate: f64) -> Pace {
        Pace {
            own: Some(rate),
            ..Pace::default()
        }
    }

    #[test]
    fn turns_are_reserved_for_what_waits_and_for_half_a_second_at_most() {
        let mut pace = limited(50.0);
        assert_eq!(pace.wanted(0, 0), 0);
        assert_eq!(pace.wanted(3, 0), 3);
        assert_eq!(pace.wanted(1_000, 0), 25);
        // For what came in of late: a tenth of a second's worth.
        assert_eq!(pace.wanted(1, 100), 10);
        pace.ask();
        assert_eq!(pace.wanted(3, 0), 0, "one question at a time");
        pace.answered(Some(Run {
            first: ms(10),
            spacing: ms(20),
            count: 4,
        }));
        assert_eq!((pace.wanted(7, 0), pace.wanted(8, 0)), (0, 4));
        // One a minute: a turn is a turn, however far ahead.
        assert_eq!(limited(1.0 / 60.0).wanted(5, 0), 1);
        assert_eq!(Pace::default().wanted(5, 0), 0, "no limit, no turns");
    }

    #[test]
    fn a_missed_turn_is_gone() {
        let mut pace = limited(50.0);
        pace.answered(Some(Run {
            first: ms(100),
            spacing: ms(20),
            count: 10,
        }));
        assert!(!pace.may(ms(99)) && pace.may(ms(100)));
        pace.take();
        // 120 and 140 are gone, 160 is not too old yet.
        assert_eq!(pace.next(ms(175)), Some(ms(160)));
        pace.take();
        assert_eq!(pace.next(ms(175)), Some(ms(180)));
        // Six in line: at 180, 200, …, 280.
        assert_eq!(pace.wait(6, ms(175)), ms(105));
        // Eight: two more than are reserved.
        assert_eq!(pace.wait(8, ms(175)), ms(145));
        assert_eq!(pace.next(ms(400)), None);
        assert!(pace.is_idle(ms(400)));
    }
}
