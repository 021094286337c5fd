//! Records results in the store, and acknowledges messages after that. One task for the worker.
//!
//! 1. **Group commit.** What has finished while one transaction was being committed goes into the
//!    next, up to 500 results: batches grow with the load. A transaction begins 10 ms after the one
//!    before at the earliest, unless a whole batch waits; a lone result waits for nothing.
//! 2. **Acknowledged last.** A message is acknowledged once all its deliveries are committed. A
//!    crash before that makes the broker redeliver it; what is recorded by then is not attempted
//!    again.
//! 3. **The store is down.** The batch is tried again, after 100 ms to 5 s, until the store takes
//!    it. Up to 2,000 results wait meanwhile; then deliveries wait to hand theirs over, holding no
//!    slot.
//! 4. **The store refuses a row.** Halving the batch finds it, so that it harms no other. Its
//!    message is dead-lettered (`unrecordable`); a delivery that was claimed from the store fails
//!    (`internal`), without the attempt.
//! 5. **Somebody was first.** A result that is stale (the delivery was finished, cancelled or
//!    attempted by another worker meanwhile) is dropped, and its message is acknowledged.
//! 6. **The id belongs to another notification.** Noted for `reconcile`, dead-lettered
//!    (`id_conflict`), acknowledged.
//! 7. **The worker stops.** Recording ends when every [`Recorder`] is gone and the queue is empty.
//!    A worker waits 5 s for that; what is unrecorded then is attempted again.
//!
//! | a result that | comes in by | goes on by | after a crash |
//! | --- | --- | --- | --- |
//! | waits for the store | [`Recorder::put`] | the commit | the attempt is made again |
//! | is committed | [`Recording::run`] | the acknowledgement | redelivered, and skipped |

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::broker::{Acker, DeadReason, Message, Tag};
use posthaste_shared::domain::delivery::{DeliveryState, Status, Wait};
use posthaste_shared::domain::id::{NotificationId, TenantId};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::error::causes_of;
use posthaste_shared::services::Services;
use posthaste_shared::store::StoreError;
use posthaste_shared::store::outage::until_taken;
use posthaste_shared::store::record::{Record, Recorded};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::pipeline::conclude;
use crate::pipeline::dead_letter::dead_letter;
use crate::pipeline::health::Health;
use crate::pipeline::job::{AckHandle, PendingMessage};
use crate::pipeline::stats::Stats;
use crate::pipeline::wake::Wake;

/// The most results in one transaction. 200 to 500 rows a transaction is where Postgres and SQLite
/// both stop getting cheaper by the row.
const MAX_BATCH: usize = 500;
/// The least time between the beginnings of two transactions. At 500 results a second it makes five
/// of them share a commit; without it Postgres spends more on commits of one or two rows each than
/// on all the rest of a delivery.
const GATHER: Duration = Duration::from_millis(10);
/// Results that may wait for the store before deliveries are held up.
const QUEUE: usize = 4 * MAX_BATCH;
/// What waits while the store is away, for the log.
const WAITING: &str = "results";

/// A result on its way to the store.
#[derive(Debug)]
pub struct Finished {
    /// The delivery's new state with its attempt and its event.
    pub record: Record,
    /// What is acknowledged or released after the commit.
    pub ack: AckHandle,
}

enum Entry {
    Result(Box<Finished>),
    /// A notification that no endpoint wants.
    Unmatched(Arc<Notification>, Arc<PendingMessage>),
    /// A message that needs no record, to be acknowledged.
    Done(Tag),
}

/// Takes results. Cheap to clone; the recording ends when the last clone is dropped.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Entry>);

impl Recorder {
    /// Hands a result over to the store; waits while the store is behind.
    pub async fn put(&self, finished: Finished) {
        self.send(Entry::Result(Box::new(finished))).await;
    }

    /// Hands over a notification that no endpoint wants, to be stored and acknowledged.
    pub async fn put_unmatched(
        &self,
        notification: Arc<Notification>,
        pending: Arc<PendingMessage>,
    ) {
        self.send(Entry::Unmatched(notification, pending)).await;
    }

