//! The loops that go on for as long as a process runs: doing something every so often until it
//! stops, and trying something until it succeeds.
//!
//! They take closures that return a future and not `AsyncFnMut`: of a future that an async closure
//! lends, the compiler cannot say that it may move between threads, as a spawned task must.

use std::future::{Future, pending};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::Reconnect;

/// Does `work` every `interval`, the first time after one, until `stopping` is cancelled. What is
/// under way then is finished first.
pub async fn every<W: Future<Output = ()>>(
    stopping: &CancellationToken,
    interval: Duration,
    mut work: impl FnMut() -> W,
) {
    while pause(stopping, interval).await {
        work().await;
    }
}

/// Takes `step` after `step`, with the pause between two that the earlier one returns, until
/// `stopping` is cancelled. The step that is under way then is finished first.
pub async fn until_stopped<S: Future<Output = Duration>>(
    stopping: &CancellationToken,
    step: impl FnMut() -> S,
) {
    until_stopped_or_woken(stopping, pending, step).await;
}

/// As [`until_stopped`], except that a pause also ends when `woken` returns.
pub async fn until_stopped_or_woken<W: Future<Output = ()>, S: Future<Output = Duration>>(
    stopping: &CancellationToken,
    mut woken: impl FnMut() -> W,
    mut step: impl FnMut() -> S,
) {
    while !stopping.is_cancelled() {
        let pause = step().await;
        tokio::select! {
            // Whichever ends the pause, the loop goes on in the same way. In order only so that a
            // run of `tests/simulation` can be repeated.
            biased;
            () = tokio::time::sleep(pause) => {}
            () = woken() => {}
            () = stopping.cancelled() => {}
        }
    }
}

/// Waits; whether to go on after it, which is not so when `stopping` was cancelled meanwhile.
pub async fn pause(stopping: &CancellationToken, pause: Duration) -> bool {
    tokio::select! {
        // In order: a loop whose pauses are zero would otherwise go on after the end by chance.
        biased;
        () = stopping.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}

/// Tries until it succeeds, with the pauses of [`Reconnect`]: 100 ms at first, 5 s at last. Each
/// failure is given to `failed`, to be logged and counted.
///
/// Nothing ends this but success. A caller that may have to stop is a task that can be dropped, or
/// one whose end is bounded by whoever waits for it.
pub async fn until_ok<T, E, A: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> A,
    mut failed: impl FnMut(E),
) -> T {
    let mut pauses = Reconnect::default();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => failed(error),
        }
        tokio::time::sleep(pauses.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Notes the seconds since the test began, and stops at the `last` call.
    struct Notes {
        began: Instant,
        at: RefCell<Vec<u64>>,
        last: usize,
        stopping: CancellationToken,
    }

    impl Notes {
        fn until(last: usize) -> Self {
            Self {
                began: Instant::now(),
                at: RefCell::default(),
                last,
                stopping: CancellationToken::new(),
            }
        }

        fn note(&self) -> u32 {
            let mut at = self.at.borrow_mut();
            at.push(self.began.elapsed().as_secs());
            if at.len() == self.last {
                self.stopping.cancel();
            }
            u32::try_from(at.len()).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_waits_first_and_ends_when_stopped() {
        let notes = Notes::until(3);
        every(&notes.stopping, SECOND, || async {
            notes.note();
        })
        .await;
        assert_eq!(*notes.at.borrow(), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_says_how_long_the_pause_is() {
        let notes = Notes::until(4);
        until_stopped(&notes.stopping, || async { SECOND * notes.note() }).await;
        assert_eq!(*notes.at.borrow(), [0, 1, 3, 6]);
        // The last pause of 4 s was not waited for.
        assert_eq!(notes.began.elapsed(), 6 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_woken_or_stopped() {
        let notes = Notes::until(usize::MAX);
        let woken = || tokio::time::sleep(2 * SECOND);
        let run = until_stopped_or_woken(&notes.stopping, woken, || async {
            notes.note();
            60 * SECOND
        });
        let end = async {
            tokio::time::sleep(5 * SECOND).await;
            notes.stopping.cancel();
        };
        tokio::join!(run, end);
        assert_eq!(*notes.at.borrow(), [0, 2, 4]);
        assert_eq!(notes.began.elapsed(), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_done_after_the_end() {
        let notes = Notes::until(usize::MAX);
        notes.stopping.cancel();
        every(&notes.stopping, Duration::ZERO, || async {
            notes.note();
        })
        .await;
        until_stopped(&notes.stopping, || async { SECOND * notes.note() }).await;
        assert_eq!(*notes.at.borrow(), [0; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_until_it_succeeds_and_reports_each_failure() {
        let began = Instant::now();
        let tries = Cell::new(0);
        let mut failures = Vec::new();
        let attempt = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 4 {
                Err(tries.get())
            } else {
                Ok(tries.get())
            }
        };
        let value = until_ok(attempt, |failure| failures.push(failure)).await;
        assert_eq!((value, &*failures), (4, &[1, 2, 3][..]));
        // 100, 200 and 400 ms, each up to half longer or shorter.
        assert!((350..=1_060).contains(&began.elapsed().as_millis()));
    }
}
