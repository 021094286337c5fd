//! Puts messages that cannot be handled on the dead-letter queue.

use posthaste_shared::broker::{Broker, DeadReason, Message};
use posthaste_shared::repeat::until_ok;
use posthaste_shared::telemetry::metrics::Metrics;

/// Puts a message on the dead-letter queue; tries until the broker takes it.
pub(crate) async fn dead_letter(
    broker: &dyn Broker,
    metrics: &Metrics,
    message: &Message,
    reason: DeadReason,
    detail: &str,
) {
    until_ok(
        || broker.dead_letter(message, reason, detail),
        |error| {
            tracing::warn!(
                %error,
                "a message cannot be put on the dead-letter queue; trying again"
            );
        },
    )
    .await;
    metrics.dead(reason);
}
