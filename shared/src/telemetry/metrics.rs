//! The metrics, their names and help texts in one place. Labels are bounded: no URL and no id.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

use crate::domain::attempt::AttemptResult;
use crate::domain::dead_letter::DeadReason;
use crate::domain::delivery::{Hold, Status};
use crate::domain::event::EventType;
use crate::domain::wire_format::WireFormat;

/// Buckets of an attempt's duration, in seconds: from a loopback receiver to the longest timeout
/// (60 s).
const ATTEMPT_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];
/// Buckets of waiting times, in seconds: from the fast path to retries over a day.
const LATENCY_BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 600.0, 3600.0,
    86400.0,
];
/// Buckets of rows in one transaction of the store.
const BATCH_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

/// Buckets of a commit's duration, in seconds: from a local file to a database that is in trouble.
const COMMIT_BUCKETS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// Where a notification came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The HTTP API, one at a time or in batches.
    Http,
    /// A Rust service that uses the producer crate.
    Rust,
    /// Published by another AMQP client, seen when a worker took it up.
    Amqp,
    /// Posthaste's own events on their way to endpoints.
    Event,
}

impl Source {
    const ALL: [Self; 4] = [Self::Http, Self::Rust, Self::Amqp, Self::Event];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Rust => "rust",
            Self::Amqp => "amqp",
            Self::Event => "event",
        }
    }
}

/// Why a consumer subscribed to the work queue again, though its channel was open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resubscribed {
    /// The queue did not know the consumer any more: it was deleted and declared again.
    Forgotten,
    /// Nothing had come for a while, or other consumers had gone; the queue knew it.
    Precaution,
}

impl Resubscribed {
    const ALL: [Self; 2] = [Self::Forgotten, Self::Precaution];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Forgotten => "forgotten",
            Self::Precaution => "precaution",
        }
    }
}

/// Every metric of a process. Make one, share it, and print it with [`Metrics::render`].
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    notifications_accepted: IntCounterVec,
    deliveries: IntCounterVec,
    parked: IntCounterVec,
    attempts: IntCounterVec,
    /// How long whole attempts took, in seconds.
    pub attempt_duration: Histogram,
    /// From accepted to delivered, in seconds.
    pub delivery_latency: Histogram,
    /// Accepted → first attempt.
    pub queue_wait: Histogram,
    /// Attempts in flight in this process.
    pub in_flight: IntGauge,
    /// Attempts that this process makes at once at most; zero where no worker runs.
    pub worker_slots: IntGauge,
    /// Pending deliveries by state (`ready`, `scheduled`, `parked`).
    pub pending: IntGaugeVec,
    /// How long the oldest due delivery has been due, in seconds.
    pub oldest_due_age: IntGauge,
    /// Endpoints by state (`admitting`, `limited`, `open`, `disabled`).
    pub endpoints: IntGaugeVec,
    events_published: IntCounterVec,
    /// Events not yet published.
    pub outbox_pending: IntGauge,
    /// How long the oldest of them has waited, in seconds.
    pub outbox_oldest_age: IntGauge,
    dead_letters: IntCounterVec,
    /// Rows in one transaction.
    pub store_batch_rows: Histogram,
    /// How long it took, in seconds.
    pub store_commit: Histogram,
    /// Calls to the store that failed.
    pub store_errors: IntCounter,
    broker_connections: IntGaugeVec,
    /// Connections to the broker that were opened again.
    pub broker_reconnects: IntCounter,
    broker_resubscriptions: IntCounterVec,
    /// Messages in the broker's queues.
    pub queue_messages: IntGaugeVec,
    /// Spans that the collector took.
    pub trace_spans_exported: IntCounter,
    /// Spans that it did not, or that had no room to wait.
    pub trace_spans_dropped: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// An attempt in flight: counted for as long as this lives, a panic included.
#[must_use]
pub struct AttemptInFlight<'a>(&'a IntGauge);

