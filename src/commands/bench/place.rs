//! Where a bench measures: a directory, a schema and a name prefix of its own, which nobody else
//! uses and which are gone afterwards.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::broker::Broker as _;
use posthaste_shared::broker::amqp::{AmqpBroker, AmqpOptions};
use posthaste_shared::clock::SystemClock;
use posthaste_shared::config::{BrokerKind, Config};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::store::scratch::ScratchSchema;
use posthaste_shared::store::{Store, StoreOptions};
use posthaste_shared::telemetry::metrics::Metrics;
use tokio::process::Command;
use uuid::Uuid;

use super::usage::{self, Watched};
use crate::failure::{Failure, chain};
use crate::output;

/// How long the removal of what was used on a server may take.
const REMOVAL: Duration = Duration::from_secs(30);
/// The magic number of tmpfs, as in statfs(2).
const TMPFS: u64 = 0x0102_1994;

/// The queue of another program that is compared with, behind the prefix and a dot.
const OTHER_QUEUE: &str = "bare";

/// Settings of the processes that are the bench's own affair; as variables and as their files.
const OWN: &[&str] = &[
    "POSTHASTE_DATA_DIR",
    "POSTHASTE_DATABASE_URL",
    "POSTHASTE_BROKER_URL",
    "POSTHASTE_NAME_PREFIX",
    "POSTHASTE_ADMIN_KEY",
    "POSTHASTE_MASTER_KEY",
    "POSTHASTE_MASTER_KEY_PREVIOUS",
    "POSTHASTE_LISTEN",
    "POSTHASTE_METRICS_LISTEN",
    "POSTHASTE_EGRESS_ALLOW",
    "POSTHASTE_EGRESS_HTTP",
    "POSTHASTE_EGRESS_NAME_SERVERS",
    "POSTHASTE_LOG",
    "POSTHASTE_LOG_FORMAT",
];

/// What would make the processes speak to others: collectors and service managers.
const OTHERS: &[&str] = &[
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "TRACEPARENT",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
];

/// What users set, and a bench takes over.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    database: Option<Secret>,
    broker: Option<Secret>,
    broker_options: Option<AmqpOptions>,
    config_file: Option<PathBuf>,
    parent: PathBuf,
}

impl Servers {
    /// Of the usual configuration. A SQLite file that it names is left alone: the bench has its
    /// own. `parent`: where the bench's directory is created.
    pub(super) fn of(config: &Config, config_file: Option<&Path>, parent: Option<&Path>) -> Self {
        let url = &config.database.url;
        let broker = match &config.broker.kind {
            BrokerKind::Amqp(url) => Some(url.clone()),
            BrokerKind::Embedded => None,
        };
        let certificate = config.broker.client_certificate.as_ref();
        let broker_options = broker.as_ref().map(|url| AmqpOptions {
            ca_file: config.broker.ca_file.clone(),
            client_cert_file: certificate.map(|one| one.certificate_file.clone()),
            client_key_file: certificate.map(|one| one.key_file.clone()),
            ..AmqpOptions::new(url.clone())
        });
        Self {
            database: url.expose().starts_with("postgres").then(|| url.clone()),
            broker,
            broker_options,
            config_file: config_file.map(Path::to_owned),
            parent: parent.map_or_else(std::env::temp_dir, Path::to_owned),
        }
    }

    /// `postgres` or `sqlite`.
    pub(super) const fn store(&self) -> &'static str {
        if self.database.is_some() {
            "postgres"
        } else {
            "sqlite"
        }
    }

    /// `rabbitmq` or `embedded`.
    pub(super) const fn broker(&self) -> &'static str {
        if self.broker.is_some() {
            "rabbitmq"
        } else {
            "embedded"
        }
    }

    /// Whether one process does everything, as `posthaste up` without any settings.
    pub(super) const fn is_embedded(&self) -> bool {
        self.database.is_none() && self.broker.is_none()
    }

    /// Whether the bench's directory is in memory, and the database in it.
    pub(super) fn is_in_memory(&self) -> bool {
        self.database.is_none()
            && rustix::fs::statfs(&self.parent)
                .is_ok_and(|info| u64::try_from(info.f_type).is_ok_and(|kind| kind == TMPFS))
    }

    /// Broker and database where they run on this machine.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let mut found = Vec::new();
        let mut look = |name: &str, url: &Option<Secret>, port, command| {
            let pid = url
                .as_ref()
                .and_then(|url| usage::server(url.expose(), port, command));
            found.extend(pid.map(|pid| Watched {
                name: name.to_owned(),
                pid,
                server: true,
            }));
        };
        look("rabbitmq", &self.broker, 5_672, "beam.smp");
        look("postgres", &self.database, 5_432, "postgres");
        found
    }
}

/// The place of one run.
pub(super) struct Place {
    servers: Servers,
    dir: PathBuf,
    name: String,
    schema: Option<(Store, ScratchSchema)>,
    admin_key: String,
    master_key: String,
    name_server: Option<String>,
}

