//! Whether endpoints take what is sent to them, as the workers report it to each other: the circuit
//! breaker of an endpoint is open, or the endpoint asked for a pause. Pure: what a report changes.
//! The store keeps the result ([`crate::store::health`]).

use serde::{Deserialize, Serialize};

use super::id::{EndpointId, NotificationType};
use super::time::Timestamp;

/// The most characters that are kept of an endpoint's last error.
pub const MAX_ERROR: usize = 500;
/// The most notification types that are kept of what an endpoint does not take.
pub const MAX_TYPES: usize = 10;

/// What keeps an endpoint from being called. An endpoint that nothing keeps has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHealth {
    /// The endpoint that this is about.
    pub endpoint: EndpointId,
    /// Its circuit breaker is open; `None` when it is closed.
    pub unhealthy: Option<Unhealthy>,
    /// Nothing is sent before this: the endpoint said so by `Retry-After`.
    pub paused_until: Option<Timestamp>,
}

/// An endpoint that fails, so that its circuit breaker is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Unhealthy {
    /// When its circuit breaker opened.
    pub since: Timestamp,
    /// Nothing is sent before this; then a single request tries the endpoint.
    pub open_until: Timestamp,
    /// The failures that followed each other, as far as they were reported.
    pub failures: u32,
    /// Why the last attempt failed, at most 500 characters.
    pub last_error: String,
    /// Types of notifications that it did not take, at most 10.
    pub types: Vec<NotificationType>,
}

/// What a worker reports of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthChange {
    /// Its circuit breaker opened. When it was open already, as another worker has reported, the
    /// reports become one.
    Opened {
        /// The endpoint that fails.
        endpoint: EndpointId,
        /// Until when nothing is sent.
        until: Timestamp,
        /// The failures that followed each other.
        failures: u32,
        /// Why the last attempt failed, without anything confidential; cut at [`MAX_ERROR`].
        last_error: String,
        /// The types of the notifications that it did not take; the first [`MAX_TYPES`] are kept.
        types: Vec<NotificationType>,
    },
    /// The request that tried it failed as well. Changes nothing when the circuit breaker was
    /// closed meanwhile.
    Renewed {
        /// The endpoint that still fails.
        endpoint: EndpointId,
        /// Until when nothing is sent.
        until: Timestamp,
        /// Why the attempt failed, as in [`HealthChange::Opened`].
        last_error: String,
    },
    /// It takes what is sent to it, so its circuit breaker closed.
    Recovered {
        /// The endpoint that works again.
        endpoint: EndpointId,
    },
    /// It asked for a pause, by `Retry-After`. The longest of several counts.
    Paused {
        /// The endpoint that asked.
        endpoint: EndpointId,
        /// Until when nothing is sent.
        until: Timestamp,
    },
    /// What was known of it is of no use any more: it was enabled, or has another URL. No event.
    Forgotten {
        /// The endpoint that begins anew.
        endpoint: EndpointId,
    },
}

/// What a report did to what was known of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it was known.
    Nothing,
    /// Something that nobody needs to be notified of.
    Changed,
    /// It was healthy until now.
    BecameUnhealthy,
    /// It is healthy again, after this.
    BecameHealthy(Unhealthy),
}

impl HealthChange {
    /// The endpoint that the report is about.
    #[must_use]
    pub const fn endpoint(&self) -> &EndpointId {
        match self {
            Self::Opened { endpoint, .. }
            | Self::Renewed { endpoint, .. }
            | Self::Recovered { endpoint }
            | Self::Paused { endpoint, .. }
            | Self::Forgotten { endpoint } => endpoint,
        }
    }

    /// Whether it says that the endpoint is not to be called: of use only for one that would be.
    #[must_use]
    pub const fn keeps_from_calling(&self) -> bool {
        matches!(self, Self::Opened { .. } | Self::Paused { .. })
    }
}

impl EndpointHealth {
    /// Of an endpoint that nothing keeps from being called.
    #[must_use]
    pub const fn clear(endpoint: EndpointId) -> Self {
        Self {
            endpoint,
            unhealthy: None,
            paused_until: None,
        }
    }

    /// Whether nothing keeps the endpoint from being called.
    #[must_use]
    pub const fn is_clear(&self) -> bool {
        self.unhealthy.is_none() && self.paused_until.is_none()
    }

