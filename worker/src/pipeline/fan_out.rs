//! Starts the deliveries of a notification. A few start at once. Of many, as with a thousand
//! recipients at a thousand endpoints, only [`WAITING`] wait for admission at a time, and the
//! others do not exist yet: neither memory nor the line for the worker's slots fills up with one
//! notification, and those of others go in between.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use posthaste_shared::broker::DeadReason;
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, Wait};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::DeliveryId;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::record::Before;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::pipeline::conclude;
use crate::pipeline::dead_letter::dead_letter;
use crate::pipeline::deliver::Pipeline;
use crate::pipeline::job::{AckHandle, Job, PendingMessage};
use crate::pipeline::record::Finished;
use crate::pipeline::route::FanOut;

/// Up to this number of deliveries of a notification start at once, without a look at how many
/// others there are.
const FEW: usize = 16;
/// The most deliveries of one notification that wait for admission at a time: twice the default
/// `max_in_flight` of an endpoint, so that a fast one never waits for the next. Each waits for some
/// seconds at the most before it goes or is parked, and at once where it would wait longer, so a
/// sick endpoint does not hold the others up.
const WAITING: usize = 64;
/// After this number of deliveries the task yields, so that one that starts very many does not keep
/// a thread from the others.
const BREATH: usize = 128;

/// A notification whose deliveries are to be started.
pub(crate) struct Started {
    pub(crate) notification: Arc<Notification>,
    pub(crate) pending: Arc<PendingMessage>,
    pub(crate) deliveries: FanOut,
    /// Those that the store knows.
    pub(crate) already: HashSet<DeliveryId>,
    pub(crate) now: Timestamp,
}

impl Pipeline {
    /// Starts the deliveries that the store does not know. Returns once they are started, or, where
    /// there are many, once a task of its own is at it.
    pub(crate) async fn fan_out(self: &Arc<Self>, started: Started, stopping: &CancellationToken) {
        // In the intake's own task, because starting a few takes no time. Many get a task of their
        // own, so that the intake can take other notifications meanwhile.
        if started.deliveries.len() <= FEW {
            return self.start_all(&started, None, stopping).await;
        }
        let pipeline = Arc::clone(self);
        let stopping = stopping.clone();
        self.tasks.spawn(async move {
            let window = Arc::new(Semaphore::new(WAITING));
            let all = AssertUnwindSafe(pipeline.start_all(&started, Some(&window), &stopping))
                .catch_unwind();
            let done = tokio::select! {
                biased;
                // The message stays unacknowledged, so another worker starts what was not started
                // here.
                () = pipeline.hard_stop.cancelled() => return,
                done = all => done,
            };
            if done.is_err() {
                tracing::error!(
                    "starting a notification's deliveries panicked; please report this as a bug"
                );
                // Those that were started go on. The ones that were not never count the message
                // down, so it is acknowledged here, after its dead letter.
                let detail = "starting its deliveries panicked; the worker's log has the place";
                let message = &started.pending.message;
                dead_letter(
                    pipeline.services.broker.as_ref(),
                    &pipeline.services.metrics,
                    message,
                    DeadReason::Poisonous,
                    detail,
                )
                .await;
                pipeline.recorder.ack(started.pending.tag).await;
            }
        });
    }

    /// With a window no more are begun than it lets through. What is not begun when the worker
    /// stops is left to another: the message is not acknowledged then.
    async fn start_all(
        self: &Arc<Self>,
        started: &Started,
        window: Option<&Arc<Semaphore>>,
        stopping: &CancellationToken,
    ) {
        let fresh = Wait::InFlight {
            lease_until: started.now,
        };
        let deliveries = started.deliveries.deliveries(&started.notification, &fresh);
        for (index, (delivery, endpoint)) in deliveries.enumerate() {
            if index % BREATH == BREATH - 1 {
                // Deliveries that the store has already need no await: a loop over thousands would
                // keep its thread from other tasks.
                tokio::task::yield_now().await;
            }
            let places = match window {
                None => None,
                Some(_) if started.already.contains(&delivery.id) => None,
                Some(window) => tokio::select! {
                    // Stopping first: a window that always has room would otherwise let some more
                    // begin.
                    biased;
                    () = stopping.cancelled() => return,
                    places = self.places(window) => places,
                },
            };
            self.start_one(started, delivery, endpoint, places).await;
        }
    }

    /// Room in memory, and a place among those that wait.
    async fn places(
        &self,
        window: &Arc<Semaphore>,
    ) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        // Its own window first, then the room that all notifications share: in the other order one
        // notification would hold shared room while it waits for itself.
        let waiting = Arc::clone(window).acquire_owned().await.ok()?;
        let room = Arc::clone(&self.room.0).acquire_owned().await.ok()?;
        Some((room, waiting))
    }

    async fn start_one(
        self: &Arc<Self>,
        started: &Started,
        delivery: Delivery,
        endpoint: Arc<Endpoint>,
        places: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    ) {
        let known = started.already.contains(&delivery.id);
        let in_flight = if known {
            None
        } else {
            self.in_flight.take(delivery.id, None)
        };
        let Some(mut in_flight) = in_flight else {
            // It is in the store, or in flight under a lease and so in the store as well. The
            // message need not wait for it.
            if let Some(tag) = started.pending.settle_one() {
                self.recorder.ack(tag).await;
            }
            return;
        };
        let (room, waiting) = places.unzip();
        in_flight.keep(room);
        let notification = Arc::clone(&started.notification);
        let fan_out = u32::try_from(started.deliveries.len()).unwrap_or(u32::MAX);
        let before = Before::New {
            notification: Arc::clone(&notification),
            fan_out,
        };
        let ack = AckHandle::Message(Arc::clone(&started.pending), in_flight);
        let job = Job {
            delivery,
            notification,
            endpoint,
            kept: None,
            before,
            ack,
            waiting,
        };
        match job.notification.deliver_at.filter(|at| *at > started.now) {
            Some(due_at) => self.schedule(job, due_at).await,
            None => self.start(job),
        }
    }

    async fn schedule(&self, job: Job, due_at: Timestamp) {
        let state = DeliveryState::Pending(Wait::Scheduled { due_at });
        let record = conclude::untried(job.delivery, job.before, state, None);
        self.recorder
            .put(Finished {
                record,
                ack: job.ack,
            })
            .await;
    }
}
