//! A delivery in flight in this worker, and what is acknowledged or released once its result is in
//! the store.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_shared::broker::{Message, Tag};
use posthaste_shared::domain::delivery::Delivery;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{DeliveryId, NotificationId, TenantId};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::round::RoundContent;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::record::Before;
use tokio::sync::OwnedSemaphorePermit;

/// One delivery to be attempted now.
#[derive(Debug)]
pub struct Job {
    /// The delivery as it stands before the attempt.
    pub delivery: Delivery,
    /// The notification that is delivered, shared by all its deliveries.
    pub notification: Arc<Notification>,
    /// The endpoint that it is delivered to, as it was when the job was started.
    pub endpoint: Arc<Endpoint>,
    /// What an earlier attempt of the round settled.
    pub kept: Option<RoundContent>,
    /// What the store must hold for the result to count.
    pub before: Before,
    /// What is acknowledged or released once the result is recorded.
    pub ack: AckHandle,
    /// Its place among the deliveries of a large notification that wait for admission.
    pub waiting: Option<OwnedSemaphorePermit>,
}

/// Where a delivery in flight came from, and so what is done once its result is recorded.
#[derive(Debug)]
pub enum AckHandle {
    /// From a message of the broker, which is acknowledged once every delivery of it is recorded.
    Message(Arc<PendingMessage>, InFlightDelivery),
    /// From the store, under a lease.
    Lease(InFlightDelivery),
    /// Nothing is left to be done: its message or lease was let go of before.
    Nobody,
}

/// A message that waits to be acknowledged.
#[derive(Debug)]
pub struct PendingMessage {
    /// The message, should it turn out to be poison.
    pub message: Message,
    /// What to acknowledge it by.
    pub tag: Tag,
    outstanding: AtomicUsize,
    refused: AtomicBool,
    #[expect(dead_code, reason = "held until the message is done with")]
    notification: InFlightNotification,
}

impl PendingMessage {
    /// For a message whose notification has `deliveries` deliveries.
    #[must_use]
    pub fn new(
        message: Message,
        tag: Tag,
        deliveries: usize,
        notification: InFlightNotification,
    ) -> Arc<Self> {
        Arc::new(Self {
            message,
            tag,
            outstanding: AtomicUsize::new(deliveries),
            refused: AtomicBool::new(false),
            notification,
        })
    }

    /// Marks the message as one to be dead-lettered. Whether this is the first of its deliveries to
    /// do so.
    #[must_use]
    pub fn refuse(&self) -> bool {
        !self.refused.swap(true, Ordering::AcqRel)
    }

    /// One of its deliveries is recorded; the tag when it was the last.
    #[must_use]
    pub fn settle_one(&self) -> Option<Tag> {
        // Whoever counts down from one is the last, and there is only one such.
        (self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1).then_some(self.tag)
    }
}

impl AckHandle {
    /// The result is in the store; the tag to acknowledge, if there is one.
    #[must_use]
    pub fn settled(self) -> Option<Tag> {
        match self {
            Self::Message(pending, in_flight) => {
                in_flight.settled();
                pending.settle_one()
            }
            Self::Lease(in_flight) => {
                // Marked before it is dropped, or its lease would be released and the delivery
                // attempted again.
                in_flight.settled();
                None
            }
            Self::Nobody => None,
        }
    }
}

/// The deliveries in flight in this worker: so that a redelivered message does not start one twice,
/// and so that leases that nobody works on any more are released.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    deliveries: HashMap<DeliveryId, Option<Timestamp>>,
    notifications: HashSet<(TenantId, NotificationId)>,
    abandoned: Vec<(DeliveryId, Timestamp)>,
}

/// One delivery in flight, until this is dropped.
#[derive(Debug)]
pub struct InFlightDelivery {
    in_flight: InFlight,
    id: DeliveryId,
    settled: bool,
    /// Its room in memory, where it is one of very many: held until the delivery is recorded.
    room: Option<OwnedSemaphorePermit>,
}

/// A notification whose message is in flight in this worker, until this is dropped: with the last
/// of its deliveries.
#[derive(Debug)]
pub struct InFlightNotification {
    in_flight: InFlight,
    id: (TenantId, NotificationId),
}

impl InFlight {
    /// Marks a delivery as in flight, with the end of its lease if it comes from the store. `None`
    /// when it is in flight in this worker already.
    #[must_use]
    pub fn take(&self, id: DeliveryId, lease_until: Option<Timestamp>) -> Option<InFlightDelivery> {
        let mut held = self.lock();
        // Not simply inserted: that would overwrite the lease of the delivery that is under way,
        // and dropping either would remove the other.
        if held.deliveries.contains_key(&id) {
            return None;
        }
        held.deliveries.insert(id, lease_until);
        Some(InFlightDelivery {
            in_flight: self.clone(),
            id,
            settled: false,
            room: None,
        })
    }

    /// Marks a notification's message as in flight. `None` when one with that id is in flight
    /// already: it was redelivered, or enqueued twice, while the first is still under way.
    #[must_use]
    pub fn take_notification(
        &self,
        id: (TenantId, NotificationId),
    ) -> Option<InFlightNotification> {
        self.lock()
            .notifications
            .insert(id.clone())
            .then(|| InFlightNotification {
                in_flight: self.clone(),
                id,
            })
    }

    /// Whether a message of the notification is in flight in this worker.
    #[must_use]
    pub fn has_notification(&self, id: &(TenantId, NotificationId)) -> bool {
        self.lock().notifications.contains(id)
    }

    /// The leases that were dropped without a result since the last call.
    #[must_use]
    pub fn abandoned(&self) -> Vec<(DeliveryId, Timestamp)> {
        // Taken out, so that no lease is released twice; what cannot be released comes back by
        // `abandon`.
        std::mem::take(&mut self.lock().abandoned)
    }

    /// Puts back leases that could not be released, to be tried again.
    pub fn abandon(&self, leases: Vec<(DeliveryId, Timestamp)>) {
        self.lock().abandoned.extend(leases);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightNotification {
    fn drop(&mut self) {
        self.in_flight.lock().notifications.remove(&self.id);
    }
}

impl InFlightDelivery {
    /// Keeps room in memory for as long as the delivery is in flight.
    pub(crate) fn keep(&mut self, room: Option<OwnedSemaphorePermit>) {
        self.room = room;
    }

    fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for InFlightDelivery {
    fn drop(&mut self) {
        let mut held = self.in_flight.lock();
        // A delivery from the broker has no lease: its message is redelivered once this worker lets
        // go of it.
        let lease = held.deliveries.remove(&self.id).flatten();
        if let (false, Some(lease_until)) = (self.settled, lease) {
            held.abandoned.push((self.id, lease_until));
        }
    }
}
