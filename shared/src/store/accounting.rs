//! The accounting: that everything accepted is where it should be.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::db::{Batch, Kind, Param, Reader};
use super::rows::delivery_columns;
use super::{Store, StoreError, deliveries};
use crate::domain::delivery::Status;
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, EventId, NotificationId, TenantId};
use crate::domain::time::Timestamp;

/// What was accepted, against what is in the store.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Accounting {
    /// The number of notifications that a worker has taken up.
    pub notifications: u64,
    /// Of these, those that no endpoint wanted.
    pub unmatched: u64,
    /// Deliveries that the notifications must have.
    pub expected: u64,
    /// Deliveries that are there, by status.
    pub deliveries: BTreeMap<&'static str, u64>,
    /// The number of attempts in the store.
    pub attempts: u64,
    /// The number of events in the store.
    pub events: u64,
    /// Events that are not published yet.
    pub unpublished: u64,
    /// How many things do not add up.
    pub problem_count: u64,
    /// The first 100 of them.
    pub problems: Vec<Problem>,
}

/// Something that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong, in a sentence.
    pub what: String,
    /// With which notification or delivery.
    pub id: String,
}

impl Store {
    /// Counts everything and looks for what does not add up. Reads whole tables: for `reconcile`
    /// only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounting(&self, now: Timestamp) -> Result<Accounting, StoreError> {
        let mut books = Accounting::default();
        let mut row = self.one_row(TOTALS).await?;
        if let Some(row) = &mut row {
            books.notifications = row.total()?;
            books.unmatched = row.total()?;
            books.expected = row.total()?;
            books.attempts = row.total()?;
            books.events = row.total()?;
            books.unpublished = row.total()?;
        }
        books.deliveries = Status::ALL
            .iter()
            .map(|status| (status.as_str(), 0))
            .collect();
        for row in self.driver.scan(BY_STATUS, vec![]).await?.rows {
            let mut row = row.reader("deliveries");
            let status = row.word(Status::parse)?;
            books.deliveries.insert(status.as_str(), row.total()?);
            books.expected = row.total()?;
        }
        let late = now.before(LEASE_GRACE);
        for (what, sql, params) in [
            (
                "the notification has fewer deliveries than it must have",
                MISSING_DELIVERIES,
                vec![],
            ),
            (
                "the delivery has not as many attempts as it says",
                ATTEMPT_COUNTS,
                vec![],
            ),
            (
                "the delivery's lease ended over a minute ago and nobody took it",
                LOST_LEASES,
                vec![Param::time(late)],
            ),
            (
                "the delivery's notification is not there",
                NO_NOTIFICATION,
                vec![],
            ),
        ] {
            let answer = self.driver.scan(sql, params).await?;
            for (index, row) in answer.rows.into_iter().enumerate() {
                let mut row = row.reader("problems");
                let count = row.total()?;
                let text = row.text_opt()?;
                let uuid = row.uuid_opt()?;
                if index == 0 {
                    books.problem_count += count;
                }
                let id = text.or(uuid.map(|id| id.to_string())).unwrap_or_default();
                books.show(what, id);
            }
        }
        self.find_missing_events(&mut books).await?;
        Ok(books)
    }

    /// Which of these notifications were never taken up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn missing_notifications(
        &self,
        ids: &[(TenantId, NotificationId)],
    ) -> Result<Vec<(TenantId, NotificationId)>, StoreError> {
        let mut missing = Vec::new();
        for some in ids.chunks(CHUNK) {
            let known = self.look_up(some).await?.known;
            missing.extend(some.iter().filter(|id| !known.contains_key(id)).cloned());
        }
        Ok(missing)
    }

    async fn one_row(&self, sql: &'static str) -> Result<Option<Reader>, StoreError> {
        Ok(self
            .driver
            .scan(sql, vec![])
            .await?
            .rows
            .into_iter()
            .next()
            .map(|row| row.reader("totals")))
    }

    /// An event's id follows from its delivery, so each is looked for by name.
    async fn find_missing_events(&self, books: &mut Accounting) -> Result<(), StoreError> {
        const FINISHED: &str = concat!(
            "-- accounting.with_events
            SELECT ",
            delivery_columns!(),
            " FROM deliveries d
            WHERE d.status IN ('failed', 'expired') AND d.status <> 'delivered'
                AND d.origin = 'producer' AND d.id > $1
            ORDER BY d.id LIMIT $2"
        );
        const THERE: &str = "-- accounting.events
            SELECT e.id FROM {rows} JOIN events e ON e.id = u.key";
        let mut after = Uuid::nil();
        loop {
            let params = vec![Param::uuid(after), Param::int(CHUNK as i64)];
            let deliveries = deliveries::read_all(self.driver.scan(FINISHED, params).await?)?;
            let Some(last) = deliveries.last() else {
                return Ok(());
            };
            after = last.id.0;
            let events: Vec<(DeliveryId, EventId)> = deliveries
                .iter()
                .filter_map(|delivery| Some((delivery.id, Event::of_outcome(delivery, None)?.id)))
                .collect();
            let mut batch = Batch::new(&[("key", Kind::Uuid)]);
            for (_, event) in &events {
                batch.push([Param::uuid(event.0)]);
            }
            let there = self.driver.read_batch(THERE, batch).await?.rows.into_iter();
            let there: HashSet<EventId> = there
                .map(|row| row.reader("events").uuid().map(EventId))
                .collect::<Result<_, _>>()?;
            for (delivery, event) in events {
                if !there.contains(&event) {
                    books.problem_count += 1;
                    books.show(
                        "the delivery finished without an event",
                        delivery.to_string(),
                    );
                }
            }
        }
    }
}

