//! Attempts by the UTC day on which they started. On Postgres each day has a table of its own, so
//! that a day that is too old goes at once, whatever it holds. On SQLite they are in one table and
//! go with their deliveries.
//!
//! An attempt that started on a day without a table lies in `attempts_default`, and what was there
//! before days had tables in `attempts_history`. From those two, attempts are removed with their
//! deliveries. From a day's table they are not: they stay behind for a day or two, and whoever
//! reads attempts passes over those from before their delivery.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::db::{Param, Transaction};
use super::{DatabaseKind, Store, StoreError};
use crate::domain::time::Timestamp;

/// How many days after today have their tables ready: as long may no worker run, and the first
/// attempts afterwards still go to their day.
const DAYS_AHEAD: i64 = 7;
/// Microseconds in a day.
const DAY: i64 = 86_400_000_000;
/// How much earlier than its delivery was accepted an attempt may have started, by the clock of
/// another host; one that seems to have started before that is recorded as of the acceptance. Far
/// more than clocks differ that are kept by NTP, and less than deliveries are kept at the least (an
/// hour).
pub(super) const CLOCK_SLACK: Duration = Duration::from_secs(600);
/// Deliveries whose attempts are moved in one statement.
const STEP: u32 = 500;

/// A table with the attempts of a day, or of all days before there were such tables.
#[derive(Debug, PartialEq, Eq)]
struct Partition {
    name: String,
    /// The end of what it takes; none when it is not part of `attempts` any more.
    end: Option<Timestamp>,
}

