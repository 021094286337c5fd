//! One delivery, from the worker's hands to the store: the pipeline. Read this file first; each step is
//! a file of its own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use posthaste_shared::broker::{Broker, DeadReason};
use posthaste_shared::clock::Clock;
use posthaste_shared::domain::attempt::{Attempt, STORED_BODY_BYTES};
use posthaste_shared::domain::delivery::{DeliveryState, FailureReason};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::admit::{Admission, Admitted, From};
use crate::bury::bury;
use crate::classify::{classify, result};
use crate::conclude::{self, EventSettings};
use crate::decide::{Made, decide};
use crate::job::{Custody, Hands, Job};
use crate::outcome::Outcome;
use crate::record::{Finished, Recorder};
use crate::send::{Exchange, Sender};
use crate::sign::{SignedRequest, sign};
use crate::wire::{self, RenderError, Subject};

/// What the steps of a delivery need.
pub struct Pipeline {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Where poison goes.
    pub broker: Arc<dyn Broker>,
    /// Who may go.
    pub admission: Admission,
    /// How requests go out.
    pub sender: Sender,
    /// Where results go.
    pub recorder: Recorder,
    /// What this worker has in hand.
    pub hands: Hands,
    /// Which events are wanted.
    pub events: EventSettings,
    /// This worker's name, kept with each attempt.
    pub worker: String,
    /// Every delivery under way.
    pub tasks: TaskTracker,
    /// Cuts deliveries off.
    pub hard_stop: CancellationToken,
}

impl Pipeline {
    /// One attempt at a delivery, or the reason why none is made; recorded either way.
    pub async fn deliver(&self, job: Job) {
        // expiry
        let now = self.clock.now();
        if job.notification.is_expired(now) {
            return self.end(job, DeliveryState::Expired { at: now }, None).await;
        }
        // admit
        let from = if matches!(job.custody, Custody::Lease(_)) { From::Store } else { From::Broker };
        let permit = match self.admission.admit(&job.endpoint, from).await {
            Admitted::Go(permit) => permit,
            Admitted::Hold(why) => return self.end(job, conclude::parked(why), None).await,
            Admitted::Stopping => return,
        };
        let begun = self.clock.now();
        if job.notification.is_expired(begun) {
            return self.end(job, DeliveryState::Expired { at: begun }, None).await;
        }
        // render and sign
        let request = match prepare(&job, begun) {
            Ok(request) => request,
            Err(error) => {
                let state = DeliveryState::Failed { at: begun, reason: FailureReason::RenderError };
                return self.end(job, state, Some(error.to_string())).await;
            }
        };
        // send
        self.note_begun(&job, begun);
        let exchange = self.sender.send(&request).await;
        self.metrics.in_flight.dec();
        drop(permit);
        // classify and decide
        let over = self.clock.now();
        let outcome = classify(&job.endpoint, &exchange.result, over);
        let made = Made {
            number: job.delivery.next_attempt_in_round(),
            expires_at: job.delivery.expires_at,
            now: over,
            jitter: rand::random(),
        };
        let verdict = decide(&outcome, &job.endpoint.retry, made);
        // record, and then acknowledge
        let attempt = self.attempt(&job, &request, &exchange, &outcome, begun);
        self.note_over(&job, &attempt, &outcome);
        let whole = (attempt, &outcome, verdict);
        let record = conclude::attempted(job.delivery, job.before, &job.endpoint, whole, over, self.events);
        self.recorder.put(Finished { record, custody: job.custody }).await;
    }

    /// Starts a delivery as a task of its own, tracked, and cut off by a hard stop.
    pub fn start(self: &Arc<Self>, job: Job) {
        let span = tracing::info_span!(
            "delivery",
            delivery.id = %job.delivery.id,
            notification.id = %job.delivery.notification_id,
            endpoint.id = %job.delivery.endpoint_id,
            attempt.number = job.delivery.attempt_count + 1,
        );
        let pipeline = Arc::clone(self);
        self.tasks.spawn(
            async move {
                tokio::select! {
                    () = pipeline.deliver_or_bury(job) => {}
                    () = pipeline.hard_stop.cancelled() => {}
                }
            }
            .instrument(span),
        );
    }

