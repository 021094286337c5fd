//! An endpoint and a notification to start from.

use std::time::Duration;

use posthaste_shared::domain::endpoint::{Confidential, Endpoint, EndpointStatus, SigningSecret};
use posthaste_shared::domain::id::{EndpointId, NotificationId, TenantId};
use posthaste_shared::domain::message::{Incoming, Message, Tag};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::subscription::Subscription;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_worker::pipeline::decode::{Decoded, Limits, decode};
use posthaste_worker::wire;
use serde_json::{Map, Value, json};

/// The time at which everything happens.
pub(super) fn now() -> Timestamp {
    Timestamp::parse("2026-01-01T00:00:00Z").unwrap()
}

/// The wire format that a byte stands for.
pub(super) fn wire_format(input: &[u8]) -> WireFormat {
    let at = input.first().map_or(0, |byte| usize::from(*byte));
    WireFormat::ALL[at % WireFormat::ALL.len()]
}

/// An enabled endpoint, with a secret where its wire format has one.
pub(super) fn endpoint(wire_format: WireFormat, settings: Map<String, Value>) -> Endpoint {
    let secrets = wire::of(wire_format).new_secret(&settings);
    let signing = |secret: Secret| SigningSecret {
        secret,
        created_at: now(),
        retires_at: None,
    };
    Endpoint {
        uid: None,
        id: EndpointId::parse("e-1").unwrap(),
        tenant: TenantId::default(),
        url: "https://example.com/hook".parse().unwrap(),
        wire_format,
        description: String::new(),
        subscription: Subscription::default(),
        confidential: Confidential {
            secrets: secrets.into_iter().map(signing).collect(),
            settings,
            ..Confidential::default()
        },
        timeout: Duration::from_secs(5),
        retry: RetryPolicy::default(),
        max_in_flight: 1,
        rate_limit_per_second: None,
        status: EndpointStatus::Enabled,
        created_at: now(),
        updated_at: now(),
        version: 1,
    }
}

/// The notification that a body stands for, as a worker reads it; `None` where it is refused.
pub(super) fn notification(body: &[u8]) -> Option<Notification> {
    match decode(&incoming("n-1", body), Limits::default(), now()) {
        Decoded::Work(notification) => Some(*notification),
        Decoded::WithoutId(_) => panic!("the message has an id"),
        Decoded::Unreadable(_, why) => {
            assert!(!why.is_empty(), "refused without a reason");
            None
        }
    }
}

/// A message of a stranger with the id `id`.
pub(super) fn incoming(id: &str, body: &[u8]) -> Incoming {
    let notification = Notification {
        id: NotificationId::parse("n-1").unwrap(),
        ..sample()
    };
    Incoming {
        message: Message {
            id: Some(id.to_owned()).filter(|id| !id.is_empty()),
            body: bytes::Bytes::copy_from_slice(body),
            accepted_at: None,
            ..Message::of(notification)
        },
        tag: Tag {
            epoch: 1,
            number: 1,
        },
        delivery_count: 0,
    }
}

fn sample() -> Notification {
    let draft = json!({"type": "invoice.paid", "payload": {}});
    let draft: posthaste_shared::domain::notification::NotificationDraft =
        serde_json::from_value(draft).unwrap();
    posthaste_producer::enqueue::accept(draft, TenantId::default(), now(), None).unwrap()
}
