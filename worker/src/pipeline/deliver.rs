//! One delivery, from the worker's hands to the store: the pipeline. Read this file first; each step is
//! a file of its own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use posthaste_shared::broker::{Broker, DeadReason};
use posthaste_shared::clock::Clock;
use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::delivery::{DeliveryState, FailureReason, Hold};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::record::Record;
use posthaste_shared::telemetry::metrics::Metrics;
use posthaste_shared::telemetry::trace::{Span, Tracer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::attempt::{Attempted, Courier, Trip};
use crate::pipeline::admit::{Admission, Admitted, From};
use crate::pipeline::conclude::{self, EventSettings};
use crate::pipeline::dead_letter::bury;
use crate::pipeline::decide::{Made, decide};
use crate::pipeline::fan_out::Room;
use crate::pipeline::job::{Custody, Hands, Job};
use crate::pipeline::record::{Finished, Recorder};
use crate::pipeline::spans;
use crate::wire::Subject;
use crate::wire::outcome::Outcome;

/// How long an endpoint whose script could not be run gets nothing: its deliveries wait in the store meanwhile.
const SCRIPT_PAUSE: Duration = Duration::from_secs(1);

/// What the steps of a delivery need.
pub struct Pipeline {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Makes spans.
    pub tracer: Tracer,
    /// Where poison goes.
    pub broker: Arc<dyn Broker>,
    /// Who may go.
    pub admission: Admission,
    /// How requests go out.
    pub courier: Courier,
    /// Where results go.
    pub recorder: Recorder,
    /// What this worker has in hand.
    pub hands: Hands,
    /// How much of large notifications it may have in hand.
    pub room: Room,
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
    pub async fn deliver(&self, mut job: Job) {
        let span = spans::attempt(&self.tracer, &job);
        // expiry
        let now = self.clock.now();
        if job.notification.is_expired(now) {
            return self.end(job, span, DeliveryState::Expired { at: now }, None).await;
        }
        // admit
        let from = if matches!(job.custody, Custody::Lease(_)) { From::Store } else { From::Broker };
        let limit = job.notification.expires_at.map(|at| at.since(now));
        let permit = match self.admission.admit(&job.endpoint, from, limit).await {
            Admitted::Go(permit) => permit,
            Admitted::Hold(why) => {
                let now = self.clock.now();
                let expired = job.notification.is_expired(now);
                let state = if expired { DeliveryState::Expired { at: now } } else { conclude::parked(why) };
                return self.end(job, span, state, None).await;
            }
            Admitted::Stopping => return span.discard(),
        };
        drop(job.waiting.take());
        let begun = self.clock.now();
        if job.notification.is_expired(begun) {
            return self.end(job, span, DeliveryState::Expired { at: begun }, None).await;
        }
        // render, sign, send, classify
        self.metrics.in_flight.inc();
        let attempted = self.courier.attempt(&subject(&job), job.kept.as_ref(), begun, &span).await;
        self.metrics.in_flight.dec();
        drop(permit);
        let trip = match attempted {
            Attempted::Made(trip) => trip,
            Attempted::Skipped { skip, .. } => {
                return self.end(job, span, DeliveryState::Cancelled { at: begun }, Some(skip.to_string())).await;
            }
            Attempted::Unwritable(error) => {
                let state = DeliveryState::Failed { at: begun, reason: FailureReason::RenderError };
                return self.end(job, span, state, Some(error.to_string())).await;
            }
            Attempted::Busy => {
                self.admission.pause(&job.endpoint.id, SCRIPT_PAUSE);
                let now = self.clock.now();
                let expired = job.notification.is_expired(now);
                let state = if expired { DeliveryState::Expired { at: now } } else { conclude::parked(Hold::Scripts) };
                return self.end(job, span, state, None).await;
            }
            Attempted::TooSoon(rate) => {
                self.admission.cap_rate(&job.endpoint.id, Some(rate));
                return self.end(job, span, conclude::parked(Hold::RateLimit), None).await;
            }
        };
        self.note_begun(&job, &trip, begun);
        // decide
        let over = trip.over;
        let made = Made {
            number: job.delivery.next_attempt_in_round(),
            expires_at: job.delivery.expires_at,
            now: over,
            jitter: rand::random(),
        };
        let verdict = decide(&trip.outcome, &job.endpoint.retry, made);
        // record, and then acknowledge
        let attempt = self.attempt(&job, &trip, begun);
        self.note_over(&job, &attempt, &trip.outcome);
        let whole = (attempt, &trip.outcome, verdict);
        let record = conclude::attempted(job.delivery, job.before, &job.endpoint, whole, over, self.events);
        let record = Record { kept: trip.keep, ..record };
        spans::made(span, &record);
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
            trace.id = tracing::field::Empty,
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
                let why = "handling it panicked; the worker's log has the place".to_owned();
                let record = conclude::internal(delivery, before, self.clock.now(), why);
                self.recorder.put(Finished { record, custody: Custody::Nobody }).await;
            }
        }
    }

    /// Ends or parks a delivery without an attempt.
    async fn end(&self, job: Job, span: Span, state: DeliveryState, why: Option<String>) {
        let record = conclude::untried(job.delivery, job.before, state, why);
        spans::unmade(span, &record, &job.custody);
        self.recorder.put(Finished { record, custody: job.custody }).await;
    }

    fn attempt(&self, job: &Job, trip: &Trip, begun: Timestamp) -> Attempt {
        Attempt {
            number: job.delivery.attempt_count + 1,
            round: job.delivery.round,
            started_at: begun,
            duration: trip.duration,
            phases: trip.phases,
            result: trip.result,
            status_code: trip.status_code,
            error: trip.outcome.error().cloned(),
            response_body: trip.shown_body(),
            resolved_address: trip.address.clone(),
            request_headers: trip.request.as_ref().map(|request| request.shown_headers().to_vec()).unwrap_or_default(),
            worker: self.worker.clone(),
            console: trip.console.clone(),
        }
    }

    fn note_begun(&self, job: &Job, trip: &Trip, begun: Timestamp) {
        if job.delivery.attempt_count == 0 {
            let ready = job.notification.deliver_at.unwrap_or(job.notification.accepted_at);
            self.metrics.queue_wait.observe(begun.since(ready).as_secs_f64());
        }
        self.admission.cap_rate(&job.endpoint.id, trip.rate_per_second);
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

fn subject(job: &Job) -> Subject<'_> {
    Subject {
        delivery: job.delivery.id,
        recipient: job.delivery.recipient.as_deref(),
        notification: &job.notification,
        endpoint: &job.endpoint,
        trace: None,
    }
}
