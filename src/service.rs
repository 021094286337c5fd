//! What the commands that go on running share: opening store and broker, health and metrics, and
//! serving.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use posthaste_console::{Console, Mode};
use posthaste_producer::http::{Api, ApiParts, ApiSettings};
use posthaste_shared::backoff::Reconnect;
use posthaste_shared::broker::Consuming;
use posthaste_shared::clock::{Clock, SystemClock};
use posthaste_shared::config::{BrokerKind, Config, ConsoleMode};
use posthaste_shared::redrive::Redriver;
use posthaste_shared::services::Services;
use posthaste_shared::store::endpoints::EndpointFilter;
use posthaste_shared::store::page::PageRequest;
use posthaste_shared::store::{Store, StoreError};
use posthaste_shared::telemetry::metrics::Metrics;
use posthaste_shared::telemetry::trace::{Messaging, Origin, Tracer};
use posthaste_worker::attempt::Attempter;
use posthaste_worker::background::maintenance::MaintenanceSettings;
use posthaste_worker::pipeline::admit::breaker::BreakerRules;
use posthaste_worker::pipeline::conclude::EventSettings;
use posthaste_worker::pipeline::decode::Limits;
use posthaste_worker::script::Compiler;
use posthaste_worker::send::Sender;
use posthaste_worker::worker::{Worker, WorkerSettings};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::serving::{self, serve};
use crate::wire_formats::WorkerWireFormats;
use crate::{connect, master_key};

/// How long closing connections may take.
const CLOSE: Duration = Duration::from_secs(7);

/// The parts that every long-running process is made of.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) services: Services,
    pub(crate) compiler: Compiler,
}

/// The file of this program. On Linux it is found even after another version has been put in its
/// place.
fn own_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("posthaste"))
}

/// Whether the schema is brought up to date, or only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    Migrate,
    Check,
}

impl Node {
    /// Opens the store, waiting for one that cannot be reached yet, and the broker. `role` is what
    /// the process is called in spans.
    pub(crate) async fn open(
        config: &Config,
        schema: Schema,
        role: &'static str,
    ) -> Result<Self, Failure> {
        let metrics = Arc::new(Metrics::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // The tracer first: a wrong setting of it is reported before anything is opened.
        let tracer = tracer(config, role, &metrics, &clock)?;
        let store = open_store(config, schema).await?;
        let broker = connect::broker(config, &store, &metrics).await?;
        let services = Services {
            store,
            broker,
            clock,
            metrics,
            tracer,
        };
        Ok(Self {
            services,
            compiler: Compiler::in_processes(own_program()),
        })
    }

    /// The HTTP API, to be served.
    pub(crate) fn api(
        &self,
        config: &Config,
        shutdown: CancellationToken,
    ) -> Result<Arc<Api>, Failure> {
        // For `endpoint test`, which sends from the process that serves the API: it may have no
        // worker.
        let sender = Sender::with_resolver(config.egress.clone(), &config.resolver)?;
        let attempter = Attempter::new(
            sender,
            Arc::clone(&self.services.clock),
            self.compiler.clone(),
        );
        let parts = ApiParts {
            services: self.services.clone(),
            egress: config.egress.clone(),
            wire_formats: Arc::new(WorkerWireFormats {
                attempter,
                clock: Arc::clone(&self.services.clock),
                max_recipients: config.max_recipients,
            }),
            resolver: Arc::new(config.resolver.clone()),
            shutdown,
            settings: ApiSettings {
                max_body_bytes: config.api.max_body_bytes,
                max_batch_body_bytes: config.api.max_batch_bytes,
                body_timeout: config.api.body_timeout,
                admin_key: config.api.admin_key.clone(),
                tenant_max_endpoints: config.api.tenant_max_endpoints,
                tenant_max_pending: config.api.tenant_max_pending,
                tenant_max_streams: config.api.tenant_max_streams,
                console: config.api.console != ConsoleMode::Off,
                ..ApiSettings::default()
            },
        };
        Ok(Api::new(parts))
    }

    /// Starts a worker. Not with a master key that does not fit: it would pass over every endpoint
    /// that it cannot read, and what is fanned out meanwhile would never get to them.
    pub(crate) async fn start_worker(
        &self,
        config: &Config,
        name: String,
    ) -> Result<Worker, Failure> {
        let endpoints = self
            .services
            .store
            .endpoints(&EndpointFilter::default(), &PageRequest::default())
            .await;
        // Any other failure of the store passes: the worker waits for it.
        if let Err(StoreError::Cipher(error)) = endpoints {
            return Err(error.into());
        }
        let settings = WorkerSettings {
            slots: config.worker.slots,
            tenant_max_in_flight: config.worker.tenant_max_in_flight,
            tenant_weights: config.worker.tenant_weights.clone(),
            breaker: BreakerRules {
                failures: config.worker.breaker_failures,
                open_max: config.worker.breaker_open_max,
                ..BreakerRules::default()
            },
            prefetch: config.worker.prefetch,
            limits: Limits {
                max_message_bytes: config.worker.max_payload_bytes,
                poison_after: config.worker.poison_after,
                max_recipients: config.max_recipients,
            },
            events: EventSettings {
                succeeded: config.worker.events_succeeded,
            },
            maintenance: MaintenanceSettings {
                retention: config.worker.retention,
                idempotency_retention: config.worker.idempotency_retention,
                disable_after: config.worker.disable_after,
            },
            disabled_max_age: config.worker.disabled_max_age,
            egress: config.egress.clone(),
            compiler: self.compiler.clone(),
            resolver: config.resolver.clone(),
            name,
        };
        let worker = Worker::start(self.services.clone(), settings).await?;
        self.services
            .metrics
            .worker_slots
            .set(i64::try_from(config.worker.slots).unwrap_or(i64::MAX));
        Ok(worker)
    }

    /// Works off redrives in the background until the token is cancelled. Every process does: a
    /// redrive needs no worker.
    pub(crate) fn start_redriver(&self, stopping: CancellationToken) -> JoinHandle<()> {
        let redriver = Redriver {
            services: self.services.clone(),
            stopping,
        };
        tokio::spawn(redriver.run())
    }

    /// Health and metrics. No key is needed.
    pub(crate) fn operations(&self) -> Router {
        // Beside the layers of the API, not beneath them: a probe is answered even when keys,
        // limits or the store are what is wrong.
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self.clone())
    }

