//! API keys: only their hashes are kept.

use super::{Store, StoreError};
use crate::domain::id::KeyId;
use crate::domain::key::ApiKey;
use crate::domain::time::Timestamp;

impl Store {
    /// Keeps a new key by the SHA-256 of its text.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_key(&self, key: &ApiKey, hash: &[u8; 32]) -> Result<(), StoreError> {
        let _ = (key, hash);
        todo!()
    }

    /// The key with that hash, also when it was revoked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        let _ = hash;
        todo!()
    }

    /// All keys, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        todo!()
    }

    /// The key works no longer. Returns whether it did until now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_key(&self, id: &KeyId, now: Timestamp) -> Result<bool, StoreError> {
        let _ = (id, now);
        todo!()
    }
}
