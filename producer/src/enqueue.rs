//! From a draft to a confirmed message: used by the Rust API and by the HTTP API alike.

use posthaste_shared::broker::{Broker, BrokerError, Message};
use posthaste_shared::domain::event::check_type;
use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::{NotificationId, TenantId};
use posthaste_shared::domain::notification::{
    Acceptance, InvalidDraft, Notification, NotificationDraft, Origin,
};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::trace_context::TraceContext;
use serde::{Deserialize, Serialize};

/// The broker has the notification, durably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
pub struct Accepted {
    /// The id of the notification: the producer's own, else a UUIDv7 that was generated.
    pub id: NotificationId,
    /// When it was accepted; relative times count from here.
    pub accepted_at: Timestamp,
}

/// Why a notification was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The draft is wrong: the same draft will be refused again.
    #[error("the notification is refused: {0}")]
    Invalid(#[from] InvalidDraft),
    /// The broker did not confirm.
    #[error("the notification was not confirmed: {0}")]
    Broker(#[source] BrokerError),
}

impl EnqueueError {
    /// Whether the same call may go through later. The broker may have the message all the same:
    /// give the draft an `id`, so that it is delivered once however often it is enqueued.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Broker(BrokerError::Unavailable(_) | BrokerError::Refused(_))
        )
    }
}

/// Checks a draft and makes the notification that it stands for, accepted at `at`. A draft without
/// a tenant gets `tenant`; one without an id gets a UUIDv7.
///
/// # Errors
/// The first member that is wrong.
pub fn accept(
    draft: NotificationDraft,
    tenant: TenantId,
    at: Timestamp,
    traceparent: Option<String>,
) -> Result<Notification, InvalidDraft> {
    let id = draft
        .id
        .clone()
        .unwrap_or_else(|| NotificationId::generate(at));
    check_type(&draft.kind, Origin::Producer)?;
    draft.accept(Acceptance {
        id,
        tenant,
        at,
        origin: Origin::Producer,
        traceparent,
        hops: Hops::default(),
    })
}

/// Publishes notifications, all at once, and waits for the confirms. Answers in order.
pub async fn publish(
    broker: &dyn Broker,
    notifications: Vec<Notification>,
) -> Vec<Result<Accepted, BrokerError>> {
    if notifications.is_empty() {
        return Vec::new();
    }
    let receipt = |notification: &Notification| Accepted {
        id: notification.id.clone(),
        accepted_at: notification.accepted_at,
    };
    let receipts: Vec<Accepted> = notifications.iter().map(receipt).collect();
    let confirms = broker
        .publish(notifications.into_iter().map(Message::of).collect())
        .await;
    receipts
        .into_iter()
        .zip(confirms)
        .map(|(receipt, confirm)| confirm.map(|()| receipt))
        .collect()
}

/// The trace context, if `text` is one (W3C Trace Context, section 3.2.2); anything else is
/// dropped, as the standard asks.
#[must_use]
pub fn valid_traceparent(text: &str) -> Option<&str> {
    TraceContext::parse(text).map(|_| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_on_only_real_trace_contexts() {
        let real = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(valid_traceparent(real), Some(real));
        for other in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(valid_traceparent(other), None, "{other}");
        }
    }
}
