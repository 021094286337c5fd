//! The table of settings: the single source of what can be set, under which names, with which
//! defaults. The loader, `posthaste doctor` and `docs/configuration.md` are all made from it.

/// Which program reads the configuration; some defaults differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `posthaste up`: everything in one process, for trying out and for small installations.
    Up,
    /// `posthaste api`.
    Api,
    /// `posthaste worker`.
    Worker,
    /// Every other command.
    Tool,
}

/// What a value looks like. Said in the reference, and in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Free text.
    Text,
    /// A path of the file system.
    Path,
    /// `host:port` with a literal address.
    Address,
    /// A URL.
    Url,
    /// `10s`, `5d`, `500ms`; bounds in seconds.
    Duration {
        /// The shortest.
        min_seconds: u64,
        /// The longest.
        max_seconds: u64,
    },
    /// A whole number of bytes, or `1MiB`.
    Bytes {
        /// The fewest.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A whole number.
    Integer {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A part of a whole: 0 to 1.
    Ratio,
}

/// Who reads a setting: a chapter of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedBy {
    /// Every process that opens the store or the broker.
    Everything,
    /// `posthaste api` and `up`.
    Api,
    /// `posthaste worker` and `up`.
    Worker,
    /// The commands that speak to the HTTP API.
    Client,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in `posthaste.toml`.
    pub key: &'static str,
    /// Its environment variable; with `_FILE` behind it, one that names a file with the value.
    pub env: &'static str,
    /// Another variable that counts when `env` is not set.
    pub other_env: Option<&'static str>,
    /// What a value looks like.
    pub kind: Kind,
    /// The default; `None` means that it is unset or is worked out from other settings (`help` says
    /// how).
    pub default: Option<&'static str>,
    /// Defaults of single programs that differ.
    pub exceptions: &'static [(Profile, &'static str)],
    /// An environment variable that is set and empty is a value, and not the same as one that is
    /// not set.
    pub empty_counts: bool,
    /// Never shown.
    pub secret: bool,
    /// Who reads it.
    pub used_by: UsedBy,
    /// What it does, in sentences.
    pub help: &'static str,
}

impl Setting {
    const fn new(
        key: &'static str,
        env: &'static str,
        kind: Kind,
        used_by: UsedBy,
        help: &'static str,
    ) -> Self {
        Self {
            key,
            env,
            other_env: None,
            kind,
            default: None,
            exceptions: &[],
            empty_counts: false,
            secret: false,
            used_by,
            help,
        }
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    const fn except(mut self, exceptions: &'static [(Profile, &'static str)]) -> Self {
        self.exceptions = exceptions;
        self
    }

    const fn or_env(mut self, env: &'static str) -> Self {
        self.other_env = Some(env);
        self
    }

    const fn empty_counts(mut self) -> Self {
        self.empty_counts = true;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The default for a program.
    #[must_use]
    pub fn default_for(&self, profile: Profile) -> Option<&'static str> {
        let exception = self.exceptions.iter().find(|(who, _)| *who == profile);
        exception.map(|(_, value)| *value).or(self.default)
    }
}

/// The setting of that name.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The known name that is nearest to a mistyped one, if any is near.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|name| (distance(wrong, name), name)).min()?;
    (near.0 <= 1 + wrong.len() / 4).then_some(near.1)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let cost = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// What `log` is by default: our own messages from `info` on, the libraries' from `warn` on. lapin
/// calls every channel that is closed an error; what counts of it, the broker's adapter logs.
pub const DEFAULT_LOG: &str = "info,lapin=warn,lapin::channels=off,sqlx=warn,hyper=warn,\
    hyper_util=warn,h2=warn,reqwest=warn,rustls=warn";

