//! Takes messages from the broker and turns them into deliveries under way: decode, look up, route.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::backoff::Reconnect;
use posthaste_shared::broker::{Consumer, DeadReason, Incoming, Message, Tag};
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, FailureReason, Hold, Wait};
use posthaste_shared::domain::id::{DeliveryId, NotificationId, TenantId};
use posthaste_shared::domain::notification::{Notification, Origin};
use posthaste_shared::store::notifications::LookUp;
use posthaste_shared::store::outage::until_answered;
use posthaste_shared::store::record::Before;
use posthaste_shared::store::{Store, StoreError};
use posthaste_shared::telemetry::metrics::Source;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pipeline::conclude;
use crate::pipeline::dead_letter::dead_letter;
use crate::pipeline::decode::{Decoded, Limits, decode};
use crate::pipeline::deliver::Pipeline;
use crate::pipeline::endpoints::{EndpointCache, EndpointSet};
use crate::pipeline::fan_out::Started;
use crate::pipeline::job::{AckHandle, InFlightNotification, PendingMessage};
use crate::pipeline::record::{Finished, refuse_id};
use crate::pipeline::route::{Routed, route};
use crate::pipeline::spans;

/// The most messages looked up in the store at once.
const MAX_BATCH: usize = 256;
/// How soon a message is looked at again whose notification is in flight in this worker already.
const DEFERRED: Duration = Duration::from_millis(200);

/// The broker's side of a worker.
pub struct Intake {
    /// Attempts the deliveries and records their results.
    pub pipeline: Arc<Pipeline>,
    /// The store, which is asked what was recorded of a redelivered notification.
    pub store: Store,
    /// The endpoints that notifications are routed to.
    pub endpoints: Arc<EndpointCache>,
    /// The bounds that a message must keep to.
    pub limits: Limits,
    /// Cancelled when the worker stops: no further message is taken.
    pub stopping: CancellationToken,
}

/// What is to be handled next.
enum Batch {
    /// Messages that just came in.
    New(Vec<Incoming>),
    /// Messages that were put off.
    Again(Vec<Work>),
}

/// A notification and the message that brought it.
struct Work {
    notification: Arc<Notification>,
    message: Message,
    tag: Tag,
}

/// What the store has recorded of a batch.
struct Known {
    seen: LookUp,
    /// The notifications that are there, as they came first.
    first: HashMap<(TenantId, NotificationId), Notification>,
}

impl Work {
    fn id(&self) -> (TenantId, NotificationId) {
        (
            self.notification.tenant.clone(),
            self.notification.id.clone(),
        )
    }
}

impl Intake {
    /// Takes work until the worker stops; messages that were not begun are requeued then.
    pub async fn run(self, mut consumer: Box<dyn Consumer>) {
        let mut deferred = Vec::new();
        let mut look_again = Instant::now();
        loop {
            let batch = tokio::select! {
                // Stopping comes first, since a broker that always has messages would otherwise be
                // chosen again after the stop, and what is taken then has to be requeued. Deferred
                // work comes before new messages for the same reason: a busy broker must not starve
                // it.
                biased;
                () = self.stopping.cancelled() => break,
                () = tokio::time::sleep_until(look_again), if !deferred.is_empty() => {
                    Batch::Again(std::mem::take(&mut deferred))
                }
                batch = consumer.next_batch(MAX_BATCH) => match batch {
                    Some(batch) => Batch::New(batch),
                    None => break,
                },
            };
            let again = tokio::select! {
                biased;
                // What is not begun is not acknowledged, so it comes again.
                () = self.stopping.cancelled() => break,
                again = self.handle(batch) => again,
            };
            // The pause counts from the first message that was put off. Begun anew for each, it
            // would put off the first one without end.
            if deferred.is_empty() {
                look_again = Instant::now() + DEFERRED;
            }
            deferred.extend(again);
        }
        consumer.stop().await;
    }

    /// Starts a batch. Returns what must be looked at again after [`DEFERRED`].
    async fn handle(&self, batch: Batch) -> Vec<Work> {
        let works = match batch {
            Batch::New(batch) => self.readable(batch).await,
            Batch::Again(works) => works,
        };
        self.take_up(works).await
    }

