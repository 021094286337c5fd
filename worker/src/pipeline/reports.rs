//! Reports of endpoints' health, on their way to the store.

use posthaste_shared::domain::health::HealthChange;
use tokio::sync::mpsc;

/// The most reports that may wait: what some thousand endpoints say that fail in the same moment.
const QUEUE: usize = 10_000;

/// Takes reports. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reports(mpsc::Sender<HealthChange>);

impl Reports {
    /// Both ends: for deliveries, and for what writes to the store.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<HealthChange>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Hands over a report. Never waits: a delivery must not stand still for it.
    pub fn put(&self, change: HealthChange) {
        if let Err(error) = self.0.try_send(change) {
            // The store has been away for long. This worker keeps to what it knows all the same;
            // the others will find out for themselves.
            tracing::debug!(%error, "a report of an endpoint's health is dropped");
        }
    }
}
