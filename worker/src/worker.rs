//! A worker: its parts put together, started and stopped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::broker::BrokerError;
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::members::WorkerId;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::resolver::Resolver;
use posthaste_shared::services::Services;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::attempt::Attempter;
use crate::background::agreement::{Agreement, leave};
use crate::background::health::HealthExchange;
use crate::background::maintenance::{Maintenance, MaintenanceSettings};
use crate::background::relay::Relay;
use crate::background::scheduler::Scheduler;
use crate::background::stats::{Outgoing, Reporting};
use crate::pipeline::admit::Admission;
use crate::pipeline::admit::breaker::BreakerRules;
use crate::pipeline::admit::policy::Rules;
use crate::pipeline::conclude::EventSettings;
use crate::pipeline::decode::Limits;
use crate::pipeline::deliver::Pipeline;
use crate::pipeline::endpoints::EndpointCache;
use crate::pipeline::health::Health;
use crate::pipeline::intake::Intake;
use crate::pipeline::job::InFlight;
use crate::pipeline::record::{RecordingParts, recorder};
use crate::pipeline::reports::Reports;
use crate::pipeline::room::Room;
use crate::pipeline::stats::Stats;
use crate::pipeline::wake::Wake;
use crate::script::Compiler;
use crate::send::{Sender, SenderError};

/// How long results may take to get into the store after the last delivery of a worker that stops.
const FLUSH: Duration = Duration::from_secs(5);

/// How long the worker's loops may take to end.
const LOOPS: Duration = Duration::from_secs(1);
/// How long releasing leases may take at the stop of a worker.
const RELEASE: Duration = Duration::from_secs(2);

/// The settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Attempts under way at once, 1 to 65,536. Default 1,024.
    pub slots: usize,
    /// Attempts under way at once for one tenant. Default none: no limit but the slots.
    pub tenant_max_in_flight: Option<usize>,
    /// The weights of tenants in their shares of the slots, 0.01 to 100; 1 for the others.
    pub tenant_weights: HashMap<TenantId, f64>,
    /// When an endpoint that fails is left alone.
    pub breaker: BreakerRules,
    /// Messages taken from the broker and not yet acknowledged, 1 to 65,535. Default 2,048.
    pub prefetch: u16,
    /// The bounds that a message must keep to.
    pub limits: Limits,
    /// Which events are created.
    pub events: EventSettings,
    /// How long data is kept, and how long an endpoint may fail before it is disabled.
    pub maintenance: MaintenanceSettings,
    /// The age at which a delivery for a disabled endpoint expires. Default none: it waits until it
    /// expires by itself.
    pub disabled_max_age: Option<Duration>,
    /// Which addresses may be called.
    pub egress: EgressPolicy,
    /// What compiles scripts. Default: threads of this process, which is for tests.
    pub compiler: Compiler,
    /// Looks up the names in endpoints' URLs. Default: asks the system's name servers.
    pub resolver: Resolver,
    /// Kept with each attempt, to tell workers apart.
    pub name: String,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            slots: 1024,
            tenant_max_in_flight: None,
            tenant_weights: HashMap::new(),
            breaker: BreakerRules::default(),
            prefetch: 2048,
            limits: Limits::default(),
            events: EventSettings::default(),
            maintenance: MaintenanceSettings::default(),
            disabled_max_age: None,
            egress: EgressPolicy::default(),
            compiler: Compiler::in_threads(),
            resolver: Resolver::new(&[]),
            name: format!("{}", std::process::id()),
        }
    }
}

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client cannot be created.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The broker's configuration cannot be used.
    #[error("no work can be taken from the broker")]
    Broker(#[from] BrokerError),
}

