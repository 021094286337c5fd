//! What the workers agree on through the store, so that the limits of endpoints hold over all of
//! them.
//!
//! 1. **Beat.** Every second the worker renews its lease of 5 s and learns who else is alive; by
//!    that its shares of `max_in_flight` are counted ([`posthaste_shared::domain::members`]). Every
//!    150 ms while somebody waits for it, or it for somebody: after a worker joined or left.
//! 2. **Turns.** What waits under a rate limit has its next turns reserved, for all endpoints in
//!    one statement, at most one every 5 ms.
//! 3. **The store is down.** A worker whose lease has ended starts nothing: others may have divided
//!    its share. What waits for a turn waits on. Both are tried again, every 500 ms.
//! 4. **The end.** The worker beats until nothing of it is in flight any more, and then leaves, so
//!    that nobody waits for its lease to end. Whoever is killed is missed after 5 s.

use std::time::Duration;

use posthaste_shared::domain::members::WorkerId;
use posthaste_shared::repeat::{pause, until_stopped};
use posthaste_shared::services::Services;
use posthaste_shared::store::StoreError;
use posthaste_shared::store::outage::away;
use posthaste_shared::store::workers::Beat;
use tokio_util::sync::CancellationToken;

use crate::pipeline::admit::Admission;

/// How often the lease is renewed.
const BEAT: Duration = Duration::from_secs(1);
/// How often while something is about to change.
const QUICK: Duration = Duration::from_millis(150);
/// How long a worker is a member after its last beat: some beats, so that a slow one costs nothing,
/// and no longer, because after a kill its share lies idle for that long.
const LEASE: Duration = Duration::from_secs(5);
/// How long after an error the store is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// The shortest time between two reservations: what comes in meanwhile shares one.
const GATHER: Duration = Duration::from_millis(5);
/// How long leaving may take when the worker stops.
const LEAVE: Duration = Duration::from_secs(2);

/// A worker's part in the agreement.
pub struct Agreement {
    /// The store that it goes through, and the clock.
    pub services: Services,
    /// Keeps to it.
    pub admission: Admission,
    /// This run of the worker.
    pub worker: WorkerId,
    /// What the operator calls the worker.
    pub name: String,
    /// Cancelled when nothing of the worker is in flight any more.
    pub ended: CancellationToken,
}

impl Agreement {
    /// Keeps the worker a member, and reserves turns, until it has ended.
    pub async fn run(&self) {
        tokio::join!(self.run_beats(), self.run_turns());
    }

    async fn run_beats(&self) {
        until_stopped(&self.ended, || async {
            match self.beat().await {
                Ok(()) if self.admission.is_settled() => BEAT,
                Ok(()) => QUICK,
                Err(error) => self.failed("the membership of workers", &error),
            }
        })
        .await;
    }

    async fn beat(&self) -> Result<(), StoreError> {
        let (acknowledged, asked) = self.admission.acknowledge();
        let beat = Beat {
            worker: self.worker,
            name: &self.name,
            acknowledged: &acknowledged,
            lease: LEASE,
        };
        let now = self.services.clock.now();
        let members = self.services.store.beat(&beat, now).await?;
        self.admission.see(members, asked, LEASE);
        Ok(())
    }

    async fn run_turns(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return,
                () = self.admission.until_turns_are_wanted() => {}
            }
            let demands = self.admission.demands();
            let now = self.services.clock.now();
            let wait = match self.services.store.take_turns(&demands, now).await {
                Ok(turns) => {
                    self.admission.give_turns(&demands, &turns);
                    GATHER
                }
                Err(error) => {
                    let wait = self.failed("turns under rate limits", &error);
                    self.admission.give_turns(&demands, &[]);
                    wait
                }
            };
            if !pause(&self.ended, wait).await {
                return;
            }
        }
    }

    fn failed(&self, what: &str, error: &StoreError) -> Duration {
        away(&self.services.metrics, what, error);
        AGAIN
    }
}

/// Gives the worker's share to the others, at once instead of when its lease ends. To be called
/// when nothing of it is in flight any more and it does not beat any more.
pub async fn leave(services: &Services, worker: WorkerId) {
    // An error, or no answer: its lease ends by itself.
    if let Ok(Err(error)) = tokio::time::timeout(LEAVE, services.store.leave(worker)).await {
        tracing::debug!(%error, "the worker's lease ends by itself");
    }
}
