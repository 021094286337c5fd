//! Events: written with what they tell of, published later (the outbox is the events not yet published).

use super::page::{Page, PageRequest};
use super::{Store, StoreError};
use crate::domain::event::{Event, EventType};
use crate::domain::id::{EventId, TenantId};
use crate::domain::time::Timestamp;

/// Which events are wanted. The default is all.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Whose.
    pub tenant: Option<TenantId>,
    /// What they tell of.
    pub kind: Option<EventType>,
    /// At or after this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl Store {
    /// Takes up to `limit` unpublished events, the oldest first; until `lease_until` nobody else gets them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_unpublished(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let _ = (now, lease_until, limit);
        todo!()
    }

    /// These events are published.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_published(&self, ids: &[EventId], now: Timestamp) -> Result<(), StoreError> {
        let _ = (ids, now);
        todo!()
    }

    /// Events that match, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(&self, filter: &EventFilter, page: &PageRequest) -> Result<Page<Event>, StoreError> {
        let _ = (filter, page);
        todo!()
    }

    /// Up to `limit` events that were written after the event of that sequence number, in the order of
    /// writing, each with its number. `None`: from the first that is kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_after(
        &self,
        sequence: Option<i64>,
        filter: &EventFilter,
        limit: u32,
    ) -> Result<Vec<(i64, Event)>, StoreError> {
        let _ = (sequence, filter, limit);
        todo!()
    }

    /// The sequence number of the event written last; 0 when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_event_sequence(&self) -> Result<i64, StoreError> {
        todo!()
    }

    /// How many events are not published yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn outbox_pending(&self) -> Result<u64, StoreError> {
        todo!()
    }
}
