//! Turns at the processor: scripts that go on computing take them, so that a few of them do not keep the
//! processor from the deliveries. A lower priority is not enough for that: a thread that wakes up waits for the
//! running one's slice of time all the same, and a delivery wakes up many times.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a script may compute at a stretch without a turn: most never need one.
const HEAD_START: Duration = Duration::from_millis(10);
/// How long a turn lasts while others wait for theirs.
const TURN: Duration = Duration::from_millis(10);
/// How long a turn is waited for: one who has it may be within a long operation of the engine itself, and not
/// notice that others wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often those that wait look whether their call is over.
const LOOK: Duration = Duration::from_millis(50);

/// The turns of a worker's scripts.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: VecDeque<u64>,
    last: u64,
}

/// What came of waiting for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// It is there.
    Turn,
    /// It took too long: the script goes on without.
    LongEnough,
    /// The call is over.
    Over,
}

/// One script's way with its turns. A turn that it has is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Pace {
    turns: Arc<Turns>,
    /// When this stretch or this turn began.
    since: Instant,
    has_turn: bool,
}

impl Turns {
    /// So many at once, at least one.
    pub(super) fn new(at_once: usize) -> Self {
        let state = State { free: at_once.max(1), waiting: VecDeque::new(), last: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, first come, first served.
    fn take(&self, is_over: &dyn Fn() -> bool) -> Waited {
        let begun = Instant::now();
        let mut state = self.state();
        state.last += 1;
        let mine = state.last;
        state.waiting.push_back(mine);
        loop {
            let over = is_over();
            if over || begun.elapsed() >= PATIENCE {
                state.waiting.retain(|waiting| *waiting != mine);
                // Whoever is first now may have been woken for nothing.
                self.changed.notify_all();
                return if over { Waited::Over } else { Waited::LongEnough };
            }
            if state.free > 0 && state.waiting.front() == Some(&mine) {
                state.free -= 1;
                state.waiting.pop_front();
                if state.free > 0 {
                    self.changed.notify_all();
                }
                return Waited::Turn;
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn give_back(&self) {
        self.state().free += 1;
        self.changed.notify_all();
    }

    fn is_wanted(&self) -> bool {
        !self.state().waiting.is_empty()
    }
}

impl Pace {
    /// Of a script that begins now.
    pub(super) fn new(turns: Arc<Turns>) -> Self {
        Self { turns, since: Instant::now(), has_turn: false }
    }

    /// To be called often while the script computes: waits for a turn where it needs one, and lets others have
    /// theirs. `false` when the call is over.
    pub(super) fn go_on(&mut self, is_over: &dyn Fn() -> bool) -> bool {
        if is_over() {
            return false;
        }
        let (spent, allowed) = (self.since.elapsed(), if self.has_turn { TURN } else { HEAD_START });
        if spent < allowed || (self.has_turn && !self.turns.is_wanted()) {
            return true;
        }
        self.rest();
        let waited = self.turns.take(is_over);
        self.has_turn = waited == Waited::Turn;
        self.since = Instant::now();
        waited != Waited::Over
    }

    /// The script waits for something: its turn is over, and a new stretch begins after.
    pub(super) fn rest(&mut self) {
        if std::mem::take(&mut self.has_turn) {
            self.turns.give_back();
        }
        self.since = Instant::now();
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// Computes until `end`; the most that did so at once, and how often each went on.
    fn compute(turns: &Arc<Turns>, scripts: usize, end: Instant) -> (usize, Vec<usize>) {
        let (computing, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let script = || {
            let mut pace = Pace::new(Arc::clone(turns));
            pace.since = Instant::now().checked_sub(HEAD_START).unwrap();
            let mut rounds = 0;
            while pace.go_on(&|| Instant::now() >= end) {
                most.fetch_max(computing.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                rounds += 1;
                thread::sleep(Duration::from_millis(2));
                computing.fetch_sub(1, Ordering::SeqCst);
            }
            rounds
        };
        let rounds = thread::scope(|scope| {
            let threads: Vec<_> = (0..scripts).map(|_| scope.spawn(script)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        (most.into_inner(), rounds)
    }

    #[test]
    fn so_many_compute_at_once_and_each_gets_its_turn() {
        for at_once in [1, 2] {
            let turns = Arc::new(Turns::new(at_once));
            let (most, rounds) = compute(&turns, 6, Instant::now() + Duration::from_secs(1));
            assert_eq!(most, at_once);
            assert!(rounds.iter().all(|rounds| *rounds > 0), "{rounds:?}");
            let state = turns.state();
            assert_eq!((state.free, state.waiting.len()), (at_once, 0), "all are given back");
        }
    }

    #[test]
    fn what_ends_soon_needs_no_turn() {
        let turns = Arc::new(Turns::new(1));
        let mut hog = Pace::new(Arc::clone(&turns));
        hog.since = Instant::now().checked_sub(HEAD_START).unwrap();
        assert!(hog.go_on(&|| false) && hog.has_turn);
        let mut short = Pace::new(Arc::clone(&turns));
        assert!(short.go_on(&|| false) && !short.has_turn);
        // One that needs one gives up with its call.
        short.since = Instant::now().checked_sub(HEAD_START).unwrap();
        let asked = AtomicUsize::new(0);
        assert!(!short.go_on(&|| asked.fetch_add(1, Ordering::SeqCst) > 1));
        // One whose turn does not come goes on all the same.
        short.since = Instant::now().checked_sub(HEAD_START).unwrap();
        let begun = Instant::now();
        assert!(short.go_on(&|| false) && !short.has_turn && begun.elapsed() >= PATIENCE);
        // And a script that waits for an answer holds up nobody.
        hog.rest();
        short.since = Instant::now().checked_sub(HEAD_START).unwrap();
        assert!(short.go_on(&|| false) && short.has_turn);
    }
}
