//! Slow work beside the deliveries: gauges, endpoints that fail for too long, replays, retention.

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::repeat::{every, pause, until_stopped};
use posthaste_shared::services::Services;
use posthaste_shared::store::StoreError;
use posthaste_shared::store::outage::away;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pipeline::admit::Admission;
use crate::pipeline::health::Health;
use crate::pipeline::wake::Wake;

/// How often the gauges are read.
const GAUGES: Duration = Duration::from_secs(5);
/// The pause between two looks is at least this many times as long as a look took.
const GAUGES_SHARE: u32 = 100;
/// How often the endpoints' health is written down.
const HEALTH: Duration = Duration::from_secs(5);
/// How often replays are looked for.
const REPLAYS: Duration = Duration::from_millis(500);
/// A replay goes on while fewer deliveries than this are due: it must not hold up other work, and a
/// cancelled one should not have everything in line already.
const REPLAY_AHEAD: u32 = 5_000;
/// How often what is too old is looked for.
const RETENTION: Duration = Duration::from_secs(60);
/// The least pause between two steps of removing.
const RETENTION_PAUSE: Duration = Duration::from_millis(50);
/// How long it is remembered that an endpoint recovered: much longer than any worker takes to read
/// it.
const CLEAR_HEALTH: Duration = Duration::from_secs(3600);
/// How long after its last turn what is kept of an endpoint's rate limit is removed.
const IDLE_TURNS: Duration = Duration::from_secs(3600);
/// How often tables for the attempts of the coming days are created; they exist for a week ahead.
const PARTITIONS: Duration = Duration::from_secs(3600);
/// How long roll-ups by the minute are kept; those by the hour as long as finished deliveries.
const MINUTES: Duration = Duration::from_secs(48 * 3600);
/// How long it is remembered that a worker fell silent.
const SILENT: Duration = Duration::from_secs(24 * 3600);
/// The most rows removed or replayed in one step: a few milliseconds' work for the database.
const STEP: u32 = 500;

/// Bounds of what is kept.
#[derive(Debug, Clone, Copy)]
pub struct MaintenanceSettings {
    /// How long finished deliveries are kept. Default 30 days.
    pub retention: Duration,
    /// How long idempotency keys are kept. Default a day.
    pub idempotency_retention: Duration,
    /// How long all attempts at an endpoint may fail before it is disabled. Default 5 days.
    pub disable_after: Duration,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            retention: 30 * day,
            idempotency_retention: day,
            disable_after: 5 * day,
        }
    }
}

/// What the slow work needs.
pub struct Maintenance {
    /// Store, broker and clock; and the metrics, whose gauges are set here.
    pub services: Services,
    /// Which endpoints are at their limit.
    pub admission: Admission,
    /// The successes and failures of endpoints that the recorder has seen since the last look.
    pub health: Arc<Health>,
    /// Wakes the scheduler for replayed deliveries and the relay for new events.
    pub wake: Wake,
    /// How long data is kept, and how long an endpoint may fail.
    pub settings: MaintenanceSettings,
    /// Cancelled when the worker stops; every loop returns then.
    pub stopping: CancellationToken,
}

impl Maintenance {
    /// All of it, until told to stop.
    pub async fn run(&self) {
        // A loop each: removing old rows can take minutes, and the gauges must not stand still
        // meanwhile.
        tokio::join!(
            self.run_gauges(),
            self.run_health(),
            self.run_replays(),
            self.run_retention(),
            self.run_partitions()
        );
    }

    async fn run_gauges(&self) {
        until_stopped(&self.stopping, || async {
            let begun = Instant::now();
            self.note("the gauges", self.gauges().await);
            // Counting a million rows takes longer than counting none. Whatever waits, the gauges
            // cost the store at most a hundredth of its time.
            GAUGES.max(begun.elapsed() * GAUGES_SHARE)
        })
        .await;
    }

    async fn run_health(&self) {
        every(&self.stopping, HEALTH, || async {
            self.note("the endpoints' health", self.health().await);
        })
        .await;
    }

    async fn run_replays(&self) {
        every(&self.stopping, REPLAYS, || async {
            self.note("replays", self.replays().await);
        })
        .await;
    }

    async fn run_retention(&self) {
        every(&self.stopping, RETENTION, || async {
            self.note("retention", self.retention().await);
        })
        .await;
    }

    async fn run_partitions(&self) {
        // Before the first pause: a new store needs its tables now.
        until_stopped(&self.stopping, || async {
            let now = self.services.clock.now();
            let prepared = self.services.store.prepare_partitions(now).await;
            // After an error again in a minute, not in an hour.
            let next = if prepared.is_ok() {
                PARTITIONS
            } else {
                RETENTION
            };
            self.note("the tables of attempts", prepared.map(drop));
            next
        })
        .await;
    }

    /// An error costs nothing but time: the next round of the loop begins anew.
    fn note(&self, what: &str, result: Result<(), StoreError>) {
        if let Err(error) = result {
            away(&self.services.metrics, what, &error);
        }
    }

