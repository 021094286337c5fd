//! The results of attempts: one transaction a batch.

mod insert;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::cipher::{Cipher, CipherError};
use super::db::{Answer, Batch, ColumnKind, Kind, Param, Transaction, join};
use super::endpoints::next_version;
use super::events::insert_events;
use super::rows::delivery_columns;
use super::{Store, StoreError, first_attempt, round, rows};
use crate::domain::attempt::Attempt;
use crate::domain::delivery::{Delivery, Status};
use crate::domain::endpoint::{Endpoint, EndpointStatus};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, EndpointId};
use crate::domain::notification::Notification;
use crate::domain::round::RoundContent;
use crate::domain::time::Timestamp;
use insert::{Expected, New, insert_attempts, insert_new, insert_notifications};

/// One change of one delivery.
#[derive(Debug, Clone)]
pub struct Record {
    /// The delivery as it is after the change.
    pub delivery: Delivery,
    /// What must hold before.
    pub before: Before,
    /// The attempt that led to the change, if there was one.
    pub attempt: Option<Attempt>,
    /// What is kept for the other attempts of the round, where it is first known now. What was kept
    /// before stays until the delivery is finished.
    pub kept: Option<RoundContent>,
    /// The final event, if there is one for the new state.
    pub event: Option<Event>,
    /// Disables the endpoint too, if it is enabled (410 Gone).
    pub disable: Option<DisableEndpoint>,
}

impl Record {
    /// The attempt that is kept in the row of the delivery, which is new with it.
    fn first_attempt(&self) -> Option<&Attempt> {
        let inside = |attempt: &&Attempt| first_attempt::is_inside(&self.delivery, attempt);
        match self.before {
            Before::New { .. } => self.attempt.as_ref().filter(inside),
            Before::Known { .. } => None,
        }
    }
}

/// What must hold before a change.
#[derive(Debug, Clone)]
pub enum Before {
    /// The delivery is first seen now: its row is created, and the notification's unless it exists.
    New {
        /// The notification that is delivered.
        notification: Arc<Notification>,
        /// How many deliveries the notification has in all.
        fan_out: u32,
    },
    /// The delivery is pending, with these counts.
    Known {
        /// The round that the delivery is in.
        round: u32,
        /// The number of attempts so far, over all rounds.
        attempt_count: u32,
    },
}

/// An endpoint that is to be disabled.
#[derive(Debug, Clone)]
pub struct DisableEndpoint {
    /// As it will be: with its status disabled. Its version is that of the endpoint that was
    /// called; one that was changed since may have been repaired, and stays as it is.
    pub endpoint: Endpoint,
    /// The event that reports it; kept only if the endpoint was enabled until now.
    pub event: Event,
}

/// The outcome of a [`Record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// The change is durable.
    Kept,
    /// Somebody else was first: nothing of it was written.
    Stale,
    /// The notification's id stands for another one: nothing of it was written.
    Conflict,
}

impl Store {
    /// Writes all changes in one transaction; answers in order. A stale record writes nothing: no
    /// attempt, no event. Of two changes of one delivery in a batch the second is stale.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of the batch was written.
    pub async fn record(
        &self,
        batch: &[Record],
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // Intake has looked up the ids of all messages, so what is new is new in nearly every
        // batch.
        match self.record_as(batch, now, Expected::New).await {
            // Some of it is there: another worker was first, or the notification has other
            // deliveries. Nothing of the batch was written, and this time the rows are sorted out.
            Err(error) if error.is_duplicate() => {
                self.record_as(batch, now, Expected::PerhapsThere).await
            }
            recorded => recorded,
        }
    }

    async fn record_as(
        &self,
        batch: &[Record],
        now: Timestamp,
        expected: Expected,
    ) -> Result<Vec<Recorded>, StoreError> {
        // In the order of their ids, so that two batches never wait for each other in a circle.
        let mut records: BTreeMap<DeliveryId, &Record> = BTreeMap::new();
        let firsts: Vec<bool> = batch
            .iter()
            .map(|record| match records.entry(record.delivery.id) {
                Entry::Vacant(entry) => {
                    entry.insert(record);
                    true
                }
                Entry::Occupied(_) => false,
            })
            .collect();
        // Before the transaction: it may have to read the store, and must not wait for a second
        // connection while it holds one.
        let cipher = match self.cipher_to_write().await {
            // The key was changed, and this process ends. Until then results are kept as ever, but
            // nothing that only the old key opens.
            Err(StoreError::Cipher(CipherError::NotOfStore)) => None,
            cipher => cipher?,
        };
        let mut tx = self.driver.begin().await?;
        let New {
            mut kept,
            conflicts,
            inserted,
        } = insert_new(tx.as_mut(), &records, (self, cipher), expected).await?;
        kept.extend(update_known(tx.as_mut(), &records, cipher).await?);
        // From here on only what was changed: a stale record must not leave an attempt or an event
        // behind.
        records.retain(|id, _| kept.contains(id));
        insert_attempts(tx.as_mut(), records.values().copied(), expected).await?;
        let mut events: Vec<&Event> = records
            .values()
            .filter_map(|record| record.event.as_ref())
            .collect();
        let disables: Vec<&DisableEndpoint> = records
            .values()
            .filter_map(|record| record.disable.as_ref())
            .collect();
        events.extend(disable(tx.as_mut(), &disables, now).await?);
        // Events come last before the commit: numbering them locks one row for all writers, and
        // that lock is held until the commit.
        insert_events(tx.as_mut(), &events).await?;
        tx.commit().await?;
        inserted
            .into_iter()
            .for_each(|notification| self.kept.put(notification));
        // A conflict is said of each delivery of the notification, also of one that is in the batch
        // twice. `first` makes the second of two changes stale.
        let answer = |(record, first): (&Record, bool)| match record.delivery.id {
            id if conflicts.contains(&id) => Recorded::Conflict,
            id if first && kept.contains(&id) => Recorded::Kept,
            _ => Recorded::Stale,
        };
        Ok(batch.iter().zip(firsts).map(answer).collect())
    }

