//! Ids under which a second, other notification came: what `reconcile` knows of notifications that
//! were not sent.

use super::db::{Batch, Kind, Param};
use super::{Store, StoreError};
use crate::domain::id::{NotificationId, TenantId};
use crate::domain::time::Timestamp;

impl Store {
    /// Notes that another notification came under this id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_id_conflict(
        &self,
        tenant: &TenantId,
        id: &NotificationId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- id_conflicts.note
            INSERT INTO id_conflicts (tenant, id, seen_at) VALUES ($1, $2, $3)
            ON CONFLICT (tenant, id) DO UPDATE SET seen_at = excluded.seen_at";
        let params = vec![
            Param::text(tenant.as_str()),
            Param::text(id.as_str()),
            Param::time(at),
        ];
        self.driver.write(SQL, params).await.map(drop)
    }

    /// How many ids another notification came under, for as long as retention keeps that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_id_conflicts(&self) -> Result<u64, StoreError> {
        let answer = self
            .driver
            .scan(
                "-- id_conflicts.count\nSELECT count(*) FROM id_conflicts",
                vec![],
            )
            .await?;
        answer
            .rows
            .into_iter()
            .next()
            .map_or(Ok(0), |row| row.reader("id_conflicts").total())
    }

    /// Those of these ids that another notification came under.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn id_conflicts(
        &self,
        ids: &[(TenantId, NotificationId)],
    ) -> Result<Vec<(TenantId, NotificationId)>, StoreError> {
        const SQL: &str = "-- id_conflicts.get_each
            SELECT c.tenant, c.id
            FROM {rows} JOIN id_conflicts c ON c.tenant = u.tenant AND c.id = u.id";
        let mut batch = Batch::new(&[("tenant", Kind::Text), ("id", Kind::Text)]);
        let each: std::collections::BTreeSet<_> = ids.iter().collect();
        for (tenant, id) in each {
            batch.push([Param::text(tenant.as_str()), Param::text(id.as_str())]);
        }
        let rows = self.driver.read_batch(SQL, batch).await?.rows.into_iter();
        rows.map(|row| {
            let mut row = row.reader("id_conflicts");
            let tenant = row.word(|text| TenantId::parse(text).ok())?;
            Ok((tenant, row.word(|text| NotificationId::parse(text).ok())?))
        })
        .collect()
    }
}
