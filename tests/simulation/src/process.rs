//! One run of a worker's process: alive until it is killed, which may be at any of its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use posthaste_shared::clock::Clock;
use tokio::sync::Notify;

use crate::clock::MachineClock;
use crate::faults::Kind;
use crate::world::World;

/// A process. One that was started again is another.
pub struct Process {
    /// The run that it is part of.
    pub world: Arc<World>,
    /// Its number; no other process of the run has it.
    pub id: u32,
    /// What it is called in traces, such as `w1.2` for the second process of worker 1.
    pub name: String,
    /// What its worker goes by.
    pub clock: Arc<dyn Clock>,
    /// The clock of its machine.
    pub machine: Arc<MachineClock>,
    dead: AtomicBool,
    died: Notify,
}

impl Process {
    /// A process that lives.
    #[must_use]
    pub fn new(
        world: Arc<World>,
        id: u32,
        name: String,
        clock: Arc<dyn Clock>,
        machine: Arc<MachineClock>,
    ) -> Self {
        Self {
            world,
            id,
            name,
            clock,
            machine,
            dead: AtomicBool::new(false),
            died: Notify::new(),
        }
    }

    /// A point at which the process may be killed. Never returns in a dead one, so that it has no
    /// effect on anything any more.
    pub async fn point(&self, at: &str) {
        if !self.is_dead() && self.world.strikes(Kind::Killed, &self.name) {
            self.world.note(&self.name, || format!("killed at {at}"));
            self.die();
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether it was killed.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Returns when it is killed.
    pub async fn death(&self) {
        while !self.is_dead() {
            self.died.notified().await;
        }
    }

    /// Kills it.
    pub fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_one();
    }

    /// A line of the trace.
    pub fn note(&self, what: impl FnOnce() -> String) {
        self.world.note(&self.name, what);
    }

    /// Whether the fault happens to it now.
    pub fn strikes(&self, kind: Kind) -> bool {
        self.world.strikes(kind, &self.name)
    }
}
