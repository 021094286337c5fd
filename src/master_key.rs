//! Whether a process that goes on running has the master key of its store, now and later.

use posthaste_shared::config::Config;
use posthaste_shared::store::cipher::CipherError;
use posthaste_shared::store::master_key::LOOK_EVERY;
use posthaste_shared::store::{Store, StoreError};

/// Refuses a key that is not the store's. A service with another master key than the others', or
/// with none where there are secrets, would store what nobody else can read, and fail whatever
/// needs a secret.
pub(crate) async fn check(config: &Config, store: &Store) -> Result<(), StoreError> {
    if config.master_key.is_none() && store.needs_master_key().await? {
        return Err(CipherError::NoKey.into());
    }
    store.check_master_key().await
}

/// Returns once the key is not the store's any more: it was changed, and this process was not given
/// the new one. It cannot read any endpoint from then on, so what is fanned out here would get to
/// nobody.
pub(crate) async fn until_changed(config: &Config, store: &Store) -> CipherError {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // Any other failure of the store passes.
        if let Err(StoreError::Cipher(error)) = check(config, store).await {
            return error;
        }
    }
}
