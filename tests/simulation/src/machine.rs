//! A worker's machine: starts its process, kills or stops it, and starts it again; and what befalls
//! it from outside.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use posthaste_shared::clock::Clock;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::resolver::Resolver;
use posthaste_shared::services::Services;
use posthaste_shared::store::Store;
use posthaste_shared::store::simulation::SimulatedDatabase;
use posthaste_shared::telemetry::metrics::Metrics;
use posthaste_shared::telemetry::trace::Tracer;
use posthaste_worker::pipeline::admit::breaker::BreakerRules;
use posthaste_worker::pipeline::conclude::EventSettings;
use posthaste_worker::pipeline::decode::Limits;
use posthaste_worker::send::Sender;
use posthaste_worker::worker::{Worker, WorkerSettings};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::broker::{ProcessBroker, Queue};
use crate::clock::{MachineClock, Shared, StaleClock};
use crate::faults::Kind;
use crate::gate::ProcessGate;
use crate::plan::{Bug, WorkerPlan};
use crate::process::Process;
use crate::receiver::Network;
use crate::world::World;

/// How long a worker that is stopped may finish what is under way.
const GRACE: Duration = Duration::from_secs(3);

/// What all machines of a run have in common.
pub struct Site {
    /// The run.
    pub world: Arc<World>,
    /// The work queue.
    pub queue: Arc<Queue>,
    /// The database.
    pub database: SimulatedDatabase,
    /// Cancelled at the end of the run.
    pub ended: CancellationToken,
    /// The metrics of all processes; nothing looks at them.
    pub metrics: Arc<Metrics>,
    /// The set-up of TLS, which no endpoint of a simulation has.
    pub tls: rustls::ClientConfig,
    /// Numbers processes.
    pub processes: AtomicU32,
}

/// The master key of a run.
#[must_use]
pub fn master_key() -> Secret {
    Secret::new("a master key for simulations, 32 characters or more".to_owned())
}

/// A worker's machine.
pub struct Machine {
    site: Arc<Site>,
    number: usize,
    plan: WorkerPlan,
    clock: Arc<MachineClock>,
    stop: Notify,
    running: Mutex<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    process: Arc<Process>,
    gate: Arc<ProcessGate>,
}

/// How a process ended.
enum Ended {
    Killed,
    Stopped,
    OfRun,
}

impl Machine {
    /// A machine with nothing running yet.
    #[must_use]
    pub fn new(site: Arc<Site>, number: usize, plan: WorkerPlan) -> Self {
        let clock = Arc::new(MachineClock::right(site.world.begun));
        Self {
            site,
            number,
            plan,
            clock,
            stop: Notify::new(),
            running: Mutex::default(),
        }
    }

