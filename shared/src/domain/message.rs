//! What goes over the broker: the notification as JSON (a `NotificationDraft`), and in headers what
//! its carrier adds. Any AMQP client may publish it; the AsyncAPI document is the contract.

use bytes::Bytes;

use super::hops::Hops;
use super::id::NotificationId;
use super::notification::{Notification, NotificationDraft, Origin, Priority};
use super::time::Timestamp;

/// Header with the time of acceptance, RFC 3339. Without it: the `timestamp` property, else the
/// time at which a worker first saw it.
pub const ACCEPTED_AT: &str = "posthaste-accepted-at";
/// Header `event` on a notification that carries one of Posthaste's own events to an endpoint.
pub const ORIGIN: &str = "posthaste-origin";
/// Header: proves what `posthaste-origin` says, by the installation's master key.
pub const ORIGIN_PROOF: &str = "posthaste-origin-proof";
/// W3C trace context, carried on.
pub const TRACEPARENT: &str = "traceparent";
/// Header of a dead letter: a `DeadReason`.
pub const DEAD_REASON: &str = "posthaste-dead-reason";
/// Header of a dead letter: a sentence.
pub const DEAD_DETAIL: &str = "posthaste-dead-detail";
/// Header of a dead letter: RFC 3339.
pub const DIED_AT: &str = "posthaste-died-at";

/// A message of the work queue.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// AMQP `message_id`: the notification's id when the body has none.
    pub id: Option<String>,
    /// The notification as JSON.
    pub body: Bytes,
    /// When it was accepted.
    pub accepted_at: Option<Timestamp>,
    /// Where it comes from.
    pub origin: Origin,
    /// The W3C trace context of whoever enqueued it.
    pub traceparent: Option<String>,
    /// Whether it goes first.
    pub priority: Priority,
    /// How often Posthaste itself has sent what this came from.
    pub hops: Hops,
}

impl Message {
    /// The message that carries an accepted notification.
    #[must_use]
    pub fn of(notification: Notification) -> Self {
        let id: NotificationId = notification.id.clone();
        let accepted_at = notification.accepted_at;
        let origin = notification.origin;
        let priority = notification.priority;
        let traceparent = notification.traceparent.clone();
        let hops = notification.hops;
        #[expect(
            clippy::expect_used,
            reason = "a draft is texts, times and JSON that was already parsed"
        )]
        let body =
            serde_json::to_vec(&NotificationDraft::from(notification)).expect("a draft is JSON");
        Self {
            id: Some(id.into()),
            body: body.into(),
            accepted_at: Some(accepted_at),
            origin,
            traceparent,
            priority,
            hops,
        }
    }
}

/// Whether a body reads as a notification. A worker may still refuse one that does, for what it
/// says.
pub(crate) fn is_notification(body: &[u8]) -> bool {
    serde_json::from_slice::<NotificationDraft>(body).is_ok()
}

/// A message that came in.
#[derive(Debug)]
pub struct Incoming {
    /// The message as the broker delivered it.
    pub message: Message,
    /// What to acknowledge it by.
    pub tag: Tag,
    /// How often the broker says it was delivered before (`x-delivery-count`); 0 at first.
    pub delivery_count: u32,
}

/// Names a delivered message to the broker, for acknowledging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// Which channel or claim epoch it came by; a tag of an older one is ignored.
    pub epoch: u64,
    /// Its number on that channel or in that epoch.
    pub number: u64,
}