impl Drop for AttemptInFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Counts one more attempt in flight.
    pub fn attempt_in_flight(&self) -> AttemptInFlight<'_> {
        self.in_flight.inc();
        AttemptInFlight(&self.in_flight)
    }

    /// All metrics, at zero.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "names and labels are the constants below; any test that makes a Metrics proves \
                  them"
    )]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            registered(&registry, IntCounter::new(name, help).expect("valid name"))
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(
                &registry,
                IntCounterVec::new(Opts::new(name, help), labels).expect("valid name"),
            )
        };
        let gauge = |name: &str, help: &str| {
            registered(&registry, IntGauge::new(name, help).expect("valid name"))
        };
        let gauges = |name: &str, help: &str, label: &str| {
            registered(
                &registry,
                IntGaugeVec::new(Opts::new(name, help), &[label]).expect("valid name"),
            )
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            registered(
                &registry,
                Histogram::with_opts(options).expect("valid buckets"),
            )
        };
        let info = gauges(
            "posthaste_build_info",
            "Always 1; the label says which version runs",
            "version",
        );
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            notifications_accepted: counters(
                "posthaste_notifications_accepted_total",
                "Notifications accepted, by where they came in",
                &["source"],
            ),
            deliveries: counters(
                "posthaste_deliveries_total",
                "Deliveries that came to their end",
                &["wire_format", "outcome"],
            ),
            parked: counters(
                "posthaste_deliveries_parked_total",
                "Deliveries that this process parked in the store, by what held them",
                &["held_by"],
            ),
            attempts: counters(
                "posthaste_attempts_total",
                "Attempts by result",
                &["wire_format", "result"],
            ),
            attempt_duration: histogram(
                "posthaste_attempt_duration_seconds",
                "Duration of attempts, from look-up to the answer's last byte",
                &ATTEMPT_BUCKETS,
            ),
            delivery_latency: histogram(
                "posthaste_delivery_latency_seconds",
                "Time from acceptance to delivery",
                &LATENCY_BUCKETS,
            ),
            queue_wait: histogram(
                "posthaste_queue_wait_seconds",
                "Time from acceptance to the first attempt",
                &LATENCY_BUCKETS,
            ),
            in_flight: gauge(
                "posthaste_deliveries_in_flight",
                "Attempts in flight in this process",
            ),
            worker_slots: gauge(
                "posthaste_worker_slots",
                "Attempts that this process makes at once at most; 0 where no worker runs",
            ),
            pending: gauges(
                "posthaste_deliveries_pending",
                "Pending deliveries in the store: ready (due or in flight), scheduled, parked",
                "state",
            ),
            oldest_due_age: gauge(
                "posthaste_oldest_due_age_seconds",
                "How long the oldest due delivery has been due and not taken up",
            ),
            endpoints: gauges(
                "posthaste_endpoints",
                "Endpoints by state, as this process sees them",
                "state",
            ),
            events_published: counters(
                "posthaste_events_published_total",
                "Events published",
                &["type"],
            ),
            outbox_pending: gauge("posthaste_outbox_pending", "Events not yet published"),
            outbox_oldest_age: gauge(
                "posthaste_outbox_oldest_age_seconds",
                "How long the oldest event that is not yet published has waited",
            ),
            dead_letters: counters(
                "posthaste_dead_letters_total",
                "Messages put on the dead-letter queue by this process",
                &["reason"],
            ),
            store_batch_rows: histogram(
                "posthaste_store_batch_rows",
                "Results recorded in one transaction",
                &BATCH_BUCKETS,
            ),
            store_commit: histogram(
                "posthaste_store_commit_seconds",
                "Time to record results in one transaction, to its commit",
                &COMMIT_BUCKETS,
            ),
            store_errors: counter(
                "posthaste_store_errors_total",
                "Calls to the store that failed",
            ),
            broker_connections: gauges(
                "posthaste_broker_connections",
                "Connections that this process holds to RabbitMQ: up, or down and opened again",
                "state",
            ),
            broker_reconnects: counter(
                "posthaste_broker_reconnects_total",
                "Connections to the broker opened again after a loss",
            ),
            broker_resubscriptions: counters(
                "posthaste_broker_resubscriptions_total",
                "Subscriptions to the work queue renewed on an open connection: forgotten, \
                 because RabbitMQ did not know the consumer any more or kept its messages from it, \
                 or as a precaution",
                &["reason"],
            ),
            queue_messages: gauges(
                "posthaste_queue_messages",
                "Messages in the broker's queues",
                "queue",
            ),
            trace_spans_exported: counter(
                "posthaste_trace_spans_exported_total",
                "Spans that the collector took",
            ),
            trace_spans_dropped: counter(
                "posthaste_trace_spans_dropped_total",
                "Spans that the collector did not take, or that had no room to wait for it",
            ),
            registry,
        };
        metrics.start_at_zero();
        metrics
    }

    /// Makes the series that alerts look at exist from the start.
    fn start_at_zero(&self) {
        for source in Source::ALL {
            self.notifications_accepted
                .with_label_values(&[source.as_str()]);
        }
        for hold in Hold::ALL {
            self.parked.with_label_values(&[hold.as_str()]);
        }
        for format in WireFormat::ALL {
            for status in Status::ALL
                .into_iter()
                .filter(|status| *status != Status::Pending)
            {
                self.deliveries
                    .with_label_values(&[format.as_str(), status.as_str()]);
            }
            for result in AttemptResult::ALL {
                self.attempts
                    .with_label_values(&[format.as_str(), result.as_str()]);
            }
        }
        for kind in EventType::ALL {
            self.events_published.with_label_values(&[kind.as_str()]);
        }
        for reason in DeadReason::ALL {
            self.dead_letters.with_label_values(&[reason.as_str()]);
        }
        for state in ["ready", "scheduled", "parked"] {
            self.pending.with_label_values(&[state]);
        }
        for state in ["admitting", "limited", "open", "disabled"] {
            self.endpoints.with_label_values(&[state]);
        }
        for state in ["up", "down"] {
            self.broker_connections.with_label_values(&[state]);
        }
        for reason in Resubscribed::ALL {
            self.broker_resubscriptions
                .with_label_values(&[reason.as_str()]);
        }
        for queue in ["work", "dead"] {
            self.queue_messages.with_label_values(&[queue]);
        }
    }

    /// Counts notifications that were accepted.
    pub fn accepted(&self, source: Source, count: u64) {
        self.notifications_accepted
            .with_label_values(&[source.as_str()])
            .inc_by(count);
    }

    /// Counts a delivery that finished.
    pub fn finished(&self, format: WireFormat, status: Status) {
        self.deliveries
            .with_label_values(&[format.as_str(), status.as_str()])
            .inc();
    }

    /// Counts a delivery that was parked.
    pub fn parked(&self, by: Hold) {
        self.parked.with_label_values(&[by.as_str()]).inc();
    }

    /// Counts an attempt, with its duration.
    pub fn attempted(&self, format: WireFormat, result: AttemptResult, duration: Duration) {
        self.attempts
            .with_label_values(&[format.as_str(), result.as_str()])
            .inc();
        self.attempt_duration.observe(duration.as_secs_f64());
    }

    /// Counts a published event.
    pub fn published(&self, kind: EventType) {
        self.events_published
            .with_label_values(&[kind.as_str()])
            .inc();
    }

    /// Counts a dead letter.
    pub fn dead(&self, reason: DeadReason) {
        self.dead_letters
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// Counts a subscription that was renewed.
    pub fn resubscribed(&self, why: Resubscribed) {
        self.broker_resubscriptions
            .with_label_values(&[why.as_str()])
            .inc();
    }

    /// A connection to the broker is to be held from now on; it is down until it is
    /// [up](Self::connection_up).
    pub fn connection_wanted(&self) {
        self.connections("down").inc();
    }

    /// A connection to the broker is open.
    pub fn connection_up(&self) {
        self.connections("down").dec();
        self.connections("up").inc();
    }

    /// A connection to the broker that was up is lost.
    pub fn connection_lost(&self) {
        self.connections("up").dec();
        self.connections("down").inc();
    }

    /// A connection to the broker that is down is wanted no longer.
    pub fn connection_unwanted(&self) {
        self.connections("down").dec();
    }

    fn connections(&self, state: &str) -> IntGauge {
        self.broker_connections.with_label_values(&[state])
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

#[expect(
    clippy::expect_used,
    reason = "each name is registered once, in one registry of its own"
)]
fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry
        .register(Box::new(collector.clone()))
        .expect("a name of its own");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_from_the_start() {
        let text = Metrics::new().render();
        for name in [
            "posthaste_notifications_accepted_total{source=\"http\"} 0",
            "posthaste_deliveries_total{outcome=\"expired\",wire_format=\"standard\"} 0",
            "posthaste_attempts_total{result=\"blocked\",wire_format=\"raw\"} 0",
            "posthaste_oldest_due_age_seconds 0",
            "posthaste_broker_connections{state=\"down\"} 0",
            concat!(
                "posthaste_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(text.contains(name), "{name} is not in\n{text}");
        }
    }
}