    /// Runs one process after another until the run ends.
    pub async fn run(&self) {
        let world = &self.site.world;
        for generation in 1.. {
            let running = self.boot(generation);
            let process = Arc::clone(&running.process);
            *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running.clone());
            process.note(|| "starts".to_owned());
            let ended = tokio::select! {
                biased;
                // Dropping the worker ends everything of it where it is.
                () = process.death() => Ended::Killed,
                ended = self.live(&running) => ended,
            };
            let pause = match ended {
                Ended::OfRun => return,
                Ended::Stopped => Duration::from_millis(300),
                Ended::Killed => {
                    // The broker does not notice at once.
                    let noticed = world
                        .faults
                        .draw(Kind::Killed, |dice| dice.millis(0..=4_000));
                    let queue = Arc::clone(&self.site.queue);
                    let id = process.id;
                    tokio::spawn(async move {
                        tokio::time::sleep(noticed).await;
                        queue.forget(id);
                    });
                    world
                        .faults
                        .draw(Kind::Killed, |dice| dice.millis(10..=3_000))
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn boot(&self, generation: u32) -> Running {
        let world = &self.site.world;
        let machine = Arc::clone(&self.clock);
        let clock = Shared(Arc::clone(&machine));
        let clock: Arc<dyn Clock> = match world.options.planted {
            Some(Bug::ExpiryUnchecked) => Arc::new(StaleClock::new(clock)),
            _ => Arc::new(clock),
        };
        let id = self.site.processes.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("w{}.{generation}", self.number);
        let process = Process::new(Arc::clone(world), id, name, clock, machine);
        let process = Arc::new(process);
        let gate = Arc::new(ProcessGate::new(Arc::clone(&process)));
        Running { process, gate }
    }

    async fn live(&self, running: &Running) -> Ended {
        let site = &self.site;
        let process = &running.process;
        let gate = Arc::clone(&running.gate);
        let store = match Store::simulated(&site.database, &master_key(), gate) {
            Ok(store) => store,
            Err(error) => panic!("the store of a simulation: {error}"),
        };
        let services = Services {
            store,
            broker: Arc::new(ProcessBroker {
                queue: Arc::clone(&site.queue),
                process: Arc::clone(process),
            }),
            clock: Arc::clone(&process.clock),
            metrics: Arc::clone(&site.metrics),
            tracer: Tracer::off(),
        };
        let egress = EgressPolicy::new("10.0.0.0/8", true).unwrap_or_default();
        let network = Arc::new(Network(Arc::clone(process)));
        let sender = Sender::over(network, egress, &Resolver::new(&[]), site.tls.clone());
        let started = Worker::start_sending_by(sender, services.clone(), self.settings(process));
        let mut worker = match started.await {
            Ok(worker) => worker,
            Err(error) => panic!("the worker of a simulation: {error}"),
        };
        let ended = tokio::select! {
            biased;
            () = site.ended.cancelled() => Ended::OfRun,
            () = self.stop.notified() => Ended::Stopped,
            () = worker.failed() => {
                site.world.violated(format!("a part of {} ended by itself", process.name));
                return Ended::Killed;
            }
        };
        let stopped = worker.stop(GRACE).await;
        process.note(|| format!("stopped: {stopped:?}"));
        services.broker.close().await;
        ended
    }

    fn settings(&self, process: &Process) -> WorkerSettings {
        WorkerSettings {
            slots: self.plan.slots,
            prefetch: self.plan.prefetch,
            breaker: BreakerRules {
                failures: self.plan.breaker,
                open_min: Duration::from_secs(1),
                open_max: Duration::from_secs(3),
            },
            limits: Limits {
                // A simulation redelivers more often than any broker.
                poison_after: 1_000,
                ..Limits::default()
            },
            events: EventSettings {
                succeeded: self.site.world.plan.succeeded,
            },
            name: process.name.clone(),
            ..WorkerSettings::default()
        }
    }

    /// What befalls the machine now and then, while there are faults.
    pub async fn nemesis(&self) {
        let world = &self.site.world;
        let faults = &world.faults;
        let mut dice = crate::dice::Dice::new(world.plan.seed, 500 + self.number as u64);
        let name = format!("w{}", self.number);
        if world.strikes(Kind::ClockDrifts, &name) {
            let part = faults.draw(Kind::ClockDrifts, |dice| dice.fraction());
            self.clock.drift(0.95 + part / 10.0);
        }
        while faults.are_on() {
            tokio::time::sleep(dice.millis(100..=900)).await;
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(Running { process, gate }) = running.clone() else {
                continue;
            };
            drop(running);
            let strikes = |kind| faults.are_on() && world.strikes(kind, &name);
            if strikes(Kind::StoreAway) {
                gate.away(faults.draw(Kind::StoreAway, |dice| dice.millis(200..=6_000)));
            }
            if strikes(Kind::ConnectionLost) {
                let pause = faults.draw(Kind::ConnectionLost, |dice| dice.millis(10..=2_000));
                self.site.queue.lose(process.id, pause);
            }
            if strikes(Kind::Duplicated) {
                self.site.queue.duplicate();
            }
            if strikes(Kind::ClockJumped) {
                let (by, forth) = faults.draw(Kind::ClockJumped, |dice| {
                    (dice.millis(200..=15_000), dice.chance(0.5))
                });
                world.note(&name, || {
                    format!("{by:?} {}", if forth { "forth" } else { "back" })
                });
                self.clock.jump(by, forth);
            }
            if strikes(Kind::Stopped) {
                self.stop.notify_one();
            }
        }
    }

    /// No more faults: the clock is right, and whatever runs goes on.
    pub fn heal(&self) {
        self.clock.heal(self.site.world.begun);
    }
}
