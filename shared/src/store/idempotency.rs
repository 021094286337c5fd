//! Idempotency keys of the API: which notification a key stands for.

use super::{Store, StoreError};
use crate::domain::id::{NotificationId, TenantId};
use crate::domain::time::Timestamp;

/// A request's wish to use a key.
#[derive(Debug, Clone)]
pub struct IdempotencyClaim {
    /// Whose key.
    pub tenant: TenantId,
    /// The key, as the producer wrote it.
    pub key: String,
    /// SHA-256 of what was asked for: another one with the same key is a mistake.
    pub fingerprint: [u8; 32],
    /// The notification that the key is to stand for.
    pub notification: NotificationId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// For this request's notification: go on.
    New,
    /// For a notification of an earlier request that got no further: publish again with that id and
    /// time (the worker dedupes).
    InProgress {
        /// The notification.
        notification: NotificationId,
        /// When it was accepted.
        accepted_at: Timestamp,
    },
    /// For a notification that was enqueued: answer as then.
    Done {
        /// The notification.
        notification: NotificationId,
        /// When it was accepted.
        accepted_at: Timestamp,
    },
    /// For another request.
    Mismatch,
}

impl Store {
    /// Claims keys for notifications, or tells what they stand for already; answers in order. Of the
    /// same key twice in a batch, the second is in progress with the first's notification.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self, claims: &[IdempotencyClaim]) -> Result<Vec<Begun>, StoreError> {
        let _ = claims;
        todo!()
    }

    /// The notifications of these keys are enqueued.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish(&self, keys: &[(TenantId, String)]) -> Result<(), StoreError> {
        let _ = keys;
        todo!()
    }
}
