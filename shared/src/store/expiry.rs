//! Deliveries that finish without an attempt: their time ran out, or their endpoint is gone.

use std::collections::HashMap;

use uuid::Uuid;

use super::db::{Batch, Kind, Param, Transaction};
use super::events::insert_events;
use super::partitions::CLOCK_SLACK;
use super::record::{Change, update};
use super::rows::{attempt_columns, delivery_columns};
use super::unreadable::{MAX_PASSES, Unreadable, put_aside};
use super::{Store, StoreError, first_attempt, rows};
use crate::domain::attempt::Attempt;
use crate::domain::delivery::{Delivery, DeliveryState, FailureReason, Status};
use crate::domain::id::DeliveryId;
use crate::domain::time::Timestamp;

impl Store {
    /// Expires up to `limit` pending deliveries whose time ran out, except those under a running
    /// lease, each with its final event. Returns them. What cannot be read is logged and put aside
    /// for a minute.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_due(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        const SQL: &str = concat!(
            "-- claims.expired
            SELECT d.id, ",
            delivery_columns!(),
            " FROM deliveries d
            WHERE d.status = 'pending' AND d.expires_at IS NOT NULL AND d.expires_at <= $1
                AND (d.wait <> 'in_flight' OR d.due_at <= $1)
            ORDER BY d.expires_at LIMIT $2 {skip_locked}"
        );
        let state = DeliveryState::Expired { at: now };
        self.finish_found((SQL, now), limit, &state, now).await
    }

    /// Expires up to `limit` deliveries that are parked for disabled endpoints and were created
    /// before `before`, each with its final event. Returns them. What cannot be read is logged and
    /// put aside for a minute.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_disabled(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        // CROSS JOIN keeps SQLite from beginning with the deliveries, of which there are far more.
        const SQL: &str = concat!(
            "-- claims.disabled_for_long
            SELECT d.id, ",
            delivery_columns!(),
            " FROM endpoints e CROSS JOIN deliveries d
            WHERE e.status = 'disabled' AND e.deleted_at IS NULL AND d.endpoint_id = e.id
                AND d.wait = 'parked' AND d.created_at < $1
            LIMIT $2 {skip_locked}"
        );
        // A read first: mostly there is nothing to lock for.
        const ANY: &str = "-- claims.any_disabled_for_long
            SELECT e.id FROM endpoints e
            WHERE e.status = 'disabled' AND e.deleted_at IS NULL AND EXISTS (
                SELECT 1 FROM deliveries d WHERE d.endpoint_id = e.id AND d.wait = 'parked'
                    AND d.created_at < $1)
            LIMIT 1";
        let any = self.driver.read(ANY, vec![Param::time(before)]).await?;
        if any.rows.is_empty() {
            return Ok(Vec::new());
        }
        let state = DeliveryState::Expired { at: now };
        self.finish_found((SQL, before), limit, &state, now).await
    }

    /// Fails up to `limit` pending deliveries of deleted endpoints, except those under a running
    /// lease, each with its final event. Returns them. What cannot be read is logged and put aside
    /// for a minute.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fail_orphans(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        // CROSS JOIN keeps SQLite from beginning with the deliveries, of which there are far more.
        const SQL: &str = concat!(
            "-- claims.orphans
            SELECT d.id, ",
            delivery_columns!(),
            " FROM endpoints e CROSS JOIN deliveries d
            WHERE e.deleted_at IS NOT NULL AND d.endpoint_id = e.id
                AND d.status = 'pending' AND d.status <> 'delivered'
                AND (d.wait <> 'in_flight' OR d.due_at <= $1)
            LIMIT $2 {skip_locked}"
        );
        // A read first, of one index probe for each deleted endpoint: mostly there is nothing to
        // lock for.
        const ANY: &str = "-- claims.any_orphan
            SELECT e.id FROM endpoints e
            WHERE e.deleted_at IS NOT NULL AND EXISTS (SELECT 1 FROM deliveries d
                WHERE d.endpoint_id = e.id AND d.status = 'pending' AND d.status <> 'delivered'
                    AND (d.wait <> 'in_flight' OR d.due_at <= $1))
            LIMIT 1";
        if self
            .driver
            .read(ANY, vec![Param::time(now)])
            .await?
            .rows
            .is_empty()
        {
            return Ok(Vec::new());
        }
        let state = DeliveryState::Failed {
            at: now,
            reason: FailureReason::EndpointDeleted,
        };
        self.finish_found((SQL, now), limit, &state, now).await
    }

    /// Puts the pending deliveries that the query finds, with the time that it takes as `$1`, into
    /// a final state, with their events.
    async fn finish_found(
        &self,
        query: (&'static str, Timestamp),
        limit: u32,
        state: &DeliveryState,
        now: Timestamp,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut tx = self.driver.begin().await?;
        let mut finished = self.find_to_finish(tx.as_mut(), query, now, limit).await?;
        // In the order of the ids, as with every change of several deliveries: found by expiry,
        // they come in any order.
        finished.sort_unstable_by_key(|delivery| delivery.id);
        for delivery in &mut finished {
            delivery.state = state.clone();
        }
        let changes = finished.iter().map(|delivery| Change {
            delivery,
            was: Status::Pending,
            round: delivery.round,
            attempt_count: delivery.attempt_count,
            kept: Param::Bytes(None),
        });
        let kept = update(tx.as_mut(), changes).await?;
        // The rows are locked, so all should be kept. If one is not, it must not get a final event.
        finished.retain(|delivery| kept.contains(&delivery.id));
        let attempts = last_attempts(tx.as_mut(), &finished, &self.unreadable).await?;
        let events = finished
            .iter()
            .filter_map(|delivery| rows::outcome_event(delivery, attempts.get(&delivery.id)));
        let events: Vec<_> = events.collect();
        insert_events(tx.as_mut(), &events.iter().collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(finished)
    }

    /// Up to `limit` deliveries that the query finds and that can be read; the others are put
    /// aside.
    async fn find_to_finish(
        &self,
        tx: &mut dyn Transaction,
        (sql, bound): (&'static str, Timestamp),
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut found = Vec::new();
        for _ in 0..MAX_PASSES {
            found.clear();
            let mut unreadable = Vec::new();
            for row in tx
                .run(sql, vec![Param::time(bound), Param::count(limit)])
                .await?
                .rows
            {
                let mut row = row.reader("deliveries");
                let id = row.uuid()?;
                match rows::delivery(&mut row) {
                    Ok(delivery) => found.push(delivery),
                    Err(error) => {
                        self.unreadable.tell("delivery", &id, &error);
                        unreadable.push(id);
                    }
                }
            }
            put_aside(tx, &unreadable, now).await?;
            if unreadable.is_empty() || !found.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

async fn last_attempts(
    tx: &mut dyn Transaction,
    deliveries: &[Delivery],
    unreadable: &Unreadable,
) -> Result<HashMap<DeliveryId, Attempt>, StoreError> {
    const SQL: &str = concat!(
        "-- attempts.last_batch
        SELECT a.delivery_id, ",
        attempt_columns!(),
        "
        FROM {rows} JOIN attempts a ON a.delivery_id = u.key AND a.number = u.number
            AND a.started_at >= u.since"
    );
    const FIRST: &str = "-- deliveries.first_attempts
        SELECT d.id, d.first_attempt FROM {rows} JOIN deliveries d ON d.id = u.key
        WHERE d.first_attempt IS NOT NULL";
    let mut batch = Batch::new(&[
        ("key", Kind::Uuid),
        ("number", Kind::Int),
        ("since", Kind::Int),
    ]);
    let mut finished_once = Batch::new(&[("key", Kind::Uuid)]);
    for delivery in deliveries
        .iter()
        .filter(|delivery| delivery.attempt_count > 0)
    {
        if delivery.attempt_count == 1 && delivery.round > 1 {
            // Its first attempt finished it, and it was replayed.
            finished_once.push([Param::uuid(delivery.id.0)]);
        }
        let since = delivery.created_at.before(CLOCK_SLACK);
        batch.push([
            Param::uuid(delivery.id.0),
            Param::count(delivery.attempt_count),
            Param::time(since),
        ]);
    }
    let mut attempts = HashMap::new();
    // An event without its last attempt is better than none.
    let mut keep = |id: Uuid, attempt: Result<Option<Attempt>, StoreError>| match attempt {
        Ok(Some(attempt)) => drop(attempts.insert(DeliveryId(id), attempt)),
        Ok(None) => {}
        Err(error) => unreadable.tell("last attempt of delivery", &id, &error),
    };
    for row in tx.run_batch(SQL, batch).await?.rows {
        let mut row = row.reader("attempts");
        let id = row.uuid()?;
        keep(id, rows::attempt(&mut row).map(Some));
    }
    for row in tx.run_batch(FIRST, finished_once).await?.rows {
        let mut row = row.reader("deliveries");
        let id = row.uuid()?;
        row.named(id);
        keep(id, first_attempt::read(&mut row));
    }
    Ok(attempts)
}
