//! The handling of one delivery: `Pipeline::steps` is the list of the steps, each a file of its
//! own, and returns how it ended; `Pipeline::settle` records that, whatever it was. Read this
//! file first.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use posthaste_shared::broker::DeadReason;
use posthaste_shared::chance;
use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::delivery::{DeliveryState, FailureReason, Hold};
use posthaste_shared::domain::health::HealthChange;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::services::Services;
use posthaste_shared::store::record::Record;
use posthaste_shared::telemetry::trace::Span;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::attempt::{AttemptEnd, Attempter, FinishedAttempt};
use crate::pipeline::admit::breaker::Change;
use crate::pipeline::admit::end::End;
use crate::pipeline::admit::{Admission, Admitted, From, Permit};
use crate::pipeline::conclude::{self, EventSettings};
use crate::pipeline::dead_letter::dead_letter;
use crate::pipeline::decide::{AttemptFacts, decide};
use crate::pipeline::job::{AckHandle, InFlight, Job};
use crate::pipeline::record::{Finished, Recorder};
use crate::pipeline::reports::Reports;
use crate::pipeline::room::Room;
use crate::pipeline::spans;
use crate::wire::Subject;
use crate::wire::outcome::Verdict;

/// How long an endpoint whose script could not be run gets no request. Its deliveries wait in the
/// store meanwhile.
const SCRIPT_PAUSE: Duration = Duration::from_secs(1);

/// What the steps of a delivery need.
pub struct Pipeline {
    /// Store, broker, clock, metrics and tracer.
    pub services: Services,
    /// Decides which endpoint may get another request now.
    pub admission: Admission,
    /// Makes the attempts, within the timeout of their endpoints.
    pub attempter: Attempter,
    /// Takes results, to be recorded in the store.
    pub recorder: Recorder,
    /// Takes reports of endpoints' health, for the other workers and for people.
    pub reports: Reports,
    /// The deliveries and messages that are in flight in this worker.
    pub in_flight: InFlight,
    /// Bounds the deliveries of large notifications that are held in memory.
    pub room: Room,
    /// Which events are created.
    pub events: EventSettings,
    /// The name of this worker, stored with each attempt.
    pub worker: String,
    /// The tasks of all deliveries under way, to be waited for when the worker stops.
    pub tasks: TaskTracker,
    /// Cancelled when the grace period is over: deliveries still under way are dropped without a
    /// result.
    pub hard_stop: CancellationToken,
}

/// How the handling of a delivery ended.
enum Ending {
    /// An attempt was made.
    Attempted {
        finished: Box<FinishedAttempt>,
        /// What is kept of it.
        attempt: Box<Attempt>,
        begun: Timestamp,
        verdict: Verdict,
    },
    /// No attempt was made: the delivery is in this state now, for this reason.
    Untried {
        state: DeliveryState,
        why: Option<String>,
    },
    /// The worker is stopping: another one, or this one after its restart, begins anew.
    Stopping,
    /// The handling panicked: a bug of Posthaste, not a fault of the endpoint.
    Panicked,
}

impl Ending {
    fn untried(state: DeliveryState) -> Self {
        Self::Untried { state, why: None }
    }
}

impl Pipeline {
    /// One attempt at a delivery, or the reason why there is none; recorded either way, unless the
    /// worker stops.
    async fn deliver(&self, mut job: Job) {
        let span = spans::attempt(&self.services.tracer, &job);
        // Without this a panic would end the task and leave the message unacknowledged until the
        // connection closes; then its redelivery would panic again.
        let ending = match AssertUnwindSafe(self.steps(&mut job, &span))
            .catch_unwind()
            .await
        {
            Ok(Ok(ending) | Err(ending)) => ending,
            Err(_) => Ending::Panicked,
        };
        self.settle(job, span, ending).await;
    }

    /// The steps of a delivery, in their order. An `Err` is an ending before the last step.
    async fn steps(&self, job: &mut Job, span: &Span) -> Result<Ending, Ending> {
        // Before admission: an expired delivery needs no slot.
        self.refuse_expired(job)?;
        let permit = self.admit(job).await?;
        // Waiting for admission took time.
        let begun = self.refuse_expired(job)?;
        // Where there is no attempt the permit is dropped, which says nothing about the endpoint.
        let finished = self.exchange(job, begun, span).await?;
        // The slot is for the request alone. The recorder may have to wait for the store, and other
        // endpoints must not wait with it.
        self.release(job, permit, &finished);
        let verdict = decide(
            &finished.outcome,
            &job.endpoint.retry,
            AttemptFacts {
                number: job.delivery.next_attempt_in_round(),
                expires_at: job.delivery.expires_at,
                now: finished.over,
                jitter: chance::fraction(),
            },
        );
        // Here and not in `settle`: this reads what the receiver sent, so that it is where a panic
        // would come from, and a panic must not leave the message unacknowledged.
        let attempt = Box::new(self.attempt(job, &finished, begun));
        Ok(Ending::Attempted {
            finished,
            attempt,
            begun,
            verdict,
        })
    }