impl Store {
    /// Creates the tables for the attempts of today and the next 7 days (UTC) that are missing;
    /// returns how many it created. A day of which attempts lie in `attempts_default` already gets
    /// none. With SQLite there is nothing to do.
    ///
    /// # Errors
    /// [`StoreError`]; also when the database role may not create tables.
    pub async fn prepare_partitions(&self, now: Timestamp) -> Result<u32, StoreError> {
        if self.kind() == DatabaseKind::Sqlite {
            return Ok(0);
        }
        let today = now.as_micros().div_euclid(DAY);
        let there = self.partitions().await?;
        let mut created = 0;
        for day in today..=today + DAYS_AHEAD {
            let name = table_of(day);
            let start = day * DAY;
            let end = (day + 1) * DAY;
            let taken = |one: &Partition| one.name == name || is_history_of(one, end);
            if there.iter().any(taken) {
                continue;
            }
            match self.create_partition(&name, start, end).await {
                Ok(true) => created += 1,
                Ok(false) => {}
                // Some of its attempts lie in the default table.
                Err(error) if error.is_about_data() => {
                    tracing::info!(table = name, "the day has attempts already")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(created)
    }

    /// Creates one table; returns whether it was missing.
    async fn create_partition(&self, name: &str, start: i64, end: i64) -> Result<bool, StoreError> {
        let mut tx = self.driver.begin().await?;
        // Attaching takes a lock on `attempts_default` that waits for whoever writes there.
        give_up_waiting_for_locks(tx.as_mut()).await?;
        tx.run(
            "-- partitions.lock\nSELECT pg_advisory_xact_lock(hashtext('posthaste \
                partitions'))::text",
            vec![],
        )
        .await?;
        // Asked again under the advisory lock: another worker may have created the table since the
        // list was read.
        if exists(tx.as_mut(), name).await? {
            return Ok(false);
        }
        // Attached, not created as a partition: this lets others read and write the other days
        // meanwhile.
        for sql in [
            format!(
                "-- partitions.create\nCREATE TABLE {name} (LIKE attempts INCLUDING DEFAULTS \
                 INCLUDING CONSTRAINTS, \
                 PRIMARY KEY (delivery_id, number, started_at))"
            ),
            format!(
                "-- partitions.attach\nALTER TABLE attempts ATTACH PARTITION {name} FOR VALUES \
                 FROM ({start}) TO ({end})"
            ),
        ] {
            tx.run(&sql, vec![]).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Removes the tables of attempts that ended before `before`; returns how many. What they hold
    /// of deliveries that are still there (pending, or finished later) is kept. To be called when
    /// [`Store::remove_finished`] has nothing left to remove before that time.
    ///
    /// # Errors
    /// [`StoreError`]. What was begun is finished by the next call.
    pub async fn remove_partitions(&self, before: Timestamp) -> Result<u32, StoreError> {
        if self.kind() == DatabaseKind::Sqlite {
            return Ok(0);
        }
        let mut removed = 0;
        for partition in self.partitions().await? {
            let begun = Instant::now();
            match partition.end {
                // By the end of the day and not its beginning: its youngest attempts must be too
                // old, too.
                Some(end) if end > before => continue,
                Some(_) => self.detach(&partition.name).await?,
                // A process ended before it was done.
                None => {}
            }
            if self.drop_detached(&partition.name, before).await? {
                removed += 1;
                let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(
                    table = partition.name,
                    took_ms,
                    "removed attempts that are too old"
                );
            }
        }
        Ok(removed)
    }

    /// Takes a table out of `attempts`: a change of the catalogue alone, so that attempts are
    /// locked for a moment.
    async fn detach(&self, name: &str) -> Result<(), StoreError> {
        let mut tx = self.driver.begin().await?;
        give_up_waiting_for_locks(tx.as_mut()).await?;
        tx.run(
            &format!("-- partitions.detach\nALTER TABLE attempts DETACH PARTITION {name}"),
            vec![],
        )
        .await?;
        tx.commit().await
    }

    /// Moves what is still wanted to where the day now belongs, the default table, and drops the
    /// rest.
    async fn drop_detached(&self, name: &str, before: Timestamp) -> Result<bool, StoreError> {
        const STILL_THERE: &str = "-- partitions.still_there
            SELECT d.created_at, d.id FROM deliveries d
            WHERE d.created_at < $1 AND (d.created_at, d.id) > ($2, $3) AND d.attempt_count > 0
            ORDER BY d.created_at, d.id LIMIT $4";
        let mut tx = self.driver.begin().await?;
        give_up_waiting_for_locks(tx.as_mut()).await?;
        tx.run(
            "-- partitions.lock\nSELECT pg_advisory_xact_lock(hashtext('posthaste \
                partitions'))::text",
            vec![],
        )
        .await?;
        if !exists(tx.as_mut(), name).await? {
            return Ok(false);
        }
        let mut after = (Timestamp::from_micros(i64::MIN), Uuid::nil());
        // In steps: one statement for all could run into the bound of a statement, 30 s, on a day
        // with millions of attempts.
        loop {
            let bounds = vec![
                Param::time(before.after(CLOCK_SLACK)),
                Param::time(after.0),
                Param::uuid(after.1),
                Param::count(STEP),
            ];
            let mut deliveries = Vec::new();
            for row in tx.run(STILL_THERE, bounds).await?.rows {
                let mut row = row.reader("deliveries");
                after = (row.time()?, row.uuid()?);
                deliveries.push(Param::uuid(after.1));
            }
            if deliveries.is_empty() {
                break;
            }
            let keys: Vec<String> = (1..=deliveries.len())
                .map(|number| format!("${number}"))
                .collect();
            let keep = format!(
                "-- partitions.keep\nINSERT INTO attempts SELECT a.* FROM {name} a WHERE \
                 a.delivery_id IN ({}) \
                 ON CONFLICT DO NOTHING",
                keys.join(", ")
            );
            tx.run(&keep, deliveries).await?;
        }
        tx.run(&format!("-- partitions.drop\nDROP TABLE {name}"), vec![])
            .await?;
        // Moving and dropping are one transaction: after a crash in between, the next call finds
        // the detached table as it was.
        tx.commit().await?;
        Ok(true)
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        const SQL: &str = "-- partitions.list
            SELECT c.relname, CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END
            FROM pg_class c
            WHERE c.relnamespace = (SELECT a.relnamespace FROM pg_class a
                    WHERE a.oid = 'attempts'::regclass)
                AND c.relkind = 'r' AND c.relname ~ '^attempts_([0-9]{8}|history)$'
            ORDER BY c.relname";
        let mut partitions = Vec::new();
        for row in self.driver.read(SQL, vec![]).await?.rows {
            let mut row = row.reader("partitions");
            let name = row.text()?;
            let bound = row.text_opt()?;
            let end = bound.map(|bound| {
                end_of(&bound).ok_or_else(|| row.corrupt(format!("a bound is {bound:?}")))
            });
            partitions.push(Partition {
                name,
                end: end.transpose()?,
            });
        }
        Ok(partitions)
    }

    /// What removes the attempts of deliveries that are removed.
    pub(super) async fn attempts_by_row(&self) -> Result<&'static [&'static str], StoreError> {
        const ALL: &str = "-- retention.attempts
            DELETE FROM attempts WHERE delivery_id IN (SELECT u.key FROM {rows})";
        const DEFAULT: &str = "-- retention.attempts_default
            DELETE FROM attempts_default WHERE delivery_id IN (SELECT u.key FROM {rows})";
        const HISTORY: &str = "-- retention.attempts_history
            DELETE FROM attempts_history WHERE delivery_id IN (SELECT u.key FROM {rows})";
        const HAS_HISTORY: &str =
            "-- partitions.history\nSELECT to_regclass('attempts_history')::text";
        if self.kind() == DatabaseKind::Sqlite {
            return Ok(&[ALL]);
        }
        let row = self
            .driver
            .read(HAS_HISTORY, vec![])
            .await?
            .rows
            .into_iter()
            .next();
        let history = row
            .map(|row| row.reader("partitions").text_opt())
            .transpose()?
            .flatten();
        Ok(if history.is_some() {
            &[DEFAULT, HISTORY]
        } else {
            &[DEFAULT]
        })
    }
}

/// Lets the transaction's statements fail after 2 s without a lock. A statement that waits for a
/// lock on the table holds up every statement that comes after it, so that waiting longer would
/// stop all recording of attempts.
async fn give_up_waiting_for_locks(tx: &mut dyn Transaction) -> Result<(), StoreError> {
    tx.run(
        "-- partitions.lock_timeout\nSET LOCAL lock_timeout = '2s'",
        vec![],
    )
    .await
    .map(drop)
}

async fn exists(tx: &mut dyn Transaction, name: &str) -> Result<bool, StoreError> {
    let answer = tx
        .run(
            "-- partitions.exists\nSELECT to_regclass($1)::text",
            vec![Param::text(name)],
        )
        .await?;
    let row = answer.rows.into_iter().next();
    Ok(row
        .map(|row| row.reader("partitions").text_opt())
        .transpose()?
        .flatten()
        .is_some())
}

fn is_history_of(partition: &Partition, end: i64) -> bool {
    partition.name == "attempts_history"
        && partition.end.is_some_and(|last| last.as_micros() >= end)
}

/// `attempts_20260131`, for a number of days since 1970.
fn table_of(day: i64) -> String {
    let date = Timestamp::from_micros(day * DAY).to_string();
    format!(
        "attempts_{}",
        date.chars()
            .filter(char::is_ascii_digit)
            .take(8)
            .collect::<String>()
    )
}

/// The end of `FOR VALUES FROM ('1') TO ('2')`.
fn end_of(bound: &str) -> Option<Timestamp> {
    let (_, end) = bound.rsplit_once("TO (")?;
    end.trim_matches(['\'', ')'])
        .parse()
        .ok()
        .map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_bears_its_day() {
        assert_eq!(table_of(0), "attempts_19700101");
        assert_eq!(table_of(20_484), "attempts_20260131");
    }

    #[test]
    fn bounds_are_read() {
        assert_eq!(
            end_of("FOR VALUES FROM (MINVALUE) TO ('17')"),
            Some(Timestamp::from_micros(17))
        );
        assert_eq!(
            end_of("FOR VALUES FROM ('-5') TO ('86400000000')"),
            Some(Timestamp::from_micros(DAY))
        );
        assert_eq!(end_of("DEFAULT"), None);
    }
}
