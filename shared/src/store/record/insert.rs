//! What a batch of results creates: notifications, deliveries and attempts.
//!
//! A result is nearly always the first of its delivery. So rows are inserted as [`Expected::New`]
//! at first, by a plain INSERT; if one of them is there, the database refuses the whole batch, and
//! it is written again as [`Expected::PerhapsThere`]. `ON CONFLICT` for all would be simpler, and
//! dearer for each: Postgres then looks for the row before it inserts it, writes it as speculative,
//! and confirms it by a further record in its log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::super::cipher::Cipher;
use super::super::db::Transaction;
use super::super::notifications::read_each;
use super::super::rows::{attempt_columns, delivery_columns, notification_columns};
use super::super::{Store, StoreError, round, rows};
use super::{Before, Record, delivery_ids};
use crate::domain::delivery::Status;
use crate::domain::id::{DeliveryId, NotificationId, TenantId};
use crate::domain::notification::Notification;

/// What is expected of the rows that are to be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// None of them is there. Otherwise nothing is inserted, and the error is a duplicate.
    New,
    /// Some may be there, and stay as they are.
    PerhapsThere,
}

/// What was new in a batch.
#[derive(Default)]
pub(super) struct New<'a> {
    /// The deliveries that were not there.
    pub(super) kept: HashSet<DeliveryId>,
    /// Deliveries of notifications whose ids stand for others: nothing of them was written.
    pub(super) conflicts: HashSet<DeliveryId>,
    /// The notifications of several deliveries that were not there.
    pub(super) inserted: Vec<&'a Arc<Notification>>,
}

