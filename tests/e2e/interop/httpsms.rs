//! httpSMS: `PyJWT` and `jsonwebtoken` take the token, the `CloudEvents` SDKs the body.

use serde_json::{Value, json};

use super::{Scene, judged_by_node, judged_by_python, named, with_tampered};
use crate::support::receiver::Received;

const KEY: &str = "httpsms-signing-key-0123456789abcdef & ü";

// A leeway below zero asks whether the token held that long ago, and will: it is for 600 s to
// either side.
const PYTHON_TOKEN: &str = "
import jwt, time
def check(headers, body):
    token = headers.get('authorization', '').removeprefix('Bearer ')
    wanted = {'algorithms': ['HS256'], 'audience': given['audience'], 'issuer': given['issuer'],
              'options': {'require': ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat']}}
    claims = jwt.decode(token, given['key'], **wanted)
    assert jwt.get_unverified_header(token) == {'alg': 'HS256', 'typ': 'JWT'}
    assert abs(claims['iat'] - time.time()) < 60
    assert (claims['exp'] - claims['iat'], claims['iat'] - claims['nbf']) == (600, 600)
    try:
        jwt.decode(token, given['key'], leeway=-660, **wanted)
        raise AssertionError('it holds for longer')
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
        pass
    return {'sub': claims['sub'], 'aud': claims['aud']}
judge(check, jwt.InvalidTokenError)
";

const NODE_TOKEN: &str = "
const jwt = require('jsonwebtoken');
judge((headers) => {
  const token = (headers.authorization ?? '').replace(/^Bearer /, '');
  const { audience, issuer } = given;
  const { sub, aud } = jwt.verify(token, given.key, { algorithms: ['HS256'], audience, issuer });
  return { sub, aud };
}, ['JsonWebTokenError']);
";

const PYTHON_BODY: &str = "
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.v1.http import from_http, from_json
def check(headers, body):
    event = from_http_event(HTTPMessage(headers=headers, body=body))
    older = [from_http(headers, body), from_json(body)]
    assert all(one['id'] == event.get_id() and one.data == event.get_data() for one in older), older
    assert event.get_specversion() == '1.0' and event.get_datacontenttype() == 'application/json'
    assert event.get_time().utcoffset().total_seconds() == 0
    return {
        'id': event.get_id(),
        'type': event.get_type(),
        'source': event.get_source(),
        'data': event.get_data(),
    }
judge(check, (BaseCloudEventException, ValueError))
";

// This SDK goes by the media type, which with httpSMS is not that of an event; the body alone it
// takes.
const NODE_BODY: &str = "
const { CloudEvent, HTTP } = require('cloudevents');
judge((headers, body) => {
  if (HTTP.isEvent({ headers, body: body.toString() })) {
    throw new Error('an event by its media type');
  }
  const { id, type, source, data } = new CloudEvent(JSON.parse(body), true);
  return { id, type, source, data };
}, ['ValidationError', 'SyntaxError']);
";

/// Of each type: the source's end, and the data beside what all have.
fn events() -> [(&'static str, &'static str, Value); 8] {
    let message = "0b0123bb-ef2e-468f-908a-c026d51636aa";
    let received = json!({"message_id": message, "attachments": ["https://example.com/1.png"]});
    let expired = json!({
        "message_id": message, "send_attempt_count": 1, "is_final": false, "request_id": null,
    });
    let failed = json!({"id": message, "error_message": "NO_SERVICE", "request_id": null});
    let beat = json!({
        "phone_id": message, "monitor_id": message,
        "last_heartbeat_timestamp": "2025-12-31T22:55:00Z",
    });
    [
        ("message.phone.received", "/receive", received),
        (
            "message.phone.sent",
            "/events",
            json!({"id": message, "request_id": null}),
        ),
        (
            "message.phone.delivered",
            "/events",
            json!({"id": message, "request_id": "order-42"}),
        ),
        ("message.send.failed", "/events", failed),
        ("message.send.expired", "/send", expired),
        (
            "message.call.missed",
            "/missed",
            json!({"message_id": message}),
        ),
        ("phone.heartbeat.offline", "/heartbeats", beat.clone()),
        ("phone.heartbeat.online", "/heartbeats", beat),
    ]
}

fn data(kind: &str, own: &Value) -> Value {
    let mut data = own.clone();
    let timestamp = json!("2025-12-31T23:59:58.814Z");
    let shared = [
        ("user_id", json!("XtAB")),
        ("owner", json!("+18005550199")),
        ("timestamp", timestamp),
    ];
    let contact = [("contact", json!("+18005550100")), ("sim", json!("SIM1"))];
    let text = [
        ("encrypted", json!(false)),
        ("content", json!("Tom & Jerry <3 \u{2028} Olá 👋")),
    ];
    let members = match kind {
        "message.call.missed" => [&shared[..], &contact].concat(),
        _ if kind.starts_with("phone.") => shared.to_vec(),
        _ => [&shared[..], &contact, &text].concat(),
    };
    for (name, value) in members {
        data[name] = value;
    }
    data
}

async fn check_token(request: &Received, audience: &str) {
    let genuine = json!({"sub": "XtAB", "aud": [audience]});
    // Nothing in the token binds the body.
    let requests: Vec<Value> = with_tampered(request, &["authorization"])
        .into_iter()
        .filter(|request| request["name"] != "changed body")
        .collect();
    let mut given = json!({
        "key": KEY, "audience": audience, "issuer": "api.httpsms.com", "requests": requests,
    });
    let expected = |error: &str, none: &str, genuine: Value| {
        json!({
            "as sent": genuine, "changed authorization": {"refused": error},
            "no authorization": {"refused": none},
        })
    };
    let python = expected("InvalidSignatureError", "DecodeError", genuine.clone());
    assert_eq!(judged_by_python(PYTHON_TOKEN, &given).await, python);
    let node = expected("JsonWebTokenError", "JsonWebTokenError", genuine);
    assert_eq!(judged_by_node(NODE_TOKEN, &given).await, node);

    let others = [
        (
            "audience",
            "https://example.com/other",
            "InvalidAudienceError",
        ),
        ("issuer", "other.httpsms.com", "InvalidIssuerError"),
        (
            "key",
            "another-signing-key-0123456789abcdef",
            "InvalidSignatureError",
        ),
    ];
    for (member, other, error) in others {
        let kept = std::mem::replace(&mut given[member], other.into());
        assert_eq!(
            judged_by_python(PYTHON_TOKEN, &given).await["as sent"],
            json!({"refused": error})
        );
        assert_eq!(
            judged_by_node(NODE_TOKEN, &given).await["as sent"],
            json!({"refused": "JsonWebTokenError"})
        );
        given[member] = kept;
    }
}

async fn check_body(request: &Received, kind: &str, source: &str, data: &Value) {
    let headers = request.header_list();
    let body = request.text();
    let id = request.json()["id"].as_str().expect("an id").to_owned();
    let without = |member: &str| body.replacen(&format!("\"{member}\":"), "\"other\":", 1);
    let requests = [
        named("as sent", &headers, body),
        named("no source", &headers, &without("source")),
        named("no type", &headers, &without("type")),
        named("cut", &headers, &body[..body.len() - 1]),
    ];
    let given = json!({"requests": requests});
    let python = [
        "CloudEventValidationError",
        "CloudEventValidationError",
        "JSONDecodeError",
    ];
    let node = ["ValidationError", "ValidationError", "SyntaxError"];
    let verdicts = [
        (judged_by_python(PYTHON_BODY, &given).await, python),
        (judged_by_node(NODE_BODY, &given).await, node),
    ];
    for (verdicts, errors) in verdicts {
        let event = &verdicts["as sent"];
        assert_eq!(
            (&event["id"], &event["type"], &event["data"]),
            (&json!(id), &json!(kind), data),
            "{verdicts}"
        );
        assert!(
            event["source"].as_str().unwrap().ends_with(source),
            "{event}"
        );
        for (name, error) in ["no source", "no type", "cut"].into_iter().zip(errors) {
            assert_eq!(verdicts[name], json!({"refused": error}), "{kind}, {name}");
        }
    }
}

#[tokio::test]
async fn every_event_is_taken_by_jwt_libraries_and_cloudevents_sdks() {
    let scene = Scene::start().await;
    let path = scene.path("ok");
    let url = scene.receiver.url(&format!("{path}?tenant=a&b=<c>"));
    let endpoint = scene
        .api
        .endpoint(&url, json!({"wire_format": "httpsms", "secret": KEY}))
        .await;
    for (nth, (kind, source, own)) in events().into_iter().enumerate() {
        let data = data(kind, &own);
        let request = scene
            .deliver_to(
                &endpoint,
                &path,
                json!({"type": kind, "payload": data.clone()}),
            )
            .await;
        assert_eq!(
            (
                request.header("content-type"),
                request.header("x-event-type")
            ),
            ("application/json", kind)
        );
        check_body(&request, kind, source, &data).await;
        if nth == 0 {
            check_token(&request, &url).await;
        }
    }
    let refused = json!({"refused": "DecodeError"});
    let (_, unsigned) = scene
        .deliver(
            json!({"wire_format": "httpsms", "secret": ""}),
            json!({
                "type": "message.call.missed",
                "payload": data("message.call.missed", &events()[5].2),
            }),
        )
        .await;
    let requests = [named("as sent", &unsigned.header_list(), unsigned.text())];
    let given = json!({"key": KEY, "audience": "", "issuer": "", "requests": requests});
    assert_eq!(
        judged_by_python(PYTHON_TOKEN, &given).await["as sent"],
        refused,
        "without a key there is no token"
    );
}
