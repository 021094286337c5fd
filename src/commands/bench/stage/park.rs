//! Deliveries that wait for dead endpoints before the load begins.

use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;

use super::{LOOK, Stage};
use crate::commands::bench::args::ParkedBy;
use crate::commands::bench::children::Process;
use crate::commands::bench::load::{Load, tenant};
use crate::commands::bench::plan::Shot;
use crate::failure::Failure;

/// Dead endpoints that parked deliveries are for.
const DEAD: u32 = 10;

impl Stage<'_> {
    /// Enqueues deliveries for dead endpoints and lets a worker find out that they have to wait.
    pub(super) async fn park(&mut self) -> Result<(), Failure> {
        let mut dead = Vec::new();
        for _ in 0..DEAD {
            let draft = json!({
                "url": format!("http://{}/dead", self.receiver.addresses.refusing),
                "tenant": tenant(0), "wire_format": "standard",
                "enabled": self.plan.parked_by != ParkedBy::Disabled,
                "retry": {"initial_delay_ms": 3_600_000, "max_delay_ms": 3_600_000},
            });
            dead.push(self.create_endpoint(draft).await?);
        }
        let shots = (0..self.plan.parked)
            .map(|number| Shot {
                at: 0,
                endpoint: number % DEAD,
            })
            .collect();
        let load = Load::new(self.plan, shots, dead)?;
        let caller = self.front()?.caller.clone();
        Arc::clone(&load).all_at_once(caller).await;
        let role = if self.is_together() { "up" } else { "worker" };
        let worker = Process::start(self.place, "parking", &[role]).await?;
        let deadline = Instant::now() + self.plan.deadline;
        loop {
            let metrics = worker.caller.metrics().await;
            let waiting = ["state=\"parked\"", "state=\"scheduled\""]
                .iter()
                .map(|state| metrics.sum("posthaste_deliveries_pending", &[state]))
                .sum::<f64>();
            let in_flight = metrics.sum("posthaste_deliveries_in_flight", &[]);
            if waiting >= f64::from(self.plan.parked) && in_flight < 0.5 {
                break;
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "only {waiting} of {} deliveries were parked in time",
                    self.plan.parked
                ))
                .hint("allow more time with --deadline, or park fewer with --parked"));
            }
            tokio::time::sleep(LOOK).await;
        }
        // Not killed: what it has not acknowledged would come back, to be sorted out as known
        // beside the load.
        worker.stop().await
    }
}