    /// Acknowledges a message that needs no record.
    pub async fn ack(&self, tag: Tag) {
        self.send(Entry::Done(tag)).await;
    }

    async fn send(&self, entry: Entry) {
        // The receiving side outlives every sender except at a hard stop; what is unrecorded then
        // is attempted again.
        let _ = self.0.send(entry).await;
    }
}

/// The receiving side of [`Recorder`].
pub struct Recording {
    entries: mpsc::Receiver<Entry>,
    services: Services,
    acker: Arc<dyn Acker>,
    wake: Wake,
    health: Arc<Health>,
    stats: Arc<Stats>,
}

/// The parts that [`Recording`] needs.
pub struct RecordingParts {
    /// The store takes the results; what it refuses goes to the broker's dead-letter queue.
    pub services: Services,
    /// Acknowledges messages to the broker after the commit.
    pub acker: Arc<dyn Acker>,
    /// Wakes the scheduler for due times and the relay for events that were recorded.
    pub wake: Wake,
    /// Collects the successes and failures of endpoints for [`crate::background::maintenance`].
    pub health: Arc<Health>,
    /// Counts attempts for [`crate::background::stats`].
    pub stats: Arc<Stats>,
}

/// The two ends of the queue of results: senders for the deliveries, and the receiver to run.
#[must_use]
pub fn recorder(parts: RecordingParts) -> (Recorder, Recording) {
    let (sender, entries) = mpsc::channel(QUEUE);
    let RecordingParts {
        services,
        acker,
        wake,
        health,
        stats,
    } = parts;
    (
        Recorder(sender),
        Recording {
            entries,
            services,
            acker,
            wake,
            health,
            stats,
        },
    )
}

impl Recording {
    /// Records until every [`Recorder`] is gone and everything is in the store.
    pub async fn run(mut self) {
        let mut entries = Vec::with_capacity(MAX_BATCH);
        let mut begun: Option<Instant> = None;
        // Takes what is there and does not wait for a full batch, so a lone result is not held up.
        while self.entries.recv_many(&mut entries, MAX_BATCH).await > 0 {
            // But commits do not follow each other at once: what ends meanwhile shares the next.
            let rest = begun.and_then(|begun| GATHER.checked_sub(begun.elapsed()));
            if let Some(rest) = rest.filter(|_| entries.len() < MAX_BATCH) {
                tokio::time::sleep(rest).await;
                while entries.len() < MAX_BATCH
                    && let Ok(entry) = self.entries.try_recv()
                {
                    entries.push(entry);
                }
            }
            begun = Some(Instant::now());
            let mut records = Vec::new();
            let mut acks = Vec::new();
            let mut unmatched = Vec::new();
            let mut tags = Vec::new();
            for entry in entries.drain(..) {
                match entry {
                    Entry::Result(finished) => {
                        records.push(finished.record);
                        acks.push(finished.ack);
                    }
                    Entry::Unmatched(notification, pending) => {
                        unmatched.push((notification, pending))
                    }
                    Entry::Done(tag) => tags.push(tag),
                }
            }
            if !unmatched.is_empty() {
                self.keep_unmatched(unmatched, &mut tags).await;
            }
            self.keep(&records, acks, &mut tags).await;
            // Last, after every commit of this batch: a crash before this line makes the broker
            // redeliver the messages, and the look-up of their ids finds what is recorded.
            if !tags.is_empty() {
                self.acker.ack(tags).await;
            }
        }
    }

