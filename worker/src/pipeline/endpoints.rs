//! The endpoints, cached. The store counts changes; every look at the store brings the count along,
//! so a worker routes by endpoints as they stood when it took the notification up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::store::endpoints::EndpointChange;
use posthaste_shared::store::{Store, StoreError};
use tokio::sync::Mutex;

/// A snapshot of all endpoints.
#[derive(Debug, Default)]
pub struct EndpointSet {
    version: i64,
    by_id: HashMap<EndpointId, Arc<Endpoint>>,
    enabled: HashMap<TenantId, Vec<Arc<Endpoint>>>,
    unreadable: HashSet<EndpointId>,
}

impl EndpointSet {
    /// The endpoint with that id.
    #[must_use]
    pub fn get(&self, id: &EndpointId) -> Option<Arc<Endpoint>> {
        self.by_id.get(id).cloned()
    }

    /// Whether there is such an endpoint, which this process cannot read (its secrets are encrypted
    /// with another master key, or a newer version wrote it). Its work waits, as for a disabled
    /// one.
    #[must_use]
    pub fn is_unreadable(&self, id: &EndpointId) -> bool {
        self.unreadable.contains(id)
    }

    /// A tenant's enabled endpoints, ordered by id.
    #[must_use]
    pub fn enabled_of(&self, tenant: &TenantId) -> &[Arc<Endpoint>] {
        self.enabled.get(tenant).map_or(&[], Vec::as_slice)
    }

    /// All readable endpoints, enabled or not, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.by_id.values()
    }

    /// The set after `changes`, which lead to `version`.
    fn changed(&self, version: i64, changes: Vec<EndpointChange>) -> Self {
        let mut by_id = self.by_id.clone();
        let mut unreadable = self.unreadable.clone();
        for change in changes {
            match change {
                EndpointChange::Saved(endpoint) => {
                    unreadable.remove(&endpoint.id);
                    by_id.insert(endpoint.id.clone(), Arc::new(*endpoint));
                }
                EndpointChange::Deleted(id) => {
                    by_id.remove(&id);
                    unreadable.remove(&id);
                }
                EndpointChange::Unreadable(id) => {
                    // Its last readable state must not be used any more: the change may have been
                    // that of its URL.
                    by_id.remove(&id);
                    unreadable.insert(id);
                }
            }
        }
        let mut enabled: HashMap<TenantId, Vec<Arc<Endpoint>>> = HashMap::new();
        for endpoint in by_id.values().filter(|endpoint| endpoint.is_enabled()) {
            enabled
                .entry(endpoint.tenant.clone())
                .or_default()
                .push(Arc::clone(endpoint));
        }
        for endpoints in enabled.values_mut() {
            endpoints.sort_by(|one, other| one.id.cmp(&other.id));
        }
        Self {
            version,
            by_id,
            enabled,
            unreadable,
        }
    }
}

/// Keeps the newest [`EndpointSet`].
pub struct EndpointCache {
    store: Store,
    current: ArcSwap<EndpointSet>,
    refreshing: Mutex<()>,
}

impl EndpointCache {
    /// An empty cache; the first look fills it.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            current: ArcSwap::default(),
            refreshing: Mutex::new(()),
        }
    }

    /// The endpoints as last read.
    #[must_use]
    pub fn current(&self) -> Arc<EndpointSet> {
        self.current.load_full()
    }

    /// The endpoints at `version` or newer; asks the store only when the cache is older.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn at(&self, version: i64) -> Result<Arc<EndpointSet>, StoreError> {
        let current = self.current();
        if current.version >= version {
            return Ok(current);
        }
        // One task asks the store; the others wait for its answer and find it in the cache.
        let _only_one = self.refreshing.lock().await;
        // Looked at again: whoever had the lock before may have brought the wanted version.
        let current = self.current();
        if current.version >= version {
            return Ok(current);
        }
        let news = self.store.endpoint_changes(current.version).await?;
        let changed = Arc::new(current.changed(news.version, news.changes));
        self.current.store(Arc::clone(&changed));
        Ok(changed)
    }

    /// The endpoints as they are now.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn refresh(&self) -> Result<Arc<EndpointSet>, StoreError> {
        let version = self.store.endpoints_version().await?;
        self.at(version).await
    }
}