impl Accounting {
    fn show(&mut self, what: &str, id: String) {
        if self.problems.len() < SHOWN {
            self.problems.push(Problem {
                what: what.to_owned(),
                id,
            });
        }
    }
}

/// Problems that are named; all are counted.
const SHOWN: usize = 100;
/// Names looked up at once.
const CHUNK: usize = 1_000;
/// A lease that ended longer ago than this should have been taken by somebody.
const LEASE_GRACE: Duration = Duration::from_secs(60);

const TOTALS: &str = "-- accounting.totals
    SELECT (SELECT count(*) FROM notifications),
        (SELECT count(*) FROM notifications WHERE fan_out = 0),
        (SELECT CAST(COALESCE(sum(fan_out), 0) AS BIGINT) FROM notifications),
        (SELECT count(*) FROM attempts)
            + (SELECT count(*) FROM deliveries WHERE first_attempt IS NOT NULL),
        (SELECT count(*) FROM events),
        (SELECT count(*) FROM events WHERE published_at IS NULL)";
// What is expected is counted again with what is there, in one statement: between two, workers
// record more of both, and a healthy installation would not add up.
const BY_STATUS: &str = "-- accounting.by_status
    SELECT status, count(*),
        (SELECT CAST(COALESCE(sum(fan_out), 0) AS BIGINT) FROM notifications)
    FROM deliveries GROUP BY status";
// Each answers with the count of all that it found, and names the first 100 by text or by UUID.
const MISSING_DELIVERIES: &str = "-- accounting.missing_deliveries
    SELECT count(*) OVER (), f.tenant || '/' || f.id, CAST(NULL AS UUID)
    FROM (SELECT n.tenant, n.id FROM notifications n
        LEFT JOIN deliveries d ON d.notification_id = n.id AND d.tenant = n.tenant
        GROUP BY n.tenant, n.id, n.fan_out HAVING count(d.id) < n.fan_out) AS f
    LIMIT 100";
const ATTEMPT_COUNTS: &str = "-- accounting.attempt_counts
    SELECT count(*) OVER (), CAST(NULL AS TEXT), f.id
    FROM (SELECT d.id FROM deliveries d LEFT JOIN attempts a ON a.delivery_id = d.id
            AND a.started_at >= d.created_at - 600000000 -- partitions::CLOCK_SLACK
        GROUP BY d.id, d.attempt_count, d.first_attempt IS NULL
        HAVING count(a.number) + CASE WHEN d.first_attempt IS NULL THEN 0 ELSE 1 END
            <> d.attempt_count) AS f
    LIMIT 100";
const LOST_LEASES: &str = "-- accounting.lost_leases
    SELECT count(*) OVER (), CAST(NULL AS TEXT), d.id FROM deliveries d
    WHERE d.due_at IS NOT NULL AND d.wait = 'in_flight' AND d.due_at < $1
    LIMIT 100";
const NO_NOTIFICATION: &str = "-- accounting.no_notification
    SELECT count(*) OVER (), CAST(NULL AS TEXT), d.id FROM deliveries d
    WHERE d.status = 'pending' AND d.status <> 'delivered'
        AND NOT EXISTS (SELECT 1 FROM notifications n
            WHERE n.tenant = d.tenant AND n.id = d.notification_id)
    LIMIT 100";
