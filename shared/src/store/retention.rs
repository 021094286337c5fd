//! Removing what is old, in small steps.

use super::{Store, StoreError};
use crate::domain::time::Timestamp;

impl Store {
    /// One step: up to `limit` deliveries that finished before `before`, with their attempts, and their
    /// notifications that have no other delivery; published events from before `before`; idempotency
    /// keys from before `keys_before`. Returns how many rows went; 0: nothing is left to remove.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_finished(
        &self,
        before: Timestamp,
        keys_before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let _ = (before, keys_before, limit);
        todo!()
    }
}
