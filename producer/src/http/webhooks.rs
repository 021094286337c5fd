//! The `webhooks` of the OpenAPI document: the requests that Posthaste makes to endpoints, by wire
//! format. Receivers can generate their side from it. The rules are in `docs/wire-formats/`.

use serde_json::{Map, Value, json};

/// What Posthaste sends, by name.
pub(super) fn webhooks() -> Value {
    let mut all = Map::new();
    let mut add = |name: &str, webhook: Webhook| all.insert(name.to_owned(), webhook.document());
    add("standard", standard());
    add("cloudevents", cloud_events());
    add("event", own_event());
    add("httpsms", http_sms());
    add("novu-sms", novu_sms());
    add("novu-push", novu_push());
    add("authgear-sms", authgear_sms());
    add("cometchat-sms", cometchat_sms());
    add("raw", raw());
    Value::Object(all)
}

/// The request of one wire format.
struct Webhook {
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    /// Name, whether it is always there, and what it is.
    headers: Vec<(&'static str, bool, &'static str)>,
    /// The schema of the body by media type.
    content: Value,
}

impl Webhook {
    fn document(self) -> Value {
        let header = |(name, required, description): (&str, bool, &str)| {
            json!({
                "name": name, "in": "header", "required": required, "description": description,
                "schema": { "type": "string" }
            })
        };
        let headers: Vec<Value> = self.headers.into_iter().map(header).collect();
        json!({ "post": {
            "tags": ["webhooks"],
            "operationId": self.id,
            "summary": self.summary,
            "description": self.description,
            "security": [],
            "parameters": headers,
            "requestBody": { "required": true, "content": self.content },
            "responses": responses()
        } })
    }
}

/// What an answer means, where the wire format has no rules of its own.
fn responses() -> Value {
    json!({
        "2XX": { "description": "Delivered. Some wire formats look at the body, too." },
        "410": { "description": "The receiver wants no more requests: the endpoint is disabled." },
        "429": { "description": "Sent again later, not before `Retry-After`." },
        "4XX": { "description": "Not sent again, except for 408, 425 and 429, as the \
                                 endpoint's `retry.on` says." },
        "5XX": { "description": "Sent again later, as the endpoint's `retry` says." }
    })
}

