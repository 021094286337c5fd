//! Configuration: flags, then environment, then `posthaste.toml`, then defaults, read once at the
//! start into a checked [`Config`]. What can be set is in one table, [`settings::SETTINGS`].

mod check;
mod effective;
pub(crate) mod log_filter;
mod reference;
pub mod settings;
mod source;
#[cfg(test)]
mod tests;
mod tracing;
pub mod value;
mod values;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::domain::id::TenantId;
use crate::domain::secret::Secret;
use crate::egress::EgressPolicy;
use crate::resolver::Resolver;

pub use reference::reference_markdown;
pub use settings::Profile;
pub use source::{DEFAULT_FILE, Inputs, Source};
pub use tracing::TracingConfig;

/// The database's file in the data directory.
pub const DATABASE_FILE: &str = "posthaste.db";
/// The master key's file in the data directory.
pub const MASTER_KEY_FILE: &str = "master-key";
/// The file in the data directory in which `up` leaves its first API key for the client commands.
pub const API_KEY_FILE: &str = "api-key";

/// The whole configuration, checked. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// For which program it was read.
    pub profile: Profile,
    /// Where `up` keeps its things.
    pub data_dir: PathBuf,
    /// How to reach the store.
    pub database: DatabaseConfig,
    /// How to reach the broker.
    pub broker: BrokerConfig,
    /// The key that encrypts secrets in the store.
    pub master_key: Option<Secret>,
    /// The one that did before, while it is changed.
    pub previous_master_key: Option<Secret>,
    /// Which addresses may be called.
    pub egress: EgressPolicy,
    /// Looks up the names in endpoints' URLs.
    pub resolver: Resolver,
    /// The HTTP API's or a worker's own address.
    pub listen: SocketAddr,
    /// Health and metrics of the API, when they have an address of their own.
    pub metrics_listen: Option<SocketAddr>,
    /// How long what is in flight may go on after SIGTERM.
    pub shutdown_grace: Duration,
    /// The most recipients of one notification.
    pub max_recipients: usize,
    /// What only the HTTP API reads.
    pub api: ApiConfig,
    /// What only the worker reads.
    pub worker: WorkerConfig,
    /// What only the client commands read.
    pub client: ClientConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where spans go; `None`: nothing is traced.
    pub tracing: Option<TracingConfig>,
    effective: Vec<Effective>,
}

/// How to reach the store.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// The database's URL: `sqlite://…` or `postgres://…`.
    pub url: Secret,
    /// The most connections that each process opens: 2 to 1,000, by default 8.
    pub max_connections: u32,
}

/// How to reach the broker.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// The kind of broker, with its URL.
    pub kind: BrokerKind,
    /// PEM file with the certificate authorities to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key, PEM.
    pub client_certificate: Option<ClientCertificate>,
    /// Prefix of exchanges and queues.
    pub name_prefix: String,
}

/// The broker that carries notifications and events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerKind {
    /// A table in the store.
    Embedded,
    /// RabbitMQ at this URL (`amqp://` or `amqps://`), or at these: a list with commas between
    /// them.
    Amqp(Secret),
}

/// A client certificate for `amqps://`.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// PEM file with the chain.
    pub certificate_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
}

/// The HTTP API's own settings.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// A key with every scope that is not in the store.
    pub admin_key: Option<Secret>,
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// Largest body of a batch.
    pub max_batch_bytes: usize,
    /// Time for a request's head.
    pub header_timeout: Duration,
    /// Time for a request's body.
    pub body_timeout: Duration,
    /// Time that a connection may be without a request.
    pub idle_timeout: Duration,
    /// The most connections at once.
    pub max_connections: usize,
    /// The most connections of one client.
    pub max_connections_per_client: usize,
    /// The most endpoints of one tenant. `None`: no limit.
    pub tenant_max_endpoints: Option<u64>,
    /// The most pending deliveries of one tenant in the store. `None`: no limit.
    pub tenant_max_pending: Option<u64>,
    /// The most event streams of one tenant in this process. `None`: no limit.
    pub tenant_max_streams: Option<usize>,
    /// Whether the web console is served, and what may be done in it.
    pub console: ConsoleMode,
    /// The address of the API in browsers. `None`: a loopback address.
    pub console_url: Option<Url>,
}

/// Whether the web console is served, and what may be done in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleMode {
    /// It is served, and does what the API key may do.
    On,
    /// It is served, and nobody changes anything in it.
    ReadOnly,
    /// It is not served.
    Off,
}

