//! Replays: finished deliveries that match a filter are sent again, a step at a time.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::deliveries::DeliveryFilter;
use super::{Store, StoreError};
use crate::domain::time::Timestamp;

/// A replay and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replay {
    /// Name.
    pub id: Uuid,
    /// Which deliveries.
    pub filter: DeliveryFilter,
    /// Whether it goes on.
    pub state: ReplayState,
    /// Deliveries looked at.
    pub matched: u64,
    /// Deliveries that were put into a new round.
    pub replayed: u64,
    /// Deliveries left alone: their time ran out, their endpoint is gone, or they are pending anyway.
    pub skipped: u64,
    /// When it was asked for; it takes only deliveries from before.
    pub created_at: Timestamp,
    /// When it was through.
    pub finished_at: Option<Timestamp>,
}

/// Whether a replay goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// There is more to look at.
    Running,
    /// It is through.
    Done,
}

impl Store {
    /// Asks for a replay of the finished deliveries that match and were created before `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_replay(&self, filter: &DeliveryFilter, now: Timestamp) -> Result<Replay, StoreError> {
        let _ = (filter, now);
        todo!()
    }

    /// One replay.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replay(&self, id: Uuid) -> Result<Option<Replay>, StoreError> {
        let _ = id;
        todo!()
    }

    /// Takes one running replay a step of up to `limit` deliveries further. Several workers may call it
    /// at once. `None`: no replay is running.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn step_replay(&self, now: Timestamp, limit: u32) -> Result<Option<Replay>, StoreError> {
        let _ = (now, limit);
        todo!()
    }
}
