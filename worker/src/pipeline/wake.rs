//! Wakes those who look after time: so that what was recorded here is seen at once, and the store
//! is asked only now and then for what others recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use posthaste_shared::domain::time::Timestamp;
use tokio::sync::Notify;

/// Signals between the parts of one worker: something is due, or there are new events. Clones share
/// the same signals.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    earliest: AtomicI64,
    due: Notify,
    events: Notify,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            earliest: AtomicI64::new(i64::MAX),
            due: Notify::new(),
            events: Notify::new(),
        }
    }
}

impl Wake {
    /// Something is due at that time.
    pub fn due(&self, at: Timestamp) {
        // A later time than the earliest wakes nobody: the scheduler looks at the earliest anyway,
        // and asks for the next one then.
        if self.0.earliest.fetch_min(at.as_micros(), Ordering::AcqRel) > at.as_micros() {
            self.0.due.notify_one();
        }
    }

    /// The earliest time named since the last call.
    #[must_use]
    pub fn take_earliest(&self) -> Option<Timestamp> {
        let earliest = self.0.earliest.swap(i64::MAX, Ordering::AcqRel);
        (earliest != i64::MAX).then(|| Timestamp::from_micros(earliest))
    }

    /// Returns when something earlier than before was named.
    pub async fn until_due_changes(&self) {
        self.0.due.notified().await;
    }

    /// There are new events in the outbox.
    pub fn events(&self) {
        self.0.events.notify_one();
    }

    /// Returns when there are.
    pub async fn until_events(&self) {
        self.0.events.notified().await;
    }
}
