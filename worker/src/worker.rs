//! A worker: its parts put together, started and stopped.

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::broker::{Broker, BrokerError};
use posthaste_shared::clock::Clock;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::store::Store;
use posthaste_shared::telemetry::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admit::Admission;
use crate::conclude::EventSettings;
use crate::decode::Limits;
use crate::deliver::Pipeline;
use crate::endpoints::EndpointCache;
use crate::intake::Intake;
use crate::job::Hands;
use crate::record::{Health, RecordingParts, recorder};
use crate::relay::Relay;
use crate::schedule::Scheduler;
use crate::send::{Sender, SenderError};
use crate::upkeep::{Upkeep, UpkeepSettings};
use crate::wake::Wake;

/// How long results may take to get into the store after the last delivery of a worker that stops.
const FLUSH: Duration = Duration::from_secs(5);

/// What a worker is told.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Attempts under way at once, 1 to 65,536. Default 1,024.
    pub slots: usize,
    /// Messages taken from the broker and not yet acknowledged, 1 to 65,535. Default 2,048.
    pub prefetch: u16,
    /// Bounds on messages.
    pub limits: Limits,
    /// Which events are made.
    pub events: EventSettings,
    /// What is kept and for how long.
    pub upkeep: UpkeepSettings,
    /// Which addresses may be called.
    pub egress: EgressPolicy,
    /// Kept with each attempt, to tell workers apart.
    pub name: String,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            slots: 1024,
            prefetch: 2048,
            limits: Limits::default(),
            events: EventSettings::default(),
            upkeep: UpkeepSettings::default(),
            egress: EgressPolicy::default(),
            name: format!("{}", std::process::id()),
        }
    }
}

/// What a worker works with.
#[derive(Clone)]
pub struct WorkerParts {
    /// State, time and truth.
    pub store: Store,
    /// Where work comes from.
    pub broker: Arc<dyn Broker>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The broker.
    #[error("no work can be taken from the broker")]
    Broker(#[from] BrokerError),
}

/// A worker that runs.
pub struct Worker {
    stopping: CancellationToken,
    hard_stop: CancellationToken,
    tasks: TaskTracker,
    loops: Vec<JoinHandle<()>>,
    recording: JoinHandle<()>,
    hands: Hands,
    parts: WorkerParts,
}

/// How a worker stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that was under way is finished and recorded.
    Drained,
    /// So many deliveries were cut off; another worker will make them again.
    CutOff(usize),
}

impl Worker {
    /// Starts taking and delivering work.
    ///
    /// # Errors
    /// When the HTTP client cannot be made or the broker's configuration cannot be used. A store or broker
    /// that is down is no error: the worker waits for it.
    pub async fn start(parts: WorkerParts, settings: WorkerSettings) -> Result<Self, StartError> {
        let consumer = parts.broker.consume(settings.prefetch).await?;
        let stopping = CancellationToken::new();
        let (wake, health) = (Wake::default(), Arc::new(Health::default()));
        let (recorder, recording) = recorder(RecordingParts {
            store: parts.store.clone(),
            broker: Arc::clone(&parts.broker),
            acker: consumer.acker(),
            clock: Arc::clone(&parts.clock),
            metrics: Arc::clone(&parts.metrics),
            wake: wake.clone(),
            health: Arc::clone(&health),
        });
        let pipeline = Arc::new(Pipeline {
            clock: Arc::clone(&parts.clock),
            metrics: Arc::clone(&parts.metrics),
            broker: Arc::clone(&parts.broker),
            admission: Admission::new(settings.slots, stopping.clone()),
            sender: Sender::new(settings.egress)?,
            recorder,
            hands: Hands::default(),
            events: settings.events,
            worker: settings.name,
            tasks: TaskTracker::new(),
            hard_stop: CancellationToken::new(),
        });
        let endpoints = Arc::new(EndpointCache::new(parts.store.clone()));
        let intake = Intake {
            pipeline: Arc::clone(&pipeline),
            store: parts.store.clone(),
            endpoints: Arc::clone(&endpoints),
            limits: settings.limits,
            stopping: stopping.clone(),
        };
        let (tasks, hands, hard_stop) = (pipeline.tasks.clone(), pipeline.hands.clone(), pipeline.hard_stop.clone());
        let scheduler = Scheduler {
            store: parts.store.clone(),
            endpoints: Arc::clone(&endpoints),
            wake: wake.clone(),
            stopping: stopping.clone(),
            pipeline: Arc::clone(&pipeline),
        };
        let relay = relay(&parts, endpoints, wake.clone(), stopping.clone());
        let upkeep = Upkeep {
            store: parts.store.clone(),
            broker: Arc::clone(&parts.broker),
            clock: Arc::clone(&parts.clock),
            metrics: Arc::clone(&parts.metrics),
            admission: pipeline.admission.clone(),
            health,
            wake,
            settings: settings.upkeep,
            stopping: stopping.clone(),
        };
        drop(pipeline);
        let loops = vec![
            tokio::spawn(intake.run(consumer)),
            tokio::spawn(async move { scheduler.run().await }),
            tokio::spawn(async move { relay.run().await }),
            tokio::spawn(async move { upkeep.run().await }),
        ];
        Ok(Self { stopping, hard_stop, tasks, loops, recording: tokio::spawn(recording.run()), hands, parts })
    }

    /// Takes no more work, gives what is under way `grace` to finish, leaves the rest to other workers.
    pub async fn stop(self, grace: Duration) -> Stopped {
        self.stopping.cancel();
        self.tasks.close();
        let drained = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        let cut_off = self.tasks.len();
        self.hard_stop.cancel();
        self.tasks.wait().await;
        for task in self.loops {
            // The loops end by themselves; one that waits for a store that is down does not hold up the end.
            let abort = task.abort_handle();
            if tokio::time::timeout(Duration::from_secs(1), task).await.is_err() {
                abort.abort();
            }
        }
        // With every other part gone the recorder's queue closes, and recording ends when it is empty.
        let flush = self.recording.abort_handle();
        if tokio::time::timeout(FLUSH, self.recording).await.is_err() {
            tracing::warn!("results could not be recorded in time; their deliveries will be made again");
            flush.abort();
        }
        let leases = self.hands.abandoned();
        if let Err(error) = self.parts.store.release(&leases, self.parts.clock.now()).await {
            tracing::warn!(%error, "leases could not be given back; they end by themselves");
        }
        if drained { Stopped::Drained } else { Stopped::CutOff(cut_off) }
    }
}

fn relay(parts: &WorkerParts, endpoints: Arc<EndpointCache>, wake: Wake, stopping: CancellationToken) -> Relay {
    Relay {
        store: parts.store.clone(),
        broker: Arc::clone(&parts.broker),
        endpoints,
        clock: Arc::clone(&parts.clock),
        metrics: Arc::clone(&parts.metrics),
        wake,
        stopping,
    }
}
