//! The accounting: that everything accepted is where it should be.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Store, StoreError};
use crate::domain::id::{NotificationId, TenantId};
use crate::domain::time::Timestamp;

/// The books.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Accounting {
    /// Notifications taken up.
    pub notifications: u64,
    /// Of these, those that no endpoint wanted.
    pub unmatched: u64,
    /// Deliveries that the notifications must have.
    pub expected: u64,
    /// Deliveries that are there, by status.
    pub deliveries: BTreeMap<&'static str, u64>,
    /// Attempts.
    pub attempts: u64,
    /// Events.
    pub events: u64,
    /// Events that are not published yet.
    pub unpublished: u64,
    /// How many things do not add up.
    pub problem_count: u64,
    /// The first 100 of them.
    pub problems: Vec<Problem>,
}

/// Something that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong, in a sentence.
    pub what: String,
    /// With which notification or delivery.
    pub id: String,
}

impl Store {
    /// Counts everything and looks for what does not add up. Reads whole tables: for `reconcile` only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounting(&self, now: Timestamp) -> Result<Accounting, StoreError> {
        let _ = now;
        todo!()
    }

    /// Which of these notifications were never taken up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn missing_notifications(
        &self,
        ids: &[(TenantId, NotificationId)],
    ) -> Result<Vec<(TenantId, NotificationId)>, StoreError> {
        let _ = ids;
        todo!()
    }
}
