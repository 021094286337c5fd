//! What is due: deliveries that wait in the store, taken with a lease so that two workers never hold the same.

use std::collections::HashMap;
use std::sync::Arc;

use super::db::{Answer, Batch, Kind, Param, Transaction};
use super::events::insert_events;
use super::record::{Change, update};
use super::rows::{attempt_columns, delivery_columns, notification_columns};
use super::{Store, StoreError, rows};
use crate::domain::attempt::Attempt;
use crate::domain::delivery::{Delivery, DeliveryState, FailureReason, Status};
use crate::domain::id::{DeliveryId, EndpointId};
use crate::domain::notification::Notification;
use crate::domain::time::Timestamp;

/// A delivery that this process holds until its lease ends.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// As it was before it was claimed.
    pub delivery: Delivery,
    /// What it delivers.
    pub notification: Arc<Notification>,
}

impl Store {
    /// Takes up to `limit` pending deliveries that are due at `now` (retries, scheduled ones, ended
    /// leases), the one that is due longest first. Never one that has expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        const SQL: &str = concat!(
            "-- claims.due
            SELECT ",
            delivery_columns!(),
            ", ",
            notification_columns!(),
            "
            FROM deliveries d JOIN notifications n ON n.tenant = d.tenant AND n.id = d.notification_id
            WHERE d.due_at IS NOT NULL AND d.due_at <= $1 AND (d.expires_at IS NULL OR d.expires_at > $1)
            ORDER BY d.due_at LIMIT $2 {skip_locked}"
        );
        let params = vec![Param::time(now), Param::count(limit)];
        self.claim(SQL, params, lease_until).await
    }

    /// Takes up to `limit` parked deliveries of one endpoint, the oldest first. Never one that has expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_parked(
        &self,
        endpoint: &EndpointId,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        const SQL: &str = concat!(
            "-- claims.parked
            SELECT ",
            delivery_columns!(),
            ", ",
            notification_columns!(),
            "
            FROM deliveries d JOIN notifications n ON n.tenant = d.tenant AND n.id = d.notification_id
            WHERE d.wait = 'parked' AND d.endpoint_id = $3 AND (d.expires_at IS NULL OR d.expires_at > $1)
            ORDER BY d.created_at, d.id LIMIT $2 {skip_locked}"
        );
        let params = vec![Param::time(now), Param::count(limit), Param::text(endpoint.as_str())];
        self.claim(SQL, params, lease_until).await
    }

    /// The endpoints that have parked deliveries. One index probe for each, however many are parked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoints_with_parked(&self) -> Result<Vec<EndpointId>, StoreError> {
        // From one endpoint to the next in the index, past all the rows between.
        const SQL: &str = "-- claims.endpoints_with_parked
            WITH RECURSIVE held(endpoint_id) AS (
                SELECT min(endpoint_id) FROM deliveries WHERE wait = 'parked'
                UNION ALL
                SELECT (SELECT min(d.endpoint_id) FROM deliveries d
                        WHERE d.wait = 'parked' AND d.endpoint_id > held.endpoint_id)
                FROM held WHERE held.endpoint_id IS NOT NULL
            )
            SELECT endpoint_id FROM held WHERE endpoint_id IS NOT NULL";
        let answer = self.driver.read(SQL, vec![]).await?;
        let id = |row: super::db::Row| row.reader("deliveries").word(|text| EndpointId::parse(text).ok());
        answer.rows.into_iter().map(id).collect()
    }

    /// Gives leases back, by delivery and the lease's end: the deliveries are due at once. Returns how
    /// many were still held under that lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release(&self, leases: &[(DeliveryId, Timestamp)], now: Timestamp) -> Result<u64, StoreError> {
        const SQL: &str = "-- claims.release
            UPDATE deliveries SET wait = 'retry', due_at = u.due_at
            FROM {rows}
            WHERE deliveries.id = u.key AND deliveries.wait = 'in_flight' AND deliveries.due_at = u.lease_until";
        let mut batch = Batch::new(&[("key", Kind::Uuid), ("lease_until", Kind::Int), ("due_at", Kind::Int)]);
        let mut leases = leases.to_vec();
        leases.sort_unstable();
        for (id, lease_until) in leases {
            batch.push([Param::uuid(id.0), Param::time(lease_until), Param::time(now)]);
        }
        let mut tx = self.driver.begin().await?;
        let released = tx.run_batch(SQL, batch).await?.affected;
        tx.commit().await?;
        Ok(released)
    }

    /// The earliest time at which a pending delivery is due or expires; may be in the past.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        // What a worker has in hand expires in its hands, or when its lease ends.
        const SQL: &str = "-- claims.next_due
            SELECT (SELECT due_at FROM deliveries WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1),
                (SELECT expires_at FROM deliveries
                    WHERE status = 'pending' AND expires_at IS NOT NULL AND wait <> 'in_flight'
                    ORDER BY expires_at LIMIT 1)";
        let answer = self.driver.read(SQL, vec![]).await?;
        let Some(row) = answer.rows.into_iter().next() else { return Ok(None) };
        let mut row = row.reader("deliveries");
        let times = [row.time_opt()?, row.time_opt()?];
        Ok(times.into_iter().flatten().min())
    }

    /// Expires up to `limit` pending deliveries whose time ran out, except those under a running lease,
    /// each with its final event. Returns them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        const SQL: &str = concat!(
            "-- claims.expired
            SELECT ",
            delivery_columns!(),
            " FROM deliveries d
            WHERE d.status = 'pending' AND d.expires_at IS NOT NULL AND d.expires_at <= $1
                AND (d.wait <> 'in_flight' OR d.due_at <= $1)
            ORDER BY d.expires_at LIMIT $2 {skip_locked}"
        );
        let params = vec![Param::time(now), Param::count(limit)];
        self.finish_found(SQL, params, &DeliveryState::Expired { at: now }).await
    }

    /// Fails up to `limit` pending deliveries of deleted endpoints, except those under a running lease,
    /// each with its final event. Returns them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fail_orphans(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        // CROSS JOIN keeps SQLite from beginning with the deliveries, of which there are far more.
        const SQL: &str = concat!(
            "-- claims.orphans
            SELECT ",
            delivery_columns!(),
            " FROM endpoints e CROSS JOIN deliveries d
            WHERE e.deleted_at IS NOT NULL AND d.endpoint_id = e.id
                AND d.status = 'pending' AND d.status <> 'delivered'
                AND (d.wait <> 'in_flight' OR d.due_at <= $1)
            LIMIT $2 {skip_locked}"
        );
        let params = vec![Param::time(now), Param::count(limit)];
        let state = DeliveryState::Failed { at: now, reason: FailureReason::EndpointDeleted };
        self.finish_found(SQL, params, &state).await
    }

    /// Takes the deliveries that the query finds.
    async fn claim(
        &self,
        sql: &'static str,
        params: Vec<Param>,
        lease_until: Timestamp,
    ) -> Result<Vec<Claimed>, StoreError> {
        const LEASE: &str = "-- claims.lease
            UPDATE deliveries SET wait = 'in_flight', hold = NULL, due_at = u.lease_until
            FROM {rows} WHERE deliveries.id = u.key";
        let mut tx = self.driver.begin().await?;
        let claimed = claimed(tx.run(sql, params).await?)?;
        if claimed.is_empty() {
            return Ok(claimed);
        }
        let mut batch = Batch::new(&[("key", Kind::Uuid), ("lease_until", Kind::Int)]);
        for taken in &claimed {
            batch.push([Param::uuid(taken.delivery.id.0), Param::time(lease_until)]);
        }
        tx.run_batch(LEASE, batch).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// Puts the pending deliveries that the query finds into a final state, with their events.
    async fn finish_found(
        &self,
        sql: &'static str,
        params: Vec<Param>,
        state: &DeliveryState,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut tx = self.driver.begin().await?;
        let answer = tx.run(sql, params).await?;
        let found = answer.rows.into_iter().map(|row| rows::delivery(&mut row.reader("deliveries")));
        let mut finished = found.collect::<Result<Vec<Delivery>, _>>()?;
        if finished.is_empty() {
            return Ok(finished);
        }
        finished.sort_unstable_by_key(|delivery| delivery.id);
        for delivery in &mut finished {
            delivery.state = state.clone();
        }
        let changes = finished.iter().map(|delivery| Change {
            delivery,
            was: Status::Pending,
            round: delivery.round,
            attempt_count: delivery.attempt_count,
        });
        let kept = update(tx.as_mut(), changes).await?;
        finished.retain(|delivery| kept.contains(&delivery.id));
        let attempts = last_attempts(tx.as_mut(), &finished).await?;
        let events = finished.iter().filter_map(|delivery| rows::outcome_event(delivery, attempts.get(&delivery.id)));
        let events: Vec<_> = events.collect();
        insert_events(tx.as_mut(), &events.iter().collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(finished)
    }
}

fn claimed(answer: Answer) -> Result<Vec<Claimed>, StoreError> {
    let claim = |row: super::db::Row| {
        let mut row = row.reader("deliveries");
        let delivery = rows::delivery(&mut row)?;
        Ok(Claimed { delivery, notification: Arc::new(rows::notification(&mut row)?) })
    };
    answer.rows.into_iter().map(claim).collect()
}

async fn last_attempts(
    tx: &mut dyn Transaction,
    deliveries: &[Delivery],
) -> Result<HashMap<DeliveryId, Attempt>, StoreError> {
    const SQL: &str = concat!(
        "-- attempts.last_batch
        SELECT a.delivery_id, ",
        attempt_columns!(),
        "
        FROM {rows} JOIN attempts a ON a.delivery_id = u.key AND a.number = u.number"
    );
    let mut batch = Batch::new(&[("key", Kind::Uuid), ("number", Kind::Int)]);
    for delivery in deliveries.iter().filter(|delivery| delivery.attempt_count > 0) {
        batch.push([Param::uuid(delivery.id.0), Param::count(delivery.attempt_count)]);
    }
    let read = |row: super::db::Row| {
        let mut row = row.reader("attempts");
        Ok((DeliveryId(row.uuid()?), rows::attempt(&mut row)?))
    };
    tx.run_batch(SQL, batch).await?.rows.into_iter().map(read).collect()
}
