//! What workers know of endpoints' health, in both directions.
//!
//! 1. **Out.** Breakers that open or close here and pauses that endpoints ask for go to the store,
//!    up to 100 at a time: it makes an event of each change, however many workers report it.
//! 2. **In.** Every 500 ms the changes that other workers reported are read: an endpoint that asked
//!    one worker for a pause gets it from all, and one that failed for one worker is called by the
//!    others only once its breaker lets a probe through, beginning slowly. One that answers again,
//!    or that somebody enabled or gave another URL, is called at once, beginning slowly as well.
//! 3. **The store is down.** Reports wait and are tried again after a second.

use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::health::{EndpointHealth, HealthChange};
use posthaste_shared::services::Services;
use posthaste_shared::store::StoreError;
use posthaste_shared::store::outage::away;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pipeline::admit::Admission;
use crate::pipeline::wake::Wake;

/// How often other workers' reports are read.
const POLL: Duration = Duration::from_millis(500);
/// How long after an error reports are tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest pause that is kept to: the longest that an endpoint can ask for, with its jitter.
const PAUSE_LONGEST: Duration = Duration::from_secs(3960);
/// The most reports written at once.
const BATCH: usize = 100;

/// What passes on endpoints' health.
pub struct HealthExchange {
    /// The store that keeps it, and the clock.
    pub services: Services,
    /// What this worker's deliveries report.
    pub reports: mpsc::Receiver<HealthChange>,
    /// Keeps to what other workers report.
    pub admission: Admission,
    /// Wakes the relay for the events.
    pub wake: Wake,
    /// How long an endpoint may fail before it is disabled, for the events.
    pub disable_after: Duration,
    /// The longest that a breaker stays open between two probes.
    pub open_max: Duration,
    /// Cancelled when the worker stops.
    pub stopping: CancellationToken,
}

impl HealthExchange {
    /// Passes reports on until told to stop.
    pub async fn run(mut self) {
        let mut version = 0;
        let mut reports = Vec::new();
        let mut poll_at = Instant::now();
        loop {
            // Reports first: what is read next has them in it.
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                read = self.reports.recv_many(&mut reports, BATCH), if reports.is_empty() => {
                    if read == 0 {
                        return;
                    }
                }
                () = tokio::time::sleep_until(poll_at) => {}
            }
            let done = match self.write(&mut reports).await {
                Ok(()) if Instant::now() >= poll_at => self.read(&mut version).await,
                other => other,
            };
            match done {
                Ok(()) if Instant::now() >= poll_at => poll_at = Instant::now() + POLL,
                Ok(()) => {}
                Err(error) => {
                    away(
                        &self.services.metrics,
                        "reports of endpoints' health",
                        &error,
                    );
                    // Tried again it would be refused again, and hold up all that follow.
                    if error.is_about_data() {
                        reports.clear();
                    }
                    poll_at = Instant::now() + AGAIN;
                }
            }
        }
    }

    async fn write(&self, reports: &mut Vec<HealthChange>) -> Result<(), StoreError> {
        if reports.is_empty() {
            return Ok(());
        }
        let now = self.services.clock.now();
        let events = self
            .services
            .store
            .report_health(reports, Some(self.disable_after), now)
            .await?;
        reports.clear();
        if events > 0 {
            self.wake.events();
        }
        Ok(())
    }

    async fn read(&self, version: &mut i64) -> Result<(), StoreError> {
        let found = self.services.store.health_changes(*version).await?;
        for health in &found.changes {
            self.keep_to(health);
        }
        *version = found.version;
        Ok(())
    }

    fn keep_to(&self, health: &EndpointHealth) {
        if health.is_clear() {
            self.admission.resume(&health.endpoint);
            return;
        }
        let now = self.services.clock.now();
        let open_until = health.unhealthy.as_ref().map(|one| one.open_until);
        // Bounded, because the time is that of another machine's clock, which may be wrong.
        for (until, why, longest) in [
            (health.paused_until, Hold::RetryAfter, PAUSE_LONGEST),
            (open_until, Hold::Breaker, self.open_max),
        ] {
            // This worker's own reports come back, too; they say what it knows.
            if let Some(left) = until
                .map(|until| until.since(now))
                .filter(|left| !left.is_zero())
            {
                self.admission
                    .pause(&health.endpoint, left.min(longest), why);
            }
        }
    }
}
