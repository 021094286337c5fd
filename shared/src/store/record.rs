//! The results of attempts: one transaction a batch.

use std::sync::Arc;

use super::{Store, StoreError};
use crate::domain::attempt::Attempt;
use crate::domain::delivery::Delivery;
use crate::domain::endpoint::Endpoint;
use crate::domain::event::Event;
use crate::domain::notification::Notification;
use crate::domain::time::Timestamp;

/// One change of one delivery.
#[derive(Debug, Clone)]
pub struct Record {
    /// The delivery as it is after the change.
    pub delivery: Delivery,
    /// What must hold before.
    pub before: Before,
    /// The attempt that led to the change, if one was made.
    pub attempt: Option<Attempt>,
    /// The final event, if the new state makes one.
    pub event: Option<Event>,
    /// Disables the endpoint too, if it is enabled (410 Gone).
    pub disable: Option<DisableEndpoint>,
}

/// What must hold before a change.
#[derive(Debug, Clone)]
pub enum Before {
    /// The delivery is first seen now: its row is made, and the notification's, unless that is there.
    New {
        /// Of what.
        notification: Arc<Notification>,
        /// How many deliveries the notification has in all.
        fan_out: u32,
    },
    /// The delivery is pending, with these counts.
    Known {
        /// Its round.
        round: u32,
        /// The attempts made so far.
        attempt_count: u32,
    },
}

/// An endpoint that is to be disabled.
#[derive(Debug, Clone)]
pub struct DisableEndpoint {
    /// As it will be: with its status disabled.
    pub endpoint: Endpoint,
    /// The event that tells of it; kept only if the endpoint was enabled until now.
    pub event: Event,
}

/// What became of a [`Record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is durable.
    Kept,
    /// Somebody else was first: nothing of it was written.
    Stale,
}

impl Store {
    /// Writes all changes in one transaction; answers in order. A stale record writes nothing: no
    /// attempt, no event. Of two changes of one delivery in a batch the second is stale.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of the batch was written.
    pub async fn record(&self, batch: &[Record], now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        let _ = (batch, now);
        todo!()
    }

    /// Keeps notifications that no endpoint wants, so that they can be seen. Idempotent.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_unmatched(
        &self,
        notifications: &[Arc<Notification>],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let _ = (notifications, now);
        todo!()
    }
}
