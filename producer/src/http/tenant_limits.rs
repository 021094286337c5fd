//! What one tenant may have at once, so that it leaves room for the others: pending deliveries and
//! event streams. The number of endpoints is limited by the store, in the transaction that creates
//! one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthaste_shared::domain::id::TenantId;
use posthaste_shared::store::Store;
use tokio::time::Instant;

use crate::http::problem::{Code, Problem};

/// How long a count of a tenant's pending deliveries is believed.
const COUNTED_EVERY: Duration = Duration::from_secs(1);
/// A count that took long is believed this many times as long as it took, so that counting takes 2
/// % of the store's time at the most.
const REST: u32 = 50;
/// No count is believed longer than this.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// The most tenants whose counts are remembered.
const MAX_REMEMBERED: usize = 10_000;

/// The limits of every tenant, and what counts against them.
pub(super) struct TenantLimits {
    max_pending: Option<u64>,
    backlogs: Mutex<HashMap<TenantId, Backlog>>,
    max_streams: Option<usize>,
    streams: Arc<Streams>,
}

/// What is known of a tenant's pending deliveries.
#[derive(Debug, Clone, Copy)]
struct Backlog {
    full: bool,
    /// When to count again.
    stale_at: Instant,
}

/// Open event streams by tenant; `None`: those of all tenants together.
type Streams = Mutex<HashMap<Option<TenantId>, usize>>;

/// An event stream that is open. Counts until it is dropped.
pub(super) struct OpenStream {
    tenant: Option<TenantId>,
    streams: Arc<Streams>,
}

impl TenantLimits {
    /// Nothing counted yet. `None`: no limit.
    pub(super) fn new(max_pending: Option<u64>, max_streams: Option<usize>) -> Self {
        Self {
            max_pending,
            backlogs: Mutex::default(),
            max_streams,
            streams: Arc::default(),
        }
    }

    /// Whether the tenant may enqueue more.
    ///
    /// # Errors
    /// It has as many pending deliveries as it may have. While the store cannot say, it may.
    pub(super) async fn check_backlog(
        &self,
        store: &Store,
        tenant: &TenantId,
    ) -> Result<(), Problem> {
        let Some(most) = self.max_pending else {
            return Ok(());
        };
        // Counting reads an index of the tenant's pending deliveries, too much for every
        // notification.
        let full = match self.known_backlog(tenant) {
            Some(full) => full,
            None => self.count(store, tenant, most).await,
        };
        if !full {
            return Ok(());
        }
        let detail = format!(
            "{most} deliveries of the tenant {tenant} are pending, which is the limit: try again \
             later"
        );
        Err(Problem::new(Code::BacklogLimit, detail))
    }

    /// What was counted lately. Whoever finds it stale is to count; the others go by the old count
    /// meanwhile.
    fn known_backlog(&self, tenant: &TenantId) -> Option<bool> {
        let now = Instant::now();
        let mut backlogs = lock(&self.backlogs);
        let backlog = backlogs.get_mut(tenant)?;
        if backlog.stale_at > now {
            return Some(backlog.full);
        }
        // Moved on under the lock, so that one request counts and the others do not wait for it.
        // Should that one be dropped, the next counts a second later.
        backlog.stale_at = now + COUNTED_EVERY;
        None
    }

    async fn count(&self, store: &Store, tenant: &TenantId, most: u64) -> bool {
        let begun = Instant::now();
        let full = match store.pending_deliveries(tenant, most).await {
            Ok(pending) => pending >= most,
            Err(error) => {
                if !error.is_transient() {
                    tracing::error!(%tenant, %error, "pending deliveries cannot be counted: the \
                        limit is not kept");
                }
                // Let through: what cannot be counted must not stop accepting, which needs the
                // broker alone.
                self.remember(tenant, false, COUNTED_EVERY);
                return false;
            }
        };
        // A count that takes long must not begin again at once.
        let rest = (begun.elapsed() * REST).clamp(COUNTED_EVERY, LONGEST_REST);
        self.remember(tenant, full, rest);
        full
    }

    fn remember(&self, tenant: &TenantId, full: bool, rest: Duration) {
        let mut backlogs = lock(&self.backlogs);
        // Forgetting all costs one count for each tenant that comes next, and needs no order of
        // use.
        if backlogs.len() >= MAX_REMEMBERED {
            backlogs.clear();
        }
        let stale_at = Instant::now() + rest;
        backlogs.insert(tenant.clone(), Backlog { full, stale_at });
    }

    /// Counts one more event stream of the tenant, or of all tenants.
    ///
    /// # Errors
    /// As many as may be are open.
    pub(super) fn open_stream(&self, tenant: Option<&TenantId>) -> Result<OpenStream, Problem> {
        let mut streams = lock(&self.streams);
        // Looked at and counted under one lock, so that two requests cannot both take the last
        // place.
        let open = streams.get(&tenant.cloned()).copied().unwrap_or_default();
        if let Some(most) = self.max_streams.filter(|most| open >= *most) {
            let whose = tenant.map_or_else(
                || "of all tenants".to_owned(),
                |tenant| format!("of the tenant {tenant}"),
            );
            let detail =
                format!("no more than {most} event streams {whose} may be open: close one first");
            return Err(Problem::new(Code::StreamLimit, detail));
        }
        streams.insert(tenant.cloned(), open + 1);
        Ok(OpenStream {
            tenant: tenant.cloned(),
            streams: Arc::clone(&self.streams),
        })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut streams = lock(&self.streams);
        if let Some(open) = streams.get_mut(&self.tenant) {
            *open -= 1;
            // Removed, so that tenants that come and go do not fill the map.
            if *open == 0 {
                streams.remove(&self.tenant);
            }
        }
    }
}

fn lock<K: Hash, V>(map: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_stream_makes_room() {
        let limits = TenantLimits::new(None, Some(2));
        let tenant = TenantId::default();
        let first = limits.open_stream(Some(&tenant)).ok().unwrap();
        let _second = limits.open_stream(Some(&tenant)).ok().unwrap();
        assert_eq!(
            limits.open_stream(Some(&tenant)).err().unwrap().code,
            Code::StreamLimit
        );
        let all = limits.open_stream(None).ok().unwrap();
        drop((first, all));
        let _third = limits.open_stream(Some(&tenant)).ok().unwrap();
        assert!(limits.open_stream(Some(&tenant)).is_err());
        assert_eq!(
            lock(&limits.streams).len(),
            1,
            "whoever has none is forgotten"
        );
    }
}