    /// What time it is, if the delivery may still be sent.
    fn refuse_expired(&self, job: &Job) -> Result<Timestamp, Ending> {
        let now = self.services.clock.now();
        let expired = job.notification.is_expired(now);
        if expired {
            Err(Ending::untried(DeliveryState::Expired { at: now }))
        } else {
            Ok(now)
        }
    }

    /// Parks the delivery, unless it has expired.
    fn park(&self, job: &Job, why: Hold) -> Ending {
        self.refuse_expired(job).map_or_else(
            |expired| expired,
            |_| Ending::untried(conclude::parked(why)),
        )
    }

    async fn admit(&self, job: &mut Job) -> Result<Permit, Ending> {
        let from = if matches!(job.ack, AckHandle::Lease(_)) {
            From::Store
        } else {
            From::broker(job.notification.priority)
        };
        // Waiting longer than until the expiry would be of no use.
        let limit = job
            .notification
            .expires_at
            .map(|at| at.since(self.services.clock.now()));
        match self.admission.admit(&job.endpoint, from, limit).await {
            Admitted::Go(permit) => {
                // No longer in line: the next delivery of the same notification may take its place
                // there.
                drop(job.waiting.take());
                Ok(permit)
            }
            Admitted::Hold(why) => Err(self.park(job, why)),
            Admitted::Stopping => Err(Ending::Stopping),
        }
    }

    /// Render, sign, send, classify.
    async fn exchange(
        &self,
        job: &Job,
        begun: Timestamp,
        span: &Span,
    ) -> Result<Box<FinishedAttempt>, Ending> {
        let in_flight = self.services.metrics.attempt_in_flight();
        let end = self
            .attempter
            .attempt(&subject(job), job.kept.as_ref(), begun, span)
            .await;
        drop(in_flight);
        match end {
            AttemptEnd::Finished(finished) => Ok(finished),
            AttemptEnd::Skipped { skip, .. } => Err(Ending::Untried {
                state: DeliveryState::Cancelled { at: begun },
                why: Some(skip.to_string()),
            }),
            AttemptEnd::Unwritable(error) => {
                let state = DeliveryState::Failed {
                    at: begun,
                    reason: FailureReason::RenderError,
                };
                Err(Ending::Untried {
                    state,
                    why: Some(error.to_string()),
                })
            }
            AttemptEnd::Busy => {
                // Parked alone, it would be released at the next look, at most 200 ms later, and
                // find the script as busy as now.
                self.admission
                    .pause(&job.endpoint.id, SCRIPT_PAUSE, Hold::Scripts);
                Err(self.park(job, Hold::Scripts))
            }
            AttemptEnd::TooSoon(rate) => {
                self.admission.cap_rate(&job.endpoint.id, Some(rate));
                Err(Ending::untried(conclude::parked(Hold::RateLimit)))
            }
        }
    }

    /// Frees the slot, and tells admission how the endpoint does.
    fn release(&self, job: &Job, permit: Permit, finished: &FinishedAttempt) {
        let end = End::of(
            &finished.outcome,
            finished.status_code,
            finished.duration,
            chance::fraction(),
        );
        let Some(end) = end else {
            return;
        };
        let endpoint = &job.endpoint.id;
        if let Some(pause) = end.pause {
            self.reports.put(HealthChange::Paused {
                endpoint: endpoint.clone(),
                until: finished.over.after(pause),
            });
        }
        let Some(change) = permit.ended(end) else {
            return;
        };
        let error = finished.outcome.error().map(|error| error.text.as_str());
        self.reports.put(health_change(job, finished, change));
        match change {
            Change::Opened {
                first: true,
                failures,
                ..
            } => tracing::warn!(
                endpoint.id = %endpoint,
                failures,
                error,
                "the endpoint fails: it gets only a probe now and then until it answers again"
            ),
            Change::Opened { length, .. } => tracing::debug!(
                endpoint.id = %endpoint,
                next_probe_in = ?length,
                "the endpoint still fails"
            ),
            Change::Closed => tracing::info!(
                endpoint.id = %endpoint,
                "the endpoint answers again"
            ),
        }
    }

