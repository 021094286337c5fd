//! Endpoints, notifications and answers for the tests of Novu's wire formats.

use std::time::Duration;

use posthaste_shared::domain::endpoint::{Endpoint, SigningSecret};
use posthaste_shared::domain::id::DeliveryId;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use serde_json::Value;

use crate::attempt::sign::{SignedRequest, sign};
use crate::wire::{self, Grant, RenderError, Rendered, Subject, Unwritten, fixtures};

pub(crate) use crate::wire::fixtures::reply;

pub(crate) fn now() -> Timestamp {
    Timestamp::parse("2026-11-21T08:09:10.012345Z").unwrap()
}

pub(crate) fn endpoint(wire_format: WireFormat, settings: Value) -> Endpoint {
    Endpoint {
        url: "https://gw.example.com/sms?tenant=a".parse().unwrap(),
        ..fixtures::endpoint(wire_format, settings)
    }
}

pub(crate) fn signing(text: &str, retires_at: Option<Timestamp>) -> SigningSecret {
    SigningSecret {
        secret: Secret::new(text),
        created_at: now(),
        retires_at,
    }
}

pub(crate) fn notification(payload: &Value, recipient: &Value, overrides: &Value) -> Notification {
    let json = |value: &Value| Some(RawJson::of(value).unwrap());
    let notification = fixtures::notification("otp", payload.clone());
    Notification {
        recipient: json(recipient),
        overrides: json(overrides),
        ..notification
    }
}

/// The subject of the first recipient's delivery.
fn with_subject<T>(
    endpoint: &Endpoint,
    notification: &Notification,
    call: impl FnOnce(&Subject<'_>) -> T,
) -> T {
    let recipients = wire::of(endpoint.wire_format).recipients(notification);
    let recipient = recipients.get(0);
    let delivery = DeliveryId::of(&notification.id, &endpoint.id, recipient);
    call(&Subject {
        delivery,
        recipient,
        notification,
        endpoint,
        trace: None,
    })
}

pub(crate) fn delivery_id(endpoint: &Endpoint, notification: &Notification) -> String {
    with_subject(endpoint, notification, |subject| {
        subject.delivery.to_string()
    })
}

pub(crate) fn rendered(
    endpoint: &Endpoint,
    notification: &Notification,
) -> Result<Rendered, Unwritten> {
    with_subject(endpoint, notification, |subject| {
        wire::of(endpoint.wire_format).render(subject)
    })
}

pub(crate) fn body(endpoint: &Endpoint, notification: &Notification) -> String {
    String::from_utf8(rendered(endpoint, notification).unwrap().body.to_vec()).unwrap()
}

pub(crate) fn signed(
    endpoint: &Endpoint,
    notification: &Notification,
    grant: Grant,
) -> Result<SignedRequest, RenderError> {
    with_subject(endpoint, notification, |subject| {
        let rendered = wire::of(endpoint.wire_format).render(subject).unwrap();
        sign(subject, rendered, grant.headers, now())
    })
}

pub(crate) fn header(request: &SignedRequest, name: &str) -> Option<String> {
    let outgoing = request.outgoing(
        Duration::from_secs(1),
        Duration::from_secs(1),
        crate::wire::Reading::Status,
    );
    outgoing
        .headers
        .get(name)
        .map(|value| value.to_str().unwrap().to_owned())
}
