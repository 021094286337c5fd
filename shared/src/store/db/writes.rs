//! Whether the database takes writes: it may answer every question and have a full disk, be
//! read-only, or be locked by another program.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreError;

/// What the last write showed.
#[derive(Debug, Clone, Default)]
pub(super) struct Writes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// When a write was last refused, for whatever a read does not show.
    refused_at: Option<Instant>,
    /// Whether none went through since.
    refused: bool,
    /// When the disk was last found full.
    full_at: Option<Instant>,
}

/// How long a disk that was found full is said to be: a small write may still find room where the
/// next larger one does not.
const FULL_FOR: Duration = Duration::from_secs(10);

impl Writes {
    /// Takes note of a step of a write that does not yet say that the write is through.
    pub(super) fn step<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Unavailable(error)) = &result
            && is_refusal(error)
        {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Some(Instant::now());
            (state.refused_at, state.refused) = (now, true);
            if is_full(error) {
                state.full_at = now;
            }
        }
        result
    }

    /// Takes note of a write's end.
    pub(super) fn end<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_ok() {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.refused = false;
        }
        self.step(result)
    }

    /// Whether the last write was refused.
    pub(super) fn are_refused(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .refused
    }

    /// Whether the disk was found full a moment ago.
    pub(super) fn found_full(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.full_at.is_some_and(|at| at.elapsed() < FULL_FOR)
    }

    /// Whether a connection of this age is older than the last refusal: what the server's settings
    /// were when it was opened goes on counting for it, such as that everything is read-only.
    pub(super) fn has_outlived(&self, age: Duration) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.refused_at.is_some_and(|at| at.elapsed() < age)
    }
}

/// Whether this says that the disk is full.
fn is_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| match code.len() {
        5 => code == "53100",
        _ => code.parse::<u32>().is_ok_and(|code| code & 0xff == 13),
    })
}

/// Whether this says that nothing can be written, while reading may go well.
fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| match code.len() {
        // Postgres: disk full, read-only.
        5 => matches!(code.as_ref(), "53100" | "25006"),
        // SQLite's primary codes: BUSY, READONLY, IOERR, FULL.
        _ => code
            .parse::<u32>()
            .is_ok_and(|code| matches!(code & 0xff, 5 | 8 | 10 | 13)),
    })
}
