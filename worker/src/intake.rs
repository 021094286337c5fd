//! Takes messages from the broker and turns them into deliveries under way: decode, look up, route.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::backoff::Reconnect;
use posthaste_shared::broker::{Consumer, DeadReason, Incoming, Message, Tag};
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, FailureReason, Wait};
use posthaste_shared::domain::id::DeliveryId;
use posthaste_shared::domain::notification::{Notification, Origin};
use posthaste_shared::store::notifications::LookUp;
use posthaste_shared::store::record::Before;
use posthaste_shared::store::{Store, StoreError};
use posthaste_shared::telemetry::metrics::Source;
use tokio_util::sync::CancellationToken;

use crate::conclude;
use crate::decode::{Decoded, Limits, decode};
use crate::deliver::Pipeline;
use crate::endpoints::{EndpointCache, EndpointSet};
use crate::job::{Custody, Job, Ticket};
use crate::record::{Finished, cause};
use crate::route::{Routed, route};

/// The most messages looked up in one round trip.
const MAX_BATCH: usize = 256;
/// How soon a message is looked at again whose delivery this worker has in hand already.
const DEFERRED: Duration = Duration::from_millis(200);

/// The broker's side of a worker.
pub struct Intake {
    /// Where deliveries go.
    pub pipeline: Arc<Pipeline>,
    /// What is known already.
    pub store: Store,
    /// Who may get what.
    pub endpoints: Arc<EndpointCache>,
    /// Bounds on messages.
    pub limits: Limits,
    /// Ends the intake.
    pub stopping: CancellationToken,
}

/// A notification and the message that brought it.
struct Work {
    notification: Arc<Notification>,
    message: Message,
    tag: Tag,
}

