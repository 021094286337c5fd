//! The results of attempts: one transaction a batch.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::cipher::Cipher;
use super::db::{Answer, Batch, ColumnKind, Kind, Param, Transaction, join};
use super::endpoints::next_version;
use super::events::insert_events;
use super::notifications::read_each;
use super::rows::{attempt_columns, delivery_columns, notification_columns};
use super::{Store, StoreError, round, rows};
use crate::domain::attempt::Attempt;
use crate::domain::delivery::{Delivery, Status};
use crate::domain::endpoint::{Endpoint, EndpointStatus};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, EndpointId, NotificationId, TenantId};
use crate::domain::notification::Notification;
use crate::domain::round::RoundContent;
use crate::domain::time::Timestamp;

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
        let cipher = self.cipher_to_write().await?;
        let mut tx = self.driver.begin().await?;
        let New {
            mut kept,
            conflicts,
            inserted,
        } = insert_new(tx.as_mut(), &records, self).await?;
        kept.extend(update_known(tx.as_mut(), &records, cipher).await?);
        // From here on only what was changed: a stale record must not leave an attempt or an event
        // behind.
        records.retain(|id, _| kept.contains(id));
        insert_attempts(tx.as_mut(), records.values().copied()).await?;
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
        let inserted = insert_notifications(tx.as_mut(), each).await?;
        tx.commit().await?;
        Ok(notifications
            .iter()
            .map(|notification| inserted.stands_for_another(notification))
            .collect())
    }
}

/// What was new in a batch.
#[derive(Default)]
struct New<'a> {
    /// The deliveries that were not there.
    kept: HashSet<DeliveryId>,
    /// Deliveries of notifications whose ids stand for others: nothing of them was written.
    conflicts: HashSet<DeliveryId>,
    /// The notifications of several deliveries that were not there.
    inserted: Vec<&'a Arc<Notification>>,
}

async fn insert_new<'a>(
    tx: &mut dyn Transaction,
    records: &BTreeMap<DeliveryId, &'a Record>,
    store: &Store,
) -> Result<New<'a>, StoreError> {
    const SQL: &str = concat!(
        "-- deliveries.insert_batch
        INSERT INTO deliveries (",
        delivery_columns!(insert),
        ")
        SELECT ",
        delivery_columns!(inserted),
        " FROM {rows} WHERE true
        ON CONFLICT DO NOTHING RETURNING id"
    );
    let new: Vec<(&'a Record, &'a Arc<Notification>, u32)> = records
        .values()
        .filter_map(|record| match &record.before {
            Before::New {
                notification,
                fan_out,
            } => Some((*record, notification, *fan_out)),
            Before::Known { .. } => None,
        })
        .collect();
    // Of many deliveries only the first batch brings the notification: each would send its payload
    // once more.
    let first_seen = new
        .iter()
        .filter(|(_, notification, fan_out)| *fan_out <= 1 || !store.kept.has(notification));
    let notifications =
        insert_notifications(tx, first_seen.map(|(_, it, fan_out)| (*it, *fan_out))).await?;
    // Ids that stand for another notification are found before anything is inserted for them: their
    // deliveries would deliver the wrong payload.
    let conflicts: HashSet<DeliveryId> = new
        .iter()
        .filter(|(_, notification, _)| notifications.stands_for_another(notification))
        .map(|(record, ..)| record.delivery.id)
        .collect();
    let free = new
        .iter()
        .filter(|(record, ..)| !conflicts.contains(&record.delivery.id));
    let deliveries = rows::delivery_batch(free.map(|(Record { delivery, kept, .. }, ..)| {
        let kept = kept
            .as_ref()
            // What is kept serves the further attempts of a round. A delivery that is finished by
            // its first attempt has none.
            .filter(|_| delivery.state.status() == Status::Pending);
        (
            delivery,
            round::param(store.cipher.as_deref(), delivery, kept),
        )
    }));
    let kept = delivery_ids(tx.run_batch(SQL, deliveries).await?)?;
    let several = notifications
        .inserted
        .into_iter()
        .filter(|(_, fan_out)| *fan_out > 1);
    Ok(New {
        kept,
        conflicts,
        inserted: several.map(|(notification, _)| notification).collect(),
    })
}

/// The outcome of inserting notifications.
struct Notifications<'a> {
    inserted: Vec<(&'a Arc<Notification>, u32)>,
    /// By tenant and id: what was there already, as far as it can be read, and what came first in
    /// this batch.
    there: HashMap<(TenantId, NotificationId), Notification>,
}

impl Notifications<'_> {
    fn stands_for_another(&self, notification: &Notification) -> bool {
        let name = (notification.tenant.clone(), notification.id.clone());
        // The same notification again (a redelivered message) is not a conflict: only what differs
        // is.
        self.there
            .get(&name)
            .is_some_and(|first| first.differs_in(notification).is_some())
    }
}

async fn insert_notifications<'a>(
    tx: &mut dyn Transaction,
    notifications: impl Iterator<Item = (&'a Arc<Notification>, u32)>,
) -> Result<Notifications<'a>, StoreError> {
    const SQL: &str = concat!(
        "-- notifications.insert_batch
        INSERT INTO notifications (",
        notification_columns!(insert),
        ")
        SELECT ",
        notification_columns!(inserted),
        " FROM {rows} WHERE true
        ON CONFLICT DO NOTHING RETURNING tenant, id"
    );
    // Sorted by tenant and id, for the order of locks: two batches that insert the same
    // notifications must not wait for each other in a circle.
    let mut each: BTreeMap<(&TenantId, &NotificationId), (&'a Arc<Notification>, u32)> =
        BTreeMap::new();
    let mut there = HashMap::new();
    for (notification, fan_out) in notifications {
        let first = each
            .entry((&notification.tenant, &notification.id))
            .or_insert((notification, fan_out));
        // Two of one id in this batch: the first is inserted, and the second is compared with it as
        // if it had been in the store.
        if !Arc::ptr_eq(first.0, notification) {
            there.insert(
                (notification.tenant.clone(), notification.id.clone()),
                first.0.as_ref().clone(),
            );
        }
    }
    let mut names = HashSet::new();
    for row in tx
        .run_batch(SQL, rows::notification_batch(each.values().copied()))
        .await?
        .rows
    {
        let mut row = row.reader("notifications");
        names.insert((row.text()?, row.text()?));
    }
    let new = |it: &Notification| {
        names.contains(&(it.tenant.as_str().to_owned(), it.id.as_str().to_owned()))
    };
    let (inserted, known): (Vec<_>, Vec<_>) = each
        .into_values()
        .partition(|(notification, _)| new(notification));
    if !known.is_empty() {
        let names = known
            .iter()
            .map(|(notification, _)| (&notification.tenant, &notification.id))
            .collect();
        let first = read_each(tx, &names).await?.into_iter();
        there.extend(first.map(|it| ((it.tenant.clone(), it.id.clone()), it)));
    }
    Ok(Notifications { inserted, there })
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

async fn insert_attempts(
    tx: &mut dyn Transaction,
    records: impl Iterator<Item = &Record>,
) -> Result<(), StoreError> {
    const SQL: &str = concat!(
        "-- attempts.insert_batch
        INSERT INTO attempts (",
        attempt_columns!(insert),
        ")
        SELECT ",
        attempt_columns!(inserted),
        " FROM {rows} WHERE true
        ON CONFLICT DO NOTHING"
    );
    let attempts =
        records.filter_map(|record| Some((record.delivery.id, record.attempt.as_ref()?)));
    tx.run_batch(SQL, rows::attempt_batch(attempts)).await?;
    Ok(())
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
