//! Events: written with what they tell of, published later (the outbox is the events not yet
//! published).

use std::collections::BTreeSet;

use uuid::Uuid;

use super::db::{Answer, Batch, Kind, Param, Transaction};
use super::page::{List, Page, PageRequest};
use super::query::Query;
use super::several::Several;
use super::{Store, StoreError, rows};
use crate::domain::event::{Event, EventType};
use crate::domain::id::{EventId, TenantId};
use crate::domain::time::Timestamp;

/// Which events are wanted. The default is all.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// The tenant that the events are about.
    pub tenant: Option<TenantId>,
    /// What they tell of.
    pub kind: Several<EventType>,
    /// At or after this time.
    pub since: Option<Timestamp>,
    /// Only events that happened before this time.
    pub until: Option<Timestamp>,
}

impl Store {
    /// Takes up to `limit` unpublished events, the oldest first; until `lease_until` nobody else
    /// gets them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_unpublished(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        const SQL: &str = "-- events.claim_unpublished
            SELECT d.id, d.type, d.tenant, d.at, d.body FROM events d
            WHERE d.published_at IS NULL AND (d.claimed_until IS NULL OR d.claimed_until <= $1)
            ORDER BY d.sequence LIMIT $2 {skip_locked}";
        const CLAIM: &str = "-- events.claim
            UPDATE events SET claimed_until = u.claimed_until FROM {rows} WHERE events.id = u.key";
        let mut tx = self.driver.begin().await?;
        let answer = tx
            .run(SQL, vec![Param::time(now), Param::count(limit)])
            .await?;
        let events = read_all(answer)?;
        let mut batch = Batch::new(&[("key", Kind::Uuid), ("claimed_until", Kind::Int)]);
        for event in &events {
            batch.push([Param::uuid(event.id.0), Param::time(lease_until)]);
        }
        tx.run_batch(CLAIM, batch).await?;
        tx.commit().await?;
        Ok(events)
    }

    /// These events are published.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_published(&self, ids: &[EventId], now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "-- events.mark_published
            UPDATE events SET published_at = u.published_at, claimed_until = NULL
            FROM {rows} WHERE events.id = u.key AND events.published_at IS NULL";
        let each: BTreeSet<&EventId> = ids.iter().collect();
        let mut batch = Batch::new(&[("key", Kind::Uuid), ("published_at", Kind::Int)]);
        for id in each {
            batch.push([Param::uuid(id.0), Param::time(now)]);
        }
        let mut tx = self.driver.begin().await?;
        tx.run_batch(SQL, batch).await?;
        tx.commit().await
    }

    /// Events that match, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(
        &self,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<Event>, StoreError> {
        const LIST: List = List {
            what: "event",
            table: "events",
            time: "at",
            id: &["id"],
        };
        let mut query = Query::new(
            "-- events.list\nSELECT e.id, e.type, e.tenant, e.at, e.body FROM events e WHERE true",
        );
        filter.add_to(&mut query);
        if let Some(cursor) = &page.cursor {
            let id = Uuid::parse_str(&cursor.id).unwrap_or_default();
            query.and(
                "(e.at, e.id) < (?, ?)",
                [Param::int(cursor.micros), Param::uuid(id)],
            );
        }
        query.end(
            " ORDER BY e.at DESC, e.id DESC LIMIT ?",
            [Param::int(page.fetch())],
        );
        let events = self.readable(&LIST, query.read(self).await?, rows::event);
        Ok(Page::of_readable(events, page))
    }

    /// Up to `limit` events that were written after the event of that sequence number, in the order
    /// of writing, each with its number. `None`: from the first that is kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_after(
        &self,
        sequence: Option<i64>,
        filter: &EventFilter,
        limit: u32,
    ) -> Result<Vec<(i64, Event)>, StoreError> {
        let mut query = Query::new(
            "-- events.after\nSELECT e.sequence, e.id, e.type, e.tenant, e.at, e.body FROM events \
             e WHERE true",
        );
        query.and("e.sequence > ?", [Param::int(sequence.unwrap_or(0))]);
        filter.add_to(&mut query);
        query.end(" ORDER BY e.sequence LIMIT ?", [Param::count(limit)]);
        let read = |row: super::db::Row| {
            let mut row = row.reader("events");
            Ok((row.int()?, rows::event(&mut row)?))
        };
        query.read(self).await?.rows.into_iter().map(read).collect()
    }

    /// The sequence number of the event written last; 0 when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_event_sequence(&self) -> Result<i64, StoreError> {
        version(self, "events").await
    }

    /// How many events are not published yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn outbox_pending(&self) -> Result<u64, StoreError> {
        const SQL: &str =
            "-- events.count_unpublished\nSELECT count(*) FROM events WHERE published_at IS NULL";
        let answer = self.driver.read(SQL, vec![]).await?;
        answer
            .rows
            .into_iter()
            .next()
            .map_or(Ok(0), |row| row.reader("events").total())
    }

    /// When the oldest event that is not published yet was written; `None` when all are published.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn outbox_oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        const SQL: &str = "-- events.oldest_unpublished
            SELECT at FROM events WHERE published_at IS NULL ORDER BY sequence LIMIT 1";
        let answer = self.driver.read(SQL, vec![]).await?;
        answer
            .rows
            .into_iter()
            .next()
            .map(|row| row.reader("events").time())
            .transpose()
    }
}

