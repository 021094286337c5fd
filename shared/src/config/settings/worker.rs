//! What `posthaste worker` and `up` read.

use super::{DAY, HOUR, KIB, Kind, MIB, Setting, UsedBy};

/// In the order of the reference.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "worker_slots",
        "POSTHASTE_WORKER_SLOTS",
        Kind::Integer {
            min: 1,
            max: 65_536,
        },
        UsedBy::Worker,
        "The most attempts that a worker has in flight at once.",
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
        "The most attempts that each worker has in flight for one tenant, over all its \
         endpoints. What exceeds it waits, parked in the store if that takes longer, and uses up \
         no attempt. A single endpoint gets about half of it; the rest is kept for the \
         tenant's other endpoints. 0: no limit except `worker_slots`.",
    )
    .default("0"),
    Setting::new(
        "tenant_weights",
        "POSTHASTE_TENANT_WEIGHTS",
        Kind::Text,
        UsedBy::Worker,
        "How the slots of a worker are shared between tenants while there are not enough for all: \
         `acme=3, beta=0.5` gives `acme` three times and `beta` half as many as every other \
         tenant. From 0.01 to 100; 1 for tenants that are not named.",
    ),
    Setting::new(
        "breaker_failures",
        "POSTHASTE_BREAKER_FAILURES",
        Kind::Integer {
            min: 0,
            max: 10_000,
        },
        UsedBy::Worker,
        "After this many failures in a row, or when half of at least 20 attempts within 10 s \
         failed, an endpoint gets only a probe now and then until it answers again; its other \
         work waits, parked, and uses up no attempt. A time-out counts as two. 0: never.",
    )
    .default("10"),
    Setting::new(
        "breaker_open_max",
        "POSTHASTE_BREAKER_OPEN_MAX",
        Kind::Duration {
            min_seconds: 1,
            max_seconds: HOUR,
        },
        UsedBy::Worker,
        "The longest time between two probes of an endpoint that fails. The first probe comes \
         after 1 s; the time doubles with each that fails.",
    )
    .default("30s"),
    Setting::new(
        "max_payload_bytes",
        "POSTHASTE_MAX_PAYLOAD_BYTES",
        Kind::Bytes {
            min: KIB,
            max: 64 * MIB,
        },
        UsedBy::Worker,
        "The largest message that a worker accepts; larger ones go to the dead-letter queue.",
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
        "How often a message may come back unacknowledged, because workers that held it died, \
         before it goes to the dead-letter queue.",
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
        "An endpoint is disabled when all its attempts failed for this long.",
    )
    .default("5d"),
    Setting::new(
        "disabled_max_age",
        "POSTHASTE_DISABLED_MAX_AGE",
        Kind::Duration {
            min_seconds: 60,
            max_seconds: 3650 * DAY,
        },
        UsedBy::Worker,
        "A delivery for a disabled endpoint expires when it is this old. Until then it waits, and \
         is sent, oldest first and slowly at first, when the endpoint is enabled. Default: it \
         waits until it expires by itself.",
    ),
    Setting::new(
        "events_succeeded",
        "POSTHASTE_EVENTS_SUCCEEDED",
        Kind::Bool,
        UsedBy::Worker,
        "Whether `delivery.succeeded` events are emitted, too.",
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
        "How long finished deliveries, with their attempts and payloads, and published events \
         are kept.",
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
];