/// Inserts the deliveries that are first seen now, and their notifications.
pub(super) async fn insert_new<'a>(
    tx: &mut dyn Transaction,
    records: &BTreeMap<DeliveryId, &'a Record>,
    (store, cipher): (&Store, Option<&Cipher>),
    expected: Expected,
) -> Result<New<'a>, StoreError> {
    const NEW: &str = concat!(
        "-- deliveries.insert_new
        INSERT INTO deliveries (",
        delivery_columns!(insert),
        ") SELECT ",
        delivery_columns!(inserted),
        " FROM {rows}"
    );
    const PERHAPS_THERE: &str = concat!(
        "-- deliveries.insert_batch
        INSERT INTO deliveries (",
        delivery_columns!(insert),
        ") SELECT ",
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
    let first_seen = first_seen.map(|(_, it, fan_out)| (*it, *fan_out));
    let notifications = insert_notifications(tx, first_seen, expected).await?;
    // Ids that stand for another notification are found before anything is inserted for them: their
    // deliveries would deliver the wrong payload.
    let conflicts: HashSet<DeliveryId> = new
        .iter()
        .filter(|(_, notification, _)| notifications.stands_for_another(notification))
        .map(|(record, ..)| record.delivery.id)
        .collect();
    let free = || {
        new.iter()
            .map(|(record, ..)| *record)
            .filter(|record| !conflicts.contains(&record.delivery.id))
    };
    let deliveries = rows::delivery_batch(free().map(|record| {
        let Record { delivery, kept, .. } = record;
        let kept = kept
            .as_ref()
            // What is kept serves the further attempts of a round. A delivery that is finished by
            // its first attempt has none.
            .filter(|_| delivery.state.status() == Status::Pending);
        (
            delivery,
            round::param(cipher, delivery, kept),
            record.first_attempt(),
        )
    }));
    let kept = match expected {
        Expected::New => {
            tx.run_batch(NEW, deliveries).await?;
            free().map(|record| record.delivery.id).collect()
        }
        Expected::PerhapsThere => delivery_ids(tx.run_batch(PERHAPS_THERE, deliveries).await?)?,
    };
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
pub(super) struct Notifications<'a> {
    inserted: Vec<(&'a Arc<Notification>, u32)>,
    /// By tenant and id: what was there already, as far as it can be read, and what came first in
    /// this batch.
    there: HashMap<(TenantId, NotificationId), Notification>,
}

impl Notifications<'_> {
    /// Whether the notification's id belongs to one that differs from it.
    pub(super) fn stands_for_another(&self, notification: &Notification) -> bool {
        // Nearly always: then no name has to be copied for the look-up.
        if self.there.is_empty() {
            return false;
        }
        let name = (notification.tenant.clone(), notification.id.clone());
        // The same notification again (a redelivered message) is not a conflict: only what differs
        // is.
        self.there
            .get(&name)
            .is_some_and(|first| first.differs_in(notification).is_some())
    }
}

/// Inserts notifications, each with its number of deliveries.
pub(super) async fn insert_notifications<'a>(
    tx: &mut dyn Transaction,
    notifications: impl Iterator<Item = (&'a Arc<Notification>, u32)>,
    expected: Expected,
) -> Result<Notifications<'a>, StoreError> {
    const NEW: &str = concat!(
        "-- notifications.insert_new
        INSERT INTO notifications (",
        notification_columns!(insert),
        ") SELECT ",
        notification_columns!(inserted),
        " FROM {rows}"
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
    let inserted = match expected {
        Expected::New => {
            tx.run_batch(NEW, rows::notification_batch(each.values().copied()))
                .await?;
            each.into_values().collect()
        }
        Expected::PerhapsThere => {
            let (inserted, known) = insert_absent(tx, each).await?;
            there.extend(known);
            inserted
        }
    };
    Ok(Notifications { inserted, there })
}

/// Notifications by name, each with its number of deliveries.
type ByName<'a> = BTreeMap<(&'a TenantId, &'a NotificationId), (&'a Arc<Notification>, u32)>;
/// What was there before, by name, as far as it can be read.
type There = Vec<((TenantId, NotificationId), Notification)>;

/// Inserts those that are absent; returns them, and what the others' names belong to.
async fn insert_absent<'a>(
    tx: &mut dyn Transaction,
    each: ByName<'a>,
) -> Result<(Vec<(&'a Arc<Notification>, u32)>, There), StoreError> {
    const PERHAPS_THERE: &str = concat!(
        "-- notifications.insert_batch
        INSERT INTO notifications (",
        notification_columns!(insert),
        ") SELECT ",
        notification_columns!(inserted),
        " FROM {rows} WHERE true
        ON CONFLICT DO NOTHING RETURNING tenant, id"
    );
    let mut names = HashSet::new();
    for row in tx
        .run_batch(
            PERHAPS_THERE,
            rows::notification_batch(each.values().copied()),
        )
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
    if known.is_empty() {
        return Ok((inserted, Vec::new()));
    }
    let names = known
        .iter()
        .map(|(notification, _)| (&notification.tenant, &notification.id))
        .collect();
    let there = read_each(tx, &names).await?.into_iter();
    let there = there.map(|it| ((it.tenant.clone(), it.id.clone()), it));
    Ok((inserted, there.collect()))
}

/// Inserts the attempts of those records that have one outside of their delivery's row.
pub(super) async fn insert_attempts(
    tx: &mut dyn Transaction,
    records: impl Iterator<Item = &Record>,
    expected: Expected,
) -> Result<(), StoreError> {
    const NEW: &str = concat!(
        "-- attempts.insert_new
        INSERT INTO attempts (",
        attempt_columns!(insert),
        ") SELECT ",
        attempt_columns!(inserted),
        " FROM {rows}"
    );
    const PERHAPS_THERE: &str = concat!(
        "-- attempts.insert_batch
        INSERT INTO attempts (",
        attempt_columns!(insert),
        ") SELECT ",
        attempt_columns!(inserted),
        " FROM {rows} WHERE true
        ON CONFLICT DO NOTHING"
    );
    let attempts = records
        .filter(|record| record.first_attempt().is_none())
        .filter_map(|record| Some((&record.delivery, record.attempt.as_ref()?)));
    let sql = match expected {
        Expected::New => NEW,
        Expected::PerhapsThere => PERHAPS_THERE,
    };
    tx.run_batch(sql, rows::attempt_batch(attempts)).await?;
    Ok(())
}
