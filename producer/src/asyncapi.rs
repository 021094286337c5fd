//! The AsyncAPI document: the contract for enqueueing and for following events over AMQP, from any
//! language. The schemas come from the types that the code reads and writes.

use std::collections::BTreeMap;

use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::message::{ACCEPTED_AT, TRACEPARENT};
use posthaste_shared::domain::notification::NotificationDraft;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::http::body::CloudEvent;

/// The AsyncAPI 3.0 document of the AMQP contract, for the name prefix `prefix` (default
/// `posthaste`).
#[must_use]
pub fn asyncapi(prefix: &str) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Posthaste over AMQP",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "How services in any language enqueue notifications, and follow \
                            events, over RabbitMQ (AMQP 0-9-1).",
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": "application/json",
        "servers": {
            "rabbitmq": {
                "host": "127.0.0.1:5672",
                "protocol": "amqp",
                "description": "The broker of POSTHASTE_BROKER_URL",
            }
        },
        "channels": {
            "notifications": notifications_channel(prefix),
            "events": events_channel(prefix),
        },
        "operations": operations(),
        "components": {
            "messages": { "notification": notification_message(), "event": event_message() },
            "schemas": schemas(),
        },
    })
}

fn notifications_channel(prefix: &str) -> Value {
    json!({
        "address": "notification",
        "title": "Where producers publish",
        "description": "Posthaste declares the exchange and binds its work queue to it; publish \
                        with this routing key.",
        "messages": { "notification": { "$ref": "#/components/messages/notification" } },
        "bindings": { "amqp": {
            "is": "routingKey",
            "exchange": {
                "name": format!("{prefix}.notifications"),
                "type": "direct",
                "durable": true,
                "autoDelete": false,
            },
            "bindingVersion": "0.3.0",
        } },
    })
}

fn events_channel(prefix: &str) -> Value {
    let types: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
    json!({
        "address": "{type}",
        "title": "Where events come out",
        "description": "A topic exchange: bind a queue of your own with the types that you want, \
                        such as delivery.failed or delivery.*.",
        "parameters": { "type": { "description": "The event's type, also the routing \
            key", "enum": types } },
        "messages": { "event": { "$ref": "#/components/messages/event" } },
        "bindings": { "amqp": {
            "is": "routingKey",
            "exchange": {
                "name": format!("{prefix}.events"),
                "type": "topic",
                "durable": true,
                "autoDelete": false,
            },
            "bindingVersion": "0.3.0",
        } },
    })
}

fn operations() -> Value {
    json!({
        "enqueue": {
            "action": "receive",
            "channel": { "$ref": "#/channels/notifications" },
            "messages": [{ "$ref": "#/channels/notifications/messages/notification" }],
            "summary": "Enqueue a notification",
            "description": "Publish with publisher confirms and with the mandatory flag. Only a \
                            confirmed message that was not returned is accepted; anything else is \
                            to be published again, with the same id, which is delivered once.",
            "bindings": { "amqp": {
                "deliveryMode": 2, "mandatory": true, "ack": true, "bindingVersion": "0.3.0",
            } },
        },
        "follow": {
            "action": "send",
            "channel": { "$ref": "#/channels/events" },
            "messages": [{ "$ref": "#/channels/events/messages/event" }],
            "summary": "Events, at least once; the same event has the same id",
            "bindings": { "amqp": { "deliveryMode": 2, "bindingVersion": "0.3.0" } },
        },
    })
}

fn notification_message() -> Value {
    json!({
        "name": "notification",
        "title": "A notification",
        "summary": "The property message_id, if set, is the notification's id when the body has \
                    none. The property timestamp, if set, is when it was accepted.",
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {
                TRACEPARENT: {
                    "type": "string",
                    "description": "W3C trace context, carried on to the webhook",
                },
                ACCEPTED_AT: {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the notification was accepted, to the microsecond. \
                                    Optional: it takes precedence over the property timestamp.",
                },
            },
        },
        "payload": { "$ref": "#/components/schemas/NotificationDraft" },
        "bindings": { "amqp": {
            "contentEncoding": "utf-8",
            "messageType": "notification",
            "bindingVersion": "0.3.0",
        } },
        "examples": [{
            "name": "received",
            "payload": {
                "type": "message.phone.received",
                "payload": { "content": "Hello" },
                "recipient": { "phone_number": "+18005550199" },
                "ttl_seconds": 3600,
            },
        }],
    })
}

fn event_message() -> Value {
    json!({
        "name": "event",
        "title": "An event",
        "summary": "CloudEvents 1.0, structured JSON",
        "contentType": "application/cloudevents+json",
        "payload": { "$ref": "#/components/schemas/CloudEvent" },
    })
}

/// The two payloads' schemas with all that they refer to.
fn schemas() -> Value {
    let mut all: Vec<(String, RefOr<Schema>)> = vec![
        (
            NotificationDraft::name().into_owned(),
            <NotificationDraft as utoipa::PartialSchema>::schema(),
        ),
        (
            CloudEvent::name().into_owned(),
            <CloudEvent as utoipa::PartialSchema>::schema(),
        ),
    ];
    NotificationDraft::schemas(&mut all);
    CloudEvent::schemas(&mut all);
    let by_name: BTreeMap<String, RefOr<Schema>> = all.into_iter().collect();
    serde_json::to_value(by_name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` in `value`.
    fn references(value: &Value) -> Vec<String> {
        match value {
            Value::Object(members) => members
                .iter()
                .flat_map(|(name, value)| match (name.as_str(), value) {
                    ("$ref", Value::String(target)) => vec![target.clone()],
                    _ => references(value),
                })
                .collect(),
            Value::Array(items) => items.iter().flat_map(references).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = asyncapi("mail");
        let references = references(&document);
        assert!(references.len() > 10, "{references:?}");
        for reference in references {
            let pointer = reference.strip_prefix('#').expect(&reference);
            assert!(
                document.pointer(pointer).is_some(),
                "{reference} leads nowhere"
            );
        }
        let exchange = "/channels/notifications/bindings/amqp/exchange/name";
        assert_eq!(
            document.pointer(exchange),
            Some(&json!("mail.notifications"))
        );
        let required = document
            .pointer("/components/schemas/NotificationDraft/required")
            .unwrap();
        assert_eq!(required, &json!(["type", "payload"]));
    }
}
