//! One run: everything is started, measured, counted and removed.

mod park;

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Progress;
use super::args::{Scenario, Sickness};
use super::calls::Metrics;
use super::children::{self, Process};
use super::clock::{self, nanos};
use super::findings;
use super::load::{KIND, Load, Target, tenant};
use super::meter::Meter;
use super::place::{Place, Servers};
use super::plan::Plan;
use super::remote::Receiver;
use super::report::{Latency, Run};
use crate::failure::Failure;

/// How often the receiver is asked how far it is.
const LOOK: Duration = Duration::from_millis(50);
/// How often memory is looked at, in looks.
const MEMORY_EACH: u32 = 20;
/// How long workers may take to record what has arrived.
const RECORDING: Duration = Duration::from_secs(10);
/// The tenant of sick endpoints that have one of their own.
const SICK_TENANT: &str = "bench-sick";

/// Something that happens while the load is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    ReceiverDown,
    ReceiverUp,
    KillWorker,
    AddWorker,
}

/// The processes of a run. Dropped, they are killed.
struct Stage<'a> {
    plan: &'a Plan,
    servers: &'a Servers,
    place: &'a Place,
    receiver: Receiver,
    meter: Meter,
    /// Takes notifications: `api`, or the one process that does everything.
    front: Option<Process>,
    workers: Vec<Process>,
    started: u32,
    up_at: Option<u64>,
    /// When the workers of a backlog were started.
    delivering_at: u64,
}

/// Makes one run.
///
/// # Errors
/// What went wrong, or that `stopping` was cancelled. Everything is removed in any case.
pub(super) async fn run(
    plan: &Plan,
    servers: &Servers,
    progress: &Progress,
    stopping: &CancellationToken,
) -> Result<Run, Failure> {
    let mut place = Place::new(servers).await?;
    let done = tokio::select! {
        done = Box::pin(play(plan, servers, &mut place, progress)) => done,
        () = stopping.cancelled() => Err(Failure::interrupted("the bench was stopped")),
    };
    place.remove().await;
    done
}

async fn play(
    plan: &Plan,
    servers: &Servers,
    place: &mut Place,
    progress: &Progress,
) -> Result<Run, Failure> {
    progress.say("starting");
    let receiver = Receiver::start(&plan.orders()).await?;
    if plan.sickness == Some(Sickness::Unresolvable) {
        place.set_name_server(receiver.addresses.names);
    }
    children::run(place, &["migrate"]).await?;
    let mut stage = Stage {
        plan,
        servers,
        place,
        meter: Meter::new(),
        front: None,
        workers: Vec::new(),
        started: 0,
        up_at: None,
        delivering_at: 0,
        receiver,
    };
    stage.start_front().await?;
    let targets = stage.create_endpoints().await?;
    stage.receiver.forget_names().await?;
    if plan.parked > 0 {
        progress.say("parking");
        stage.park().await?;
    }
    let load = Load::new(plan, plan.shots(), targets)?;
    stage.deliver(&load, progress).await
}

