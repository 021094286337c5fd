//! What is due: deliveries that wait in the store, taken with a lease so that two workers never
//! hold the same.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::cipher::Cipher;
use super::db::{Batch, Kind, Param, Reader, Transaction};
use super::leases;
use super::rows::{delivery_columns, notification_columns};
use super::unreadable::{MAX_PASSES, put_aside};
use super::{Store, StoreError, round, rows};
use crate::domain::delivery::Delivery;
use crate::domain::id::{DeliveryId, EndpointId, NotificationId, TenantId};
use crate::domain::notification::Notification;
use crate::domain::round::RoundContent;
use crate::domain::time::Timestamp;

/// A delivery that this process holds until its lease ends.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// As it was before it was claimed.
    pub delivery: Delivery,
    /// The notification that is delivered.
    pub notification: Arc<Notification>,
    /// What an earlier attempt of its round settled.
    pub kept: Option<RoundContent>,
    /// When the lease ends: from then on any worker may take the delivery.
    pub lease_until: Timestamp,
}

/// What every claim selects before the delivery: how long one attempt may take, in milliseconds,
/// the delivery's id, and when the notification was accepted. The longest timeout that an endpoint
/// may have stands in for that of one that is gone. The notifications are read apart, each once:
/// many deliveries may have the same.
macro_rules! claimed_first {
    () => {
        "COALESCE(e.timeout_ms, 60000), d.id, n.accepted_at, "
    };
}

/// The tables that claims are read from.
macro_rules! claimed_tables {
    () => {
        "deliveries d JOIN notifications n ON n.tenant = d.tenant AND n.id = d.notification_id
                LEFT JOIN endpoints e ON e.id = d.endpoint_id AND e.deleted_at IS NULL"
    };
}