    /// Reads what the gauges show.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn gauges(&self) -> Result<(), StoreError> {
        let now = self.services.clock.now();
        let backlog = self.services.store.backlog(now).await?;
        let pending = &self.services.metrics.pending;
        pending
            .with_label_values(&["ready"])
            .set(gauge(backlog.ready));
        pending
            .with_label_values(&["scheduled"])
            .set(gauge(backlog.scheduled));
        pending
            .with_label_values(&["parked"])
            .set(gauge(backlog.parked));
        let age = backlog.oldest_due.map_or(0, |due| now.since(due).as_secs());
        self.services.metrics.oldest_due_age.set(gauge(age));
        self.services
            .metrics
            .outbox_pending
            .set(gauge(self.services.store.outbox_pending().await?));
        let age = self
            .services
            .store
            .outbox_oldest()
            .await?
            .map_or(0, |at| now.since(at).as_secs());
        self.services.metrics.outbox_oldest_age.set(gauge(age));
        let (enabled, disabled) = self.services.store.endpoint_counts().await?;
        // The one number comes from this worker's memory, the other from the store, at different
        // times: without the bound the difference below could be negative.
        let (limited, open) = self.admission.counts();
        let open = (open as u64).min(enabled);
        let limited = (limited as u64).min(enabled - open);
        let endpoints = &self.services.metrics.endpoints;
        endpoints
            .with_label_values(&["admitting"])
            .set(gauge(enabled - limited - open));
        endpoints.with_label_values(&["open"]).set(gauge(open));
        endpoints
            .with_label_values(&["limited"])
            .set(gauge(limited));
        endpoints
            .with_label_values(&["disabled"])
            .set(gauge(disabled));
        // While the broker does not answer, the gauges of its queues keep their last values.
        for (queue, depth) in self.services.broker.depths().await.unwrap_or_default() {
            self.services
                .metrics
                .queue_messages
                .with_label_values(&[queue])
                .set(gauge(depth));
        }
        Ok(())
    }

    /// Writes down which endpoints fail, and disables those that have for too long.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn health(&self) -> Result<(), StoreError> {
        let (failing, healthy) = self.health.take();
        if (!failing.is_empty() || !healthy.is_empty())
            && let Err(error) = self.services.store.note_health(&failing, &healthy).await
        {
            // A success that is forgotten would leave an endpoint failing that is not.
            self.health.put_back(&failing, &healthy);
            return Err(error);
        }
        let now = self.services.clock.now();
        // Only endpoints that failed since the last look: one that failed once and was not called
        // since is not to be disabled for the time that went by.
        let failing: Vec<_> = failing.into_iter().map(|(endpoint, _)| endpoint).collect();
        let warnings =
            self.services
                .store
                .warn_of_disabling(self.settings.disable_after, &failing, now);
        if warnings.await? > 0 {
            self.wake.events();
        }
        for endpoint in self
            .services
            .store
            .disable_failing(now.before(self.settings.disable_after), &failing, now)
            .await?
        {
            tracing::warn!(
                endpoint.id = %endpoint.id,
                "the endpoint is disabled, because all attempts at it have failed for too long"
            );
            self.wake.events();
        }
        Ok(())
    }

    async fn replays(&self) -> Result<(), StoreError> {
        let Services { store, clock, .. } = &self.services;
        while !self.stopping.is_cancelled()
            // Asked before each step, which makes up to 500 deliveries due.
            && store.due(clock.now(), REPLAY_AHEAD).await? < u64::from(REPLAY_AHEAD)
            && store.step_replay(clock.now(), STEP).await?.is_some()
        {
            self.wake.due(clock.now());
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn retention(&self) -> Result<(), StoreError> {
        let now = self.services.clock.now();
        let (before, keys_before) = (
            now.before(self.settings.retention),
            now.before(self.settings.idempotency_retention),
        );
        loop {
            let begun = Instant::now();
            if self.stopping.is_cancelled()
                || self
                    .services
                    .store
                    .remove_finished(before, keys_before, STEP)
                    .await?
                    == 0
            {
                break;
            }
            // Deliveries come first: at most a quarter of the time, and less where the database is
            // busy.
            if !pause(&self.stopping, RETENTION_PAUSE.max(3 * begun.elapsed())).await {
                break;
            }
        }
        self.remove_stats(now).await?;
        if self.stopping.is_cancelled() {
            return Ok(());
        }
        self.services.store.remove_partitions(before).await?;
        // Small tables: a row for each endpoint that is not well.
        let idle = now.before(CLEAR_HEALTH);
        let turns = now.before(IDLE_TURNS);
        while !self.stopping.is_cancelled()
            && self.services.store.remove_idle_turns(turns, STEP).await? == u64::from(STEP)
        {
        }
        while !self.stopping.is_cancelled()
            && self.services.store.remove_clear_health(idle, STEP).await? == u64::from(STEP)
        {
        }
        Ok(())
    }

    /// Removes roll-ups that are too old, and what silent workers said.
    async fn remove_stats(&self, now: Timestamp) -> Result<(), StoreError> {
        let minutes = now.before(MINUTES);
        let hours = now.before(self.settings.retention);
        let silent = now.before(SILENT);
        while !self.stopping.is_cancelled() {
            let begun = Instant::now();
            let store = &self.services.store;
            let removed = store.remove_stats(minutes, hours, silent, STEP);
            if removed.await? == 0 {
                break;
            }
            pause(&self.stopping, RETENTION_PAUSE.max(3 * begun.elapsed())).await;
        }
        Ok(())
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
