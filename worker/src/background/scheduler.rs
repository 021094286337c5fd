//! Takes deliveries that wait in the store when their time has come, and starts them. Every worker
//! does so; a lease keeps two from taking the same delivery.
//!
//! 1. **Due** (`run_due`): retries, scheduled deliveries and leases that have ended, the longest
//!    due first, up to 500 at a time and no more than admission can use. Looked for when this
//!    worker has recorded something that is due earlier, and every 250 ms for what others recorded;
//!    after a step that found work, 20 ms later. Deliveries that have expired are finished first.
//! 2. **Parked** (`run_parked`): [`super::parked`] has its rules.
//! 3. **Orphans** (`run_orphans`): every second, pending deliveries of deleted endpoints fail
//!    (`endpoint_deleted`), up to 500 at a time.
//! 4. **Disabled** (`run_disabled`): every 5 s, where `disabled_max_age` is set, what has waited
//!    for longer for a disabled endpoint expires, up to 500 at a time.
//! 5. **Lease**: the endpoint's timeout and 10 s more. It lets another worker take over from one
//!    that died. It does not prove that the first is dead: a slow worker may still send. Then both
//!    send, and the first result that is recorded counts.
//! 6. **The store is down**: tried again after a second.
//!
//! Each wait of a pending delivery in the store (`release` makes it a `retry` that is due now):
//!
//! | wait | moved in by | moved on by | after a crash |
//! | --- | --- | --- | --- |
//! | `in_flight` | a claim | the recorder; `release` | due when its lease ends |
//! | `retry` | the recorder; a retry or replay; `release` | `claim_due` | nothing changes |
//! | `scheduled` | the fan-out, for a later `deliver_at` | `claim_due` | nothing changes |
//! | `parked` | the recorder, where admission held it | `claim_parked` | nothing changes |
//!
//! Out of each it may also expire (`expire_due`), fail as an orphan (`fail_orphans`) or be
//! cancelled; the first two leave a running lease alone. A delivery on its way from the broker has
//! no row until its first result is recorded: a crash before that makes the broker redeliver its
//! message.

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::domain::delivery::{Delivery, DeliveryState, FailureReason, Hold};
use posthaste_shared::repeat::{until_stopped, until_stopped_or_woken};
use posthaste_shared::store::claims::Claimed;
use posthaste_shared::store::outage::away;
use posthaste_shared::store::record::Before;
use posthaste_shared::store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::pipeline::conclude;
use crate::pipeline::deliver::Pipeline;
use crate::pipeline::endpoints::{EndpointCache, EndpointSet};
use crate::pipeline::job::{AckHandle, Job};
use crate::pipeline::record::Finished;
use crate::pipeline::wake::Wake;

/// How much longer than its endpoint's timeout the lease of a claimed delivery lasts: the wait for
/// admission (at most 5 s, `SLOT_PATIENCE`) and the time to record. Then another worker takes the
/// delivery, should this one have died.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// How often the store is asked for what other processes recorded.
const POLL: Duration = Duration::from_millis(250);
/// The shortest pause between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// How often deliveries of deleted endpoints are looked for.
const ORPHANS: Duration = Duration::from_secs(1);
/// How often work that waited for too long for a disabled endpoint is looked for.
const DISABLED: Duration = Duration::from_secs(5);
/// How long after an error the store is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// The most deliveries taken in one step.
pub(super) const STEP: u32 = 500;

/// A worker's sense of time.
pub struct Scheduler {
    /// Attempts the deliveries that are due.
    pub pipeline: Arc<Pipeline>,
    /// The store in which deliveries wait.
    pub store: Store,
    /// The endpoints that deliveries go to.
    pub endpoints: Arc<EndpointCache>,
    /// Wakes the scheduler for a due time that this worker has recorded.
    pub wake: Wake,
    /// Cancelled when the worker stops; every loop returns after its current step.
    pub stopping: CancellationToken,
    /// The age at which a delivery for a disabled endpoint expires; `None`: it does not by that.
    pub disabled_max_age: Option<Duration>,
}

impl Scheduler {
    /// Looks after all of it until told to stop.
    pub async fn run(&self) {
        // Loops that do not wait for each other: a long look at parked deliveries must not delay
        // retries.
        tokio::join!(
            self.run_due(),
            self.run_parked(),
            self.run_orphans(),
            self.run_disabled()
        );
    }

    /// Looks after due retries, schedules and expiries until told to stop.
    pub async fn run_due(&self) {
        // A short pause after the wake-up: what one batch of results makes due is then taken in one
        // step.
        let woken = || async {
            self.wake.until_due_changes().await;
            tokio::time::sleep(PAUSE).await;
        };
        until_stopped_or_woken(&self.stopping, woken, || async {
            match self.due_step().await {
                Ok(done) if done > 0 => PAUSE,
                Ok(_) => self.until_next().await,
                Err(error) => self.failed("due deliveries", &error),
            }
        })
        .await;
    }