    /// Keeps notifications that no endpoint wants, so that they can be seen. Idempotent. Answers
    /// for each whether its id stands for another one: that one stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_unmatched(
        &self,
        notifications: &[Arc<Notification>],
    ) -> Result<Vec<bool>, StoreError> {
        if notifications.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.driver.begin().await?;
        let each = notifications.iter().map(|notification| (notification, 0));
        let inserted = insert_notifications(tx.as_mut(), each, Expected::PerhapsThere).await?;
        tx.commit().await?;
        Ok(notifications
            .iter()
            .map(|notification| inserted.stands_for_another(notification))
            .collect())
    }
}

async fn update_known(
    tx: &mut dyn Transaction,
    records: &BTreeMap<DeliveryId, &Record>,
    cipher: Option<&Cipher>,
) -> Result<HashSet<DeliveryId>, StoreError> {
    let changes = records.values().filter_map(|record| match record.before {
        Before::Known {
            round,
            attempt_count,
        } => {
            let kept = round::param(cipher, &record.delivery, record.kept.as_ref());
            Some(Change {
                delivery: &record.delivery,
                was: Status::Pending,
                round,
                attempt_count,
                kept,
            })
        }
        Before::New { .. } => None,
    });
    update(tx, changes).await
}

/// A change of a delivery that is there, with what must hold before.
pub(super) struct Change<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) was: Status,
    pub(super) round: u32,
    pub(super) attempt_count: u32,
    /// What is kept from now on for this round.
    pub(super) kept: Param,
}

/// Writes changes of deliveries, given in the order of their ids. Returns those that were as they
/// had to be.
pub(super) async fn update<'a>(
    tx: &mut dyn Transaction,
    changes: impl Iterator<Item = Change<'a>>,
) -> Result<HashSet<DeliveryId>, StoreError> {
    const SQL: &str = concat!(
        "-- deliveries.update_batch
        UPDATE deliveries SET ",
        delivery_columns!(changes),
        "kept = CASE WHEN u.status = 'pending' AND u.round = deliveries.round
                THEN COALESCE(u.kept, deliveries.kept) END
        FROM {rows}
        WHERE deliveries.id = u.key AND deliveries.status = u.was
            AND deliveries.round = u.was_round AND deliveries.attempt_count = u.was_count
        RETURNING deliveries.id"
    );
    const EXPECTED: &[ColumnKind] = &[
        ("key", Kind::Uuid),
        ("was", Kind::Text),
        ("was_round", Kind::Int),
        ("was_count", Kind::Int),
    ];
    const COLUMNS: [ColumnKind; EXPECTED.len() + rows::DELIVERY_CHANGES.len()] =
        join(&[EXPECTED, rows::DELIVERY_CHANGES]);
    // Status, round and number of attempts are the version of a delivery: a worker whose lease ran
    // out finds them changed, and does not overwrite the result of the next worker.
    let mut batch = Batch::new(&COLUMNS);
    for Change {
        delivery,
        was,
        round,
        attempt_count,
        kept,
    } in changes
    {
        let expected = [
            Param::uuid(delivery.id.0),
            Param::text(was.as_str()),
            Param::count(round),
            Param::count(attempt_count),
        ];
        let changes = rows::change_params(delivery);
        batch.push(expected.into_iter().chain(changes).chain([kept]));
    }
    delivery_ids(tx.run_batch(SQL, batch).await?)
}

fn delivery_ids(answer: Answer) -> Result<HashSet<DeliveryId>, StoreError> {
    answer
        .rows
        .into_iter()
        .map(|row| row.reader("deliveries").uuid().map(DeliveryId))
        .collect()
}

/// Disables those endpoints that are enabled and as they were when they were called; returns their
/// events.
async fn disable<'a>(
    tx: &mut dyn Transaction,
    disables: &[&'a DisableEndpoint],
    now: Timestamp,
) -> Result<Vec<&'a Event>, StoreError> {
    const SQL: &str = "-- endpoints.disable
        UPDATE endpoints SET status = 'disabled', disabled_reason = $2, updated_at = $3
        WHERE id = $1 AND status = 'enabled' AND deleted_at IS NULL AND version = $4";
    let mut each: BTreeMap<&EndpointId, &'a DisableEndpoint> = BTreeMap::new();
    for disable in disables {
        let newest = each.entry(&disable.endpoint.id).or_insert(disable);
        // Several deliveries of a batch may have met 410 Gone. The one that called the newest
        // version of the endpoint decides, since an older one would not match any more.
        if disable.endpoint.version > newest.endpoint.version {
            *newest = disable;
        }
    }
    let mut disabled = Vec::new();
    for (id, disable) in each {
        let EndpointStatus::Disabled(reason) = disable.endpoint.status else {
            continue;
        };
        let version = Param::int(disable.endpoint.version);
        let params = vec![
            Param::text(id.as_str()),
            Param::text(reason.as_str()),
            Param::time(now),
            version,
        ];
        // Somebody may have changed or disabled the endpoint since it was called. Then nothing is
        // disabled, and there is no event.
        if tx.run(SQL, params).await?.affected == 1 {
            disabled.push(disable);
        }
    }
    next_version(tx, disabled.iter().map(|disable| &disable.endpoint.id)).await?;
    Ok(disabled.into_iter().map(|disable| &disable.event).collect())
}
