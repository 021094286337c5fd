//! Which endpoints there are, in memory, so that a notification for one endpoint is checked
//! without asking the store each time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{EndpointId, EndpointUid, TenantId};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::store::endpoints::EndpointChange;
use posthaste_shared::store::{Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::http::problem::{Code, Problem};

/// How long what was read is believed.
const TRUST: Duration = Duration::from_secs(1);

/// The endpoints known here.
#[derive(Default)]
pub(super) struct Directory(Mutex<Known>);

#[derive(Default)]
struct Known {
    version: i64,
    read_at: Option<Instant>,
    failed_at: Option<Instant>,
    endpoints: HashMap<EndpointId, Arc<Endpoint>>,
    /// The ids of those that have a uid.
    by_uid: HashMap<(TenantId, EndpointUid), EndpointId>,
    /// Those that are there and cannot be read by this process.
    unreadable: HashSet<EndpointId>,
}

impl Directory {
    /// The endpoint of that id or uid, if `tenant` has it, as of a request that came at `asked_at`.
    /// One that is known here is believed for a second, and longer while the store is away. One
    /// that is not is looked for in the store, once for all items of a request.
    ///
    /// # Errors
    /// The store failed and the endpoint is not known here, or this process cannot read it.
    pub(super) async fn find(
        &self,
        store: &Store,
        tenant: &TenantId,
        id: &EndpointId,
        asked_at: Instant,
    ) -> Result<Option<Arc<Endpoint>>, Problem> {
        // Held while the store is asked: requests that come meanwhile wait for that answer instead
        // of asking as well.
        let mut known = self.0.lock().await;
        let read_for_this = known.read_at.is_some_and(|at| at >= asked_at);
        let recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < TRUST);
        let believed = recent(known.read_at) || recent(known.failed_at);
        if read_for_this || (believed && known.of(tenant, id).is_some()) {
            return known.answer(tenant, id);
        }
        // A failure since this request came is its answer, too: of those that waited, only the
        // first asked.
        if known.failed_at.is_none_or(|at| at < asked_at) {
            match known.refresh(store).await {
                Ok(()) => return known.answer(tenant, id),
                Err(error) if error.is_transient() => known.failed(&error),
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(endpoint) = known.of(tenant, id) {
            return Ok(Some(endpoint));
        }
        Err(Problem::new(
            Code::Unavailable,
            "the store cannot be reached now, so endpoint_id cannot be checked; try again",
        ))
    }
}

impl Directory {
    /// Those of the endpoints that there are, whoever owns them. What is known here is believed
    /// for a second.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn find_all<'a>(
        &self,
        store: &Store,
        ids: impl Iterator<Item = &'a EndpointId>,
    ) -> Result<Vec<Arc<Endpoint>>, Problem> {
        let mut known = self.0.lock().await;
        if known.read_at.is_none_or(|at| at.elapsed() >= TRUST) {
            known.refresh(store).await?;
        }
        Ok(ids
            .filter_map(|id| known.endpoints.get(id).cloned())
            .collect())
    }
}

impl Directory {
    /// The enabled endpoints that subscribe to a producer's notification, the oldest first. What is
    /// known here is believed for a second.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn subscribers(
        &self,
        store: &Store,
        notification: &Notification,
    ) -> Result<Vec<Arc<Endpoint>>, Problem> {
        let phone_number = notification.phone_number();
        let mut known = self.0.lock().await;
        if known.read_at.is_none_or(|at| at.elapsed() >= TRUST) {
            known.refresh(store).await?;
        }
        let wants = |endpoint: &&Arc<Endpoint>| {
            endpoint.tenant == notification.tenant
                && endpoint.is_enabled()
                && endpoint
                    .subscription
                    .wants(&notification.kind, phone_number.as_deref())
        };
        let mut found: Vec<_> = known.endpoints.values().filter(wants).cloned().collect();
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }
}

impl Known {
    fn of(&self, tenant: &TenantId, id: &EndpointId) -> Option<Arc<Endpoint>> {
        let found = self.endpoints.get(id).or_else(|| {
            let uid = EndpointUid::parse(id.as_str()).ok()?;
            let id = self.by_uid.get(&(tenant.clone(), uid))?;
            self.endpoints.get(id)
        });
        found.filter(|endpoint| endpoint.tenant == *tenant).cloned()
    }

    /// Of an endpoint that never could be read it is not known whose it is.
    fn answer(&self, tenant: &TenantId, id: &EndpointId) -> Result<Option<Arc<Endpoint>>, Problem> {
        if self.unreadable.contains(id) && !self.endpoints.contains_key(id) {
            let problem =
                "endpoint_id names an endpoint that this server cannot read; its log says why";
            return Err(Problem::new(Code::Unavailable, problem));
        }
        Ok(self.of(tenant, id))
    }

    async fn refresh(&mut self, store: &Store) -> Result<(), StoreError> {
        // From before the query: what is committed while that runs may be missing from its answer.
        let read_at = Instant::now();
        // One number instead of all endpoints: usually nothing has changed within a second.
        if store.endpoints_version().await? != self.version {
            let changes = store.endpoint_changes(self.version).await?;
            self.version = changes.version;
            for change in changes.changes {
                match change {
                    EndpointChange::Saved(endpoint) => {
                        self.unreadable.remove(&endpoint.id);
                        if let Some(uid) = &endpoint.uid {
                            let name = (endpoint.tenant.clone(), uid.clone());
                            self.by_uid.insert(name, endpoint.id.clone());
                        }
                        self.endpoints
                            .insert(endpoint.id.clone(), Arc::new(*endpoint));
                    }
                    EndpointChange::Deleted(id) => {
                        self.endpoints.remove(&id);
                        self.by_uid.retain(|_, named| *named != id);
                        self.unreadable.remove(&id);
                    }
                    // Whose it is has not changed.
                    EndpointChange::Unreadable(id) => {
                        self.unreadable.insert(id);
                    }
                }
            }
        }
        self.read_at = Some(read_at);
        Ok(())
    }

    /// Requests that came before now need not wait for the store in vain, and what is known is
    /// believed on.
    fn failed(&mut self, error: &StoreError) {
        tracing::warn!(error = %error, "the endpoints could not be read from the store");
        self.failed_at = Some(Instant::now());
    }
}