    /// Without a pause that is over at `now`.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        self
    }

    /// Takes a report in, at `now`.
    pub fn apply(&mut self, change: &HealthChange, now: Timestamp) -> Effect {
        match change {
            HealthChange::Opened {
                until,
                failures,
                last_error,
                types,
                ..
            } => {
                let reported = Unhealthy {
                    since: now,
                    open_until: *until,
                    failures: *failures,
                    last_error: cut(last_error),
                    types: Vec::new(),
                };
                self.open(reported, types)
            }
            HealthChange::Renewed {
                until, last_error, ..
            } => self.renew(*until, last_error),
            HealthChange::Recovered { .. } => self
                .unhealthy
                .take()
                .map_or(Effect::Nothing, Effect::BecameHealthy),
            HealthChange::Paused { until, .. } => self.pause(*until, now),
            HealthChange::Forgotten { .. } if self.is_clear() => Effect::Nothing,
            HealthChange::Forgotten { .. } => {
                (self.unhealthy, self.paused_until) = (None, None);
                Effect::Changed
            }
        }
    }

    fn open(&mut self, reported: Unhealthy, types: &[NotificationType]) -> Effect {
        let before = self.unhealthy.take();
        let mut next = match before.clone() {
            None => reported,
            Some(known) => Unhealthy {
                since: known.since,
                open_until: known.open_until.max(reported.open_until),
                failures: known.failures.max(reported.failures),
                last_error: reported.last_error,
                types: known.types,
            },
        };
        for kind in types {
            if next.types.len() < MAX_TYPES && !next.types.contains(kind) {
                next.types.push(kind.clone());
            }
        }
        let effect = match &before {
            None => Effect::BecameUnhealthy,
            Some(known) if *known == next => Effect::Nothing,
            Some(_) => Effect::Changed,
        };
        self.unhealthy = Some(next);
        effect
    }

    fn renew(&mut self, until: Timestamp, last_error: &str) -> Effect {
        let Some(unhealthy) = &mut self.unhealthy else {
            return Effect::Nothing;
        };
        unhealthy.open_until = unhealthy.open_until.max(until);
        unhealthy.failures = unhealthy.failures.saturating_add(1);
        unhealthy.last_error = cut(last_error);
        Effect::Changed
    }

    fn pause(&mut self, until: Timestamp, now: Timestamp) -> Effect {
        if until <= now || self.paused_until.is_some_and(|known| known >= until) {
            return Effect::Nothing;
        }
        self.paused_until = Some(until);
        Effect::Changed
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_ERROR).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn endpoint() -> EndpointId {
        EndpointId::parse("ep_1").unwrap()
    }

    fn opened(until: i64, failures: u32, last_error: &str, types: &[&str]) -> HealthChange {
        let kind = |kind: &&str| NotificationType::parse(kind).unwrap();
        HealthChange::Opened {
            endpoint: endpoint(),
            until: at(until),
            failures,
            last_error: last_error.to_owned(),
            types: types.iter().map(kind).collect(),
        }
    }

    #[test]
    fn reports_of_several_workers_become_one() {
        let mut health = EndpointHealth::clear(endpoint());
        let first = opened(30, 5, "503", &["a", "b"]);
        assert_eq!(health.apply(&first, at(10)), Effect::BecameUnhealthy);
        assert_eq!(health.apply(&first, at(11)), Effect::Nothing);
        let second = opened(20, 7, "timed out", &["b", "c"]);
        assert_eq!(health.apply(&second, at(12)), Effect::Changed);
        let known = health.unhealthy.clone().unwrap();
        assert_eq!(
            (known.since, known.open_until, known.failures),
            (at(10), at(30), 7)
        );
        assert_eq!(known.types.len(), 3);
        assert_eq!(known.last_error, "timed out");

        let recovered = HealthChange::Recovered {
            endpoint: endpoint(),
        };
        assert_eq!(
            health.apply(&recovered, at(31)),
            Effect::BecameHealthy(known)
        );
        assert_eq!(health.apply(&recovered, at(32)), Effect::Nothing);
        let renewed = HealthChange::Renewed {
            endpoint: endpoint(),
            until: at(60),
            last_error: "late".to_owned(),
        };
        assert_eq!(
            health.apply(&renewed, at(33)),
            Effect::Nothing,
            "it does not open it again"
        );
        assert!(health.is_clear());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut health = EndpointHealth::clear(endpoint());
        let names: Vec<String> = (0..30).map(|n| format!("type.{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        health.apply(&opened(30, 5, &"ä".repeat(900), &names), at(10));
        let known = health.unhealthy.unwrap();
        assert_eq!(
            (known.types.len(), known.last_error.chars().count()),
            (10, 500)
        );
    }

    #[test]
    fn the_longest_pause_counts_until_it_is_over() {
        let mut health = EndpointHealth::clear(endpoint());
        let pause = |until: i64| HealthChange::Paused {
            endpoint: endpoint(),
            until: at(until),
        };
        assert_eq!(health.apply(&pause(10), at(10)), Effect::Nothing);
        assert_eq!(health.apply(&pause(40), at(10)), Effect::Changed);
        assert_eq!(health.apply(&pause(20), at(11)), Effect::Nothing);
        assert_eq!(health.paused_until, Some(at(40)));
        assert!(health.clone().at(at(40)).is_clear());
        let forgotten = HealthChange::Forgotten {
            endpoint: endpoint(),
        };
        assert_eq!(health.apply(&forgotten, at(12)), Effect::Changed);
        assert_eq!(health.apply(&forgotten, at(12)), Effect::Nothing);
    }
}
