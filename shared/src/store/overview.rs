//! What somebody on call looks at first: which endpoints fail, and what failed lately.

use super::db::{Param, Reader};
use super::query::Query;
use super::{Store, StoreError};
use crate::domain::delivery::FailureReason;
use crate::domain::id::{EndpointId, TenantId};
use crate::domain::overview::{FailingEndpoint, FailureGroup};
use crate::domain::time::Timestamp;

/// The most failures that are looked at: the newest.
pub const LOOKED_AT: u32 = 1_000;

impl Store {
    /// Enabled endpoints whose circuit breaker is open, the longest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn failing_endpoints(
        &self,
        tenant: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<FailingEndpoint>, StoreError> {
        let mut query = Query::new(
            "-- endpoint_health.failing
            SELECT h.endpoint_id, e.tenant, e.url, h.unhealthy_since, h.failures, h.last_error
            FROM endpoint_health h JOIN endpoints e ON e.id = h.endpoint_id
            WHERE h.unhealthy_since IS NOT NULL AND e.deleted_at IS NULL AND e.status = 'enabled'",
        );
        query.and_opt("e.tenant = ?", tenant.map(|it| Param::text(it.as_str())));
        query.end(
            " ORDER BY h.unhealthy_since, h.endpoint_id LIMIT ?",
            [Param::count(limit)],
        );
        let read = |row: &mut Reader| {
            Ok(FailingEndpoint {
                endpoint_id: row.word(|text| EndpointId::parse(text).ok())?,
                tenant: row.word(|text| TenantId::parse(text).ok())?,
                url: row.text()?,
                since: row.time()?,
                failures: row.count()?,
                last_error: row.text_opt()?.unwrap_or_default(),
            })
        };
        let rows = query.read(self).await?.rows.into_iter();
        rows.map(|row| read(&mut row.reader("endpoint_health")))
            .collect()
    }

    /// The newest [`LOOKED_AT`] deliveries that failed, by endpoint, reason and error; the largest
    /// groups first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn failure_groups(
        &self,
        tenant: Option<&TenantId>,
        since: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<FailureGroup>, StoreError> {
        let mut query = Query::new(
            "-- deliveries.failures
            SELECT f.endpoint_id, f.tenant, f.reason, f.last_error, count(*), min(f.created_at),
                max(f.created_at)
            FROM (SELECT d.endpoint_id, d.tenant, d.reason, d.last_error, d.created_at
                FROM deliveries d WHERE d.status = 'failed' AND d.status <> 'delivered'",
        );
        query.and_opt("d.tenant = ?", tenant.map(|it| Param::text(it.as_str())));
        query.and_opt("d.created_at >= ?", since.map(Param::time));
        query.end(
            " ORDER BY d.created_at DESC, d.id DESC LIMIT ?) AS f
            GROUP BY f.endpoint_id, f.tenant, f.reason, f.last_error
            ORDER BY 5 DESC, 7 DESC, 1 LIMIT ?",
            [Param::count(LOOKED_AT), Param::count(limit)],
        );
        let read = |row: &mut Reader| {
            Ok(FailureGroup {
                endpoint_id: row.word(|text| EndpointId::parse(text).ok())?,
                tenant: row.word(|text| TenantId::parse(text).ok())?,
                reason: row.word(FailureReason::parse)?,
                last_error: row.text_opt()?,
                count: row.total()?,
                oldest: row.time()?,
                newest: row.time()?,
            })
        };
        let rows = query.read(self).await?.rows.into_iter();
        rows.map(|row| read(&mut row.reader("deliveries")))
            .collect()
    }
}