    /// Fails what waits for endpoints that were deleted, until told to stop.
    pub async fn run_orphans(&self) {
        until_stopped(&self.stopping, || async {
            let now = self.pipeline.services.clock.now();
            match self.store.fail_orphans(now, STEP).await {
                Ok(orphans) => {
                    self.ended(&orphans);
                    if orphans.len() == STEP as usize {
                        PAUSE
                    } else {
                        ORPHANS
                    }
                }
                Err(error) => self.failed("deliveries of deleted endpoints", &error),
            }
        })
        .await;
    }

    /// Expires what has waited for too long for a disabled endpoint, until told to stop.
    async fn run_disabled(&self) {
        let Some(age) = self.disabled_max_age else {
            return;
        };
        until_stopped(&self.stopping, || async {
            let now = self.pipeline.services.clock.now();
            match self.store.expire_disabled(now.before(age), now, STEP).await {
                Ok(expired) => {
                    self.ended(&expired);
                    if expired.len() == STEP as usize {
                        PAUSE
                    } else {
                        DISABLED
                    }
                }
                Err(error) => self.failed("deliveries of disabled endpoints", &error),
            }
        })
        .await;
    }

    /// One look at what is due: expiries, then attempts. Returns how many deliveries it moved.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn due_step(&self) -> Result<usize, StoreError> {
        let now = self.pipeline.services.clock.now();
        // A read first: looking for work that is not there takes no lock.
        if self.store.next_due().await?.is_none_or(|next| next > now) {
            return Ok(0);
        }
        // Expiries first: they need no slot, and so go on while every slot is taken.
        let expired = self.store.expire_due(now, STEP).await?;
        self.ended(&expired);
        let worth = u32::try_from(self.pipeline.admission.worth_taking())
            .unwrap_or(u32::MAX)
            .min(STEP);
        if worth == 0 {
            return Ok(expired.len());
        }
        // Before claiming: what is claimed must not be left lying because this fails.
        let endpoints = self.endpoints.refresh().await?;
        // No more than this worker can use soon: what it claims and cannot send is kept from all
        // others until the lease ends.
        let claimed = self.store.claim_due(now, LEASE_MARGIN, worth).await?;
        let taken = claimed.len();
        self.begin(claimed, &endpoints).await;
        Ok(expired.len() + taken)
    }

    /// Starts what was claimed. What has no endpoint any more is left to `fail_orphans`.
    pub(super) async fn begin(&self, claimed: Vec<Claimed>, endpoints: &EndpointSet) {
        for Claimed {
            delivery,
            notification,
            kept,
            lease_until,
        } in claimed
        {
            // `None`: the delivery outlived its first lease in this worker and is still in flight.
            // It is not started twice. Its result counts if it is recorded first, and the lease
            // that was just claimed ends by itself.
            let Some(in_flight) = self.pipeline.in_flight.take(delivery.id, Some(lease_until))
            else {
                continue;
            };
            // The store takes the result only if the delivery is still pending with these counts:
            // of two workers that attempted it, one after the lease of the other had ended, the
            // first to record wins.
            let before = Before::Known {
                round: delivery.round,
                attempt_count: delivery.attempt_count,
            };
            let ack = AckHandle::Lease(in_flight);
            let Some(endpoint) = endpoints.get(&delivery.endpoint_id) else {
                // Deleted otherwise. Dropping `ack` releases the lease then, and `fail_orphans`
                // fails the delivery.
                if endpoints.is_unreadable(&delivery.endpoint_id) {
                    let record =
                        conclude::untried(delivery, before, conclude::parked(Hold::Disabled), None);
                    self.pipeline.recorder.put(Finished { record, ack }).await;
                }
                continue;
            };
            // It was parked for an endpoint that its worker could not read, and so could not know
            // the tenant of.
            if endpoint.tenant != delivery.tenant {
                let state = DeliveryState::Failed {
                    at: self.pipeline.services.clock.now(),
                    reason: FailureReason::EndpointDeleted,
                };
                let why = "the endpoint belongs to another tenant".to_owned();
                let record = conclude::untried(delivery, before, state, Some(why));
                self.pipeline.recorder.put(Finished { record, ack }).await;
                continue;
            }
            self.pipeline.start(Job {
                delivery,
                notification,
                endpoint,
                kept,
                before,
                ack,
                waiting: None,
            });
        }
    }

    fn ended(&self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            self.pipeline
                .services
                .metrics
                .finished(delivery.wire_format, delivery.state.status());
        }
        if !deliveries.is_empty() {
            self.wake.events();
        }
    }

    /// How long there is nothing to do, as far as is known.
    async fn until_next(&self) -> Duration {
        let known = self.wake.take_earliest();
        // The store knows what other workers recorded, and what was recorded before a restart. An
        // error counts as nothing known: the next step meets it again and logs it.
        let stored = self.store.next_due().await.ok().flatten();
        let next = known.into_iter().chain(stored).min();
        next.map_or(POLL, |at| at.since(self.pipeline.services.clock.now()))
            .clamp(PAUSE, POLL)
    }

    pub(super) fn failed(&self, what: &str, error: &StoreError) -> Duration {
        away(&self.pipeline.services.metrics, what, error);
        AGAIN
    }
}
