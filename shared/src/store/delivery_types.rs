//! Which types of notifications there were.

use super::db::Param;
use super::{Store, StoreError};
use crate::domain::id::{NotificationType, TenantId};

/// How many of a tenant's latest deliveries are looked at.
const LATEST: i64 = 2_000;

impl Store {
    /// The types of recorded deliveries, in alphabetical order, up to `most` of them. Of one
    /// tenant: those of its latest 2,000 deliveries.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delivery_types(
        &self,
        tenant: Option<&TenantId>,
        most: u32,
    ) -> Result<Vec<NotificationType>, StoreError> {
        // From one type to the next along the index, without the deliveries between them: DISTINCT
        // would read every entry.
        const ALL: &str = "-- deliveries.types
            WITH RECURSIVE types (type, number) AS (
                SELECT (SELECT MIN(d.type) FROM deliveries d), 1
                UNION ALL
                SELECT (SELECT MIN(d.type) FROM deliveries d WHERE d.type > t.type), t.number + 1
                FROM types t WHERE t.type IS NOT NULL AND t.number < $1)
            SELECT type FROM types WHERE type IS NOT NULL ORDER BY type";
        // No index has tenant and type. One for this list alone would cost each delivery an entry.
        const OF_TENANT: &str = "-- deliveries.types_of_tenant
            SELECT DISTINCT type FROM (
                SELECT type FROM deliveries WHERE tenant = $1
                ORDER BY created_at DESC, id DESC LIMIT $2) latest
            ORDER BY type LIMIT $3";
        let most = Param::count(most);
        let answer = match tenant {
            None => self.driver.read(ALL, vec![most]).await?,
            Some(tenant) => {
                let params = vec![Param::text(tenant.as_str()), Param::int(LATEST), most];
                self.driver.read(OF_TENANT, params).await?
            }
        };
        let types = answer.rows.into_iter().map(|row| {
            row.reader("deliveries")
                .word(|text| NotificationType::parse(text).ok())
        });
        types.collect()
    }
}
