//! Notifications, as they were accepted.

use std::collections::HashMap;

use super::{Store, StoreError};
use crate::domain::delivery::Delivery;
use crate::domain::id::{DeliveryId, NotificationId, TenantId};
use crate::domain::notification::Notification;

/// What the store knows of a batch of notifications.
#[derive(Debug, Clone, Default)]
pub struct LookUp {
    /// The change number of the endpoints.
    pub endpoints_version: i64,
    /// Those that were taken up already.
    pub known: HashMap<(TenantId, NotificationId), KnownNotification>,
}

/// A notification that was taken up already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNotification {
    /// How many deliveries it has in all.
    pub fan_out: u32,
    /// Those whose rows are there.
    pub deliveries: Vec<DeliveryId>,
}

impl Store {
    /// Which of these notifications were taken up already, and the endpoints' change number: one round
    /// trip, on the hot path of every batch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look_up(&self, ids: &[(TenantId, NotificationId)]) -> Result<LookUp, StoreError> {
        let _ = ids;
        todo!()
    }

    /// One notification with its deliveries. Without a tenant: the oldest of that name of any tenant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn notification(
        &self,
        tenant: Option<&TenantId>,
        id: &NotificationId,
    ) -> Result<Option<(Notification, Vec<Delivery>)>, StoreError> {
        let _ = (tenant, id);
        todo!()
    }
}
