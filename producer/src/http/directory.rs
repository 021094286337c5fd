//! Which endpoints there are and whose, in memory, so that a notification for one endpoint is checked
//! without asking the store each time.

use std::collections::HashMap;
use std::time::Duration;

use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::store::endpoints::EndpointChange;
use posthaste_shared::store::{Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long what was read is believed.
const TRUST: Duration = Duration::from_secs(1);

/// The endpoints known here.
#[derive(Default)]
pub(super) struct Directory(Mutex<Known>);

#[derive(Default)]
struct Known {
    version: i64,
    read_at: Option<Instant>,
    tenants: HashMap<EndpointId, TenantId>,
}

impl Directory {
    /// Whether `tenant` has this endpoint. One that is not known here is always looked for in the
    /// store; one that is known is believed for a second, and longer while the store is away.
    ///
    /// # Errors
    /// The store failed, and the endpoint is not known here.
    pub(super) async fn has(&self, store: &Store, tenant: &TenantId, id: &EndpointId) -> Result<bool, StoreError> {
        let mut known = self.0.lock().await;
        let fresh = known.read_at.is_some_and(|at| at.elapsed() < TRUST);
        if known.has(tenant, id) && fresh {
            return Ok(true);
        }
        match known.refresh(store).await {
            Ok(()) => Ok(known.has(tenant, id)),
            Err(error) if error.is_transient() && known.has(tenant, id) => {
                // The next second's requests need not wait for the store in vain.
                known.read_at = Some(Instant::now());
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}

impl Known {
    fn has(&self, tenant: &TenantId, id: &EndpointId) -> bool {
        self.tenants.get(id) == Some(tenant)
    }

    async fn refresh(&mut self, store: &Store) -> Result<(), StoreError> {
        let read_at = Instant::now();
        if store.endpoints_version().await? != self.version {
            let changes = store.endpoint_changes(self.version).await?;
            self.version = changes.version;
            for change in changes.changes {
                match change {
                    EndpointChange::Saved(endpoint) => {
                        self.tenants.insert(endpoint.id, endpoint.tenant);
                    }
                    EndpointChange::Deleted(id) => {
                        self.tenants.remove(&id);
                    }
                }
            }
        }
        self.read_at = Some(read_at);
        Ok(())
    }
}