impl Place {
    /// Creates it. On a failure nothing is left.
    ///
    /// # Errors
    /// The directory or the schema cannot be created.
    pub(super) async fn new(servers: &Servers) -> Result<Self, Failure> {
        let tag = Uuid::new_v4().simple().to_string();
        let name = format!("posthaste-bench-{}-{}", std::process::id(), &tag[..8]);
        let dir = servers.parent.join(&name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| {
                Failure::new(format!(
                    "the directory {} cannot be created: {error}",
                    dir.display()
                ))
                .hint("choose where with --data-dir")
            })?;
        let mut place = Self {
            servers: servers.clone(),
            dir,
            name,
            schema: None,
            admin_key: Uuid::new_v4().to_string(),
            master_key: Uuid::new_v4().to_string(),
            name_server: None,
        };
        if let Some(url) = &servers.database {
            let created = create_schema(url, &tag[..12]).await;
            match created {
                Ok(schema) => place.schema = Some(schema),
                Err(failure) => {
                    place.remove().await;
                    return Err(failure);
                }
            }
        }
        Ok(place)
    }

    /// Its directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bench's key for the API.
    pub(super) fn admin_key(&self) -> &str {
        &self.admin_key
    }

    /// Names in endpoints' URLs are looked up there.
    pub(super) fn set_name_server(&mut self, address: std::net::SocketAddr) {
        self.name_server = Some(address.to_string());
    }

    /// Bytes that the database server has written to its log so far.
    pub(super) async fn wal_bytes(&self) -> Option<u64> {
        let (store, _) = self.schema.as_ref()?;
        store.wal_bytes().await.ok().flatten()
    }

    /// A command's arguments, with the configuration file that counts.
    pub(super) fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = Vec::new();
        if let Some(file) = self.servers.config_file.as_deref().and_then(Path::to_str) {
            all.extend(["--config", file]);
        }
        all.extend(arguments);
        all
    }

    /// Everything that the processes need to know. Settings of the user's that are not the bench's
    /// own affair count as always.
    pub(super) fn set_environment(&self, command: &mut Command) {
        for name in OWN {
            command.env_remove(name).env_remove(format!("{name}_FILE"));
        }
        for name in OTHERS {
            command.env_remove(name);
        }
        command
            .env("POSTHASTE_DATA_DIR", &self.dir)
            .env("POSTHASTE_DATABASE_URL", self.database_url())
            .env("POSTHASTE_BROKER_URL", self.broker_url())
            .env("POSTHASTE_NAME_PREFIX", &self.name)
            .env("POSTHASTE_ADMIN_KEY", &self.admin_key)
            .env("POSTHASTE_MASTER_KEY", &self.master_key)
            .env("POSTHASTE_LISTEN", "127.0.0.1:0")
            .env("POSTHASTE_EGRESS_ALLOW", "127.0.0.0/8")
            .env("POSTHASTE_EGRESS_HTTP", "allow")
            .env("POSTHASTE_LOG", "info")
            .env("POSTHASTE_LOG_FORMAT", "text")
            .env("NO_COLOR", "1");
        if let Some(address) = &self.name_server {
            command.env("POSTHASTE_EGRESS_NAME_SERVERS", address);
        }
    }

    fn database_url(&self) -> String {
        match (&self.servers.database, &self.schema) {
            (Some(url), Some((_, schema))) => {
                let url = url.expose();
                let separator = if url.contains('?') { '&' } else { '?' };
                format!(
                    "{url}{separator}options=-csearch_path%3D{}",
                    schema.as_str()
                )
            }
            _ => format!("sqlite://{}", self.dir.join("posthaste.db").display()),
        }
    }

    fn broker_url(&self) -> &str {
        self.servers
            .broker
            .as_ref()
            .map_or("embedded", Secret::expose)
    }

    /// Removes all of it. The processes must have ended. What cannot be removed is named on stderr.
    pub(super) async fn remove(self) {
        let server = async {
            if let Some((store, schema)) = &self.schema {
                let dropped = store.drop_scratch(schema).await;
                store.close().await;
                if let Err(error) = dropped {
                    left(&format!("schema {}", schema.as_str()), &chain(&error));
                }
            }
        };
        let broker = async {
            if let Some(options) = &self.servers.broker_options
                && let Err(problem) = remove_queues(options, &self.name).await
            {
                left(&format!("queues and exchanges {}.*", self.name), &problem);
            }
        };
        let both = async { tokio::join!(server, broker) };
        if tokio::time::timeout(REMOVAL, both).await.is_err() {
            left(
                &format!("schema or queues of {}", self.name),
                "the server does not answer",
            );
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            left(&self.dir.display().to_string(), &error.to_string());
        }
    }
}

fn left(what: &str, why: &str) {
    let _ = output::tell(format_args!(
        "posthaste: warning: {what} could not be removed: {why}"
    ));
}

async fn create_schema(url: &Secret, tag: &str) -> Result<(Store, ScratchSchema), Failure> {
    let mut options = StoreOptions::new(url.clone());
    options.max_connections = 2;
    let store = Store::connect(&options).await?;
    let schema = ScratchSchema::new("posthaste_bench", tag);
    if let Err(error) = store.create_scratch(&schema).await {
        store.close().await;
        return Err(
            Failure::new(format!("no schema of its own: {}", chain(&error))).hint(
                "the bench needs the right to create a schema in the database of \
                 POSTHASTE_DATABASE_URL",
            ),
        );
    }
    Ok((store, schema))
}

async fn remove_queues(options: &AmqpOptions, prefix: &str) -> Result<(), String> {
    let other = format!("{prefix}.{OTHER_QUEUE}");
    let options = AmqpOptions {
        name_prefix: prefix.to_owned(),
        ..options.clone()
    };
    let broker = AmqpBroker::connect(options, Arc::new(Metrics::new()), Arc::new(SystemClock))
        .await
        .map_err(|error| chain(&error))?;
    let removed = broker
        .remove_all(&other)
        .await
        .map_err(|error| chain(&error));
    broker.close().await;
    removed
}