impl EventFilter {
    fn add_to(&self, query: &mut Query) {
        query.and_opt(
            "e.tenant = ?",
            self.tenant
                .as_ref()
                .map(|tenant| Param::text(tenant.as_str())),
        );
        query.and_any("e.type", &self.kind, |kind| Param::text(kind.as_str()));
        query.and_opt("e.at >= ?", self.since.map(Param::time));
        query.and_opt("e.at < ?", self.until.map(Param::time));
    }
}

fn read_all(answer: Answer) -> Result<Vec<Event>, StoreError> {
    answer
        .rows
        .into_iter()
        .map(|row| rows::event(&mut row.reader("events")))
        .collect()
}

/// Writes events; those that are there already stay as they are. To be the last in its transaction:
/// the row that numbers them is locked from here to the commit, which makes numbers visible in
/// their order.
pub(super) async fn insert_events(
    tx: &mut dyn Transaction,
    events: &[&Event],
) -> Result<(), StoreError> {
    const NUMBERS: &str = "-- events.take_numbers
        UPDATE versions SET value = value + $1 WHERE name = 'events' RETURNING value";
    const SQL: &str = "-- events.insert_batch
        INSERT INTO events (sequence, id, type, tenant, at, body)
        SELECT u.sequence, u.id, u.type, u.tenant, u.at, u.body FROM {rows} WHERE true
        ON CONFLICT DO NOTHING";
    if events.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let answer = tx.run(NUMBERS, vec![Param::int(count)]).await?;
    let last = answer
        .rows
        .into_iter()
        .next()
        .map_or(Ok(count), |row| row.reader("versions").int())?;
    let mut batch = Batch::new(&[
        ("sequence", Kind::Int),
        ("id", Kind::Uuid),
        ("type", Kind::Text),
        ("tenant", Kind::Text),
        ("at", Kind::Int),
        ("body", Kind::Bytes),
    ]);
    for (event, sequence) in events.iter().zip(last - count + 1..) {
        batch.push([
            Param::int(sequence),
            Param::uuid(event.id.0),
            Param::text(event.kind.as_str()),
            Param::text(event.tenant.as_str()),
            Param::time(event.at),
            Param::bytes(event.body.as_str()),
        ]);
    }
    tx.run_batch(SQL, batch).await?;
    Ok(())
}

/// A number of the table `versions`.
pub(super) async fn version(store: &Store, name: &str) -> Result<i64, StoreError> {
    const SQL: &str = "-- versions.get\nSELECT value FROM versions WHERE name = $1";
    let answer = store.driver.read(SQL, vec![Param::text(name)]).await?;
    answer
        .rows
        .into_iter()
        .next()
        .map_or(Ok(0), |row| row.reader("versions").int())
}
