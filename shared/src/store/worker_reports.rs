//! What each worker last said of itself, with what it counted.
//!
//! The report of a worker has a number, and what it counted is added to [`super::stats`] in the
//! same transaction. One whose answer was lost is sent again with its number, and adds nothing the
//! second time.

use super::db::{Param, Reader};
use super::{Store, StoreError, stats};
use crate::domain::id::EndpointId;
use crate::domain::members::WorkerId;
use crate::domain::stats::MinuteOfEndpoint;
use crate::domain::time::Timestamp;

/// What a worker says of itself every 10 s.
#[derive(Debug, Clone)]
pub struct WorkerReport<'a> {
    /// The run of the worker.
    pub worker: WorkerId,
    /// What its operator calls it.
    pub name: &'a str,
    /// The version of its program.
    pub version: &'a str,
    /// How many requests it may have in flight.
    pub slots: u32,
    /// How many it has.
    pub in_flight: u32,
    /// Endpoints of which deliveries wait in line, at most 100.
    pub at_limit: &'a [EndpointId],
    /// When it started.
    pub started_at: Timestamp,
    /// The number of this report, from 1.
    pub sequence: i64,
}

/// A worker, as it last said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedWorker {
    /// The run of the worker.
    pub worker: WorkerId,
    /// What its operator calls it.
    pub name: String,
    /// Whether its lease runs: it was seen within 5 s.
    pub alive: bool,
    /// What it said; none from a worker that has just started, or of an older version.
    pub said: Option<Said>,
}

/// What a worker said of itself, within the last 10 s if it is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The version of its program.
    pub version: String,
    /// How many requests it may have in flight.
    pub slots: u32,
    /// How many it had.
    pub in_flight: u32,
    /// Endpoints of which deliveries waited in line, at most 100.
    pub at_limit: Vec<EndpointId>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it said so.
    pub at: Timestamp,
}

impl Store {
    /// Keeps what a worker says of itself, and adds what it has counted. `minutes` are in the order
    /// of minute and endpoint, and are the same whenever a report of that number is sent. Whether
    /// it was the first time. One transaction; for at most 1,000 minutes, to be short.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was added, or it was and its answer was lost: send it again.
    pub async fn report_worker(
        &self,
        report: &WorkerReport<'_>,
        minutes: &[MinuteOfEndpoint],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const REPORT: &str = "-- worker_reports.put
            INSERT INTO worker_reports AS w (worker_id, name, version, slots, in_flight, at_limit,
                started_at, reported_at, sequence)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (worker_id) DO UPDATE SET version = excluded.version,
                slots = excluded.slots, in_flight = excluded.in_flight,
                at_limit = excluded.at_limit, reported_at = excluded.reported_at,
                sequence = excluded.sequence
            WHERE w.sequence < excluded.sequence";
        let params = vec![
            Param::uuid(report.worker.0),
            Param::text(report.name),
            Param::text(report.version),
            Param::count(report.slots),
            Param::count(report.in_flight),
            Param::json(&report.at_limit),
            Param::time(report.started_at),
            Param::time(now),
            Param::int(report.sequence),
        ];
        if minutes.is_empty() {
            return Ok(self.driver.write(REPORT, params).await?.affected > 0);
        }
        let mut tx = self.driver.begin().await?;
        if tx.run(REPORT, params).await?.affected == 0 {
            return Ok(false);
        }
        stats::add(tx.as_mut(), minutes).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Forgets what a worker said of itself: it has stopped, and all that it counted is added.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_worker_report(&self, worker: WorkerId) -> Result<(), StoreError> {
        const SQL: &str =
            "-- worker_reports.remove\nDELETE FROM worker_reports WHERE worker_id = $1";
        let removed = self.driver.write(SQL, vec![Param::uuid(worker.0)]);
        removed.await.map(drop)
    }

    /// The workers that are alive, and those that fell silent within the last day without having
    /// stopped; the alive ones first, by name; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reported_workers(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ReportedWorker>, StoreError> {
        const SQL: &str = "-- worker_reports.list
            SELECT w.id, w.name, CAST(1 AS BIGINT) AS alive, r.version, r.slots, r.in_flight,
                r.at_limit, r.started_at, r.reported_at
            FROM workers w LEFT JOIN worker_reports r ON r.worker_id = w.id
            WHERE w.lease_until > $1
            UNION ALL
            SELECT r.worker_id, r.name, CAST(0 AS BIGINT) AS alive, r.version, r.slots,
                r.in_flight, r.at_limit, r.started_at, r.reported_at
            FROM worker_reports r
            WHERE NOT EXISTS (SELECT 1 FROM workers w
                WHERE w.id = r.worker_id AND w.lease_until > $1)
            ORDER BY 3 DESC, 2, 1 LIMIT $2";
        let now = self.clock_of_database(now).await?;
        let params = vec![Param::time(now), Param::count(limit)];
        let rows = self.driver.read(SQL, params).await?.rows.into_iter();
        rows.map(|row| worker(&mut row.reader("worker_reports")))
            .collect()
    }
}

fn worker(row: &mut Reader) -> Result<ReportedWorker, StoreError> {
    let worker = WorkerId(row.uuid()?);
    row.named(worker);
    let name = row.text()?;
    let alive = row.int()? != 0;
    let said = match row.text_opt()? {
        None => None,
        Some(version) => Some(Said {
            version,
            slots: row.count()?,
            in_flight: row.count()?,
            at_limit: row.json()?,
            started_at: row.time()?,
            at: row.time()?,
        }),
    };
    Ok(ReportedWorker {
        worker,
        name,
        alive,
        said,
    })
}
