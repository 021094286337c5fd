//! What is due: deliveries that wait in the store, taken with a lease so that two workers never hold the same.

use std::sync::Arc;

use super::{Store, StoreError};
use crate::domain::delivery::Delivery;
use crate::domain::id::{DeliveryId, EndpointId};
use crate::domain::notification::Notification;
use crate::domain::time::Timestamp;

/// A delivery that this process holds until its lease ends.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// As it was before it was claimed.
    pub delivery: Delivery,
    /// What it delivers.
    pub notification: Arc<Notification>,
}

impl Store {
    /// Takes up to `limit` pending deliveries that are due at `now` (retries, scheduled ones, ended
    /// leases), the one that is due longest first. Never one that has expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let _ = (now, lease_until, limit);
        todo!()
    }

    /// Takes up to `limit` parked deliveries of one endpoint, the oldest first. Never one that has expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_parked(
        &self,
        endpoint: &EndpointId,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let _ = (endpoint, now, lease_until, limit);
        todo!()
    }

    /// The endpoints that have parked deliveries. One index probe for each, however many are parked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoints_with_parked(&self) -> Result<Vec<EndpointId>, StoreError> {
        todo!()
    }

    /// Gives leases back, by delivery and the lease's end: the deliveries are due at once. Returns how
    /// many were still held under that lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release(&self, leases: &[(DeliveryId, Timestamp)], now: Timestamp) -> Result<u64, StoreError> {
        let _ = (leases, now);
        todo!()
    }

    /// The earliest time at which a pending delivery is due or expires; may be in the past.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        todo!()
    }

    /// Expires up to `limit` pending deliveries whose time ran out, except those under a running lease,
    /// each with its final event. Returns them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let _ = (now, limit);
        todo!()
    }

    /// Fails up to `limit` pending deliveries of deleted endpoints, except those under a running lease,
    /// each with its final event. Returns them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fail_orphans(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let _ = (now, limit);
        todo!()
    }
}
