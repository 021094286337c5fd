//! Notifications and settings as each wire format writes them: overrides, attributes, dot paths.

use posthaste_shared::domain::id::DeliveryId;
use posthaste_worker::wire::{self, Recipients, Subject, Unwritten};
use serde_json::Value;

use super::fixture::{endpoint, notification, now, wire_format};
use super::{Target, parts};

pub(super) const TARGET: Target = Target {
    name: "rendering",
    about: "a notification in each wire format: headers that can be sent, JSON that can be read",
    run,
    tokens: &[
        "\"overrides\"",
        "\"cloudevents\"",
        "\"extensions\"",
        "\"source\"",
        "\"subject\"",
        "\"dataschema\"",
        "\"time\"",
        "\"recipient\"",
        "\"content\"",
        "\"to\"",
        "\"phone\"",
        "\"_passthrough\"",
        "\"body\"",
        "\"headers\"",
        "\"mode\"",
        "\"binary\"",
        "\"structured\"",
    ],
};

fn run(input: &[u8]) {
    let [head, settings, body] = parts(input);
    let settings = match serde_json::from_slice(settings) {
        Ok(Value::Object(settings)) => settings,
        _ => serde_json::Map::new(),
    };
    let endpoint = endpoint(wire_format(head), settings);
    let problems = wire::check(&endpoint);
    let Some(notification) = notification(body) else {
        return;
    };
    let wire = wire::of(endpoint.wire_format);
    drop(wire::check_notification(&endpoint, &notification));
    let recipient = match wire.recipients(&notification) {
        Recipients::Several { each, .. } => each.into_iter().next(),
        Recipients::One => None,
    };
    let subject = Subject {
        delivery: DeliveryId::of(&notification.id, &endpoint.id, recipient.as_deref()),
        recipient: recipient.as_deref(),
        notification: &notification,
        endpoint: &endpoint,
        trace: None,
    };
    let rendered = match wire.render(&subject) {
        Ok(rendered) => rendered,
        Err(Unwritten::Error(error)) => {
            assert!(!error.problem.is_empty(), "refused without a reason");
            return;
        }
        Err(Unwritten::Skip(_)) => return,
    };
    if rendered.content_type.ends_with("json") {
        let read = serde_json::from_slice::<serde::de::IgnoredAny>(&rendered.body);
        assert!(
            read.is_ok(),
            "{:?}",
            String::from_utf8_lossy(&rendered.body)
        );
    }
    // An endpoint that is refused when it is saved never gets this far.
    if !problems.is_empty() {
        return;
    }
    let signed = wire.sign(&subject, &rendered, now()).unwrap_or_default();
    for header in rendered.headers.iter().chain(&signed) {
        http::HeaderName::from_bytes(header.name.as_bytes())
            .unwrap_or_else(|_| panic!("{:?} is no header's name", header.name));
        http::HeaderValue::from_str(header.value.expose())
            .unwrap_or_else(|_| panic!("{}: {:?} is no value", header.name, header.value.expose()));
    }
}
