//! Bounds what large notifications may have in memory.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// The most deliveries of large notifications that are begun and not recorded yet, for the whole
/// worker, beside those that hold a slot: what may pile up in memory while the store is away.
const UNRECORDED: usize = 4096;

/// Room in memory for deliveries of large notifications. First come, first served, one delivery at
/// a time, so several notifications take turns.
#[derive(Debug, Clone)]
pub struct Room(pub(super) Arc<Semaphore>);

impl Room {
    /// For a worker with `slots`.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            slots.saturating_add(UNRECORDED).min(Semaphore::MAX_PERMITS),
        )))
    }
}