    /// Records how it ended, closes the span, and has the message acknowledged once the record is
    /// in the store.
    async fn settle(&self, job: Job, mut span: Span, ending: Ending) {
        match ending {
            // The message goes back to the broker, or the lease to the store.
            Ending::Stopping => span.discard(),
            Ending::Untried { state, why } => {
                let record = conclude::untried(job.delivery, job.before, state, why);
                spans::untried(span, &record, &job.ack);
                self.recorder
                    .put(Finished {
                        record,
                        ack: job.ack,
                    })
                    .await;
            }
            Ending::Attempted {
                finished,
                attempt,
                begun,
                verdict,
            } => {
                self.note(&job, &attempt, &finished, begun);
                let whole = (*attempt, &finished.outcome, verdict);
                let record = conclude::attempted(
                    job.delivery,
                    job.before,
                    &job.endpoint,
                    whole,
                    finished.over,
                    self.events,
                );
                let record = Record {
                    kept: finished.keep,
                    ..record
                };
                spans::attempted(span, &record);
                self.recorder
                    .put(Finished {
                        record,
                        ack: job.ack,
                    })
                    .await;
            }
            Ending::Panicked => {
                span.fail(FailureReason::Internal.as_str());
                self.settle_panicked(job).await;
            }
        }
    }

    /// A delivery whose handling panics is poison: its message goes to the dead-letter queue, or,
    /// where it came from the store, it fails.
    async fn settle_panicked(&self, job: Job) {
        tracing::error!(
            "the handling of a delivery panicked; please report this as a bug of Posthaste"
        );
        let detail = "handling it panicked; the worker's log has the place";
        match job.ack {
            AckHandle::Message(pending, in_flight) => {
                drop(in_flight);
                let reason = DeadReason::Poisonous;
                dead_letter(
                    self.services.broker.as_ref(),
                    &self.services.metrics,
                    &pending.message,
                    reason,
                    detail,
                )
                .await;
                // Only the last delivery of the message acknowledges it. The others go on.
                if let Some(tag) = pending.settle_one() {
                    self.recorder.ack(tag).await;
                }
            }
            ack @ (AckHandle::Lease(_) | AckHandle::Nobody) => {
                let record = conclude::internal(
                    job.delivery,
                    job.before,
                    self.services.clock.now(),
                    detail.to_owned(),
                );
                self.recorder.put(Finished { record, ack }).await;
            }
        }
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
                // A hard stop drops the delivery where it is. Its request may have been received,
                // and goes out again elsewhere: at least once, not at most once. Dropping the job
                // leaves its message unacknowledged, or puts its lease on the list to be released.
                tokio::select! {
                    // The stop first: what is cut off does nothing more.
                    biased;
                    () = pipeline.hard_stop.cancelled() => {}
                    () = pipeline.deliver(job) => {}
                }
            }
            .instrument(span),
        );
    }

    fn attempt(&self, job: &Job, finished: &FinishedAttempt, begun: Timestamp) -> Attempt {
        Attempt {
            number: job.delivery.attempt_count + 1,
            round: job.delivery.round,
            started_at: begun,
            duration: finished.duration,
            phases: finished.phases,
            result: finished.result,
            status_code: finished.status_code,
            error: finished.outcome.error().cloned(),
            response_body: finished.shown_body(),
            resolved_address: finished.address.clone(),
            request_headers: finished
                .request
                .as_ref()
                .map(|request| request.shown_headers().to_vec())
                .unwrap_or_default(),
            worker: self.worker.clone(),
            console: finished.console.clone(),
        }
    }

    /// Counts and logs an attempt, and keeps to the rate that the receiver asked for.
    fn note(&self, job: &Job, attempt: &Attempt, finished: &FinishedAttempt, begun: Timestamp) {
        // Later attempts wait by the retry policy, which says nothing about the queue.
        if job.delivery.attempt_count == 0 {
            let ready = job
                .notification
                .deliver_at
                .unwrap_or(job.notification.accepted_at);
            self.services
                .metrics
                .queue_wait
                .observe(begun.since(ready).as_secs_f64());
        }
        // `None` lifts the limit that an earlier answer asked for.
        self.admission
            .cap_rate(&job.endpoint.id, finished.rate_per_second);
        self.services
            .metrics
            .attempted(job.endpoint.wire_format, attempt.result, attempt.duration);
        let duration_ms = attempt.duration.as_secs_f64() * 1e3;
        let status = attempt.status_code;
        match finished.outcome.error() {
            None => tracing::debug!(duration_ms, status, "delivered"),
            Some(error) => tracing::debug!(
                duration_ms,
                status,
                error.code,
                error.text,
                "the attempt failed"
            ),
        }
    }
}

/// What the other workers, and people, are to know of a breaker's change.
fn health_change(job: &Job, finished: &FinishedAttempt, change: Change) -> HealthChange {
    let endpoint = job.endpoint.id.clone();
    let error = finished.outcome.error();
    let last_error = error.map_or_else(String::new, |error| error.text.clone());
    match change {
        Change::Opened {
            length,
            first: true,
            failures,
        } => HealthChange::Opened {
            endpoint,
            until: finished.over.after(length),
            failures,
            last_error,
            types: vec![job.delivery.kind.clone()],
        },
        Change::Opened { length, .. } => HealthChange::Renewed {
            endpoint,
            until: finished.over.after(length),
            last_error,
        },
        Change::Closed => HealthChange::Recovered { endpoint },
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