    /// A delivery whose handling panics is poison: its message goes to the dead-letter queue, or, where it
    /// came from the store, it fails.
    async fn deliver_or_bury(&self, job: Job) {
        let held = match &job.custody {
            Custody::Message(ticket, _) => Ok(Arc::clone(ticket)),
            Custody::Lease(_) | Custody::Nobody => Err((job.delivery.clone(), job.before.clone())),
        };
        if AssertUnwindSafe(self.deliver(job)).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!("handling a delivery panicked: please report this as a bug of Posthaste");
        match held {
            Ok(ticket) => {
                let detail = "handling it panicked; the worker's log has the place";
                bury(self.broker.as_ref(), &self.metrics, &ticket.message, DeadReason::Poisonous, detail).await;
                if let Some(tag) = ticket.settle_one() {
                    self.recorder.ack(tag).await;
                }
            }
            Err((delivery, before)) => {
                let state = DeliveryState::Failed { at: self.clock.now(), reason: FailureReason::RenderError };
                let why = "handling it panicked; the worker's log has the place".to_owned();
                let record = conclude::untried(delivery, before, state, Some(why));
                self.recorder.put(Finished { record, custody: Custody::Nobody }).await;
            }
        }
    }

    /// Ends or parks a delivery without an attempt.
    async fn end(&self, job: Job, state: DeliveryState, why: Option<String>) {
        let record = conclude::untried(job.delivery, job.before, state, why);
        self.recorder.put(Finished { record, custody: job.custody }).await;
    }

    fn attempt(
        &self,
        job: &Job,
        request: &SignedRequest,
        exchange: &Exchange,
        outcome: &Outcome,
        begun: Timestamp,
    ) -> Attempt {
        let reply = exchange.result.as_ref().ok();
        Attempt {
            number: job.delivery.attempt_count + 1,
            round: job.delivery.round,
            started_at: begun,
            duration: exchange.duration,
            phases: exchange.phases,
            result: result(&exchange.result),
            status_code: reply.map(|reply| reply.status),
            error: outcome.error().cloned(),
            response_body: reply.and_then(|reply| stored_body(request, &reply.body)),
            resolved_address: exchange.address.clone(),
            request_headers: request.shown_headers().to_vec(),
            worker: self.worker.clone(),
        }
    }

    fn note_begun(&self, job: &Job, begun: Timestamp) {
        self.metrics.in_flight.inc();
        if job.delivery.attempt_count == 0 {
            let ready = job.notification.deliver_at.unwrap_or(job.notification.accepted_at);
            self.metrics.queue_wait.observe(begun.since(ready).as_secs_f64());
        }
    }

    fn note_over(&self, job: &Job, attempt: &Attempt, outcome: &Outcome) {
        self.metrics.attempted(job.endpoint.wire_format, attempt.result, attempt.duration);
        let duration_ms = attempt.duration.as_secs_f64() * 1e3;
        match outcome.error() {
            None => tracing::debug!(duration_ms, status = attempt.status_code, "delivered"),
            Some(error) => {
                tracing::debug!(
                    duration_ms,
                    status = attempt.status_code,
                    error.code,
                    error.text,
                    "the attempt failed"
                );
            }
        }
    }
}

fn prepare(job: &Job, now: Timestamp) -> Result<SignedRequest, RenderError> {
    let subject = Subject {
        delivery: job.delivery.id,
        recipient: job.delivery.recipient.as_deref(),
        notification: &job.notification,
        endpoint: &job.endpoint,
    };
    let rendered = wire::of(job.endpoint.wire_format).render(&subject)?;
    sign(&subject, rendered, now)
}

/// The beginning of an answer's body as text, without the secrets of the request.
fn stored_body(request: &SignedRequest, body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    let cut = &body[..body.len().min(STORED_BODY_BYTES)];
    Some(request.without_secrets(&String::from_utf8_lossy(cut)))
}