/// All settings, chapter by chapter.
pub const SETTINGS: &[Setting] = &[
    Setting::new(
        "data_dir",
        "POSTHASTE_DATA_DIR",
        Kind::Path,
        UsedBy::Everything,
        "Where the SQLite database lies when `database_url` is not set. `up` also keeps its \
         master key \
         (`master-key`) and its first API key (`api-key`) there, where the other commands find \
         them.",
    )
    .default("./posthaste-data"),
    Setting::new(
        "database_url",
        "POSTHASTE_DATABASE_URL",
        Kind::Url,
        UsedBy::Everything,
        "The store: `sqlite://PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`. Default: \
         `posthaste.db` in `data_dir`.",
    )
    .secret(),
    Setting::new(
        "database_max_connections",
        "POSTHASTE_DATABASE_MAX_CONNECTIONS",
        Kind::Integer { min: 2, max: 1000 },
        UsedBy::Everything,
        "The most connections to the store that each process opens.",
    )
    .default("8"),
    Setting::new(
        "broker_url",
        "POSTHASTE_BROKER_URL",
        Kind::Url,
        UsedBy::Everything,
        "The broker: `amqp://…`, `amqps://…`, or `embedded` for a table in the store. The nodes \
         of a RabbitMQ cluster: \
         their whole URLs with commas between them. A connection begins at any of them, and goes \
         on to the next when \
         one cannot be reached.",
    )
    .default("embedded")
    .secret(),
    Setting::new(
        "broker_ca_file",
        "POSTHASTE_BROKER_CA_FILE",
        Kind::Path,
        UsedBy::Everything,
        "PEM file with the certificate authorities that `amqps://` trusts, instead of the \
         system's.",
    ),
    Setting::new(
        "broker_client_cert_file",
        "POSTHASTE_BROKER_CLIENT_CERT_FILE",
        Kind::Path,
        UsedBy::Everything,
        "PEM file with the client certificate (chain) shown to the broker. Needs \
         `broker_client_key_file`.",
    ),
    Setting::new(
        "broker_client_key_file",
        "POSTHASTE_BROKER_CLIENT_KEY_FILE",
        Kind::Path,
        UsedBy::Everything,
        "PEM file with the client certificate's private key.",
    ),
    Setting::new(
        "name_prefix",
        "POSTHASTE_NAME_PREFIX",
        Kind::Text,
        UsedBy::Everything,
        "Prefix of exchanges and queues, so that several installations can share a broker: 1 to \
         64 letters, \
         digits, `_`, `-` or `.`.",
    )
    .default("posthaste"),
    Setting::new(
        "master_key",
        "POSTHASTE_MASTER_KEY",
        Kind::Text,
        UsedBy::Everything,
        "The key that encrypts endpoints' secrets, headers and settings in the store: at least 32 \
         characters, the \
         same for every process. Make one with `openssl rand -base64 32` and keep a copy: without \
         it the secrets \
         cannot be read again. Default: the file `master-key` in `data_dir` (made by `up`); else \
         it is required \
         once secrets are stored. Another key than the store's is refused at the start.",
    )
    .secret(),
    Setting::new(
        "master_key_previous",
        "POSTHASTE_MASTER_KEY_PREVIOUS",
        Kind::Text,
        UsedBy::Everything,
        "The master key until now, while it is changed to `master_key`: what is encrypted with it \
         can be read. Give \
         both to every process, then run `posthaste key rotate-master`, then take this one away.",
    )
    .secret(),
    Setting::new(
        "egress_allow",
        "POSTHASTE_EGRESS_ALLOW",
        Kind::Text,
        UsedBy::Everything,
        "Networks and hosts that endpoints may have although they are not public, comma-separated: \
         `127.0.0.0/8,10.1.0.0/16,hooks.internal,*.svc.local`. `none`, or an empty variable, \
         allows none.",
    )
    .except(&[(Profile::Up, "127.0.0.0/8,::1")])
    .empty_counts(),
    Setting::new(
        "egress_http",
        "POSTHASTE_EGRESS_HTTP",
        Kind::Choice(&["deny", "allow"]),
        UsedBy::Everything,
        "Whether endpoints may have plain `http://` URLs. An empty variable means `deny`.",
    )
    .default("deny")
    .except(&[(Profile::Up, "allow")])
    .empty_counts(),
    Setting::new(
        "egress_name_servers",
        "POSTHASTE_EGRESS_NAME_SERVERS",
        Kind::Text,
        UsedBy::Everything,
        "Name servers that are asked for the names in endpoints' URLs, comma-separated: \
         `10.0.0.2,[fd00::2]:5353`. \
         `/etc/hosts` counts as well, search domains do not. Default: what `/etc/resolv.conf` \
         says.",
    ),
    Setting::new(
        "log",
        "POSTHASTE_LOG",
        Kind::Text,
        UsedBy::Everything,
        "What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels for parts \
         (`info,posthaste_worker=debug`). Logs go to stderr. By default the libraries underneath \
         log from `warn` on.",
    )
    .or_env("RUST_LOG")
    .default(DEFAULT_LOG)
    .except(&[(Profile::Tool, "warn,lapin::channels=off")]),
    Setting::new(
        "log_format",
        "POSTHASTE_LOG_FORMAT",
        Kind::Choice(&["text", "json"]),
        UsedBy::Everything,
        "Lines for people, or a JSON object a line.",
    )
    .default("text"),
    Setting::new(
        "shutdown_grace",
        "POSTHASTE_SHUTDOWN_GRACE",
        Kind::Duration {
            min_seconds: 0,
            max_seconds: HOUR,
        },
        UsedBy::Everything,
        "How long a process that was told to stop (SIGTERM) goes on with what it has in hand. \
         What is not done \
         then is done by another worker.",
    )
    .default("10s"),
    Setting::new(
        "tracing_otlp_endpoint",
        "POSTHASTE_TRACING_OTLP_ENDPOINT",
        Kind::Url,
        UsedBy::Everything,
        "Where `api`, `worker` and `up` send spans: the base URL of an OpenTelemetry collector \
         that takes OTLP over HTTP, \
         such as `http://127.0.0.1:4318`; `/v1/traces` is put behind it. Without it, or with \
         `off`, nothing is traced. \
         See [Tracing](tracing.md).",
    )
    .or_env("OTEL_EXPORTER_OTLP_ENDPOINT")
    .secret(),
    Setting::new(
        "tracing_headers",
        "POSTHASTE_TRACING_HEADERS",
        Kind::Text,
        UsedBy::Everything,
        "Headers that go with the spans, to authenticate: `name=value`, comma-separated, values \
         percent-encoded where \
         need be: `authorization=Bearer%20…`.",
    )
    .or_env("OTEL_EXPORTER_OTLP_HEADERS")
    .secret(),
    Setting::new(
        "tracing_sample_ratio",
        "POSTHASTE_TRACING_SAMPLE_RATIO",
        Kind::Ratio,
        UsedBy::Everything,
        "The share of traces that begin here (their enqueuer brought no trace context) to record. \
         What an enqueuer \
         brought says itself whether it is recorded.",
    )
    .default("1.0"),
    Setting::new(
        "tracing_service_name",
        "POSTHASTE_TRACING_SERVICE_NAME",
        Kind::Text,
        UsedBy::Everything,
        "`service.name` of the spans. Default: that of `tracing_resource_attributes`, else \
         `posthaste`.",
    )
    .or_env("OTEL_SERVICE_NAME"),
    Setting::new(
        "tracing_resource_attributes",
        "POSTHASTE_TRACING_RESOURCE_ATTRIBUTES",
        Kind::Text,
        UsedBy::Everything,
        "Further attributes of the process that makes the spans: `name=value`, comma-separated, \
         values percent-encoded \
         where need be: `deployment.environment.name=production`.",
    )
    .or_env("OTEL_RESOURCE_ATTRIBUTES"),
    Setting::new(
        "listen",
        "POSTHASTE_LISTEN",
        Kind::Address,
        UsedBy::Api,
        "Address of the HTTP API; of a worker, of its health checks and metrics.",
    )
    .default("127.0.0.1:8080")
    .except(&[(Profile::Worker, "127.0.0.1:9090")]),
    Setting::new(
        "metrics_listen",
        "POSTHASTE_METRICS_LISTEN",
        Kind::Address,
        UsedBy::Api,
        "Puts `/healthz`, `/readyz` and `/metrics` of the API on an address of their own. \
         Default: on `listen`.",
    ),
    Setting::new(
        "max_recipients",
        "POSTHASTE_MAX_RECIPIENTS",
        Kind::Integer {
            min: 1,
            max: 100_000,
        },
        UsedBy::Everything,
        "The most recipients that one notification may have in a wire format that makes a request \
         for each \
         (`novu-push`, `cometchat-sms`). More are refused by the API, and go to the dead-letter \
         queue over AMQP. Give \
         the API and the workers the same value.",
    )
    .default("1000"),
    Setting::new(
        "admin_key",
        "POSTHASTE_ADMIN_KEY",
        Kind::Text,
        UsedBy::Api,
        "A bootstrap API key with every scope and tenant, for automation: at least 32 characters. \
         It is not stored.",
    )
    .secret(),
    Setting::new(
        "max_body_bytes",
        "POSTHASTE_MAX_BODY_BYTES",
        Kind::Bytes {
            min: KIB,
            max: 64 * MIB,
        },
        UsedBy::Api,
        "The largest body of a request to the API, but for batches.",
    )
    .default("1MiB"),
    Setting::new(
        "max_batch_bytes",
        "POSTHASTE_MAX_BATCH_BYTES",
        Kind::Bytes {
            min: KIB,
            max: 256 * MIB,
        },
        UsedBy::Api,
        "The largest body of a batch.",
    )
    .default("16MiB"),
    Setting::new(
        "max_connections",
        "POSTHASTE_MAX_CONNECTIONS",
        Kind::Integer {
            min: 1,
            max: 1_000_000,
        },
        UsedBy::Api,
        "The most connections to the API at once; no more than half of the files that the process \
         may open count. When \
         all are taken, one without a request gives way, of the client with the most. A few more \
         are kept for \
         `/healthz`, `/readyz` and `/metrics`.",
    )
    .default("1024"),
    Setting::new(
        "max_connections_per_client",
        "POSTHASTE_MAX_CONNECTIONS_PER_CLIENT",
        Kind::Integer {
            min: 1,
            max: 1_000_000,
        },
        UsedBy::Api,
        "The most connections to the API of one client: an IPv4 address, or a network of IPv6 \
         with a prefix of 64 bits. \
         Behind a proxy, whose connections all come from its address, set it to \
         `max_connections`. Default: three \
         quarters of `max_connections`.",
    ),
    Setting::new(
        "header_timeout",
        "POSTHASTE_HEADER_TIMEOUT",
        Kind::Duration {
            min_seconds: 1,
            max_seconds: 600,
        },
        UsedBy::Api,
        "How long the head of a request to the API may take to arrive, from the connection's \
         beginning or from its \
         first byte. After that the connection is closed.",
    )
    .default("10s"),
    Setting::new(
        "body_timeout",
        "POSTHASTE_BODY_TIMEOUT",
        Kind::Duration {
            min_seconds: 1,
            max_seconds: HOUR,
        },
        UsedBy::Api,
        "How long the body of a request to the API may take to arrive. After that the answer is \
         408.",
    )
    .default("30s"),
    Setting::new(
        "idle_timeout",
        "POSTHASTE_IDLE_TIMEOUT",
        Kind::Duration {
            min_seconds: 1,
            max_seconds: HOUR,
        },
        UsedBy::Api,
        "How long a connection to the API is kept open without a request. A proxy in front should \
         close its own \
         connections earlier.",
    )
    .default("75s"),
    Setting::new(
        "tenant_max_endpoints",
        "POSTHASTE_TENANT_MAX_ENDPOINTS",
        Kind::Integer {
            min: 0,
            max: 10_000_000,
        },
        UsedBy::Api,
        "The most endpoints of one tenant, disabled ones included; one more is refused with 422 \
         `endpoint_limit`. 0: no \
         limit.",
    )
    .default("10000"),
    Setting::new(
        "tenant_max_pending",
        "POSTHASTE_TENANT_MAX_PENDING",
        Kind::Integer {
            min: 0,
            max: 1_000_000_000,
        },
        UsedBy::Api,
        "The most pending deliveries of one tenant in the store (scheduled, waiting for a retry, \
         parked). A tenant with \
         that many gets 429 `backlog_limit` for what it enqueues over HTTP, until there are \
         fewer. Counted once a second, \
         so it can be passed by what is accepted meanwhile and by what still is in the queue. \
         AMQP has no such limit. 0: \
         no limit.",
    )
    .default("0"),
    Setting::new(
        "tenant_max_streams",
        "POSTHASTE_TENANT_MAX_STREAMS",
        Kind::Integer {
            min: 0,
            max: 1_000_000,
        },
        UsedBy::Api,
        "The most event streams (`/v1/events/stream`) that one tenant has open in each API \
         process; one more is refused \
         with 429 `stream_limit`. Streams of all tenants together count as those of a tenant. 0: \
         no limit.",
    )
    .default("64"),
    Setting::new(
        "worker_slots",
        "POSTHASTE_WORKER_SLOTS",
        Kind::Integer {
            min: 1,
            max: 65_536,
        },
        UsedBy::Worker,
        "The most attempts that a worker has under way at once.",
    )
    .default("1024"),
    Setting::new(
        "worker_prefetch",
        "POSTHASTE_WORKER_PREFETCH",
        Kind::Integer {
            min: 1,
            max: 65_535,
        },
        UsedBy::Worker,
        "The most messages that a worker holds unacknowledged. Default: twice `worker_slots`.",
    ),
    Setting::new(
        "tenant_max_in_flight",
        "POSTHASTE_TENANT_MAX_IN_FLIGHT",
        Kind::Integer {
            min: 0,
            max: 65_536,
        },
        UsedBy::Worker,
        "The most attempts that each worker has under way for one tenant, over all its endpoints. \
         What is over it waits, \
         parked in the store where it takes longer, and uses up no attempt. 0: no limit but \
         `worker_slots`.",
    )
    .default("0"),
    Setting::new(
        "max_payload_bytes",
        "POSTHASTE_MAX_PAYLOAD_BYTES",
        Kind::Bytes {
            min: KIB,
            max: 64 * MIB,
        },
        UsedBy::Worker,
        "The largest message that a worker takes; larger ones go to the dead-letter queue.",
    )
    .default("1MiB"),
    Setting::new(
        "poison_after",
        "POSTHASTE_POISON_AFTER",
        Kind::Integer {
            min: 2,
            max: 1_000_000,
        },
        UsedBy::Worker,
        "How often a message may come back unacknowledged, because workers died with it in hand, \
         before it goes to \
         the dead-letter queue.",
    )
    .default("50"),
    Setting::new(
        "disable_after",
        "POSTHASTE_DISABLE_AFTER",
        Kind::Duration {
            min_seconds: 60,
            max_seconds: 365 * DAY,
        },
        UsedBy::Worker,
        "An endpoint all of whose attempts failed for so long is disabled.",
    )
    .default("5d"),
    Setting::new(
        "events_succeeded",
        "POSTHASTE_EVENTS_SUCCEEDED",
        Kind::Bool,
        UsedBy::Worker,
        "Whether `delivery.succeeded` events are made, too.",
    )
    .default("false"),
    Setting::new(
        "retention",
        "POSTHASTE_RETENTION",
        Kind::Duration {
            min_seconds: HOUR,
            max_seconds: 3650 * DAY,
        },
        UsedBy::Worker,
        "Finished deliveries, with their attempts and payloads, and published events are removed \
         after so long.",
    )
    .default("30d"),
    Setting::new(
        "idempotency_retention",
        "POSTHASTE_IDEMPOTENCY_RETENTION",
        Kind::Duration {
            min_seconds: 60,
            max_seconds: 30 * DAY,
        },
        UsedBy::Worker,
        "How long an `Idempotency-Key` is remembered.",
    )
    .default("24h"),
    Setting::new(
        "api_url",
        "POSTHASTE_API_URL",
        Kind::Url,
        UsedBy::Client,
        "Where the client commands find the API. Set by a `posthaste.toml` in the working \
         directory that `--config` does not name, it gets no key that came from the environment \
         or a flag: the directory may be somebody else's. With `http://` and on this machine no \
         proxy of the environment is used; with `https://` to another machine `HTTPS_PROXY` is.",
    )
    .default("http://127.0.0.1:8080"),
    Setting::new(
        "api_key",
        "POSTHASTE_API_KEY",
        Kind::Text,
        UsedBy::Client,
        "The key that the client commands show. Default: the file `api-key` in `data_dir`, which \
         `up` leaves there.",
    )
    .secret(),
];