impl Intake {
    /// Takes work until told to stop; then gives back what was not begun.
    pub async fn run(self, mut consumer: Box<dyn Consumer>) {
        let mut deferred = Vec::new();
        loop {
            let batch = tokio::select! {
                biased;
                () = self.stopping.cancelled() => break,
                () = tokio::time::sleep(DEFERRED), if !deferred.is_empty() => std::mem::take(&mut deferred),
                batch = consumer.next_batch(MAX_BATCH) => match batch {
                    Some(batch) => self.readable(batch).await,
                    None => break,
                },
            };
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => break,
                again = self.take_up(batch) => deferred.extend(again),
            }
        }
        consumer.stop().await;
    }

    /// Sorts out what is no notification, and what has no name yet.
    async fn readable(&self, batch: Vec<Incoming>) -> Vec<Work> {
        let now = self.pipeline.clock.now();
        let (mut works, mut unnamed) = (Vec::with_capacity(batch.len()), Vec::new());
        for incoming in batch {
            match decode(&incoming, self.limits, now) {
                Decoded::Work(notification) => {
                    let Incoming { message, tag, .. } = incoming;
                    works.push(Work { notification: Arc::new(*notification), message, tag });
                }
                Decoded::Unnamed(named) => unnamed.push((named, incoming.tag)),
                Decoded::Unreadable(reason, detail) => self.bury(&incoming, reason, &detail).await,
            }
        }
        self.name(unnamed).await;
        works
    }

    /// Puts messages back under a name, and only then takes the nameless ones off the queue.
    async fn name(&self, unnamed: Vec<(Message, Tag)>) {
        if unnamed.is_empty() {
            return;
        }
        let (messages, tags): (Vec<_>, Vec<_>) = unnamed.into_iter().unzip();
        let answers = self.pipeline.broker.publish(messages).await;
        for (answer, tag) in answers.into_iter().zip(tags) {
            match answer {
                Ok(()) => self.pipeline.recorder.ack(tag).await,
                Err(error) => {
                    tracing::warn!(%error, "a message without an id could not be given one; it goes back to the queue");
                    self.pipeline.recorder.requeue(tag).await;
                }
            }
        }
    }

    async fn bury(&self, incoming: &Incoming, reason: DeadReason, detail: &str) {
        tracing::warn!(reason = reason.as_str(), detail, "a message goes to the dead-letter queue");
        match self.pipeline.broker.dead_letter(&incoming.message, reason, detail).await {
            Ok(()) => {
                self.pipeline.metrics.dead(reason);
                self.pipeline.recorder.ack(incoming.tag).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the dead-letter queue did not take the message; it goes back to the queue");
                self.pipeline.recorder.requeue(incoming.tag).await;
            }
        }
    }

    /// Starts the deliveries of a batch. Gives back what must be looked at again in a moment.
    async fn take_up(&self, works: Vec<Work>) -> Vec<Work> {
        if works.is_empty() {
            return works;
        }
        let (known, endpoints) = self.look_up(&works).await;
        let mut again = Vec::new();
        for work in works {
            let name = (work.notification.tenant.clone(), work.notification.id.clone());
            let seen = known.known.get(&name);
            let already: HashSet<DeliveryId> = seen.iter().flat_map(|seen| seen.deliveries.iter().copied()).collect();
            if seen.is_some_and(|seen| already.len() >= seen.fan_out as usize) {
                self.pipeline.recorder.ack(work.tag).await;
                continue;
            }
            if let Some(work) = self.begin(work, &already, &endpoints).await {
                again.push(work);
            }
        }
        again
    }

    /// What the store knows of a batch, and the endpoints as they are now; waits for the store if need be.
    async fn look_up(&self, works: &[Work]) -> (LookUp, Arc<EndpointSet>) {
        let names: Vec<_> =
            works.iter().map(|work| (work.notification.tenant.clone(), work.notification.id.clone())).collect();
        let mut backoff = Reconnect::default();
        loop {
            match self.try_look_up(&names).await {
                Ok(found) => return found,
                Err(error) => {
                    self.pipeline.metrics.store_errors.inc();
                    tracing::warn!(%error, cause = cause(&error), "taking work waits for the store");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn try_look_up(
        &self,
        names: &[(posthaste_shared::domain::id::TenantId, posthaste_shared::domain::id::NotificationId)],
    ) -> Result<(LookUp, Arc<EndpointSet>), StoreError> {
        let known = self.store.look_up(names).await?;
        let endpoints = self.endpoints.at(known.endpoints_version).await?;
        Ok((known, endpoints))
    }

    /// Starts one notification's deliveries, but those that the store knows. Gives the work back when a
    /// delivery of it is in hand already: its message was redelivered while the first is still under way.
    async fn begin(&self, work: Work, already: &HashSet<DeliveryId>, endpoints: &EndpointSet) -> Option<Work> {
        let now = self.pipeline.clock.now();
        let fresh = Wait::InFlight { lease_until: now };
        let deliveries = match route(&work.notification, endpoints, &fresh) {
            Routed::To(deliveries) => deliveries,
            Routed::NoSuchEndpoint(delivery) => return self.no_such_endpoint(work, *delivery).await,
        };
        let fan_out = u32::try_from(deliveries.len()).unwrap_or(u32::MAX);
        let missing: Vec<_> = deliveries.into_iter().filter(|(delivery, _)| !already.contains(&delivery.id)).collect();
        if missing.iter().any(|(delivery, _)| self.pipeline.hands.has(delivery.id)) {
            return Some(work);
        }
        self.count(&work);
        let Work { notification, message, tag } = work;
        let ticket = Ticket::new(message, tag, missing.len());
        if missing.is_empty() {
            match fan_out {
                0 => self.pipeline.recorder.put_unmatched(notification, ticket).await,
                _ => self.pipeline.recorder.ack(tag).await,
            }
            return None;
        }
        let scheduled = notification.deliver_at.filter(|at| *at > now);
        for (delivery, endpoint) in missing {
            let Some(in_hand) = self.pipeline.hands.take(delivery.id, None) else { continue };
            let before = Before::New { notification: Arc::clone(&notification), fan_out };
            let custody = Custody::Message(Arc::clone(&ticket), in_hand);
            let job = Job { delivery, notification: Arc::clone(&notification), endpoint, before, custody };
            match scheduled {
                Some(due_at) => self.schedule(job, due_at).await,
                None => self.pipeline.start(job),
            }
        }
        None
    }

    async fn schedule(&self, job: Job, due_at: posthaste_shared::domain::time::Timestamp) {
        let state = DeliveryState::Pending(Wait::Scheduled { due_at });
        let record = conclude::untried(job.delivery, job.before, state, None);
        self.pipeline.recorder.put(Finished { record, custody: job.custody }).await;
    }

    async fn no_such_endpoint(&self, work: Work, delivery: Delivery) -> Option<Work> {
        let Some(in_hand) = self.pipeline.hands.take(delivery.id, None) else { return Some(work) };
        self.count(&work);
        let why = format!("there is no endpoint {} in tenant {}", delivery.endpoint_id, delivery.tenant);
        let state = DeliveryState::Failed { at: self.pipeline.clock.now(), reason: FailureReason::EndpointDeleted };
        let before = Before::New { notification: work.notification, fan_out: 1 };
        let custody = Custody::Message(Ticket::new(work.message, work.tag, 1), in_hand);
        let record = conclude::untried(delivery, before, state, Some(why));
        self.pipeline.recorder.put(Finished { record, custody }).await;
        None
    }

    /// What our own producers accepted they counted themselves; they always say when.
    fn count(&self, work: &Work) {
        if work.message.accepted_at.is_none() && work.notification.origin == Origin::Producer {
            self.pipeline.metrics.accepted(Source::Amqp, 1);
        }
    }
}
