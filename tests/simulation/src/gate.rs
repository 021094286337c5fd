//! Stands between a process and the store: where calls fail, are late, or lose their answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_shared::store::simulation::{Call, Change, Gate, Planted, Unavailable};
use tokio::time::Instant;

use crate::faults::Kind;
use crate::plan::Bug;
use crate::process::Process;
use crate::world::{Commit, World};

/// The way of a process to the store.
pub struct ProcessGate {
    process: Arc<Process>,
    away_until: Mutex<Option<Instant>>,
}

impl ProcessGate {
    /// The way of this process.
    #[must_use]
    pub fn new(process: Arc<Process>) -> Self {
        let away_until = Mutex::default();
        Self {
            process,
            away_until,
        }
    }

    /// For so long, the store answers nothing to the process.
    pub fn away(&self, length: Duration) {
        let until = Instant::now() + length;
        *self
            .away_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn is_away(&self) -> bool {
        let until = *self
            .away_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.process.world.faults.are_on() && until.is_some_and(|until| Instant::now() < until)
    }

    async fn delay(&self, call: Call<'_>) {
        if self.process.strikes(Kind::StoreDelayed) {
            let faults = &self.process.world.faults;
            let length = faults.draw(Kind::StoreDelayed, |dice| dice.millis(1..=2_000));
            self.process
                .note(|| format!("{} waits for {length:?}", call.query));
            tokio::time::sleep(length).await;
        }
    }
}

#[async_trait]
impl Gate for ProcessGate {
    async fn before(&self, call: Call<'_>) -> Result<(), Unavailable> {
        self.process.point(call.query).await;
        if self.is_away() {
            // As long as a client waits for a connection, about.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Err(Unavailable);
        }
        self.delay(call).await;
        if self.process.strikes(Kind::StoreRefused) {
            self.process.note(|| format!("{} is refused", call.query));
            return Err(Unavailable);
        }
        Ok(())
    }

    async fn after(&self, call: Call<'_>) -> Result<(), Unavailable> {
        self.delay(call).await;
        self.process.point(call.query).await;
        if self.process.strikes(Kind::StoreAnswerLost) {
            self.process
                .note(|| format!("the answer to {} is lost", call.query));
            return Err(Unavailable);
        }
        Ok(())
    }

    fn committed(&self, changes: Vec<Change>) {
        commit(
            &self.process.world,
            self.process.id,
            &self.process.name,
            changes,
        );
    }

    fn planted(&self) -> Option<Planted> {
        match self.process.world.options.planted? {
            Bug::EventOutsideTransaction => Some(Planted::EventOutsideTransaction),
            Bug::LeaseNotExtended => Some(Planted::LeaseNotExtended),
            Bug::AckBeforeCommit | Bug::ExpiryUnchecked | Bug::DuplicateRoute => None,
        }
    }
}

/// The way of whoever looks on, and of an operator: nothing fails on it.
pub struct OpenGate(pub Arc<World>);

#[async_trait]
impl Gate for OpenGate {
    async fn before(&self, _: Call<'_>) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn after(&self, _: Call<'_>) -> Result<(), Unavailable> {
        Ok(())
    }

    fn committed(&self, changes: Vec<Change>) {
        commit(&self.0, 0, "operator", changes);
    }
}

fn commit(world: &World, process: u32, name: &str, changes: Vec<Change>) {
    if changes.is_empty() {
        return;
    }
    for change in &changes {
        world.note(name, || match change {
            Change::Delivery {
                id,
                status,
                wait,
                attempt_count,
                ..
            } => format!(
                "committed: {} is {}{}, attempts {attempt_count}",
                short(&id.to_string()),
                status.as_str(),
                wait.as_ref()
                    .map(|wait| format!(" ({wait})"))
                    .unwrap_or_default(),
            ),
            Change::Event { id, kind } => {
                format!("committed: event {} {kind}", short(&id.to_string()))
            }
        });
    }
    let at = world.elapsed();
    world.books().commits.push(Commit {
        at,
        process,
        changes,
    });
}

/// The beginning of an id, which tells it from the others of a run.
#[must_use]
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
