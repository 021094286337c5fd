//! What every process that opens the store or the broker reads.

use super::{DEFAULT_LOG, HOUR, Kind, Profile, Setting, UsedBy};

/// In the order of the reference.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "data_dir",
        "POSTHASTE_DATA_DIR",
        Kind::Path,
        UsedBy::Everything,
        "Where the SQLite database lies when `database_url` is not set. `up` also keeps its \
         master key (`master-key`) and its first API key (`api-key`) there, where the other \
         commands find them.",
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
         of a RabbitMQ cluster: their whole URLs with commas between them. A process connects to \
         any of them, and tries the next when one cannot be reached.",
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
         64 letters, digits, `_`, `-` or `.`.",
    )
    .default("posthaste"),
    Setting::new(
        "master_key",
        "POSTHASTE_MASTER_KEY",
        Kind::Text,
        UsedBy::Everything,
        "The key that encrypts endpoints' secrets, headers and settings in the store: at least \
         32 characters, the same for every process. Generate one with `openssl rand -base64 32` \
         and keep a copy: without it the secrets cannot be read again. Default: the file \
         `master-key` in `data_dir` (`up` creates it); else it is required once secrets are \
         stored. Another key than the store's is refused at the start.",
    )
    .secret(),
    Setting::new(
        "master_key_previous",
        "POSTHASTE_MASTER_KEY_PREVIOUS",
        Kind::Text,
        UsedBy::Everything,
        "The previous master key, while it is being replaced by `master_key`: what is encrypted \
         with it can still be read. Give both to every process, run `posthaste key \
         rotate-master`, then remove this one.",
    )
    .secret(),
    Setting::new(
        "egress_allow",
        "POSTHASTE_EGRESS_ALLOW",
        Kind::Text,
        UsedBy::Everything,
        "Networks and hosts that endpoints may have although they are not public, \
         comma-separated: `127.0.0.0/8,10.1.0.0/16,hooks.internal,*.svc.local`. `none`, or an \
         empty variable, allows none.",
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
         `10.0.0.2,[fd00::2]:5353`. `/etc/hosts` counts as well, search domains do not. Default: \
         what `/etc/resolv.conf` says.",
    ),
    Setting::new(
        "log",
        "POSTHASTE_LOG",
        Kind::Text,
        UsedBy::Everything,
        "What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels for \
         parts (`info,posthaste_worker=debug`). Logs go to stderr. By default the libraries \
         underneath log from `warn` on, and the AMQP client nothing: what counts of it is said \
         by Posthaste.",
    )
    .or_env("RUST_LOG")
    .default(DEFAULT_LOG)
    .except(&[(Profile::Tool, "warn,lapin=off")]),
    Setting::new(
        "log_format",
        "POSTHASTE_LOG_FORMAT",
        Kind::Choice(&["text", "json"]),
        UsedBy::Everything,
        "The format of logs: `text` for people, or `json`, one object a line.",
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
        "How long a process that was told to stop (SIGTERM) goes on with what is in flight. \
         Another worker takes over what is not finished by then.",
    )
    .default("10s"),
    Setting::new(
        "tracing_otlp_endpoint",
        "POSTHASTE_TRACING_OTLP_ENDPOINT",
        Kind::Url,
        UsedBy::Everything,
        "Where `api`, `worker` and `up` send spans: the base URL of an OpenTelemetry collector \
         that accepts OTLP over HTTP, such as `http://127.0.0.1:4318`; `/v1/traces` is appended. \
         Without it, or with `off`, nothing is traced. See [Tracing](tracing.md).",
    )
    .or_env("OTEL_EXPORTER_OTLP_ENDPOINT")
    .secret(),
    Setting::new(
        "tracing_headers",
        "POSTHASTE_TRACING_HEADERS",
        Kind::Text,
        UsedBy::Everything,
        "Headers that go with the spans, to authenticate: `name=value`, comma-separated, values \
         percent-encoded where necessary: `authorization=Bearer%20…`.",
    )
    .or_env("OTEL_EXPORTER_OTLP_HEADERS")
    .secret(),
    Setting::new(
        "tracing_sample_ratio",
        "POSTHASTE_TRACING_SAMPLE_RATIO",
        Kind::Ratio,
        UsedBy::Everything,
        "The share of traces to record, of those that begin here because their enqueuer sent no \
         trace context. A trace context that an enqueuer sent says itself whether it is recorded.",
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
        "Further attributes of the process that the spans come from: `name=value`, \
         comma-separated, values percent-encoded where necessary: \
         `deployment.environment.name=production`.",
    )
    .or_env("OTEL_RESOURCE_ATTRIBUTES"),
    Setting::new(
        "max_recipients",
        "POSTHASTE_MAX_RECIPIENTS",
        Kind::Integer {
            min: 1,
            max: 100_000,
        },
        UsedBy::Everything,
        "The most recipients that one notification may have in a wire format that sends a \
         request to each (`novu-push`, `cometchat-sms`). More are refused by the API, and go to \
         the dead-letter queue over AMQP. Give the API and the workers the same value.",
    )
    .default("1000"),
];
