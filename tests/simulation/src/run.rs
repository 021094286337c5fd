//! One run: the world of a seed, from its beginning until everything is quiet.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_shared::domain::endpoint::{Confidential, Endpoint, EndpointStatus, SigningSecret};
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::subscription::{Subscription, TypePattern};
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_shared::store::Store;
use posthaste_shared::store::simulation::SimulatedDatabase;
use posthaste_shared::telemetry::metrics::Metrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::broker::Queue;
use crate::checks;
use crate::clock::START;
use crate::gate::OpenGate;
use crate::machine::{Machine, Site, master_key};
use crate::plan::{Bug, EndpointPlan, Options, Plan, endpoint_id};
use crate::producers::enqueue;
use crate::receiver::url;
use crate::world::World;

/// How long after the last fault everything must be quiet: the longest lease (12 s), and what
/// clocks that were wrong by 15 s left for later, each twice.
const QUIET_WITHIN: Duration = Duration::from_secs(90);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(500);

/// The result of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What must not have happened; empty where everything holds.
    pub violations: Vec<String>,
    /// How often each kind of fault happened.
    pub counts: Vec<u64>,
    /// The faults that there would have been without a mask.
    pub faults: u64,
    /// The requests that receivers got.
    pub requests: usize,
    /// How long the run took, in its own time.
    pub took: Duration,
    /// The trace, where it was asked for.
    pub trace: Vec<String>,
    /// Tells the course of the run from others.
    pub hash: u64,
}

/// What is the same for all runs.
#[derive(Clone)]
pub struct Lab {
    /// The database, which every run begins with as the migrations left it.
    pub database: SimulatedDatabase,
    metrics: Arc<Metrics>,
    tls: rustls::ClientConfig,
}

impl Lab {
    /// With a database that was migrated.
    ///
    /// # Panics
    /// When this build's TLS has no safe version.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "the provider has the versions of the default"
    )]
    pub fn new(database: SimulatedDatabase) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Self {
            database,
            metrics: Arc::new(Metrics::new()),
            tls,
        }
    }
}

/// Runs a seed, in a runtime whose time is paused.
///
/// # Panics
/// When the simulation itself fails.
pub async fn run(lab: Lab, seed: u64, options: Options, traced: bool) -> Outcome {
    let plan = Plan::of(seed, &options);
    posthaste_worker::planted::route_twice(options.planted == Some(Bug::DuplicateRoute));
    let world = Arc::new(World::new(plan, options, traced));
    assert!(lab.database.reset().is_ok(), "the database cannot be reset");
    let gate = Arc::new(OpenGate(Arc::clone(&world)));
    let store = Store::simulated(&lab.database, &master_key(), gate);
    let Ok(store) = store else {
        panic!("the store of a simulation")
    };
    assert!(store.check_master_key().await.is_ok(), "the master key");
    for (number, plan) in world.plan.endpoints.iter().enumerate() {
        let inserted = store.insert_endpoint(&endpoint(number, plan)).await;
        assert!(inserted.is_ok(), "{inserted:?}");
    }
    let site = Arc::new(Site {
        world: Arc::clone(&world),
        queue: Arc::new(Queue::new(Arc::clone(&world))),
        database: lab.database,
        ended: CancellationToken::new(),
        metrics: lab.metrics,
        tls: lab.tls,
        processes: AtomicU32::new(0),
    });
    live(&site, &store).await;
    checks::all(&world, &store).await;
    let (trace, hash) = world.take_trace();
    let violations = std::mem::take(&mut world.books().violations);
    Outcome {
        violations,
        counts: world.faults.counts(),
        faults: world.faults.number(),
        requests: world.books().requests.len(),
        took: world.elapsed(),
        trace,
        hash,
    }
}

