//! Removing what is old, in small steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use super::db::{Batch, Kind, Param};
use super::{Store, StoreError};
use crate::domain::time::Timestamp;

impl Store {
    /// One step: up to `limit` deliveries that finished before `before`, with their attempts (on
    /// Postgres those go by the day: [`Store::remove_partitions`]), and their notifications that
    /// have no other delivery; published events from before `before`; idempotency keys from before
    /// `keys_before`; entries of the audit from 90 days before `before`. Returns how many rows
    /// went; 0: nothing is left to remove.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_finished(
        &self,
        before: Timestamp,
        keys_before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let removed = self.remove_deliveries(before, limit).await?;
        // One kind at a time, so that a step stays as short as its limit says.
        if removed > 0 {
            return Ok(removed);
        }
        let mut removed = 0;
        let steps = [
            (UNMATCHED, before),
            (EVENTS, before),
            (REPLAYS, before),
            (REDRIVES, before),
            (ID_CONFLICTS, before),
            (IDEMPOTENCY_KEYS, keys_before),
            (ANSWERS, keys_before),
            (AUDIT, before.before(AUDITED_LONGER)),
        ];
        for (sql, at) in steps {
            removed += self
                .driver
                .write(sql, vec![Param::time(at), Param::count(limit)])
                .await?
                .affected;
        }
        Ok(removed)
    }

    async fn remove_deliveries(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        const FIND: &str = "-- retention.find
            SELECT d.id, d.tenant, d.notification_id FROM deliveries d
            WHERE d.finished_at IS NOT NULL AND d.finished_at < $1
            ORDER BY d.finished_at LIMIT $2 {skip_locked}";
        const DELIVERIES: &str = "-- retention.deliveries
            DELETE FROM deliveries WHERE id IN (SELECT u.key FROM {rows})";
        // What is left of a notification is what it must still have.
        const FAN_OUT: &str = "-- retention.fan_out
            UPDATE notifications
            SET fan_out = CASE WHEN fan_out > u.removed THEN fan_out - u.removed ELSE 0 END
            FROM {rows} WHERE notifications.tenant = u.tenant AND notifications.id = u.id";
        const NOTIFICATIONS: &str = "-- retention.notifications
            DELETE FROM notifications WHERE (tenant, id) IN (SELECT u.tenant, u.id FROM {rows})
                AND NOT EXISTS (SELECT 1 FROM deliveries d
                    WHERE d.notification_id = notifications.id
                        AND d.tenant = notifications.tenant)";
        // Asked before the transaction begins: it needs a connection of its own.
        let attempts = self.attempts_by_row().await?;
        let mut tx = self.driver.begin().await?;
        let answer = tx
            .run(FIND, vec![Param::time(before), Param::count(limit)])
            .await?;
        let mut deliveries = BTreeSet::new();
        let mut notifications: BTreeMap<(String, String), i64> = BTreeMap::new();
        for row in answer.rows {
            let mut row = row.reader("deliveries");
            deliveries.insert(row.uuid()?);
            *notifications.entry((row.text()?, row.text()?)).or_default() += 1;
        }
        if deliveries.is_empty() {
            return Ok(0);
        }
        let mut removed = 0;
        for sql in attempts {
            removed += tx.run_batch(sql, key_batch(&deliveries)).await?.affected;
        }
        removed += tx
            .run_batch(DELIVERIES, key_batch(&deliveries))
            .await?
            .affected;
        // After the deliveries, in the same transaction: `reconcile` compares the fan-out with what
        // is there, and would report what retention removed as lost.
        tx.run_batch(FAN_OUT, notification_batch(&notifications))
            .await?;
        removed += tx
            .run_batch(NOTIFICATIONS, notification_batch(&notifications))
            .await?
            .affected;
        tx.commit().await?;
        Ok(removed)
    }
}

const UNMATCHED: &str = "-- retention.unmatched
    DELETE FROM notifications WHERE (tenant, id) IN
        (SELECT tenant, id FROM notifications WHERE fan_out = 0 AND accepted_at < $1 LIMIT $2)
        AND NOT EXISTS (SELECT 1 FROM deliveries d
            WHERE d.notification_id = notifications.id AND d.tenant = notifications.tenant)";
const EVENTS: &str = "-- retention.events
    DELETE FROM events WHERE sequence IN
        (SELECT sequence FROM events
            WHERE at < $1 AND published_at IS NOT NULL ORDER BY at LIMIT $2)";
const REPLAYS: &str = "-- retention.replays
    DELETE FROM replays WHERE id IN (SELECT id FROM replays WHERE finished_at < $1 LIMIT $2)";
const ID_CONFLICTS: &str = "-- retention.id_conflicts
    DELETE FROM id_conflicts WHERE (tenant, id) IN
        (SELECT tenant, id FROM id_conflicts WHERE seen_at < $1 LIMIT $2)";
const REDRIVES: &str = "-- retention.redrives
    DELETE FROM redrives WHERE id IN (SELECT id FROM redrives WHERE finished_at < $1 LIMIT $2)";
const IDEMPOTENCY_KEYS: &str = "-- retention.idempotency_keys
    DELETE FROM idempotency_keys WHERE (tenant, name) IN
        (SELECT tenant, name FROM idempotency_keys
            WHERE accepted_at < $1 ORDER BY accepted_at LIMIT $2)";

const ANSWERS: &str = "-- retention.idempotent_answers
    DELETE FROM idempotent_answers WHERE (caller, name) IN
        (SELECT caller, name FROM idempotent_answers
            WHERE claimed_at < $1 ORDER BY claimed_at LIMIT $2)";

const AUDIT: &str = "-- retention.audit
    DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)";
/// How much longer it is known who did something than deliveries are: the question comes later.
const AUDITED_LONGER: Duration = Duration::from_secs(90 * 24 * 3600);

fn key_batch(keys: &BTreeSet<Uuid>) -> Batch {
    let mut batch = Batch::new(&[("key", Kind::Uuid)]);
    for key in keys {
        batch.push([Param::uuid(*key)]);
    }
    batch
}

fn notification_batch(notifications: &BTreeMap<(String, String), i64>) -> Batch {
    let mut batch = Batch::new(&[
        ("tenant", Kind::Text),
        ("id", Kind::Text),
        ("removed", Kind::Int),
    ]);
    for ((tenant, id), removed) in notifications {
        batch.push([Param::text(tenant), Param::text(id), Param::int(*removed)]);
    }
    batch
}