impl Stage<'_> {
    /// Whether one process does everything.
    fn is_together(&self) -> bool {
        self.servers.is_embedded() && self.plan.workers <= 1
    }

    /// Whether everything is enqueued before the first worker starts.
    fn is_backlog(&self) -> bool {
        self.plan.rate_per_second.is_none()
    }

    async fn start_front(&mut self) -> Result<(), Failure> {
        let role = if self.is_together() && !self.is_backlog() {
            "up"
        } else {
            "api"
        };
        let front = Process::start(self.place, role, &[role]).await?;
        self.front = Some(front);
        if role == "api" && !self.is_backlog() {
            self.start_workers().await?;
        }
        Ok(())
    }

    async fn start_workers(&mut self) -> Result<(), Failure> {
        for _ in 0..self.plan.workers {
            self.add_worker().await?;
        }
        Ok(())
    }

    async fn add_worker(&mut self) -> Result<(), Failure> {
        self.started += 1;
        let worker = if self.is_together() {
            Process::start(self.place, "up", &["up"]).await?
        } else {
            let name = format!("worker-{}", self.started);
            Process::start(self.place, &name, &["worker"]).await?
        };
        self.meter.add_whole(worker.watched());
        self.workers.push(worker);
        Ok(())
    }

    fn front(&self) -> Result<&Process, Failure> {
        self.front
            .as_ref()
            .ok_or_else(|| Failure::new("the API has ended"))
    }

    async fn create_endpoints(&self) -> Result<Vec<Target>, Failure> {
        let plan = self.plan;
        let addresses = &self.receiver.addresses;
        let mut targets = Vec::new();
        for index in 0..plan.endpoints {
            let url = match plan.sickness.filter(|_| plan.is_sick(index)) {
                None if plan.is_in_front(index) => format!("http://{}/{index}", addresses.sick),
                None => format!("http://{}/{index}", addresses.healthy),
                Some(Sickness::Refused) => format!("http://{}/{index}", addresses.refusing),
                Some(Sickness::Unresolvable) => {
                    format!("http://sick-{index}.bench.test/{index}")
                }
                Some(_) => format!("http://{}/{index}", addresses.sick),
            };
            // In the control, too: only their health differs.
            let tenant = if plan.sick_tenant && index >= plan.healthy() {
                SICK_TENANT.to_owned()
            } else {
                tenant(index % plan.tenants)
            };
            let mut draft = json!({
                "url": url, "tenant": tenant, "wire_format": "standard",
                "max_in_flight": plan.max_in_flight,
                "rate_limit_per_second": plan.limit_per_second,
            });
            if plan.fans_out() {
                draft["subscription"] = json!({"types": [KIND]});
                draft["tenant"] = json!(super::load::tenant(0));
            }
            if plan.scenario == Scenario::Outage {
                // The outage must not use up the retries.
                draft["retry"] = json!({"max_retries": 100, "max_delay_ms": 5_000});
            }
            targets.push(self.create_endpoint(draft).await?);
        }
        Ok(targets)
    }

    async fn create_endpoint(&self, mut draft: Value) -> Result<Target, Failure> {
        if let Some(members) = draft.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        let front = self.front()?;
        let created = front
            .caller
            .ask(Method::POST, "/v1/endpoints", &draft)
            .await?;
        // `{"endpoint": {…}}` or the endpoint itself.
        let endpoint = created.get("endpoint").unwrap_or(&created);
        Ok(Target {
            id: crate::output::text(endpoint, "id"),
            tenant: crate::output::text(&draft, "tenant"),
        })
    }

    /// Enqueues the load, lets it be delivered, and counts.
    async fn deliver(mut self, load: &Arc<Load>, progress: &Progress) -> Result<Run, Failure> {
        let plan = self.plan;
        let caller = self.front()?.caller.clone();
        self.meter.add_whole(self.front()?.watched());
        self.meter.add(self.receiver.watched());
        for server in self.servers.watched() {
            self.meter.add(server);
        }
        if self.is_backlog() {
            progress.say("enqueueing");
            self.meter.restart();
            if plan.scenario == Scenario::Accept {
                let accepting = Arc::clone(load).as_answered(
                    caller,
                    plan.connections,
                    plan.batch,
                    Some(plan.duration),
                );
                accepting.await;
                return self.count(load, None).await;
            }
            Arc::clone(load).all_at_once(caller).await;
            // What the API used stays counted when it is killed.
            self.meter.look();
            if self.is_together() {
                // One process that does everything takes over.
                if let Some(front) = self.front.take() {
                    front.kill().await;
                }
            }
        }
        progress.say("delivering");
        self.meter.restart();
        let wal = self.place.wal_bytes().await;
        let begun = Instant::now();
        self.delivering_at = clock::now();
        let loading = if self.is_backlog() {
            self.start_workers().await?;
            None
        } else {
            let caller = self.front()?.caller.clone();
            let enqueueing = tokio::spawn(Arc::clone(load).by_schedule(caller));
            Some(AbortOnDropHandle::new(enqueueing))
        };
        self.watch(load, loading, begun, progress).await?;
        self.until_recorded(load).await;
        self.count(load, wal).await
    }

    /// Waits until everything has arrived, and makes happen what is to happen meanwhile.
    async fn watch(
        &mut self,
        load: &Load,
        loading: Option<AbortOnDropHandle<()>>,
        begun: Instant,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let planned = load.planned(self.plan);
        let mut events = self.events().into_iter().peekable();
        let mut ended = None;
        for look in 0_u32.. {
            let counts = self.receiver.count().await?;
            if ended.is_none() {
                progress.arrived(counts.healthy, planned);
            }
            if look % MEMORY_EACH == 0 {
                self.meter.look();
            }
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= begun.elapsed()) {
                self.happen(event).await?;
            }
            if loading.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
                let (end, expected) =
                    *ended.get_or_insert_with(|| (Instant::now(), load.expected(self.plan)));
                progress.arrived(counts.healthy, expected);
                if counts.healthy >= expected && events.peek().is_none() {
                    return Ok(());
                }
                if end.elapsed() > self.plan.deadline {
                    return Ok(());
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// What happens when, from the beginning.
    fn events(&self) -> Vec<(Duration, Event)> {
        let plan = self.plan;
        match plan.scenario {
            Scenario::Outage => {
                let down = plan.warm_up + (plan.duration - plan.outage) / 2;
                vec![
                    (down, Event::ReceiverDown),
                    (down + plan.outage, Event::ReceiverUp),
                ]
            }
            Scenario::Limits if plan.workers > 1 => vec![
                (plan.duration / 3, Event::KillWorker),
                (plan.duration * 2 / 3, Event::AddWorker),
            ],
            _ => Vec::new(),
        }
    }

    async fn happen(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::ReceiverDown => self.receiver.go_down().await,
            Event::ReceiverUp => {
                self.up_at = Some(clock::now());
                self.receiver.come_up().await
            }
            Event::KillWorker => {
                self.meter.look();
                if !self.workers.is_empty() {
                    self.workers.remove(0).kill().await;
                }
                Ok(())
            }
            Event::AddWorker => self.add_worker().await,
        }
    }

    /// All processes that deliver.
    fn delivering(&self) -> impl Iterator<Item = &Process> {
        let front = self.front.iter().filter(|front| front.name == "up");
        self.workers.iter().chain(front)
    }

    async fn metrics(&self) -> Vec<Metrics> {
        let mut all = Vec::new();
        for process in self.delivering() {
            all.push(process.caller.metrics().await);
        }
        all
    }

    /// Waits until the workers have recorded what has arrived, so that this is counted, too.
    async fn until_recorded(&self, load: &Load) {
        let deadline = Instant::now() + RECORDING;
        let expected = load.expected(self.plan);
        // What a killed worker counted is gone.
        let whole = self.plan.scenario != Scenario::Limits;
        while whole && Instant::now() < deadline {
            let delivered: f64 = self
                .metrics()
                .await
                .iter()
                .map(|one| one.sum("posthaste_deliveries_total", &["outcome=\"delivered\""]))
                .sum();
            if delivered >= expected as f64 {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Counts everything, ends the processes, and looks at the books.
    async fn count(mut self, load: &Load, wal: Option<u64>) -> Result<Run, Failure> {
        let plan = self.plan;
        self.meter.look();
        let mut run = Run {
            machine_cpu_percent: self.meter.machine_percent(),
            saturated: self.meter.saturated(),
            ..Run::default()
        };
        let wal_now = self.place.wal_bytes().await;
        let all = self.metrics().await;
        let sum = |name: &str| all.iter().map(|one| one.sum(name, &[])).sum::<f64>();
        let rows = sum("posthaste_store_batch_rows_sum");
        let transactions = sum("posthaste_store_batch_rows_count");
        run.rows = rows as u64;
        if transactions > 0.0 {
            run.rows_per_transaction = rows / transactions;
        }
        let counted: Option<f64> = all
            .iter()
            .map(|one| one.known("posthaste_deliveries_parked_total"))
            .sum();
        run.parked = counted.unwrap_or(rows - sum("posthaste_attempts_total")) as u64;
        let records = self.receiver.records(self.place.dir()).await?;
        let tally = load.tally();
        run.accepted = load.accepted().count() as u64;
        run.not_accepted = tally.not_accepted;
        run.problem = tally.problem;
        let enqueueing = load.last_accepted().saturating_sub(load.started());
        if enqueueing > 0 {
            run.accepted_per_second = run.accepted as f64 * 1e9 / enqueueing as f64;
        }
        run.request = Latency::of(&tally.requests);
        if plan.rate_per_second.is_some() {
            run.sent_late = Latency::of(&tally.late);
        }
        if plan.scenario != Scenario::Accept {
            findings::of_records(plan, load, &records, &mut run)?;
        }
        if let Some(limit) = plan.limit_per_second {
            run.windows = Some(findings::windows(&records, limit));
        }
        if plan.behind > 0 {
            run.behind = findings::behind(plan, &records, self.delivering_at);
        }
        run.recovery = self.up_at.map(|up| findings::recovery(&records, up));
        let each = if plan.scenario == Scenario::Accept {
            run.accepted
        } else {
            run.delivered
        };
        run.processes = self.meter.processes(each);
        if let (Some(before), Some(after)) = (wal, wal_now)
            && each > 0
        {
            run.wal_bytes_per_delivery = Some(after.saturating_sub(before) as f64 / each as f64);
        }
        if let Some(behind) = run.behind_at_end
            && plan
                .rate_per_second
                .is_some_and(|rate| behind as f64 > rate.max(100.0))
            && nanos(plan.outage) == 0
        {
            run.saturated.push(format!(
                "the workers: {behind} deliveries were still to come when the last notification \
                 was accepted"
            ));
        }
        for process in self.workers.drain(..).chain(self.front.take()) {
            process.kill().await;
        }
        let books = children::run(self.place, &["reconcile", "--json"]).await?;
        run.accounting = serde_json::from_str(&books).unwrap_or_default();
        Ok(run)
    }
}
