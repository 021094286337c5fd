//! What nearly every part of a long-running process needs, as one value.

use std::sync::Arc;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::Tracer;

/// The five services of a process. Opened once, at its start; cheap to clone, and every clone is
/// the same store, the same connection to the broker and the same counters.
#[derive(Clone)]
pub struct Services {
    /// The state of every delivery, its attempts, and the leases.
    pub store: Store,
    /// The work queue: where notifications are published to, and where a worker's messages come
    /// from.
    pub broker: Arc<dyn Broker>,
    /// The source of the current time.
    pub clock: Arc<dyn Clock>,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Creates the spans of requests, deliveries and attempts.
    pub tracer: Tracer,
}