impl Store {
    /// Takes up to `limit` pending deliveries that are due at `now` (retries, scheduled ones, ended
    /// leases), the one that is due longest first. Never one that has expired. Each lease ends
    /// `margin` after the endpoint's timeout. What cannot be read is logged and put aside for a
    /// minute.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_due(
        &self,
        now: Timestamp,
        margin: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let all = Look {
            parked_for: None,
            left: limit,
        };
        self.claim(vec![all], Lease { now, margin }).await
    }

    /// Takes parked deliveries of endpoints, up to so many of each, the oldest first. Never one
    /// that has expired. Leases and what cannot be read: as with [`Store::claim_due`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_parked(
        &self,
        of: &[(EndpointId, u32)],
        now: Timestamp,
        margin: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let look = |(endpoint, limit): &(EndpointId, u32)| Look {
            parked_for: Some(endpoint.clone()),
            left: *limit,
        };
        let looks = of.iter().map(look).collect();
        self.claim(looks, Lease { now, margin }).await
    }

    /// The endpoints that have parked deliveries. One index probe for each, however many are
    /// parked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoints_with_parked(&self) -> Result<Vec<EndpointId>, StoreError> {
        // From one endpoint to the next in the index, past all the rows between.
        const SQL: &str = "-- claims.endpoints_with_parked
            WITH RECURSIVE held(endpoint_id) AS (
                SELECT (SELECT d.endpoint_id FROM deliveries d
                        WHERE d.wait = 'parked' ORDER BY d.endpoint_id LIMIT 1)
                UNION ALL
                SELECT (SELECT d.endpoint_id FROM deliveries d
                        WHERE d.wait = 'parked' AND d.endpoint_id > held.endpoint_id
                        ORDER BY d.endpoint_id LIMIT 1)
                FROM held WHERE held.endpoint_id IS NOT NULL
            )
            SELECT endpoint_id FROM held WHERE endpoint_id IS NOT NULL";
        let answer = self.driver.read(SQL, vec![]).await?;
        let id = |row: super::db::Row| {
            row.reader("deliveries")
                .word(|text| EndpointId::parse(text).ok())
        };
        answer.rows.into_iter().map(id).collect()
    }

    /// Releases leases, by delivery and the lease's end: the deliveries are due at once. Returns
    /// how many were still held under that lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release(
        &self,
        leases: &[(DeliveryId, Timestamp)],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "-- claims.release
            UPDATE deliveries SET wait = 'retry', due_at = u.due_at
            FROM {rows}
            WHERE deliveries.id = u.key AND deliveries.wait = 'in_flight'
                AND deliveries.due_at = u.lease_until";
        let mut batch = Batch::new(&[
            ("key", Kind::Uuid),
            ("lease_until", Kind::Int),
            ("due_at", Kind::Int),
        ]);
        let mut leases = leases.to_vec();
        // By id, as everybody who writes several deliveries does, so that two transactions never
        // wait for each other.
        leases.sort_unstable();
        for (id, lease_until) in leases {
            batch.push([
                Param::uuid(id.0),
                Param::time(lease_until),
                Param::time(now),
            ]);
        }
        // The lease's end is part of the condition: if it has run out and another worker has
        // claimed the delivery since, that one's lease stays.
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
        // A leased delivery is left out: its worker expires it, or the lease ends.
        const SQL: &str = "-- claims.next_due
            SELECT (SELECT due_at FROM deliveries WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1),
                (SELECT expires_at FROM deliveries
                    WHERE status = 'pending' AND expires_at IS NOT NULL AND wait <> 'in_flight'
                    ORDER BY expires_at LIMIT 1)";
        let answer = self.driver.read(SQL, vec![]).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok(None);
        };
        let mut row = row.reader("deliveries");
        let times = [row.time_opt()?, row.time_opt()?];
        Ok(times.into_iter().flatten().min())
    }

    /// Takes the deliveries that `looks` find, all in one transaction: one commit for a few of each
    /// of a hundred endpoints.
    async fn claim(&self, mut looks: Vec<Look>, lease: Lease) -> Result<Vec<Claimed>, StoreError> {
        let mut tx = self.driver.begin().await?;
        let mut claimed: Vec<Claimed> = Vec::new();
        for _ in 0..MAX_PASSES {
            let mut found = Vec::new();
            let mut unreadable = Vec::new();
            for look in &looks {
                let answer = tx.run(look.sql(), look.params(lease.now)).await?;
                for row in answer.rows {
                    let mut row = row.reader("deliveries");
                    // Read ahead of the delivery itself, so that a row whose delivery cannot be
                    // read still has its id, and can be put aside.
                    let until = lease.until(&mut row)?;
                    let id = row.uuid()?;
                    match Found::read(&mut row, until, self.cipher.as_deref()) {
                        Ok(one) => found.push(one),
                        Err(error) => {
                            self.unreadable.tell("delivery", &id, &error);
                            unreadable.push(id);
                        }
                    }
                }
            }
            let (mut taken, without) = self.with_notifications(tx.as_mut(), found).await?;
            // A delivery whose notification cannot be read cannot be sent either: it is put aside
            // like one that cannot be read itself.
            unreadable.extend(without);
            leases::hold(
                tx.as_mut(),
                taken.iter().map(|one| (one.delivery.id, one.lease_until)),
            )
            .await?;
            put_aside(tx.as_mut(), &unreadable, lease.now).await?;
            // Others may be waiting behind those that cannot be read.
            looks.retain_mut(|look| look.is_worth_another(&taken));
            claimed.append(&mut taken);
            if unreadable.is_empty() || looks.is_empty() {
                break;
            }
        }
        tx.commit().await?;
        Ok(claimed)
    }

    /// Adds the notifications, each read once, and only if it is not in memory. Returns the ids of
    /// deliveries whose notification cannot be read, too.
    async fn with_notifications(
        &self,
        tx: &mut dyn Transaction,
        found: Vec<Found>,
    ) -> Result<(Vec<Claimed>, Vec<Uuid>), StoreError> {
        const SQL: &str = concat!(
            "-- claims.notifications
            SELECT n.fan_out, ",
            notification_columns!(),
            " FROM {rows} JOIN notifications n ON n.tenant = u.tenant AND n.id = u.id"
        );
        let mut known: HashMap<(TenantId, NotificationId), Arc<Notification>> = HashMap::new();
        let mut wanted = BTreeSet::new();
        for one in &found {
            let name = one.name();
            match self.kept.get(&name, one.accepted_at) {
                Some(notification) => drop(known.insert(name, notification)),
                // A set, so that a notification with a thousand deliveries in this batch is read
                // once.
                None => drop(wanted.insert(name)),
            }
        }
        let mut batch = Batch::new(&[("tenant", Kind::Text), ("id", Kind::Text)]);
        for (tenant, id) in &wanted {
            batch.push([Param::text(tenant.as_str()), Param::text(id.as_str())]);
        }
        for row in tx.run_batch(SQL, batch).await?.rows {
            let mut row = row.reader("notifications");
            let fan_out = row.count()?;
            match rows::notification(&mut row) {
                Ok(notification) => {
                    let notification = Arc::new(notification);
                    // One delivery alone will not ask for its notification again soon, and would
                    // push out those that are shared.
                    if fan_out > 1 {
                        self.kept.put(&notification);
                    }
                    known.insert(
                        (notification.tenant.clone(), notification.id.clone()),
                        notification,
                    );
                }
                Err(error) => self
                    .unreadable
                    .tell("notification", &row.name().to_owned(), &error),
            }
        }
        let mut claimed = Vec::with_capacity(found.len());
        let mut without = Vec::new();
        for one in found {
            match known.get(&one.name()) {
                Some(notification) => claimed.push(Claimed {
                    notification: Arc::clone(notification),
                    delivery: one.delivery,
                    kept: one.kept,
                    lease_until: one.lease_until,
                }),
                None => without.push(one.delivery.id.0),
            }
        }
        Ok((claimed, without))
    }
}