    /// Records a batch. What the database refuses is found by halving, so that one bad row harms no
    /// other.
    async fn keep(&self, records: &[Record], mut acks: Vec<AckHandle>, tags: &mut Vec<Tag>) {
        if records.is_empty() {
            return;
        }
        match self.record_when_reachable(records).await {
            Ok(answers) => {
                self.services
                    .metrics
                    .store_batch_rows
                    .observe(records.len() as f64);
                for ((record, answer), ack) in records.iter().zip(answers).zip(acks) {
                    // Before its tag is collected: the message may be acknowledged only once its
                    // dead letter is on the queue, or a crash between the two would lose the
                    // notification.
                    if let (Recorded::Conflict, AckHandle::Message(pending, _)) = (answer, &ack) {
                        self.conflict(
                            &record.delivery.tenant,
                            &record.delivery.notification_id,
                            pending,
                        )
                        .await;
                    }
                    self.settle(record, answer);
                    tags.extend(ack.settled());
                }
            }
            // Alone, the record is known to be the one that the database refuses.
            Err(error) if records.len() == 1 => {
                if let Some(ack) = acks.pop() {
                    self.dead_letter(&records[0], ack, &error, tags).await;
                }
            }
            Err(_) => {
                // A batch of 500 is halved 9 times at most until the bad record is alone. The good
                // halves are committed on the way.
                let (first, second) = records.split_at(records.len() / 2);
                let rest = acks.split_off(first.len());
                // Boxed, because a future cannot contain itself.
                Box::pin(self.keep(first, acks, tags)).await;
                Box::pin(self.keep(second, rest, tags)).await;
            }
        }
    }

    async fn keep_unmatched(
        &self,
        unmatched: Vec<(Arc<Notification>, Arc<PendingMessage>)>,
        tags: &mut Vec<Tag>,
    ) {
        let notifications: Vec<_> = unmatched
            .iter()
            .map(|(notification, _)| Arc::clone(notification))
            .collect();
        let recorded = until_taken(&self.services.metrics, WAITING, || async {
            self.services.store.record_unmatched(&notifications).await
        });
        match recorded.await {
            Ok(answers) => {
                for ((notification, pending), stands_for_another) in unmatched.iter().zip(answers) {
                    if stands_for_another {
                        self.conflict(&notification.tenant, &notification.id, pending)
                            .await;
                    }
                }
            }
            Err(_) if unmatched.len() > 1 => {
                // Halved until the one that the store refuses is alone: the others are good.
                let mut first = unmatched;
                let second = first.split_off(first.len() / 2);
                Box::pin(self.keep_unmatched(first, tags)).await;
                return Box::pin(self.keep_unmatched(second, tags)).await;
            }
            Err(error) => {
                for (notification, pending) in &unmatched {
                    tracing::error!(
                        notification.id = %notification.id,
                        %error,
                        "a notification without deliveries cannot be recorded; it goes to the \
                         dead-letter queue"
                    );
                    let detail = format!("the store refuses it: {}", causes_of(&error));
                    self.dead_letter_message(&pending.message, &detail).await;
                }
            }
        }
        tags.extend(unmatched.iter().map(|(_, pending)| pending.tag));
    }

    /// Tries until the store takes the batch; returns an error that lies in the data.
    async fn record_when_reachable(&self, records: &[Record]) -> Result<Vec<Recorded>, StoreError> {
        let Services {
            store,
            clock,
            metrics,
            ..
        } = &self.services;
        until_taken(metrics, WAITING, || async {
            let began = Instant::now();
            // The time is read anew for each try: waiting for the store may have taken minutes.
            let answers = store.record(records, clock.now()).await;
            // Without the tries before and the pauses: this shows how fast the store is, and
            // `posthaste_store_errors_total` that it is away.
            answers.inspect(|_| metrics.store_commit.observe(began.elapsed().as_secs_f64()))
        })
        .await
    }

