//! The store's door for `tests/simulation`: a database in the caller's thread, with a gate before
//! every call. Behind the feature `simulation`: see `Cargo.toml`.

use std::sync::Arc;

use super::cipher::Cipher;
pub use super::db::simulated::{Call, Change, Gate, Planted, SimulatedDatabase, Step, Unavailable};
use super::kept::Kept;
use super::{Store, StoreError};
use crate::domain::secret::Secret;

impl Store {
    /// The store as a process sees it whose calls pass `gate`.
    ///
    /// # Errors
    /// A master key that cannot be used.
    pub fn simulated(
        database: &SimulatedDatabase,
        master_key: &Secret,
        gate: Arc<dyn Gate>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            driver: database.driver(gate),
            cipher: Some(Arc::new(Cipher::new(master_key, None)?)),
            looked: Arc::default(),
            unreadable: Arc::default(),
            kept: Kept::default(),
            act: None,
        })
    }
}
