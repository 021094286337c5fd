//! `CloudEvents`: the SDKs for Python, present and older, and for JavaScript read both modes.

use serde_json::{Value, json};

use super::{Scene, judged_by_node, judged_by_python, named};
use crate::support::receiver::Received;

/// Space, quotation mark, per cent sign, non-ASCII within and beyond the basic plane.
const SUBJECT: &str = "Euro € 😀 100% \"a\"";
const ENCODED: &str = "Euro%20%E2%82%AC%20%F0%9F%98%80%20100%25%20%22a%22";

const PYTHON: &str = "
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.exceptions import BaseCloudEventException
def check(headers, body):
    event = from_http_event(HTTPMessage(headers=headers, body=body))
    attributes = dict(event.get_attributes())
    attributes['time'] = attributes['time'].isoformat()
    return {'attributes': attributes, 'data': event.get_data()}
judge(check, (BaseCloudEventException, ValueError))
";

const PYTHON_V1: &str = "
from cloudevents.v1.exceptions import GenericException
from cloudevents.v1.http import from_http
def check(headers, body):
    event = from_http(headers, body)
    return {'attributes': dict(event.get_attributes()), 'data': event.get_data()}
judge(check, GenericException)
";

const NODE: &str = "
const { HTTP } = require('cloudevents');
judge((headers, body) => {
  const event = HTTP.toEvent({ headers, body: body.toString('utf8') });
  event.validate();
  const { data, ...attributes } = event.toJSON();
  return { attributes, data };
}, ['ValidationError', 'SyntaxError']);
";

fn payload() -> Value {
    json!({"text": "Olá 你好 👋 \
                    <&>\u{2028}\"", "n": 1.5e300, "list": [1, null, {"a": {}}], "flag": false})
}

fn notification() -> Value {
    let extensions = json!({"shard": 7, "urgent": true, "place": "Zürich, 1. Stock"});
    let attributes = json!({
        "id": "an id/é 1", "subject": SUBJECT, "time": "2026-01-31T12:00:00.123456Z",
        "dataschema": "https://example.com/schema?a=%20", "extensions": extensions,
    });
    json!({"type": "order.paid", "payload": payload(), "overrides": {"cloudevents": attributes}})
}

/// What all SDKs must read, but for the attributes that are given.
fn event(time: &str, others: Value) -> Value {
    let mut attributes = json!({
        "specversion": "1.0", "type": "order.paid", "source": "/shop?a=%20b", "time": time,
        "datacontenttype": "application/json",
    });
    attributes
        .as_object_mut()
        .unwrap()
        .extend(others.as_object().unwrap().clone());
    json!({"attributes": attributes, "data": payload()})
}

async fn delivered(scene: &Scene, mode: &str) -> Received {
    let settings = json!({"mode": mode, "source": "/shop?a=%20b"});
    scene
        .deliver(
            json!({"wire_format": "cloudevents", "settings": settings}),
            notification(),
        )
        .await
        .1
}

async fn assert_read(requests: &[Value], python: &Value, older: &Value, node: &Value) {
    let given = json!({"requests": requests});
    let verdicts = [
        (judged_by_python(PYTHON, &given).await, python),
        (judged_by_python(PYTHON_V1, &given).await, older),
        (judged_by_node(NODE, &given).await, node),
    ];
    for (verdicts, expected) in verdicts {
        assert_eq!(verdicts["as sent"], *expected);
        let tampered: Vec<_> = verdicts
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "as sent")
            .collect();
        assert_eq!(tampered.len(), requests.len() - 1);
        for (name, verdict) in tampered {
            assert!(verdict.get("refused").is_some(), "{name}: {verdict}");
        }
    }
}

#[tokio::test]
async fn the_sdks_read_an_event_in_structured_mode() {
    let scene = Scene::start().await;
    let request = delivered(&scene, "structured").await;
    let headers = request.header_list();
    let body = request.text();
    let without = |member: &str| body.replacen(&format!("\"{member}\":"), "\"other\":", 1);
    let requests = [
        named("as sent", &headers, body),
        named("no source", &headers, &without("source")),
        named("no type", &headers, &without("type")),
        named("cut", &headers, &body[..body.len() - 1]),
    ];
    let all = json!({
        "id": "an id/é 1", "subject": SUBJECT, "dataschema": "https://example.com/schema?a=%20",
        "shard": 7,
        "urgent": true, "place": "Zürich, 1. Stock",
    });
    let python = event("2026-01-31T12:00:00.123456+00:00", all.clone());
    let older = event("2026-01-31T12:00:00.123456Z", all.clone());
    // JavaScript's dates end at the millisecond.
    let node = event("2026-01-31T12:00:00.123Z", all);
    assert_read(&requests, &python, &older, &node).await;
}

/// The present Python SDK decodes headers as the specification says. The older one and that for
/// JavaScript hand them on as they are, and their users decode. To all of them an extension in a
/// header is a string.
#[tokio::test]
async fn the_sdks_read_an_event_in_binary_mode() {
    let scene = Scene::start().await;
    let request = delivered(&scene, "binary").await;
    assert_eq!(request.json(), payload());
    let headers = request.header_list();
    let body = request.text();
    let without = |left_out: &str| -> Vec<_> {
        headers
            .iter()
            .filter(|(name, _)| name != left_out)
            .cloned()
            .collect()
    };
    let requests = [
        named("as sent", &headers, body),
        named("no source", &without("ce-source"), body),
        named("no type", &without("ce-type"), body),
    ];
    let decoded = json!({
        "id": "an id/é 1", "subject": SUBJECT, "dataschema": "https://example.com/schema?a=%20",
        "shard": "7",
        "urgent": "true", "place": "Zürich, 1. Stock", "source": "/shop?a=%20b",
    });
    let as_sent = json!({
        "id": "an%20id/%C3%A9%201", "subject": ENCODED,
        "dataschema": "https://example.com/schema?a=%2520",
        "shard": "7", "urgent": "true", "place": "Z%C3%BCrich,%201.%20Stock",
        "source": "/shop?a=%2520b",
    });
    let python = event("2026-01-31T12:00:00.123456+00:00", decoded);
    let older = event("2026-01-31T12:00:00.123456Z", as_sent.clone());
    let node = event("2026-01-31T12:00:00.123Z", as_sent);
    assert_read(&requests, &python, &older, &node).await;
}