    /// Sends the last spans, and lets go of broker and store.
    pub(crate) async fn close(self) {
        let connections = async {
            // The embedded broker is a table of the store, so it goes first.
            self.services.broker.close().await;
            self.services.store.close().await;
        };
        let closed = async { tokio::join!(self.services.tracer.shutdown(), connections) };
        // A server that has gone silent does not hold up the end.
        if tokio::time::timeout(CLOSE, closed).await.is_err() {
            tracing::warn!("the connections could not be closed in time");
        }
    }
}

fn tracer(
    config: &Config,
    role: &'static str,
    metrics: &Metrics,
    clock: &Arc<dyn Clock>,
) -> Result<Tracer, Failure> {
    let Some(tracing) = &config.tracing else {
        return Ok(Tracer::off());
    };
    let broker = &config.broker;
    let messaging = Messaging {
        system: if broker.kind == BrokerKind::Embedded {
            "posthaste"
        } else {
            "rabbitmq"
        },
        exchange: format!("{}.notifications", broker.name_prefix).into(),
        queue: format!("{}.work", broker.name_prefix).into(),
        routing_key: "notification",
    };
    let origin = Origin {
        role,
        instance: worker_name(),
        messaging,
    };
    Ok(Tracer::start(tracing, origin, metrics, Arc::clone(clock))?)
}