    /// Decodes a batch, and sorts out what is not a notification and what has no id yet.
    async fn readable(&self, batch: Vec<Incoming>) -> Vec<Work> {
        let now = self.pipeline.services.clock.now();
        let mut works = Vec::with_capacity(batch.len());
        let mut without_id = Vec::new();
        let mut unreadable = Vec::new();
        for incoming in batch {
            // A panic ends neither the intake nor the other messages of the batch; the message that
            // caused it is dead-lettered.
            let decoded = catch_unwind(AssertUnwindSafe(|| decode(&incoming, self.limits, now)));
            let panicked =
                |_| Decoded::Unreadable(DeadReason::Poisonous, "reading it panicked".to_owned());
            match decoded.unwrap_or_else(panicked) {
                Decoded::Work(mut notification) => {
                    spans::take_up(&self.pipeline.services.tracer, &mut notification);
                    let Incoming { message, tag, .. } = incoming;
                    works.push(Work {
                        notification: Arc::new(*notification),
                        message,
                        tag,
                    });
                }
                Decoded::WithoutId(with_id) => without_id.push((with_id, incoming.tag)),
                Decoded::Unreadable(reason, detail) => unreadable.push((incoming, reason, detail)),
            }
        }
        let dead_letters = unreadable
            .iter()
            .map(|(incoming, reason, detail)| self.dead_letter(incoming, *reason, detail));
        // At the same time: each waits for the broker for as long as it takes.
        tokio::join!(
            futures::future::join_all(dead_letters),
            self.give_ids(without_id)
        );
        works
    }

