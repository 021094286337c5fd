//! What `posthaste api` and `up` read.

use super::{HOUR, KIB, Kind, MIB, Profile, Setting, UsedBy};

/// In the order of the reference.
pub(super) const SETTINGS: &[Setting] = &[
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
        "admin_key",
        "POSTHASTE_ADMIN_KEY",
        Kind::Text,
        UsedBy::Api,
        "A bootstrap API key with every scope and tenant, for automation: at least 32 \
         characters. It is not stored.",
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
        "The largest body of a request to the API, except batches.",
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
        "The largest body of a batch (`/v1/notifications/batch`).",
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
        "The most connections to the API at once, and never more than half of the files that the \
         process may open. When all are taken, an idle connection of the client with the most is \
         closed for a new one. A few more are reserved for `/healthz`, `/readyz` and `/metrics`.",
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
         with a prefix of 64 bits. Behind a proxy, whose connections all come from its address, \
         set it to `max_connections`. Default: three quarters of `max_connections`.",
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
         beginning or from its first byte. After that the connection is closed.",
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
        "How long a connection to the API is kept open without a request. A proxy in front \
         should close its own connections earlier.",
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
         `endpoint_limit`. 0: no limit.",
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
         parked). A tenant with that many gets 429 `backlog_limit` for what it enqueues over \
         HTTP, until there are fewer. Counted once a second, so it can be exceeded by what is \
         accepted meanwhile and by what is still in the queue. AMQP has no such limit. 0: no \
         limit.",
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
         process; one more is refused with 429 `stream_limit`. Streams over all tenants together \
         count as those of one more tenant. 0: no limit.",
    )
    .default("64"),
    Setting::new(
        "console",
        "POSTHASTE_CONSOLE",
        Kind::Choice(&["on", "read-only", "off"]),
        UsedBy::Api,
        "Whether `api` and `up` serve the [web console](console.md) at `/console`. With \
         `read-only` nobody changes anything in it, whatever their API key may do.",
    )
    .default("on"),
    Setting::new(
        "console_url",
        "POSTHASTE_CONSOLE_URL",
        Kind::Url,
        UsedBy::Api,
        "The address of the API in browsers, where a proxy stands in front of it, such as \
         `https://posthaste.example`. Must be `https`, or `http` on a loopback address. Default: \
         people can sign in to the console on loopback addresses alone.",
    ),
];