async fn open_store(config: &Config, schema: Schema) -> Result<Store, Failure> {
    let store = connect::store(config).await?;
    let mut backoff = Reconnect::default();
    loop {
        let fits = match schema {
            Schema::Migrate => store.migrate().await.map(drop),
            Schema::Check => store.check_schema().await,
        };
        // A store that goes away between the two checks begins again with the schema.
        let fits = match fits {
            Ok(()) => master_key::check(config, &store).await,
            Err(error) => Err(error),
        };
        match fits {
            Ok(()) => return Ok(store),
            Err(error) if error.is_transient() => {
                tracing::warn!(error = %crate::failure::chain(&error), "waiting for the store");
                tokio::time::sleep(backoff.next()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What serves the API.
pub(crate) struct Servers {
    /// Where the API is.
    pub(crate) address: SocketAddr,
    /// The API itself, for the process that serves it.
    pub(crate) api: Arc<Api>,
    /// The API's server and, where they have an address of their own, that of health and metrics.
    pub(crate) tasks: Vec<JoinHandle<()>>,
}

/// Serves the API, and health and metrics beside it or at an address of their own.
pub(crate) async fn serve_api(
    node: &Node,
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<Servers, Failure> {
    // Both addresses are bound before anything is served on either: one that is taken ends the
    // start.
    let listener = listen("--listen", config.listen).await?;
    let address = listener.local_addr()?;
    let api = node.api(config, shutdown.clone())?;
    let mut router = posthaste_producer::http::router(Arc::clone(&api));
    if let Some(console) = console(config, &api) {
        router = router.merge(console);
    }
    let mut tasks = Vec::new();
    match config.metrics_listen {
        None => router = node.operations().merge(router),
        Some(own) => {
            let own = listen("--metrics-listen", own).await?;
            tracing::info!("health and metrics are at http://{}", own.local_addr()?);
            tasks.push(serve(
                own,
                node.operations(),
                serving::Limits::OPERATIONS,
                shutdown.clone(),
            ));
        }
    }
    let limits = serving::Limits {
        max_connections: config.api.max_connections,
        max_connections_per_client: config.api.max_connections_per_client,
        header_timeout: config.api.header_timeout,
        idle_timeout: config.api.idle_timeout,
    };
    tasks.push(serve(
        listener,
        router,
        limits.within_open_files(),
        shutdown.clone(),
    ));
    tracing::info!("listening on http://{address}");
    Ok(Servers {
        address,
        api,
        tasks,
    })
}

/// The web console of this API, unless it is off.
fn console(config: &Config, api: &Arc<Api>) -> Option<Router> {
    let mode = match config.api.console {
        ConsoleMode::On => Mode::On,
        ConsoleMode::ReadOnly => Mode::ReadOnly,
        ConsoleMode::Off => return None,
    };
    let settings = posthaste_console::Settings {
        mode,
        url: config.api.console_url.clone(),
    };
    let console = Console::new(Arc::clone(api), settings);
    Some(posthaste_console::router(console))
}

/// Whether accepted work would be safe and, where there is a worker, whether it gets work: store
/// and broker answer, and the broker knows the worker's consumer.
async fn ready(State(node): State<Node>) -> Response {
    // All at once: a probe waits for the slowest of them and not for their sum.
    let (store, broker, consuming) = tokio::join!(
        node.services.store.ping(),
        node.services.broker.ping(),
        node.services.broker.consuming()
    );
    let consumer = match consuming {
        Consuming::NoConsumer => None,
        Consuming::Subscribed => Some("ok"),
        Consuming::NotSubscribed => Some("not_subscribed"),
    };
    // Whether there is a consumer counts only where there is a worker: an API alone is ready
    // without.
    let ok = store.is_ok() && broker.is_ok() && consuming != Consuming::NotSubscribed;
    let word = |ok: bool| if ok { "ok" } else { "unreachable" };
    let mut body = serde_json::json!({
        "ready": ok,
        "store": word(store.is_ok()),
        "broker": word(broker.is_ok()),
    });
    if let Some(consumer) = consumer {
        body["consumer"] = consumer.into();
    }
    let status = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

async fn metrics(State(node): State<Node>) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        node.services.metrics.render(),
    )
}

/// Binds a listener to `address`; `setting` is the flag that sets it, for the error.
pub(crate) async fn listen(setting: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(format!("cannot listen on {address}: {error}")).hint(format!(
            "choose another address with {setting}, or stop the program that uses this one"
        ))
    })
}

/// A worker's name: host and process, enough to tell workers apart.
pub(crate) fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // HOSTNAME takes precedence, so that it can tell machines apart that have the same name.
    let host = std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| host.trim().to_owned());
    format!(
        "{}:{}",
        if host.is_empty() { "worker" } else { &host },
        std::process::id()
    )
}
