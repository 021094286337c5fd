//! Deliveries: looking at them, cancelling them, trying them now.

use serde::{Deserialize, Serialize};

use super::page::{Page, PageRequest};
use super::{Store, StoreError};
use crate::domain::attempt::Attempt;
use crate::domain::delivery::{Delivery, Status};
use crate::domain::id::{DeliveryId, EndpointId, NotificationId, NotificationType, TenantId};
use crate::domain::time::Timestamp;

/// Which deliveries are wanted. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryFilter {
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Where they stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<EndpointId>,
    /// Of what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_id: Option<NotificationId>,
    /// The notification's type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<NotificationType>,
    /// Created at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Created before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled.
    Done,
    /// It had come to its end before.
    NotPending(Status),
    /// A worker has it in hand: ask again when that attempt is over.
    InFlight,
    /// There is none of that name.
    NotFound,
}

/// What became of a wish to try a delivery now.
#[derive(Debug, Clone, PartialEq)]
pub enum RetriedNow {
    /// It is due now; for a finished delivery in a new round.
    Done(Delivery),
    /// A worker has it in hand right now.
    InFlight,
    /// Its time ran out: it is never sent again.
    Expired,
    /// Its endpoint was deleted.
    EndpointGone,
    /// There is none of that name.
    NotFound,
}

/// Pending deliveries by what they wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// In flight, or due.
    pub ready: u64,
    /// Retries and scheduled ones that are not due yet.
    pub scheduled: u64,
    /// Held back from their endpoint.
    pub parked: u64,
    /// The earliest due time of what is due and not in flight.
    pub oldest_due: Option<Timestamp>,
}

impl Store {
    /// One delivery with its attempts, the first first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<(Delivery, Vec<Attempt>)>, StoreError> {
        let _ = id;
        todo!()
    }

    /// Deliveries that match, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn deliveries(&self, filter: &DeliveryFilter, page: &PageRequest) -> Result<Page<Delivery>, StoreError> {
        let _ = (filter, page);
        todo!()
    }

    /// Cancels a pending delivery that is not under a running lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel(&self, id: DeliveryId, now: Timestamp) -> Result<Cancelled, StoreError> {
        let _ = (id, now);
        todo!()
    }

    /// Makes a delivery due now: a pending one as it is, a finished one in a new round.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retry_now(&self, id: DeliveryId, now: Timestamp) -> Result<RetriedNow, StoreError> {
        let _ = (id, now);
        todo!()
    }

    /// Counts pending deliveries, for gauges.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn backlog(&self, now: Timestamp) -> Result<Backlog, StoreError> {
        let _ = now;
        todo!()
    }
}
