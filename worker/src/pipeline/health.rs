//! The health of endpoints, as the results show it: collected by the recorder, written down by the
//! maintenance every few seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::time::Timestamp;

/// Which endpoints only failed, and which had a success, since the last look.
#[derive(Debug, Default)]
pub struct Health(Mutex<HashMap<EndpointId, Seen>>);

#[derive(Debug, Clone, Copy)]
enum Seen {
    Success,
    FailureSince(Timestamp),
}

impl Health {
    pub(super) fn note(&self, endpoint: &EndpointId, success: bool, at: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (seen.get(endpoint), success) {
            (_, true) => drop(seen.insert(endpoint.clone(), Seen::Success)),
            (None, false) => drop(seen.insert(endpoint.clone(), Seen::FailureSince(at))),
            // One success outweighs every failure since the last look: an endpoint that takes
            // anything is not one that fails. Of failures the first counts, as the beginning.
            (Some(_), false) => {}
        }
    }

    /// Puts back what [`Health::take`] gave and nobody could keep, beneath what was noted
    /// meanwhile.
    pub fn put_back(&self, failing: &[(EndpointId, Timestamp)], healthy: &[EndpointId]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (endpoint, at) in failing {
            // The earlier failure is the beginning, unless there was a success since.
            match seen.get(endpoint) {
                Some(Seen::Success) => {}
                _ => drop(seen.insert(endpoint.clone(), Seen::FailureSince(*at))),
            }
        }
        for endpoint in healthy {
            seen.insert(endpoint.clone(), Seen::Success);
        }
    }

    /// Endpoints that only failed, with the time of the first failure, and endpoints that had a
    /// success.
    #[must_use]
    pub fn take(&self) -> (Vec<(EndpointId, Timestamp)>, Vec<EndpointId>) {
        let seen = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failing = Vec::new();
        let mut healthy = Vec::new();
        for (endpoint, seen) in seen {
            match seen {
                Seen::Success => healthy.push(endpoint),
                Seen::FailureSince(at) => failing.push((endpoint, at)),
            }
        }
        (failing, healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_that_could_not_be_kept_counts_at_the_next_look() {
        let health = Health::default();
        let id = |text: &str| EndpointId::parse(text).unwrap();
        let at = Timestamp::from_micros;
        health.note(&id("ep_failing"), false, at(1));
        health.note(&id("ep_well"), true, at(1));
        health.note(&id("ep_mended"), false, at(1));
        let (failing, healthy) = health.take();
        health.note(&id("ep_well"), false, at(2));
        health.note(&id("ep_failing"), false, at(2));
        health.note(&id("ep_mended"), true, at(2));
        health.put_back(&failing, &healthy);
        let (failing, mut healthy) = health.take();
        assert_eq!(failing, [(id("ep_failing"), at(1))]);
        healthy.sort();
        assert_eq!(healthy, [id("ep_mended"), id("ep_well")]);
    }
}