/// A running worker: its loops, the deliveries under way and the recording of their results. One
/// that is dropped without [`Worker::stop`], or in the middle of it, ends where it is, as if its
/// process had been killed: nothing more is sent, recorded, acknowledged or released. What was
/// under way is another worker's once its lease has ended or its message is redelivered.
pub struct Worker {
    stopping: CancellationToken,
    hard_stop: CancellationToken,
    /// Cuts the deliveries off when the worker is dropped.
    _cut_off: DropGuard,
    tasks: TaskTracker,
    loops: JoinSet<()>,
    recording: AbortOnDropHandle<()>,
    in_flight: InFlight,
    services: Services,
    id: WorkerId,
    reporting: Arc<Reporting>,
}

/// How a worker stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that was under way is finished and recorded.
    Drained,
    /// This number of deliveries was cut off; they, and those whose results could not be recorded,
    /// will be attempted again.
    CutOff(usize),
}

impl Worker {
    /// Starts taking and delivering work.
    ///
    /// # Errors
    /// When the HTTP client cannot be created or the broker's configuration cannot be used. A store
    /// or broker that is down is not an error: the worker waits for it.
    pub async fn start(services: Services, settings: WorkerSettings) -> Result<Self, StartError> {
        let sender = Sender::with_resolver(settings.egress.clone(), &settings.resolver)?;
        Self::start_sending_by(sender, services, settings).await
    }

    /// As [`Worker::start`], with a client that was created before; the settings' egress policy
    /// and resolver do not count then.
    ///
    /// # Errors
    /// When the broker's configuration cannot be used.
    pub async fn start_sending_by(
        sender: Sender,
        services: Services,
        settings: WorkerSettings,
    ) -> Result<Self, StartError> {
        // First: nothing has been started yet that would have to be stopped again if this fails.
        let consumer = services.broker.consume(settings.prefetch).await?;
        let stopping = CancellationToken::new();
        let wake = Wake::default();
        let health = Arc::new(Health::default());
        let stats = Arc::new(Stats::default());
        let (reports, reported) = Reports::channel();
        let (recorder, recording) = recorder(RecordingParts {
            services: services.clone(),
            acker: consumer.acker(),
            wake: wake.clone(),
            health: Arc::clone(&health),
            stats: Arc::clone(&stats),
        });
        let pipeline = Arc::new(Pipeline {
            services: services.clone(),
            admission: Admission::new(
                Rules {
                    slots: settings.slots,
                    window: usize::from(settings.prefetch),
                    tenant_limit: settings.tenant_max_in_flight,
                    weights: Arc::new(settings.tenant_weights),
                    breaker: settings.breaker,
                },
                stopping.clone(),
            ),
            attempter: Attempter::new(sender, Arc::clone(&services.clock), settings.compiler),
            recorder,
            reports,
            in_flight: InFlight::default(),
            room: Room::new(settings.slots),
            events: settings.events,
            worker: settings.name.clone(),
            tasks: TaskTracker::new(),
            hard_stop: CancellationToken::new(),
        });
        let endpoints = Arc::new(EndpointCache::new(services.store.clone()));
        let intake = Intake {
            pipeline: Arc::clone(&pipeline),
            store: services.store.clone(),
            endpoints: Arc::clone(&endpoints),
            limits: settings.limits,
            stopping: stopping.clone(),
        };
        let (tasks, in_flight, hard_stop) = (
            pipeline.tasks.clone(),
            pipeline.in_flight.clone(),
            pipeline.hard_stop.clone(),
        );
        let scheduler = Scheduler {
            store: services.store.clone(),
            endpoints: Arc::clone(&endpoints),
            wake: wake.clone(),
            stopping: stopping.clone(),
            pipeline: Arc::clone(&pipeline),
            disabled_max_age: settings.disabled_max_age,
        };
        let relay = Relay {
            services: services.clone(),
            endpoints,
            wake: wake.clone(),
            stopping: stopping.clone(),
        };
        let admission = pipeline.admission.clone();
        let id = WorkerId::generate(services.clock.now());
        let reporting = Arc::new(Reporting {
            services: services.clone(),
            stats,
            admission: admission.clone(),
            worker: id,
            name: settings.name.clone(),
            slots: settings.slots,
            started_at: services.clock.now(),
            stopping: stopping.clone(),
            outgoing: tokio::sync::Mutex::new(Outgoing::default()),
        });
        let agreement = Agreement {
            services: services.clone(),
            admission: admission.clone(),
            worker: id,
            name: settings.name,
            // Not when it stops taking work: its share is in use until the last request has ended.
            ended: hard_stop.clone(),
        };
        let exchange = HealthExchange {
            services: services.clone(),
            reports: reported,
            admission: admission.clone(),
            wake: wake.clone(),
            disable_after: settings.maintenance.disable_after,
            open_max: settings.breaker.open_max,
            stopping: stopping.clone(),
        };
        let maintenance = Maintenance {
            services: services.clone(),
            admission: pipeline.admission.clone(),
            health,
            wake,
            settings: settings.maintenance,
            stopping: stopping.clone(),
        };
        // The loops have their own. This one would keep the recorder's queue open, and the
        // recording would never end.
        drop(pipeline);
        let mut loops = JoinSet::new();
        loops.spawn(async move { admission.run().await });
        loops.spawn(async move { agreement.run().await });
        loops.spawn(exchange.run());
        loops.spawn(intake.run(consumer));
        loops.spawn(async move { scheduler.run().await });
        loops.spawn(async move { relay.run().await });
        loops.spawn(async move { maintenance.run().await });
        let reports = Arc::clone(&reporting);
        loops.spawn(async move { reports.run().await });
        Ok(Self {
            stopping,
            _cut_off: hard_stop.clone().drop_guard(),
            hard_stop,
            tasks,
            loops,
            recording: AbortOnDropHandle::new(tokio::spawn(recording.run())),
            in_flight,
            services,
            id,
            reporting,
        })
    }