    /// Passes on what was recorded: to the health of endpoints, to the statistics, to the loops
    /// that wait, to the metrics.
    fn settle(&self, record: &Record, answer: Recorded) {
        let delivery = &record.delivery;
        // Whoever recorded the first result has counted it and woken the loops for it.
        if matches!(answer, Recorded::Stale | Recorded::Conflict) {
            tracing::debug!(
                delivery.id = %delivery.id,
                "another result of the delivery was recorded first; this one is dropped"
            );
            return;
        }
        if let Some(attempt) = &record.attempt {
            self.health.note(
                &delivery.endpoint_id,
                attempt.error.is_none(),
                attempt.started_at,
            );
            self.stats.note(&delivery.endpoint_id, attempt);
        }
        // Wakes the scheduler of this worker only. Others find the due time when they ask the
        // store, every 250 ms.
        if let Some(due) = delivery.state.due_at() {
            self.wake.due(due);
        }
        if record.event.is_some() || record.disable.is_some() {
            self.wake.events();
        }
        if let DeliveryState::Pending(Wait::Parked { why }) = delivery.state {
            self.services.metrics.parked(why);
        }
        let status = delivery.state.status();
        if status != Status::Pending {
            self.services.metrics.finished(delivery.wire_format, status);
        }
        if let DeliveryState::Delivered { at } = delivery.state {
            self.services
                .metrics
                .delivery_latency
                .observe(at.since(delivery.created_at).as_secs_f64());
        }
    }

    /// A result that the database refuses for what is in it: its message goes to the dead-letter
    /// queue; a delivery that came from the store fails, without the attempt.
    async fn dead_letter(
        &self,
        record: &Record,
        ack: AckHandle,
        error: &StoreError,
        tags: &mut Vec<Tag>,
    ) {
        let delivery = &record.delivery;
        tracing::error!(
            delivery.id = %delivery.id,
            %error,
            cause = causes_of(error),
            "the store refuses the result of a delivery"
        );
        let detail = format!("the store refuses its result: {}", causes_of(error));
        if let AckHandle::Message(pending, _) = &ack {
            self.dead_letter_message(&pending.message, &detail).await;
        } else {
            // Claimed from the store, it has no message that could be dead-lettered. Left as it is
            // it would be claimed, attempted and refused again whenever its lease ends.
            let failed = conclude::internal(
                delivery.clone(),
                record.before.clone(),
                self.services.clock.now(),
                detail,
            );
            if let Err(error) = self.record_when_reachable(&[failed]).await {
                tracing::error!(
                    delivery.id = %delivery.id,
                    cause = causes_of(&error),
                    "that the delivery failed cannot be recorded either; its lease will expire \
                     and it will be attempted again"
                );
            }
        }
        tags.extend(ack.settled());
    }

    /// Another worker took up a different notification with the same id at the same time, and
    /// recorded it first. What this one has sent cannot be taken back; the dead letter says so.
    async fn conflict(&self, tenant: &TenantId, id: &NotificationId, pending: &PendingMessage) {
        // Each delivery of the notification meets the conflict; one dead letter is enough.
        if !pending.refuse() {
            return;
        }
        let detail = format!(
            "its id {id} stands for another notification of the tenant {tenant}, which came in \
             the same moment; some of \
             this one may have been sent"
        );
        // Noted before the dead letter. A crash between the two redelivers the message, and noting
        // the same id again only renews its time.
        refuse_id(&self.services, (tenant, id)).await;
        tracing::warn!(
            notification.id = %id,
            "the notification's id belongs to another one; it goes to the dead-letter queue"
        );
        dead_letter(
            self.services.broker.as_ref(),
            &self.services.metrics,
            &pending.message,
            DeadReason::IdConflict,
            &detail,
        )
        .await;
    }

    async fn dead_letter_message(&self, message: &Message, detail: &str) {
        dead_letter(
            self.services.broker.as_ref(),
            &self.services.metrics,
            message,
            DeadReason::Unrecordable,
            detail,
        )
        .await;
    }
}

/// Records, for `reconcile`, that a different notification came with an id that was used; waits for
/// the store if need be.
pub(crate) async fn refuse_id(services: &Services, (tenant, id): (&TenantId, &NotificationId)) {
    let Services { store, clock, .. } = services;
    let noted = until_taken(&services.metrics, "conflicts of ids", || async {
        store.note_id_conflict(tenant, id, clock.now()).await
    });
    if let Err(error) = noted.await {
        tracing::error!(
            %error,
            cause = causes_of(&error),
            "a conflict of notification ids cannot be recorded"
        );
    }
}
