//! The installation as a whole: who works, what waits, whether store and broker answer.

use std::time::Duration;

use posthaste_shared::broker::Broker;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a look at the installation is good for.
const FRESH: Duration = Duration::from_secs(5);
/// A look is done at most once in so many times as long as it took: 2 % of one connection.
const SHARE: u32 = 50;
/// How long the broker may take to say how long its queues are.
const DEPTHS: Duration = Duration::from_secs(2);

/// The installation as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InstallationView {
    /// Workers that are alive: seen within 5 s.
    pub workers: u64,
    /// Whether the broker answers.
    pub broker: Reachable,
    /// Messages that no worker has finished yet; null where the broker does not answer.
    pub work_queue: Option<u64>,
    /// Dead letters; null where the broker does not answer.
    pub dead_letters: Option<u64>,
    /// Pending deliveries that are due or in flight.
    pub ready: u64,
    /// Pending deliveries whose time has not come: retries, and those for later.
    pub scheduled: u64,
    /// Pending deliveries that are held back from their endpoint.
    pub parked: u64,
    /// The due time of what has been due for longest; null when nothing is.
    pub oldest_due: Option<Timestamp>,
    /// Events that are not published yet.
    pub events_unpublished: u64,
    /// When the oldest of these happened; null when there is none.
    pub oldest_unpublished: Option<Timestamp>,
    /// Endpoints that are called.
    pub endpoints_enabled: u64,
    /// Endpoints that are not.
    pub endpoints_disabled: u64,
}

/// Whether a server answers in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reachable {
    /// It answers.
    Ok,
    /// It does not, or not in time.
    Unreachable,
}

/// The last look at the installation. Whoever comes while another looks waits for what that one
/// sees.
#[derive(Default)]
pub(super) struct LastLook(Mutex<Option<Look>>);

struct Look {
    ended: Instant,
    /// How long it took.
    took: Duration,
    at: Timestamp,
    seen: InstallationView,
}

/// How long a look that took so long is believed: what waits is counted row by row, and with a
/// million deliveries parked a look every 5 s would be felt.
fn believed_for(took: Duration) -> Duration {
    FRESH.max(took * SHARE)
}

impl LastLook {
    /// The installation as it is, or was up to 5 s ago, and when; longer ago where a look takes
    /// more than a tenth of a second.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn fresh(
        &self,
        store: &Store,
        broker: &dyn Broker,
        now: Timestamp,
    ) -> Result<(Timestamp, InstallationView), StoreError> {
        let mut last = self.0.lock().await;
        if let Some(look) = &*last
            && look.ended.elapsed() < believed_for(look.took)
        {
            return Ok((look.at, look.seen.clone()));
        }
        let began = Instant::now();
        let seen = look(store, broker, now).await?;
        *last = Some(Look {
            ended: Instant::now(),
            took: began.elapsed(),
            at: now,
            seen: seen.clone(),
        });
        Ok((now, seen))
    }
}

async fn look(
    store: &Store,
    broker: &dyn Broker,
    now: Timestamp,
) -> Result<InstallationView, StoreError> {
    let depths = tokio::time::timeout(DEPTHS, broker.depths());
    let (workers, backlog, unpublished, oldest, endpoints, depths) = tokio::join!(
        store.live_workers(now),
        store.backlog(now),
        store.outbox_pending(),
        store.outbox_oldest(),
        store.endpoint_counts(),
        depths,
    );
    let backlog = backlog?;
    let (endpoints_enabled, endpoints_disabled) = endpoints?;
    let depths = depths.ok().and_then(Result::ok);
    let depth = |queue| depths.as_ref()?.get(queue).copied();
    Ok(InstallationView {
        workers: workers?.len() as u64,
        broker: match depths {
            Some(_) => Reachable::Ok,
            None => Reachable::Unreachable,
        },
        work_queue: depth("work"),
        dead_letters: depth("dead"),
        ready: backlog.ready,
        scheduled: backlog.scheduled,
        parked: backlog.parked,
        oldest_due: backlog.oldest_due,
        events_unpublished: unpublished?,
        oldest_unpublished: oldest?,
        endpoints_enabled,
        endpoints_disabled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_takes_long_is_believed_for_longer() {
        assert_eq!(believed_for(Duration::from_millis(20)), FRESH);
        let slow = Duration::from_millis(600);
        assert_eq!(believed_for(slow), Duration::from_secs(30));
    }
}
