//! Leases: deliveries that one worker holds until a time.

use super::StoreError;
use super::db::{Batch, Kind, Param, Transaction};
use crate::domain::id::DeliveryId;
use crate::domain::time::Timestamp;

/// Puts deliveries under leases, each with its end.
pub(super) async fn hold(
    tx: &mut dyn Transaction,
    leases: impl Iterator<Item = (DeliveryId, Timestamp)>,
) -> Result<(), StoreError> {
    const SQL: &str = "-- claims.lease
        UPDATE deliveries SET wait = 'in_flight', hold = NULL, due_at = u.lease_until
        FROM {rows} WHERE deliveries.id = u.key";
    // In any order: the rows were locked when they were found, so that updating them waits for
    // nobody.
    let mut batch = Batch::new(&[("key", Kind::Uuid), ("lease_until", Kind::Int)]);
    for (id, until) in leases {
        batch.push([Param::uuid(id.0), Param::time(until)]);
    }
    tx.run_batch(SQL, batch).await.map(drop)
}