async fn live(site: &Arc<Site>, store: &Store) {
    let world = &site.world;
    let machines = world.plan.workers.iter().enumerate();
    let machines: Vec<Arc<Machine>> = machines
        .map(|(number, plan)| Arc::new(Machine::new(Arc::clone(site), number, *plan)))
        .collect();
    let mut running = JoinSet::new();
    let mut nemeses = JoinSet::new();
    for machine in &machines {
        let one = Arc::clone(machine);
        running.spawn(async move { one.run().await });
        let one = Arc::clone(machine);
        nemeses.spawn(async move { one.nemesis().await });
    }
    let mut producers = JoinSet::new();
    for plan in world.plan.notifications.clone() {
        producers.spawn(enqueue(Arc::clone(world), Arc::clone(&site.queue), plan));
    }
    let faults_end = world.begun + world.plan.faults_for;
    // What is quiet before has met the faults that it could meet, except that what was sent might
    // be sent again: so a few seconds more.
    let mut calm_since = None;
    while tokio::time::Instant::now() < faults_end {
        tokio::time::sleep(LOOK).await;
        let quiet = producers.is_empty() && is_quiet(site, store).await.is_none();
        while producers.try_join_next().is_some() {}
        let since = *calm_since.get_or_insert(world.elapsed());
        if !quiet {
            calm_since = None;
        } else if world.elapsed() - since >= Duration::from_secs(2) {
            break;
        }
    }
    world.note("run", || "the faults end".to_owned());
    world.faults.end();
    nemeses.shutdown().await;
    for machine in &machines {
        machine.heal();
    }
    let until = world.elapsed() + QUIET_WITHIN;
    loop {
        while producers.try_join_next().is_some() {}
        enable_all(site, store).await;
        let Some(left) = is_quiet(site, store).await else {
            if producers.is_empty() {
                break;
            }
            tokio::time::sleep(LOOK).await;
            continue;
        };
        if world.elapsed() > until {
            world.violated(format!("held for ever: {left}"));
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    site.ended.cancel();
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            world.violated(format!("panicked: {error}"));
        }
    }
    world.note("run", || "the end".to_owned());
}

/// `None` when nothing is left to be done; else what is.
async fn is_quiet(site: &Site, store: &Store) -> Option<String> {
    if !site.queue.is_empty() {
        return Some(format!("the queue has {}", site.queue.left()));
    }
    let pending = checks::pending(&site.world);
    if !pending.is_empty() {
        return Some(format!("pending: {}", pending.join(", ")));
    }
    match store.outbox_pending().await {
        Ok(0) => None,
        Ok(count) => Some(format!("{count} events are not published")),
        Err(error) => panic!("the store of a simulation: {error}"),
    }
}

/// What an operator does with endpoints that were disabled, once they are well again.
async fn enable_all(site: &Site, store: &Store) {
    for number in 0..site.world.plan.endpoints.len() {
        let Ok(Some(endpoint)) = store.endpoint(&endpoint_id(number)).await else {
            panic!("an endpoint of a simulation")
        };
        if !endpoint.is_enabled() {
            let enabled = Endpoint {
                status: EndpointStatus::Enabled,
                updated_at: START.after(site.world.elapsed()),
                ..endpoint
            };
            let saved = store.update_endpoint(&enabled, None).await;
            assert!(saved.is_ok(), "{saved:?}");
            site.world
                .note("operator", || format!("enables ep_{number}"));
        }
    }
}

fn endpoint(number: usize, plan: &EndpointPlan) -> Endpoint {
    let patterns = plan.wants.patterns().iter();
    let types = patterns.filter_map(|text| TypePattern::try_from((*text).to_owned()).ok());
    let secret = Secret::new(format!("whsec_{}", STANDARD.encode([7; 32])));
    let Ok(url) = url(number).parse() else {
        panic!("the URL of an endpoint")
    };
    Endpoint {
        id: endpoint_id(number),
        uid: None,
        tenant: TenantId::default(),
        url,
        wire_format: WireFormat::Standard,
        description: String::new(),
        subscription: Subscription {
            types: types.collect(),
            phone_numbers: Vec::new(),
        },
        confidential: Confidential {
            secrets: vec![SigningSecret {
                secret,
                created_at: START,
                retires_at: None,
            }],
            ..Confidential::default()
        },
        timeout: Duration::from_secs(plan.timeout),
        retry: RetryPolicy {
            max_retries: plan.retries,
            multiplier: 1.5,
            ..RetryPolicy::default()
        },
        max_in_flight: plan.in_flight,
        rate_limit_per_second: plan.rate,
        status: EndpointStatus::Enabled,
        created_at: START,
        updated_at: START,
        version: 0,
    }
}
