//! What a worker says of itself, and its counts of attempts: both go to the store every 10 s.
//!
//! 1. **In parts.** Up to 1,000 minutes of endpoints are one report, a transaction. Where there is
//!    more, the next follows after a pause: at most a quarter of the store's time.
//! 2. **The store is down.** The report is sent again, with its number, so that one whose answer
//!    was lost is not added twice. What is counted meanwhile stays in memory, up to a bound.
//! 3. **The end.** The last report follows when every result is recorded, and then the worker is
//!    forgotten. Whoever is killed leaves its last report for a day, and loses what it counted
//!    since.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::domain::members::WorkerId;
use posthaste_shared::domain::stats::MinuteOfEndpoint;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::repeat::{every, pause};
use posthaste_shared::services::Services;
use posthaste_shared::store::StoreError;
use posthaste_shared::store::outage::away;
use posthaste_shared::store::worker_reports::WorkerReport;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pipeline::admit::Admission;
use crate::pipeline::stats::Stats;

/// How often the worker reports.
const EVERY: Duration = Duration::from_secs(10);
/// The most minutes of endpoints in a report.
const PART: usize = 1_000;
/// The most endpoints at a limit that are named.
const AT_LIMIT: usize = 100;
/// How long the last report may take.
const LAST: Duration = Duration::from_secs(2);

/// Reports what the worker counted.
pub struct Reporting {
    /// The store that it goes to, and the clock.
    pub services: Services,
    /// What the recorder counted.
    pub stats: Arc<Stats>,
    /// Knows what is in flight, and which endpoints are at their limit.
    pub admission: Admission,
    /// This run of the worker.
    pub worker: WorkerId,
    /// What the operator calls the worker.
    pub name: String,
    /// Attempts that may be under way at once.
    pub slots: usize,
    /// When the worker started.
    pub started_at: Timestamp,
    /// Cancelled when the worker stops.
    pub stopping: CancellationToken,
    /// What is to be sent.
    pub outgoing: Mutex<Outgoing>,
}

/// What is to be sent, and what was.
#[derive(Debug, Default)]
pub struct Outgoing {
    minutes: VecDeque<MinuteOfEndpoint>,
    /// How many of them the report has that may be in the store although no answer came.
    begun: Option<usize>,
    /// The number of the last report that is in the store.
    sequence: i64,
}

impl Reporting {
    /// Reports until told to stop.
    pub async fn run(&self) {
        // At once: people look for a worker that they have just started.
        self.report().await;
        every(&self.stopping, EVERY, || self.report()).await;
    }

    /// The last report of a worker that stops, when nothing is counted any more.
    pub async fn end(&self) {
        let last = async {
            self.report().await;
            // What could not be sent is lost, and the report says until when there are counts.
            if self.outgoing.lock().await.minutes.is_empty() {
                let removed = self.services.store.remove_worker_report(self.worker);
                self.note(removed.await);
            }
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("the last statistics of the worker could not be kept in time");
        }
    }

    async fn report(&self) {
        let sent = self.send().await;
        self.note(sent);
    }

    fn note(&self, result: Result<(), StoreError>) {
        if let Err(error) = result {
            away(&self.services.metrics, "statistics", &error);
        }
    }

    async fn send(&self) -> Result<(), StoreError> {
        let mut outgoing = self.outgoing.lock().await;
        // Only when nothing waits: so the bound of what is counted bounds this, too.
        if outgoing.minutes.is_empty() {
            let taken = self.stats.take();
            if taken.left_out > 0 {
                tracing::warn!(
                    attempts = taken.left_out,
                    "attempts are missing in the statistics: too many endpoints at once, or the \
                     store was away for too long"
                );
            }
            outgoing.minutes.extend(taken.minutes);
        }
        loop {
            let began = Instant::now();
            self.send_part(&mut outgoing).await?;
            if outgoing.minutes.is_empty() {
                return Ok(());
            }
            // At the stop the pause ends at once, and the rest is sent without any.
            pause(&self.stopping, 3 * began.elapsed()).await;
        }
    }

    async fn send_part(&self, outgoing: &mut Outgoing) -> Result<(), StoreError> {
        // A report that is sent again has to have what it had: only whether its number is known
        // tells whether its counts are.
        let part = outgoing
            .begun
            .unwrap_or_else(|| outgoing.minutes.len().min(PART));
        outgoing.begun = Some(part);
        let (in_flight, at_limit) = self.admission.standing(AT_LIMIT);
        let report = WorkerReport {
            worker: self.worker,
            name: &self.name,
            version: env!("CARGO_PKG_VERSION"),
            slots: count(self.slots),
            in_flight: count(in_flight),
            at_limit: &at_limit,
            started_at: self.started_at,
            sequence: outgoing.sequence + 1,
        };
        let minutes = &outgoing.minutes.make_contiguous()[..part];
        let now = self.services.clock.now();
        match self
            .services
            .store
            .report_worker(&report, minutes, now)
            .await
        {
            Ok(_) => {}
            // It would be refused again, and hold up all that follow.
            Err(error) if error.is_about_data() => {
                tracing::error!(%error, "the store refuses statistics; they are dropped");
            }
            Err(error) => return Err(error),
        }
        outgoing.minutes.drain(..part);
        outgoing.sequence += 1;
        outgoing.begun = None;
        Ok(())
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
