//! Endpoints and notifications for the tests of wire formats.

use std::time::Duration;

use posthaste_shared::domain::endpoint::{Confidential, Endpoint, EndpointStatus};
use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::{
    DeliveryId, EndpointId, NotificationId, NotificationType, TenantId,
};
use posthaste_shared::domain::notification::{Notification, Origin, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::subscription::Subscription;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use serde_json::Value;

use super::{Reply, Subject};

/// An enabled endpoint without secrets.
pub(crate) fn endpoint(wire_format: WireFormat, settings: Value) -> Endpoint {
    Endpoint {
        uid: None,
        id: EndpointId::parse("e-1").unwrap(),
        tenant: TenantId::default(),
        url: "https://example.com/hook".parse().unwrap(),
        wire_format,
        description: String::new(),
        subscription: Subscription::default(),
        confidential: Confidential {
            settings: settings.as_object().unwrap().clone(),
            ..Confidential::default()
        },
        timeout: Duration::from_secs(5),
        retry: RetryPolicy::default(),
        max_in_flight: 1,
        rate_limit_per_second: None,
        status: EndpointStatus::Enabled,
        created_at: Timestamp::from_micros(0),
        updated_at: Timestamp::from_micros(0),
        version: 1,
    }
}

/// A notification `n-1`, accepted as 2026 began.
pub(crate) fn notification(kind: &str, payload: Value) -> Notification {
    Notification {
        id: NotificationId::parse("n-1").unwrap(),
        tenant: TenantId::default(),
        kind: NotificationType::parse(kind).unwrap(),
        target: None,
        payload: RawJson::parse(payload.to_string()).unwrap(),
        recipient: None,
        overrides: None,
        accepted_at: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
        deliver_at: None,
        expires_at: None,
        priority: Priority::Normal,
        origin: Origin::Producer,
        traceparent: None,
        hops: Hops::default(),
    }
}

/// Its delivery to the endpoint.
pub(crate) fn subject<'a>(endpoint: &'a Endpoint, notification: &'a Notification) -> Subject<'a> {
    Subject {
        delivery: DeliveryId::of(&notification.id, &endpoint.id, None),
        recipient: None,
        notification,
        endpoint,
        trace: None,
    }
}

/// An answer without headers.
pub(crate) fn reply(status: u16, body: &str) -> Reply {
    Reply::whole(
        status,
        http::HeaderMap::new(),
        bytes::Bytes::copy_from_slice(body.as_bytes()),
    )
}
