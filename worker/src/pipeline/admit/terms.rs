//! What all of admission shares: time, where work comes from, and how long it waits.

use std::time::Duration;

use posthaste_shared::domain::notification::Priority;

/// Time since the worker started: the policy knows no clock.
pub type Moment = Duration;

/// How long work waits in line for its endpoint before it is parked: long enough for an endpoint
/// that is merely busy, short enough for the window.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// The same while the window is short of room and the endpoint is not one of those that move it.
pub const PRESSED_PATIENCE: Duration = Duration::from_millis(250);
/// How long work waits where all slots are taken: as long as a request takes at the most by
/// default. What comes from the store has its lease meanwhile, whose margin is twice this.
pub const SLOT_PATIENCE: Duration = Duration::from_secs(5);

/// Where a delivery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// From a message of the broker.
    Broker,
    /// From a message of the broker, with priority `high`.
    BrokerFirst,
    /// From the store, where it waited.
    Store,
}

impl From {
    /// From a message of the broker with this priority.
    #[must_use]
    pub const fn broker(priority: Priority) -> Self {
        match priority {
            Priority::Normal => Self::Broker,
            Priority::High => Self::BrokerFirst,
        }
    }
}
