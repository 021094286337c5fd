//! Rows that this program cannot read, such as those of a newer version: they must not keep the
//! others waiting. Each is logged once and passed over.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::db::{Answer, Reader, Row, Transaction};
use super::leases::hold;
use super::page::{List, Placed};
use super::{Store, StoreError};
use crate::domain::id::DeliveryId;
use crate::domain::time::Timestamp;

/// How long a delivery that cannot be read is left alone.
const ASIDE: Duration = Duration::from_secs(60);
/// How often one call looks for rows behind those that cannot be read; what is left is for the next
/// call.
pub(super) const MAX_PASSES: usize = 50;
/// The most problems that are remembered; then it begins anew, and each may be logged once more.
const MAX_REMEMBERED: usize = 10_000;

/// What was logged already.
#[derive(Debug, Default)]
pub(super) struct Unreadable(Mutex<HashSet<String>>);

impl Unreadable {
    /// Logs that a row cannot be read, if that was not done before.
    pub(super) fn tell(&self, what: &str, id: &impl ToString, error: &StoreError) {
        let id = id.to_string();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_REMEMBERED {
            told.clear();
        }
        if told.insert(format!("{what} {id}: {error}")) {
            tracing::error!(id, %error, "{what} cannot be read and is passed over: \
                {}", remedy(error));
        }
    }
}

impl Store {
    /// The rows of a list as `read` reads them; one that it cannot read is logged.
    pub(super) fn readable<T>(
        &self,
        list: &List,
        answer: Answer,
        read: impl Fn(&mut Reader) -> Result<T, StoreError>,
    ) -> Vec<Placed<T>> {
        let one = |row: Row| {
            let place = list.place(&row);
            let item = match read(&mut row.reader(list.table)) {
                Ok(item) => Some(item),
                Err(error) => {
                    let id = place.as_ref().map_or("", |place| place.id.as_str());
                    self.unreadable.tell(list.what, &id, &error);
                    None
                }
            };
            Placed { item, place }
        };
        answer.rows.into_iter().map(one).collect()
    }
}

const fn remedy(error: &StoreError) -> &'static str {
    match error {
        StoreError::Cipher(_) => {
            "give this process the POSTHASTE_MASTER_KEY that its secrets were encrypted with"
        }
        _ => "if a newer version wrote it, bring this process to that version too",
    }
}

/// Leaves pending deliveries that cannot be read alone for a minute, under a lease that nobody
/// holds: until then they are neither due, nor parked, nor expired. A process that can read them
/// goes on from there.
pub(super) async fn put_aside(
    tx: &mut dyn Transaction,
    ids: &[Uuid],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    hold(
        tx,
        ids.into_iter().map(|id| (DeliveryId(id), now.after(ASIDE))),
    )
    .await
}
