//! Calls that hold no place: those that wait for the network or a timer, and those that go on after
//! their deadline in an operation of the engine that cannot be stopped. Both are counted, for each
//! tenant and in all, so that neither grows without bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_shared::domain::id::TenantId;

/// How many of a tenant may be there while so many of all tenants are free: half of what is free,
/// so that some is left for whoever comes next, and at least `least`.
const fn share(free: usize, least: usize) -> usize {
    let half = free / 2;
    if half > least { half } else { least }
}

/// A bounded count of calls; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Crowd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Of all tenants together, at most.
    most: usize,
    /// Of one tenant, at most; fewer while little is free.
    most_each: usize,
    there: Mutex<HashMap<TenantId, usize>>,
}

/// One that is counted, until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    crowd: Crowd,
    tenant: TenantId,
}

impl Crowd {
    pub(super) fn new(most: usize, most_each: usize) -> Self {
        Self(Arc::new(Inner {
            most,
            most_each,
            there: Mutex::default(),
        }))
    }

    /// Counts one more of the tenant; `None` where there is no room for it.
    pub(super) fn enter(&self, tenant: &TenantId) -> Option<Counted> {
        let mut there = self.there();
        let free = self.0.most.saturating_sub(there.values().sum());
        let own = there.get(tenant).copied().unwrap_or(0);
        if free == 0 || own >= share(free, 1).min(self.0.most_each) {
            return None;
        }
        *there.entry(tenant.clone()).or_default() += 1;
        Some(Counted {
            crowd: self.clone(),
            tenant: tenant.clone(),
        })
    }

    /// How many of the tenant are there.
    pub(super) fn of(&self, tenant: &TenantId) -> usize {
        self.there().get(tenant).copied().unwrap_or(0)
    }

    fn there(&self) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        self.0.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut there = self.crowd.there();
        if let Some(own) = there.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                there.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_leaves_room_for_the_others() {
        let a = TenantId::parse("a").unwrap();
        let b = TenantId::parse("b").unwrap();
        let crowd = Crowd::new(128, 128);
        let of_a: Vec<Counted> = std::iter::from_fn(|| crowd.enter(&a)).collect();
        assert_eq!((of_a.len(), crowd.of(&a)), (43, 43));
        let of_b: Vec<Counted> = std::iter::from_fn(|| crowd.enter(&b)).collect();
        assert!(of_b.len() >= 20, "{}", of_b.len());
        drop((of_a, of_b));
        assert_eq!((crowd.of(&a), crowd.of(&b)), (0, 0));
        let few = Crowd::new(16, 2);
        let both: Vec<Counted> = std::iter::from_fn(|| few.enter(&a)).collect();
        assert_eq!(both.len(), 2);
        assert!(few.enter(&b).is_some());
    }
}
