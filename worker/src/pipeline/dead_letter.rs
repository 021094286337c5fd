//! Puts messages that cannot be handled on the dead-letter queue.

use posthaste_shared::backoff::Reconnect;
use posthaste_shared::broker::{Broker, DeadReason, Message};
use posthaste_shared::telemetry::metrics::Metrics;

/// Puts a message on the dead-letter queue; tries until the broker takes it.
pub(crate) async fn dead_letter(
    broker: &dyn Broker,
    metrics: &Metrics,
    message: &Message,
    reason: DeadReason,
    detail: &str,
) {
    let mut backoff = Reconnect::default();
    while let Err(error) = broker.dead_letter(message, reason, detail).await {
        tracing::warn!(%error, "a message cannot be put on the dead-letter queue; trying again");
        tokio::time::sleep(backoff.next()).await;
    }
    metrics.dead(reason);
}