    /// Publishes messages again with an id, and only then acknowledges those without one. Waits for
    /// a broker that does not take them: requeueing them would count as a redelivery, and after
    /// enough of those they would be taken for poison.
    async fn give_ids(&self, mut without_id: Vec<(Message, Tag)>) {
        let mut backoff = Reconnect::default();
        while !without_id.is_empty() {
            let messages = without_id
                .iter()
                .map(|(message, _)| message.clone())
                .collect();
            let answers = self.pipeline.services.broker.publish(messages).await;
            let mut left = Vec::new();
            for ((message, tag), answer) in without_id.into_iter().zip(answers) {
                match answer {
                    Ok(()) => self.pipeline.recorder.ack(tag).await,
                    Err(error) => {
                        tracing::warn!(
                            %error,
                            "a message without an id cannot be published again with one; trying \
                             again"
                        );
                        left.push((message, tag));
                    }
                }
            }
            without_id = left;
            if !without_id.is_empty() {
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }

    async fn dead_letter(&self, incoming: &Incoming, reason: DeadReason, detail: &str) {
        tracing::warn!(
            reason = reason.as_str(),
            detail,
            "a message goes to the dead-letter queue"
        );
        dead_letter(
            self.pipeline.services.broker.as_ref(),
            &self.pipeline.services.metrics,
            &incoming.message,
            reason,
            detail,
        )
        .await;
        self.pipeline.recorder.ack(incoming.tag).await;
    }

    /// Starts the deliveries of a batch. Returns what must be looked at again after [`DEFERRED`].
    async fn take_up(&self, works: Vec<Work>) -> Vec<Work> {
        // Before the store is asked: a notification that is under way for long would be asked for
        // again and again.
        let is_in_flight = |work: &Work| self.pipeline.in_flight.has_notification(&work.id());
        let (mut again, works): (Vec<Work>, Vec<Work>) = works.into_iter().partition(is_in_flight);
        if works.is_empty() {
            return again;
        }
        let (known, endpoints) = self.look_up(&works).await;
        for work in works {
            // Compared before the check whether all is recorded: a different notification under the
            // same id must not be acknowledged as if it were a redelivery.
            if let Some(first) = known.first.get(&work.id())
                && let Some(member) = work.notification.differs_in(first)
            {
                self.conflict(work, first, member).await;
                continue;
            }
            let seen = known.seen.known.get(&work.id());
            let already: HashSet<DeliveryId> = seen
                .iter()
                .flat_map(|seen| seen.deliveries.iter().copied())
                .collect();
            // Every delivery is in the store, which looks after those that are pending. Only the
            // acknowledgement of the message was lost, in a crash after the commit.
            if seen.is_some_and(|seen| already.len() >= seen.fan_out as usize) {
                self.pipeline.recorder.ack(work.tag).await;
                continue;
            }
            if let Some(work) = self.begin(work, already, &endpoints).await {
                again.push(work);
            }
        }
        again
    }

    /// What the store knows of a batch, and the endpoints as they are now; waits for the store if
    /// need be.
    async fn look_up(&self, works: &[Work]) -> (Known, Arc<EndpointSet>) {
        let ids: Vec<_> = works.iter().map(Work::id).collect();
        let metrics = &self.pipeline.services.metrics;
        until_answered(metrics, "messages", || self.try_look_up(&ids)).await
    }

    async fn try_look_up(
        &self,
        ids: &[(TenantId, NotificationId)],
    ) -> Result<(Known, Arc<EndpointSet>), StoreError> {
        let seen = self.store.look_up(ids).await?;
        // Few are known: a message that was redelivered, or enqueued again.
        let known: Vec<_> = seen.known.keys().cloned().collect();
        let first = if known.is_empty() {
            HashMap::new()
        } else {
            self.store.readable_notifications(&known).await?
        };
        // The version was read together with what is known: no notification is routed by endpoints
        // that are older than its look-up.
        let endpoints = self.endpoints.at(seen.endpoints_version).await?;
        Ok((Known { seen, first }, endpoints))
    }

    /// Another notification under an id that was used before: it is not sent but dead-lettered, so
    /// that its producer can find out.
    async fn conflict(&self, work: Work, first: &Notification, member: &str) {
        let Notification {
            tenant,
            id,
            accepted_at,
            ..
        } = first;
        let detail = format!(
            "its id {id} stands for another notification of the tenant {tenant}, accepted at \
             {accepted_at}: they differ \
             in {member}. Enqueue it under an id of its own"
        );
        refuse_id(&self.pipeline.services, (tenant, id)).await;
        self.refuse(work, DeadReason::IdConflict, &detail).await;
    }

    /// Starts one notification's deliveries, except those that the store has already. Returns the
    /// work when the notification is in flight already: its message was redelivered while the first
    /// one is still under way.
    async fn begin(
        &self,
        work: Work,
        already: HashSet<DeliveryId>,
        endpoints: &EndpointSet,
    ) -> Option<Work> {
        // Checked again after the look-up: the same batch may hold the notification twice.
        let Some(in_flight) = self.pipeline.in_flight.take_notification(work.id()) else {
            return Some(work);
        };
        let now = self.pipeline.services.clock.now();
        let fresh = Wait::InFlight { lease_until: now };
        let most = self.limits.max_recipients;
        // A panic here concerns this notification alone, which is dead-lettered; the intake goes
        // on.
        let routed = catch_unwind(AssertUnwindSafe(|| {
            route(&work.notification, endpoints, most, &fresh)
        }));
        let deliveries = match routed {
            Ok(Routed::To(deliveries)) => deliveries,
            Ok(Routed::NoSuchEndpoint(delivery)) => {
                let why = format!(
                    "there is no endpoint {} in tenant {}",
                    delivery.endpoint_id, delivery.tenant
                );
                let state = DeliveryState::Failed {
                    at: now,
                    reason: FailureReason::EndpointDeleted,
                };
                return self.end(work, in_flight, *delivery, state, Some(why)).await;
            }
            // Parked, not failed: a worker with the right master key, or of the newer version,
            // releases it.
            Ok(Routed::Unreadable(delivery)) => {
                return self
                    .end(
                        work,
                        in_flight,
                        *delivery,
                        conclude::parked(Hold::Disabled),
                        None,
                    )
                    .await;
            }
            Ok(Routed::TooManyRecipients(problem)) => {
                let detail = format!("{} {}", problem.field, problem.problem);
                return self
                    .refuse(work, DeadReason::TooManyRecipients, &detail)
                    .await;
            }
            Err(_) => {
                return self
                    .refuse(work, DeadReason::Poisonous, "routing it panicked")
                    .await;
            }
        };
        // Counted after routing, so that what was dead-lettered above does not count as accepted.
        self.count(&work);
        let Work {
            notification,
            message,
            tag,
        } = work;
        let pending = PendingMessage::new(message, tag, deliveries.len(), in_flight);
        // Recorded although there is nothing to deliver, so that its producer can look it up.
        if deliveries.is_empty() {
            self.pipeline
                .recorder
                .put_unmatched(notification, pending)
                .await;
        } else {
            let started = Started {
                notification,
                pending,
                deliveries,
                already,
                now,
            };
            self.pipeline.fan_out(started, &self.stopping).await;
        }
        None
    }

    /// Puts a message that was read on the dead-letter queue.
    async fn refuse(&self, work: Work, reason: DeadReason, detail: &str) -> Option<Work> {
        let incoming = Incoming {
            message: work.message,
            tag: work.tag,
            delivery_count: 0,
        };
        self.dead_letter(&incoming, reason, detail).await;
        None
    }

    /// Records the one delivery of a notification without an attempt.
    async fn end(
        &self,
        work: Work,
        notification: InFlightNotification,
        delivery: Delivery,
        state: DeliveryState,
        why: Option<String>,
    ) -> Option<Work> {
        let Some(in_flight) = self.pipeline.in_flight.take(delivery.id, None) else {
            return Some(work);
        };
        self.count(&work);
        let before = Before::New {
            notification: work.notification,
            fan_out: 1,
        };
        let ack = AckHandle::Message(
            PendingMessage::new(work.message, work.tag, 1, notification),
            in_flight,
        );
        let record = conclude::untried(delivery, before, state, why);
        self.pipeline.recorder.put(Finished { record, ack }).await;
        None
    }

    /// Counts a notification as accepted, unless a producer of ours has done so: those set
    /// `accepted_at` and count themselves.
    fn count(&self, work: &Work) {
        if work.message.accepted_at.is_none() && work.notification.origin == Origin::Producer {
            self.pipeline.services.metrics.accepted(Source::Amqp, 1);
        }
    }
}