    /// Returns when a part of the worker ended by itself, which it never should: the process should
    /// exit and be restarted.
    pub async fn failed(&mut self) {
        tokio::select! {
            biased;
            // The first one is enough: a worker without its intake or its scheduler looks alive and
            // leaves work lying.
            _ = self.loops.join_next() => {}
            _ = &mut self.recording => {}
        }
    }

    /// Takes no more work, gives what is under way `grace` to finish, leaves the rest to other
    /// workers. Takes at most some seconds longer than `grace`, whatever store and broker do.
    pub async fn stop(mut self, grace: Duration) -> Stopped {
        self.stopping.cancel();
        self.tasks.close();
        let drained = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        // Counted before the hard stop, after which none is left to be counted.
        let cut_off = self.tasks.len();
        self.hard_stop.cancel();
        self.tasks.wait().await;
        // The loops end by themselves; one that waits for a store that is down does not hold up the
        // end.
        let ended = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(LOOPS, ended).await.is_err() {
            self.loops.shutdown().await;
        }
        leave(&self.services, self.id).await;
        // With every other part gone the recorder's queue closes, and recording ends when it is
        // empty.
        let flush = self.recording.abort_handle();
        let flushed = tokio::time::timeout(FLUSH, &mut self.recording)
            .await
            .is_ok();
        if !flushed {
            tracing::warn!(
                "results could not be recorded in time; their deliveries will be attempted again"
            );
            flush.abort();
        }
        // Now every result that will be recorded is counted.
        self.reporting.end().await;
        // Last: what the recording could not write is dropped with it, and counts as abandoned only
        // then.
        self.release_leases().await;
        if drained && flushed {
            Stopped::Drained
        } else {
            Stopped::CutOff(cut_off)
        }
    }

    async fn release_leases(&self) {
        let leases = self.in_flight.abandoned();
        if leases.is_empty() {
            return;
        }
        let released = self
            .services
            .store
            .release(&leases, self.services.clock.now());
        match tokio::time::timeout(RELEASE, released).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    %error,
                    "leases could not be released; they will expire by themselves"
                )
            }
            Err(_) => {
                tracing::warn!(
                    "leases could not be released in time; they will expire by themselves"
                )
            }
        }
    }
}
