//! What the tests of the SMS wire formats have in common beside [`fixtures`].

use posthaste_shared::domain::endpoint::{Endpoint, SigningSecret};
use posthaste_shared::domain::id::DeliveryId;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use serde_json::Value;

use super::{FieldProblem, Subject, fixtures};

pub(super) use super::fixtures::reply;

/// The time 2026-01-01T00:00:00Z, in microseconds since 1970.
pub(super) const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

pub(super) fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/vectors/wire-formats.json")).unwrap()
}

pub(crate) fn endpoint(
    wire_format: WireFormat,
    settings: &Value,
    secret: Option<&str>,
) -> Endpoint {
    let secret = secret.map(|text| SigningSecret {
        secret: Secret::new(text),
        created_at: NOW,
        retires_at: None,
    });
    let mut endpoint = fixtures::endpoint(wire_format, settings.clone());
    endpoint.confidential.secrets = secret.into_iter().collect();
    Endpoint {
        url: "https://example.com/hooks/httpsms".parse().unwrap(),
        ..endpoint
    }
}

/// Of the members `payload`, `recipient` and `overrides`.
pub(super) fn notification(kind: &str, members: &Value) -> Notification {
    let json = |name: &str| {
        members
            .get(name)
            .map(|value| RawJson::parse(value.to_string()).unwrap())
    };
    let notification = fixtures::notification(kind, members["payload"].clone());
    Notification {
        recipient: json("recipient"),
        overrides: json("overrides"),
        ..notification
    }
}

pub(super) fn subject<'a>(
    endpoint: &'a Endpoint,
    notification: &'a Notification,
    recipient: Option<&'a str>,
) -> Subject<'a> {
    let delivery = DeliveryId::of(&notification.id, &endpoint.id, recipient);
    Subject {
        delivery,
        recipient,
        notification,
        endpoint,
        trace: None,
    }
}

pub(super) fn fields(problems: &[FieldProblem]) -> Vec<&str> {
    problems
        .iter()
        .map(|problem| problem.field.as_str())
        .collect()
}
