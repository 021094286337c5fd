//! Turns at the processor: scripts that go on computing take them, so that a few of them do not
//! keep the processor from the deliveries. A lower priority is not enough for that: a thread that
//! wakes up waits for the running one's slice of time all the same, and a delivery wakes up many
//! times.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use posthaste_shared::domain::id::TenantId;

/// How long a script may compute at a stretch without a turn: most never need one.
const HEAD_START: Duration = Duration::from_millis(10);
/// How long a turn lasts while others wait for theirs.
const TURN: Duration = Duration::from_millis(10);
/// How long a turn is waited for: one who has it may be within a long operation of the engine
/// itself, and not notice that others wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so long without a look at the clock, a script that has a turn loses it to those that wait:
/// it is within a long operation of the engine itself, perhaps one that never ends.
const LOST: Duration = Duration::from_millis(200);
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
    at_once: usize,
    /// The turns that are taken: since when, by the number of its holder.
    taken: HashMap<u64, Instant>,
    /// In the order in which they came.
    waiting: Vec<(u64, TenantId)>,
    /// The number with which each tenant had its last turn, so that tenants take them in turn.
    served: HashMap<TenantId, u64>,
    last: u64,
}

impl State {
    /// Who is next: of the tenant whose last turn is the longest ago, the one who came first.
    fn next(&self) -> Option<u64> {
        let last_turn = |tenant: &TenantId| self.served.get(tenant).copied().unwrap_or(0);
        self.waiting
            .iter()
            .min_by_key(|(number, tenant)| (last_turn(tenant), *number))
            .map(|(number, _)| *number)
    }

    fn is_free(&mut self) -> bool {
        // Looked for only when all turns are taken: while some are free, nobody needs one that is
        // lost.
        if self.taken.len() >= self.at_once {
            self.taken.retain(|_, since| since.elapsed() < LOST);
        }
        self.taken.len() < self.at_once
    }

    fn leave(&mut self, number: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != number);
        // Those who come again find that they had their turn long ago, or never: both is well.
        if self.waiting.is_empty() {
            self.served.clear();
        }
    }
}

/// The result of waiting for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// The turn has come; its number.
    Turn(u64),
    /// It took too long: the script goes on without.
    LongEnough,
    /// The call is over.
    Over,
}

/// One script's way with its turns. A turn that it has is released when this is dropped.
#[derive(Debug)]
pub(super) struct Pace {
    turns: Arc<Turns>,
    tenant: TenantId,
    /// When this stretch or this turn began.
    since: Instant,
    turn: Option<u64>,
}

