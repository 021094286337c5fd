//! Works off redrives: asked for over the API, written down in the store, moved by the broker in
//! small steps. Every process that has both runs this, so that a redrive needs no worker, and
//! outlives the process that began it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::Reconnect;
use crate::repeat::pause;
use crate::services::Services;
use crate::store::StoreError;
use crate::store::outage::away;
use crate::store::redrives::{Redrive, RedriveState, RedriveStep};

/// How often redrives are looked for.
const POLL: Duration = Duration::from_millis(300);
/// The most letters in one step; a cancelled redrive stops within one.
const STEP: u32 = 100;
/// How long a process has a redrive to itself without writing down how far it is. Longer than a
/// step may take: the broker's calls end within seconds.
const LEASE: Duration = Duration::from_secs(60);

/// Takes redrives out of the store and works them off.
pub struct Redriver {
    /// The store has the redrives, the broker the letters.
    pub services: Services,
    /// Ends it, after the step that is running.
    pub stopping: CancellationToken,
}

impl Redriver {
    /// Works until told to stop.
    pub async fn run(self) {
        let mut backoff = Reconnect::default();
        while !self.stopping.is_cancelled() {
            let wait = match self.work().await {
                Ok(()) => {
                    backoff.reset();
                    POLL
                }
                Err(error) => {
                    away(&self.services.metrics, "redrives", &error);
                    backoff.next()
                }
            };
            pause(&self.stopping, wait).await;
        }
    }

    /// Works off one redrive, if there is one.
    async fn work(&self) -> Result<(), StoreError> {
        let now = self.services.clock.now();
        let Some(mut redrive) = self
            .services
            .store
            .claim_redrive(now, now.after(LEASE))
            .await?
        else {
            return Ok(());
        };
        let mut backoff = Reconnect::default();
        while redrive.state == RedriveState::Running && !self.stopping.is_cancelled() {
            let step = self.step(&redrive).await;
            let now = self.services.clock.now();
            // The lease is renewed with each step, so that a redrive of millions needs no longer
            // one.
            let stays = now.after(LEASE);
            let Some(noted) = self
                .services
                .store
                .note_redrive(redrive.id, &step, now, stays)
                .await?
            else {
                return Ok(());
            };
            redrive = noted;
            if let RedriveStep::Failed(error) = &step {
                tracing::warn!(redrive.id = %redrive.id, error, "dead letters could not be put \
                    back; trying again");
                pause(&self.stopping, backoff.next()).await;
            } else {
                backoff.reset();
            }
        }
        if redrive.state == RedriveState::Running {
            // The process ends: others may go on at once.
            let now = self.services.clock.now();
            let nothing = RedriveStep::Moved(crate::broker::Redriven::default());
            self.services
                .store
                .note_redrive(redrive.id, &nothing, now, now)
                .await?;
        } else {
            let id = redrive.id;
            let redriven = redrive.redriven;
            tracing::info!(
                redrive.id = %id,
                redriven,
                undecodable = redrive.undecodable,
                "the redrive has ended"
            );
        }
        Ok(())
    }

    /// Moves some letters: never more than there were when the redrive began. Those are the first
    /// of the queue, as what dies again goes behind them.
    async fn step(&self, redrive: &Redrive) -> RedriveStep {
        let left = redrive.total.saturating_sub(redrive.redriven);
        let limit = u32::try_from(left).unwrap_or(STEP).min(STEP);
        if limit == 0 {
            return RedriveStep::Last(crate::broker::Redriven::default());
        }
        match self.services.broker.redrive(None, limit).await {
            // An empty queue ends it as well: somebody else may have taken letters meanwhile, and
            // `left` would never be reached.
            Ok(moved) if moved.moved == 0 || moved.moved >= left => RedriveStep::Last(moved),
            Ok(moved) => RedriveStep::Moved(moved),
            Err(error) => RedriveStep::Failed(error.to_string()),
        }
    }
}
