//! What receivers granted when they were asked first, kept for as long as it lasts. In memory, for
//! one worker; one that starts anew asks anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::EndpointId;
use tokio::time::Instant;
use url::Url;

use crate::attempt::pace::Pace;
use crate::wire::Grant;

/// How many grants are held before those that are over are looked for.
const TIDY_AT: usize = 1_000;

/// The most URLs of one endpoint for which grants are held: its transform may choose another each
/// time.
const MOST_URLS: usize = 100;

/// The grants, by endpoint and by the URL that was asked: one says nothing of another.
#[derive(Debug, Default)]
pub(crate) struct Grants(Mutex<HashMap<EndpointId, HashMap<Url, Arc<GrantSlot>>>>);

/// One endpoint's grant. Whoever asks holds the lock meanwhile, so that a receiver is asked once
/// and not by every delivery that waits.
pub(crate) type GrantSlot = tokio::sync::Mutex<Option<HeldGrant>>;

/// A grant with the time and the version of the endpoint for which it holds.
#[derive(Debug)]
pub(crate) struct HeldGrant {
    version: i64,
    until: Instant,
    grant: Grant,
    /// Under the rate that was granted. Admission keeps to the rate too, but learns of it only
    /// after a delivery has finished; those that it let through before then are spaced here.
    pace: Pace,
}

/// The use of a grant.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The request may go at this instant, with the headers of the grant.
    At(Instant, Grant),
    /// It is too far off to wait for, at this rate in requests a second.
    Later(f64),
}

impl Grants {
    /// The place of an endpoint's URL.
    pub(crate) fn of(&self, endpoint: &EndpointId, url: &Url) -> Arc<GrantSlot> {
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only when there are many, because it looks at every one of them under the lock.
        if grants.len() >= TIDY_AT {
            let now = Instant::now();
            grants.retain(|_, urls| {
                urls.retain(|_, grant| is_held(grant, now));
                !urls.is_empty()
            });
        }
        let urls = grants.entry(endpoint.clone()).or_default();
        if urls.len() >= MOST_URLS && !urls.contains_key(url) {
            let now = Instant::now();
            urls.retain(|_, grant| is_held(grant, now));
            // All of them hold: one makes room, and is asked for again when it is wanted.
            if urls.len() >= MOST_URLS {
                let any = urls.keys().next().cloned();
                any.and_then(|any| urls.remove(&any));
            }
        }
        Arc::clone(urls.entry(url.clone()).or_default())
    }
}

/// Whether somebody asks for it now, or it was granted and lasts.
fn is_held(grant: &GrantSlot, now: Instant) -> bool {
    grant
        .try_lock()
        // Locked means in use: removed, a second delivery would ask the same receiver at the same
        // time.
        .map_or(true, |held| HeldGrant::lasts(held.as_ref(), now))
}

impl HeldGrant {
    pub(crate) fn new(endpoint: &Endpoint, grant: Grant) -> Self {
        let now = Instant::now();
        Self {
            version: endpoint.version,
            until: now + grant.lasts,
            grant,
            pace: Pace::new(),
        }
    }

    /// Whether it holds for the endpoint as it is now.
    pub(crate) fn holds(&self, endpoint: &Endpoint) -> bool {
        self.version == endpoint.version && self.until > Instant::now()
    }

    /// Takes the next turn under the rate that was granted.
    pub(crate) fn turn(&mut self) -> Turn {
        let grant = self.grant.clone();
        let Some(rate) = grant.rate_per_second else {
            return Turn::At(Instant::now(), grant);
        };
        match self.pace.take(rate) {
            Some(turn) => Turn::At(turn, grant),
            None => Turn::Later(rate),
        }
    }

    fn lasts(held: Option<&Self>, now: Instant) -> bool {
        held.is_some_and(|held| held.until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::fixtures;

    fn held(rate_per_second: Option<f64>) -> HeldGrant {
        let grant = Grant {
            lasts: Duration::from_secs(60),
            rate_per_second,
            ..Grant::default()
        };
        HeldGrant::new(&endpoint(), grant)
    }

    fn endpoint() -> Endpoint {
        fixtures::endpoint(
            posthaste_shared::domain::wire_format::WireFormat::Cloudevents,
            serde_json::json!({}),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_spaced_by_the_rate() {
        let mut held = held(Some(10.0));
        let begun = Instant::now();
        let mut after = || match held.turn() {
            Turn::At(turn, _) => Some((turn - begun).as_millis()),
            Turn::Later(_) => None,
        };
        assert_eq!(
            [after(), after(), after(), after()],
            [Some(0), Some(100), Some(200), None]
        );
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(after(), Some(300));
    }

    #[tokio::test(start_paused = true)]
    async fn each_url_is_asked_for_itself_and_their_number_is_bounded() {
        let grants = Grants::default();
        let id = EndpointId::parse("e-1").unwrap();
        let url = |n: usize| Url::parse(&format!("https://example.com/{n}")).unwrap();
        *grants.of(&id, &url(0)).lock().await = Some(held(None));
        assert!(grants.of(&id, &url(0)).lock().await.is_some());
        assert!(grants.of(&id, &url(1)).lock().await.is_none());
        for n in 0..3 * MOST_URLS {
            *grants.of(&id, &url(n)).lock().await = Some(held(None));
        }
        assert_eq!(grants.0.lock().unwrap()[&id].len(), MOST_URLS);
        assert!(
            grants
                .of(&id, &url(3 * MOST_URLS - 1))
                .lock()
                .await
                .is_some()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_ends_and_does_not_outlive_a_change() {
        let held = held(None);
        assert!(held.holds(&endpoint()));
        assert!(!held.holds(&Endpoint {
            version: 2,
            ..endpoint()
        }));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!held.holds(&endpoint()));
    }
}