/// The worker's own settings.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The most attempts in flight at once, 1 to 65,536.
    pub slots: usize,
    /// The most messages that the worker holds unacknowledged.
    pub prefetch: u16,
    /// The most attempts in flight for one tenant. `None`: no limit except the slots.
    pub tenant_max_in_flight: Option<usize>,
    /// The weights of tenants in their shares of the slots; 1 for those that are not named.
    pub tenant_weights: HashMap<TenantId, f64>,
    /// The failures in a row that open an endpoint's circuit breaker. 0: none ever opens.
    pub breaker_failures: u32,
    /// The longest that a circuit breaker stays open between two probes.
    pub breaker_open_max: Duration,
    /// Larger messages are dead letters.
    pub max_payload_bytes: usize,
    /// A message that came back so often is poison.
    pub poison_after: u32,
    /// An endpoint that only failed for so long is disabled.
    pub disable_after: Duration,
    /// A delivery that waits for a disabled endpoint expires at this age; `None`: it does not.
    pub disabled_max_age: Option<Duration>,
    /// Whether `delivery.succeeded` is emitted.
    pub events_succeeded: bool,
    /// When finished deliveries and published events are removed.
    pub retention: Duration,
    /// How long idempotency keys are remembered.
    pub idempotency_retention: Duration,
}

/// What the client commands need.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The base URL of the API, by default `http://127.0.0.1:8080`.
    pub api_url: Url,
    /// What is shown to it.
    pub api_key: Option<Secret>,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives, as in `info,posthaste_worker=debug`.
    pub filter: String,
    /// Lines for people or for programs.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for each message.
    Text,
    /// A JSON object a line.
    Json,
}

/// A setting as it counts, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The name of the setting in `posthaste.toml`.
    pub key: &'static str,
    /// Its value; secrets and passwords redacted. Empty when it is not set.
    pub shown: String,
    /// Where the value came from.
    pub source: Source,
}

/// Why there is no configuration. Every message names the setting, where its value came from, and
/// what to write.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is not what it must be.
    #[error("{key} (from {from}){} \
             {problem}", shown.as_ref().map(|shown| format!(" is {shown:?}, \
                 but")).unwrap_or_default())]
    Invalid {
        /// The name of the setting.
        key: &'static str,
        /// Where the value came from.
        from: Source,
        /// The value, unless it is secret.
        shown: Option<String>,
        /// What it must be.
        problem: String,
    },
    /// The configuration file has a key that no setting has.
    #[error("{}: there is no setting \
             {key:?}{}", path.display(), nearest.map_or_else(|| "; docs/configuration.md lists \
                 them".to_owned(), |name| format!("; did you mean {name:?}?")))]
    UnknownKey {
        /// As it is written; section and key joined by `_`.
        key: String,
        /// The configuration file that has the key.
        path: PathBuf,
        /// A known name like it.
        nearest: Option<&'static str>,
    },
    /// The configuration file cannot be read.
    #[error("the configuration file {} cannot be read: {problem}", path.display())]
    File {
        /// The configuration file that was to be read.
        path: PathBuf,
        /// Why the file cannot be read.
        problem: String,
    },
    /// A file that a `…_FILE` variable or a flag names cannot be read.
    #[error("{variable} names {}, which cannot be read", path.display())]
    ValueFile {
        /// The variable or flag that names the file.
        variable: String,
        /// The file with the value.
        path: PathBuf,
        /// Why the file cannot be read.
        #[source]
        source: std::io::Error,
    },
    /// A value and a file with the value.
    #[error("{variable} and {variable}_FILE are both set: unset one of them")]
    Both {
        /// The variable without `_FILE`.
        variable: &'static str,
    },
    /// A variable is not UTF-8.
    #[error("{variable} is not UTF-8 text")]
    NotText {
        /// The name of the environment variable.
        variable: String,
    },
}

impl Config {
    /// Reads and checks the configuration for a program.
    ///
    /// # Errors
    /// The first thing that is wrong, with what to write instead.
    pub fn load(profile: Profile, inputs: &Inputs) -> Result<Self, ConfigError> {
        check::check(profile, source::gather(inputs, profile)?)
    }

    /// Every setting with the value that counts and where it came from, in the table's order; fit
    /// to be shown.
    #[must_use]
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// Where `up` keeps the master key.
    #[must_use]
    pub fn master_key_path(&self) -> PathBuf {
        self.data_dir.join(MASTER_KEY_FILE)
    }

    /// Where `up` leaves its first API key.
    #[must_use]
    pub fn api_key_path(&self) -> PathBuf {
        self.data_dir.join(API_KEY_FILE)
    }
}

/// Environment variables that look like ours but are not, with the name that may have been meant.
/// They are not refused, because Kubernetes sets such for a service named `posthaste`; `doctor`
/// warns of them.
#[must_use]
pub fn mistyped_variables(inputs: &Inputs) -> Vec<(String, &'static str)> {
    const PREFIX: &str = "POSTHASTE_";
    let known = || settings::SETTINGS.iter().map(|setting| setting.env);
    let ours = inputs
        .environment
        .keys()
        .filter(|name| name.starts_with(PREFIX));
    ours.filter(|name| {
        !known().any(|env| name.strip_suffix("_FILE").unwrap_or(name) == env || *name == env)
    })
    .filter_map(|name| {
        // The prefix that all share does not count as a likeness.
        let rest = |name: &'static str| name.trim_start_matches(PREFIX);
        let nearest = settings::nearest(name.trim_start_matches(PREFIX), known().map(rest))?;
        Some((name.clone(), known().find(|env| rest(env) == nearest)?))
    })
    .collect()
}
