//! Notifications, as they were accepted.

use std::collections::{BTreeSet, HashMap};

use super::db::{Batch, Kind, Param, Reader, Transaction};
use super::rows::{delivery_columns, notification_columns};
use super::{Store, StoreError, rows};
use crate::domain::delivery::Delivery;
use crate::domain::hops::Hops;
use crate::domain::id::{DeliveryId, NotificationId, TenantId};
use crate::domain::notification::Notification;

/// What the store knows of a batch of notifications.
#[derive(Debug, Clone, Default)]
pub struct LookUp {
    /// The change number of the endpoints.
    pub endpoints_version: i64,
    /// Those that were taken up already.
    pub known: HashMap<(TenantId, NotificationId), KnownNotification>,
}

/// A notification that was taken up already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNotification {
    /// How many deliveries it has in all.
    pub fan_out: u32,
    /// Those whose rows are there.
    pub deliveries: Vec<DeliveryId>,
}

impl LookUp {
    /// Adds a row: of a notification, or, without names, of the change number. With several
    /// statements the earliest number counts.
    fn add(&mut self, row: &mut Reader) -> Result<(), StoreError> {
        let number = row.int()?;
        let tenant = row.word_opt(|text| TenantId::parse(text).ok())?;
        let id = row.word_opt(|text| NotificationId::parse(text).ok())?;
        let (Some(tenant), Some(id)) = (tenant, id) else {
            self.endpoints_version = self.endpoints_version.min(number);
            return Ok(());
        };
        let fan_out = u32::try_from(number).map_err(|error| row.corrupt(error))?;
        let known = self.known.entry((tenant, id)).or_insert(KnownNotification {
            fan_out,
            deliveries: Vec::new(),
        });
        known.deliveries.extend(row.uuid_opt()?.map(DeliveryId));
        Ok(())
    }
}

/// Those of these notifications that are there, and can be read, within a transaction.
pub(super) async fn read_each(
    tx: &mut dyn Transaction,
    names: &BTreeSet<(&TenantId, &NotificationId)>,
) -> Result<Vec<Notification>, StoreError> {
    let mut batch = Batch::new(&[("tenant", Kind::Text), ("id", Kind::Text)]);
    for (tenant, id) in names {
        batch.push([Param::text(tenant.as_str()), Param::text(id.as_str())]);
    }
    let rows = tx.run_batch(GET_EACH, batch).await?.rows.into_iter();
    Ok(rows
        .filter_map(|row| rows::notification(&mut row.reader("notifications")).ok())
        .collect())
}

const GET_EACH: &str = concat!(
    "-- notifications.get_each
            SELECT ",
    notification_columns!(),
    " FROM {rows} JOIN notifications n ON n.tenant = u.tenant AND n.id = u.id"
);