/// What is looked for.
#[derive(Debug)]
struct Look {
    /// What is parked for this endpoint; `None`: what is due, whomever it is for.
    parked_for: Option<EndpointId>,
    /// How many more are wanted.
    left: u32,
}

impl Look {
    // SKIP LOCKED (in `{skip_locked}`) lets several workers claim side by side: each passes over
    // what another is just taking, and none waits.
    const DUE: &str = concat!(
        "-- claims.due
            SELECT ",
        claimed_first!(),
        delivery_columns!(),
        ", d.kept FROM ",
        claimed_tables!(),
        "
            WHERE d.due_at IS NOT NULL AND d.due_at <= $1
                AND (d.expires_at IS NULL OR d.expires_at > $1)
            ORDER BY d.due_at LIMIT $2 {skip_locked}"
    );
    const PARKED: &str = concat!(
        "-- claims.parked
            SELECT ",
        claimed_first!(),
        delivery_columns!(),
        ", d.kept FROM ",
        claimed_tables!(),
        "
            WHERE d.wait = 'parked' AND d.endpoint_id = $3
                AND (d.expires_at IS NULL OR d.expires_at > $1)
            ORDER BY d.created_at, d.id LIMIT $2 {skip_locked}"
    );

    const fn sql(&self) -> &'static str {
        match self.parked_for {
            None => Self::DUE,
            Some(_) => Self::PARKED,
        }
    }

    fn params(&self, now: Timestamp) -> Vec<Param> {
        let mut params = vec![Param::time(now), Param::count(self.left)];
        params.extend(
            self.parked_for
                .iter()
                .map(|endpoint| Param::text(endpoint.as_str())),
        );
        params
    }

    /// Subtracts what was taken; whether more is wanted.
    fn is_worth_another(&mut self, taken: &[Claimed]) -> bool {
        let is_mine = |one: &&Claimed| {
            self.parked_for
                .as_ref()
                .is_none_or(|endpoint| *endpoint == one.delivery.endpoint_id)
        };
        let mine = taken.iter().filter(is_mine).count();
        self.left = self
            .left
            .saturating_sub(u32::try_from(mine).unwrap_or(u32::MAX));
        self.left > 0
    }
}

/// How long leases are.
#[derive(Debug, Clone, Copy)]
struct Lease {
    now: Timestamp,
    /// Added to the endpoint's timeout.
    margin: Duration,
}

impl Lease {
    /// When the lease ends; reads the endpoint's timeout from the row.
    fn until(self, row: &mut Reader) -> Result<Timestamp, StoreError> {
        let timeout = Duration::from_millis(row.total()?);
        Ok(self.now.after(timeout).after(self.margin))
    }
}

/// A delivery that can be claimed, still without its notification.
struct Found {
    delivery: Delivery,
    accepted_at: Timestamp,
    kept: Option<RoundContent>,
    lease_until: Timestamp,
}

impl Found {
    fn read(
        row: &mut Reader,
        lease_until: Timestamp,
        cipher: Option<&Cipher>,
    ) -> Result<Self, StoreError> {
        let accepted_at = row.time()?;
        let delivery = rows::delivery(row)?;
        let kept = round::read(cipher, &delivery, row.bytes_opt()?);
        Ok(Self {
            delivery,
            accepted_at,
            kept,
            lease_until,
        })
    }

    fn name(&self) -> (TenantId, NotificationId) {
        (
            self.delivery.tenant.clone(),
            self.delivery.notification_id.clone(),
        )
    }
}