const WEBHOOK_ID: (&str, bool, &str) = (
    "webhook-id",
    false,
    "The delivery's id, the same in every attempt, to dedupe by; unless switched off",
);

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn any(description: &str) -> Value {
    json!({ "description": description })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn json_body(schema: Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn standard() -> Webhook {
    let envelope = object(
        &["type", "timestamp", "data"],
        json!({
            "type": text("The type of the notification, such as `order.paid`."),
            "timestamp": { "type": "string", "format": "date-time", "description": "When it was \
                accepted." },
            "data": any("The notification's payload, its JSON text exactly as it was enqueued.")
        }),
    );
    Webhook {
        id: "receive_standard",
        summary: "A webhook of Standard Webhooks 1.0",
        description: "With the setting `body` = `payload` the body is the payload alone.",
        headers: vec![
            (
                "webhook-id",
                true,
                "The delivery's id, the same in every attempt, to dedupe by",
            ),
            (
                "webhook-timestamp",
                true,
                "When this attempt was made, in seconds since 1970",
            ),
            (
                "webhook-signature",
                true,
                "`v1,` and the base64 of the HMAC-SHA256, or `v1a,` and the base64 of the ed25519 \
                 signature, over \
                 `<webhook-id>.<webhook-timestamp>.<body>`; one for each live secret, separated \
                 by spaces",
            ),
        ],
        content: json_body(envelope),
    }
}

fn cloud_events() -> Webhook {
    let event = object(
        &["specversion", "id", "source", "type", "time"],
        json!({
            "specversion": {
                "type": "string", "const": "1.0", "description": "The version of CloudEvents.",
            },
            "id": text("The id of the notification."),
            "source": text("The endpoint's setting `source`, or the notification's own."),
            "type": text("The type of the notification, such as `order.paid`."),
            "subject": text("As the notification says."),
            "time": { "type": "string", "format": "date-time", "description": "When it was \
                accepted." },
            "datacontenttype": text("The media type of `data`: always `application/json`."),
            "dataschema": text("As the notification says."),
            "data": any("The payload of the notification.")
        }),
    );
    Webhook {
        id: "receive_cloudevents",
        summary: "A webhook of CloudEvents 1.0",
        description: "Structured mode. With the setting `mode` = `binary` the body is the data, \
                      and the attributes are \
                      headers `ce-…`. With the setting `handshake` the receiver is asked first, \
                      by an OPTIONS request.",
        headers: vec![WEBHOOK_ID],
        content: json!({ "application/cloudevents+json": { "schema": event } }),
    }
}

fn own_event() -> Webhook {
    Webhook {
        id: "receive_event",
        summary: "An event of Posthaste itself",
        description: "To endpoints that subscribe to `delivery.*` or `endpoint.*`. Here as \
                      `cloudevents`; an endpoint \
                      of another wire format gets the event's `data` as its payload.",
        headers: vec![WEBHOOK_ID],
        content: json!({
            "application/cloudevents+json": {
                "schema": { "$ref": "#/components/schemas/CloudEvent" }
            }
        }),
    }
}

fn http_sms() -> Webhook {
    let event = object(
        &["specversion", "id", "source", "type", "time", "data"],
        json!({
            "specversion": text("The version of CloudEvents: always `1.0`."),
            "id": text("The id of the event."),
            "source": text("Where it comes from."),
            "type": text("One of httpSMS's event types, such as `message.phone.received`."),
            "time": {
                "type": "string", "format": "date-time", "description": "When the event happened.",
            },
            "datacontenttype": text("The media type of `data`: always `application/json`."),
            "data": any("The payload of the notification.")
        }),
    );
    Webhook {
        id: "receive_httpsms",
        summary: "A webhook as httpSMS sends it",
        description: "A CloudEvent as plain JSON.",
        headers: vec![
            WEBHOOK_ID,
            ("X-Event-Type", true, "The type of the event"),
            (
                "Authorization",
                false,
                "`Bearer` and a JWT (HS256), signed with the endpoint's secret, if it has one",
            ),
        ],
        content: json_body(event),
    }
}

fn novu_sms() -> Webhook {
    let message = object(
        &["to", "content", "sender"],
        json!({
            "to": text("The phone number of the recipient."),
            "content": text("The text of the message."),
            "sender": text("The endpoint's setting `from`, or the notification's own.")
        }),
    );
    Webhook {
        id: "receive_novu_sms",
        summary: "Novu's generic SMS provider",
        description: "The headers with the API keys have the names that the endpoint's settings \
                      give them.",
        headers: vec![WEBHOOK_ID],
        content: json_body(message),
    }
}

fn novu_push() -> Webhook {
    let message = object(
        &["target", "title", "content"],
        json!({
            "target": any("The device token to push to."),
            "title": text("The title of the notification."),
            "content": text("The text of the message."),
            "overrides": any("The overrides of the notification."),
            "payload": any("The payload that the workflow was triggered with.")
        }),
    );
    Webhook {
        id: "receive_novu_push",
        summary: "Novu's push webhook provider",
        description: "One request for each device token.",
        headers: vec![
            WEBHOOK_ID,
            (
                "X-Novu-Signature",
                false,
                "HMAC-SHA256 over the body, in hex; where the endpoint has a secret",
            ),
        ],
        content: json_body(message),
    }
}

fn authgear_sms() -> Webhook {
    let message = object(
        &["app_id", "to", "body"],
        json!({
            "app_id": text("The id of the Authgear project."),
            "to": text("The phone number, in E.164."),
            "body": text("The text of the message."),
            "template_name": text("The name of the template."),
            "language_tag": text("The language of the text, as a BCP 47 tag."),
            "template_variables": any("What the template was filled with.")
        }),
    );
    Webhook {
        id: "receive_authgear_sms",
        summary: "Authgear's custom SMS gateway",
        description: "The `code` in the answer decides, whatever the status.",
        headers: vec![
            WEBHOOK_ID,
            (
                "x-authgear-body-signature",
                true,
                "HMAC-SHA256 over the body, in hex",
            ),
        ],
        content: json_body(message),
    }
}

fn cometchat_sms() -> Webhook {
    Webhook {
        id: "receive_cometchat_sms",
        summary: "CometChat's custom SMS provider",
        description: "One request for each recipient.",
        headers: vec![
            WEBHOOK_ID,
            (
                "Authorization",
                false,
                "HTTP Basic, where the endpoint's settings ask for it",
            ),
        ],
        content: json_body(json!({ "type": "object" })),
    }
}

fn raw() -> Webhook {
    Webhook {
        id: "receive_raw",
        summary: "The payload as it was given",
        description: "The setting `payload` says how the payload is written, `content_type` what \
                      it is called.",
        headers: vec![WEBHOOK_ID],
        content: json_body(any(
            "The notification's payload, its JSON text exactly as it was enqueued.",
        )),
    }
}