impl Store {
    /// Which of these notifications were taken up already, and the endpoints' change number: one
    /// round trip, on the hot path of every batch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look_up(&self, ids: &[(TenantId, NotificationId)]) -> Result<LookUp, StoreError> {
        const SQL: &str = "-- notifications.look_up
            SELECT value, CAST(NULL AS TEXT), CAST(NULL AS TEXT), CAST(NULL AS UUID)
            FROM versions WHERE name = 'endpoints'
            UNION ALL
            SELECT n.fan_out, n.tenant, n.id, d.id
            FROM {rows} JOIN notifications n ON n.tenant = u.tenant AND n.id = u.id
                LEFT JOIN deliveries d ON d.notification_id = n.id AND d.tenant = n.tenant";
        if ids.is_empty() {
            return Ok(LookUp {
                endpoints_version: self.endpoints_version().await?,
                known: HashMap::new(),
            });
        }
        let mut batch = Batch::new(&[("tenant", Kind::Text), ("id", Kind::Text)]);
        let each: BTreeSet<&(TenantId, NotificationId)> = ids.iter().collect();
        for (tenant, id) in each {
            batch.push([Param::text(tenant.as_str()), Param::text(id.as_str())]);
        }
        let mut found = LookUp {
            endpoints_version: i64::MAX,
            known: HashMap::new(),
        };
        for row in self.driver.read_batch(SQL, batch).await?.rows {
            found.add(&mut row.reader("notifications"))?;
        }
        Ok(found)
    }

    /// Those of these notifications that are there, without their deliveries.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn notifications(
        &self,
        ids: &[(TenantId, NotificationId)],
    ) -> Result<HashMap<(TenantId, NotificationId), Notification>, StoreError> {
        let mut batch = Batch::new(&[("tenant", Kind::Text), ("id", Kind::Text)]);
        let each: BTreeSet<&(TenantId, NotificationId)> = ids.iter().collect();
        for (tenant, id) in each {
            batch.push([Param::text(tenant.as_str()), Param::text(id.as_str())]);
        }
        let rows = self
            .driver
            .read_batch(GET_EACH, batch)
            .await?
            .rows
            .into_iter();
        rows.map(|row| {
            let notification = rows::notification(&mut row.reader("notifications"))?;
            Ok((
                (notification.tenant.clone(), notification.id.clone()),
                notification,
            ))
        })
        .collect()
    }

    /// How often Posthaste itself has sent what these notifications came from; only of those where
    /// it has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hops(
        &self,
        ids: &[(TenantId, NotificationId)],
    ) -> Result<HashMap<(TenantId, NotificationId), Hops>, StoreError> {
        const SQL: &str = "-- notifications.hops
            SELECT n.tenant, n.id, n.hops FROM {rows}
            JOIN notifications n ON n.tenant = u.tenant AND n.id = u.id WHERE n.hops > 0";
        let mut batch = Batch::new(&[("tenant", Kind::Text), ("id", Kind::Text)]);
        let each: BTreeSet<&(TenantId, NotificationId)> = ids.iter().collect();
        for (tenant, id) in each {
            batch.push([Param::text(tenant.as_str()), Param::text(id.as_str())]);
        }
        if batch.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.driver.read_batch(SQL, batch).await?.rows.into_iter();
        rows.map(|row| {
            let mut row = row.reader("notifications");
            let tenant = row.word(|text| TenantId::parse(text).ok())?;
            let id = row.word(|text| NotificationId::parse(text).ok())?;
            Ok(((tenant, id), Hops::new(row.count()?)))
        })
        .collect()
    }

    /// Those of these notifications that are there and can be read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn readable_notifications(
        &self,
        ids: &[(TenantId, NotificationId)],
    ) -> Result<HashMap<(TenantId, NotificationId), Notification>, StoreError> {
        let mut batch = Batch::new(&[("tenant", Kind::Text), ("id", Kind::Text)]);
        let each: BTreeSet<&(TenantId, NotificationId)> = ids.iter().collect();
        for (tenant, id) in each {
            batch.push([Param::text(tenant.as_str()), Param::text(id.as_str())]);
        }
        let rows = self
            .driver
            .read_batch(GET_EACH, batch)
            .await?
            .rows
            .into_iter();
        let readable =
            rows.filter_map(|row| rows::notification(&mut row.reader("notifications")).ok());
        Ok(readable
            .map(|it| ((it.tenant.clone(), it.id.clone()), it))
            .collect())
    }

    /// One notification with its deliveries. Without a tenant: the oldest of that name of any
    /// tenant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn notification(
        &self,
        tenant: Option<&TenantId>,
        id: &NotificationId,
    ) -> Result<Option<(Notification, Vec<Delivery>)>, StoreError> {
        const OF_TENANT: &str = concat!(
            "-- notifications.get
            SELECT ",
            notification_columns!(),
            " FROM notifications n WHERE n.id = $1 AND n.tenant = $2"
        );
        // Its deliveries name its tenant, and their index has the ids. An index of notifications by
        // id is needed for those without deliveries only, which are few: one more index for all
        // would cost each delivery a twentieth of what the store writes.
        const OF_ANY: &str = concat!(
            "-- notifications.get_of_any_tenant
            SELECT ",
            notification_columns!(),
            " FROM (
                SELECT d.tenant FROM deliveries d WHERE d.notification_id = $1
                UNION
                SELECT u.tenant FROM notifications u WHERE u.id = $1 AND u.fan_out = 0
            ) AS t JOIN notifications n ON n.tenant = t.tenant AND n.id = $1
            ORDER BY n.accepted_at LIMIT 1"
        );
        const DELIVERIES: &str = concat!(
            "-- deliveries.of_notification
            SELECT ",
            delivery_columns!(),
            " FROM deliveries d
            WHERE d.notification_id = $1 AND d.tenant = $2 ORDER BY d.endpoint_id, d.id"
        );
        let mut params = vec![Param::text(id.as_str())];
        params.extend(tenant.map(|tenant| Param::text(tenant.as_str())));
        let sql = if tenant.is_some() { OF_TENANT } else { OF_ANY };
        let answer = self.driver.read(sql, params).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok(None);
        };
        let notification = rows::notification(&mut row.reader("notifications"))?;
        let params = vec![
            Param::text(id.as_str()),
            Param::text(notification.tenant.as_str()),
        ];
        let deliveries = self.driver.read(DELIVERIES, params).await?.rows.into_iter();
        let deliveries = deliveries.map(|row| rows::delivery(&mut row.reader("deliveries")));
        Ok(Some((notification, deliveries.collect::<Result<_, _>>()?)))
    }
}
