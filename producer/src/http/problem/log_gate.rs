//! Keeps a failure that every request meets from filling the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines about the same trouble.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line through in each [`INTERVAL`].
pub(in crate::http) struct LogGate(Mutex<State>);

struct State {
    passed_at: Option<Instant>,
    held_back: u64,
}

impl LogGate {
    /// A gate that lets the first line through.
    pub(in crate::http) const fn new() -> Self {
        Self(Mutex::new(State {
            passed_at: None,
            held_back: 0,
        }))
    }

    /// Whether to log now: how many lines were held back since the last one; none means not now.
    pub(in crate::http) fn pass(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state
            .passed_at
            .is_some_and(|at| now.duration_since(at) < INTERVAL)
        {
            state.held_back += 1;
            return None;
        }
        state.passed_at = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_passes_in_each_interval_and_counts_the_others() {
        let gate = LogGate::new();
        assert_eq!(gate.pass(), Some(0));
        assert_eq!(gate.pass(), None);
        assert_eq!(gate.pass(), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(gate.pass(), Some(2));
        assert_eq!(gate.pass(), None);
    }
}