impl Turns {
    /// At most `at_once` turns at a time, at least one.
    pub(super) fn new(at_once: usize) -> Self {
        let state = State {
            at_once: at_once.max(1),
            taken: HashMap::new(),
            waiting: Vec::new(),
            served: HashMap::new(),
            last: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn; tenants have theirs in turn.
    fn take(&self, tenant: &TenantId, is_over: &dyn Fn() -> bool) -> Waited {
        let begun = Instant::now();
        let mut state = self.state();
        state.last += 1;
        let mine = state.last;
        state.waiting.push((mine, tenant.clone()));
        loop {
            let over = is_over();
            if over || begun.elapsed() >= PATIENCE {
                state.leave(mine);
                // Whoever is next now may have been woken for nothing.
                self.changed.notify_all();
                return if over {
                    Waited::Over
                } else {
                    Waited::LongEnough
                };
            }
            // Both are asked after each wake-up: everybody is woken, and only the next in order may
            // go.
            if state.next() == Some(mine) && state.is_free() {
                state.taken.insert(mine, Instant::now());
                state.last += 1;
                let now = state.last;
                state.served.insert(tenant.clone(), now);
                state.leave(mine);
                self.changed.notify_all();
                return Waited::Turn(mine);
            }
            state = self
                .changed
                // With a limit, because nothing wakes this when the deadline of the call comes.
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn release(&self, number: u64) {
        // Where the turn was lost meanwhile, there is nothing to release.
        self.state().taken.remove(&number);
        self.changed.notify_all();
    }

    /// Says that the one who has the turn still looks at the clock.
    fn keep(&self, number: u64) {
        if let Some(since) = self.state().taken.get_mut(&number) {
            *since = Instant::now();
        }
    }

    fn is_wanted(&self) -> bool {
        !self.state().waiting.is_empty()
    }
}

impl Pace {
    /// Of a script that begins now.
    pub(super) fn new(turns: Arc<Turns>, tenant: TenantId) -> Self {
        Self {
            turns,
            tenant,
            since: Instant::now(),
            turn: None,
        }
    }

    /// To be called often while the script computes: waits for a turn where it needs one, and lets
    /// others have theirs. `false` when the call is over.
    pub(super) fn go_on(&mut self, is_over: &dyn Fn() -> bool) -> bool {
        if is_over() {
            return false;
        }
        let spent = self.since.elapsed();
        let allowed = if self.turn.is_some() {
            TURN
        } else {
            HEAD_START
        };
        if spent < allowed {
            return true;
        }
        if let Some(turn) = self.turn
            && !self.turns.is_wanted()
        {
            self.turns.keep(turn);
            return true;
        }
        // Released before the next is asked for: with one turn for all, the script would wait for
        // itself.
        self.rest();
        let waited = self.turns.take(&self.tenant, is_over);
        if let Waited::Turn(number) = waited {
            self.turn = Some(number);
        }
        self.since = Instant::now();
        waited != Waited::Over
    }

    /// The script waits for something: its turn is over, and a new stretch begins after.
    pub(super) fn rest(&mut self) {
        if let Some(number) = self.turn.take() {
            self.turns.release(number);
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

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn tenants_take_turns() {
        let turns = Turns::new(1);
        let mut state = turns.state();
        for (number, name) in [(1, "a"), (2, "a"), (3, "b")] {
            state.waiting.push((number, tenant(name)));
        }
        assert_eq!(state.next(), Some(1));
        state.served.insert(tenant("a"), 4);
        state.leave(1);
        assert_eq!(state.next(), Some(3), "b had none yet");
        state.leave(3);
        assert_eq!(state.next(), Some(2));
    }

    /// Computes until `end`; the most that did so at once, and how often each went on.
    fn compute(turns: &Arc<Turns>, scripts: usize, end: Instant) -> (usize, Vec<usize>) {
        let computing = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let script = || {
            let mut pace = Pace::new(Arc::clone(turns), tenant("a"));
            pace.since = Instant::now().checked_sub(HEAD_START).unwrap();
            let mut rounds = 0;
            while pace.go_on(&|| Instant::now() >= end) {
                most.fetch_max(
                    computing.fetch_add(1, Ordering::SeqCst) + 1,
                    Ordering::SeqCst,
                );
                rounds += 1;
                thread::sleep(Duration::from_millis(2));
                computing.fetch_sub(1, Ordering::SeqCst);
            }
            rounds
        };
        let rounds = thread::scope(|scope| {
            let threads: Vec<_> = (0..scripts).map(|_| scope.spawn(script)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        (most.into_inner(), rounds)
    }

    #[test]
    fn a_bounded_number_compute_at_once_and_each_gets_its_turn() {
        for at_once in [1, 2] {
            let turns = Arc::new(Turns::new(at_once));
            let (most, rounds) = compute(&turns, 6, Instant::now() + Duration::from_secs(1));
            assert_eq!(most, at_once);
            assert!(rounds.iter().all(|rounds| *rounds > 0), "{rounds:?}");
            let state = turns.state();
            assert_eq!(
                (state.taken.len(), state.waiting.len()),
                (0, 0),
                "all are released"
            );
        }
    }

    #[test]
    fn what_ends_soon_needs_no_turn() {
        let turns = Arc::new(Turns::new(1));
        let mut hog = Pace::new(Arc::clone(&turns), tenant("a"));
        hog.since = Instant::now().checked_sub(HEAD_START).unwrap();
        assert!(hog.go_on(&|| false) && hog.turn.is_some());
        let mut short = Pace::new(Arc::clone(&turns), tenant("a"));
        assert!(short.go_on(&|| false) && short.turn.is_none());
        // One that needs one gives up with its call.
        short.since = Instant::now().checked_sub(HEAD_START).unwrap();
        let asked = AtomicUsize::new(0);
        assert!(!short.go_on(&|| asked.fetch_add(1, Ordering::SeqCst) > 1));
        // One who has a turn and does not look at the clock any more loses it.
        short.since = Instant::now().checked_sub(HEAD_START).unwrap();
        let begun = Instant::now();
        assert!(short.go_on(&|| false) && short.turn.is_some() && begun.elapsed() >= LOST / 2);
        short.rest();
        // And a script that waits for an answer holds up nobody.
        hog.rest();
        short.since = Instant::now().checked_sub(HEAD_START).unwrap();
        assert!(short.go_on(&|| false) && short.turn.is_some());
    }
}
