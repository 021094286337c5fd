//! The receivers that the wire formats' pages show: each takes a real delivery, and refuses it when
//! it was tampered with.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::interop::{Scene, python, tampered};
use crate::support::program::{Language, Program};
use crate::support::relay::{Relay, send};

/// What a page's receivers get, and what proves it.
struct Example {
    endpoint: Value,
    notification: Value,
    /// Of the receiver, from the endpoint as it was made.
    environment: fn(&Value) -> Vec<(&'static str, String)>,
    /// Headers that must not be other ones.
    proof: &'static [&'static str],
    /// Whether the body must not be another one.
    proves_body: bool,
    /// What the receiver prints of the message.
    prints: &'static str,
}

/// Its text, as a variable.
fn text(endpoint: &Value, member: &str) -> String {
    endpoint[member]
        .as_str()
        .unwrap_or_else(|| panic!("{member} of {endpoint}"))
        .to_owned()
}

fn sms_from_comet() -> Value {
    let sender = json!({"uid": "uid-5", "name": "John Paul"});
    json!({
        "payload": {
            "messages": [{"sender": sender.clone(), "message": "Hi é"}],
            "senderDetails": sender, "smsContent": "é <&>",
        },
        "recipient": {"uid": "cometchat-uid-1", "name": "Andrew"},
    })
}

/// The examples of a page; a page whose receivers are not tried here fails the test.
fn examples(page: &str) -> Vec<Example> {
    let base = Example {
        endpoint: json!({"wire_format": page}),
        notification: json!({"type": "order.paid", "payload": {"text": "Olá <&> é"}}),
        environment: |_| Vec::new(),
        proof: &[],
        proves_body: true,
        prints: "order.paid",
    };
    let one = match page {
        "standard" => Example {
            environment: |endpoint| vec![("WEBHOOK_SECRET", text(endpoint, "secret"))],
            proof: &["webhook-id", "webhook-timestamp", "webhook-signature"],
            ..base
        },
        "cloudevents" => return cloudevents(),
        "httpsms" => Example {
            notification: json!({"type": "message.phone.received", "payload": {
                "message_id": "0b0123bb-ef2e-468f-908a-c026d51636aa", "owner": "+18005550199",
                "contact": "+18005550100", "content": "Tom & Jerry <3 é",
            }}),
            environment: |endpoint| {
                vec![
                    ("SIGNING_KEY", text(endpoint, "secret")),
                    ("WEBHOOK_URL", text(endpoint, "url")),
                ]
            },
            proof: &["authorization"],
            proves_body: false,
            prints: "message.phone.received",
            ..base
        },
        "authgear-sms" => Example {
            notification: json!({"payload": {"to": "+44123456789", "body": "420240 is your <code> \
                é\n"}}),
            environment: |endpoint| vec![("WEBHOOK_KEY", text(endpoint, "secret"))],
            proof: &["x-authgear-body-signature"],
            prints: "+44123456789",
            ..base
        },
        "cometchat-sms" => Example {
            endpoint: json!({"wire_format": page, "settings": {
                "useBasicAuth": true, "basicAuthUsername": "cometchat",
                "basicAuthPassword": "pa:ss word-1",
                "appId": "app123", "region": "us",
            }}),
            notification: sms_from_comet(),
            environment: |_| vec![("CREDENTIALS", "cometchat:pa:ss word-1".to_owned())],
            proof: &["authorization"],
            proves_body: false,
            prints: "cometchat-uid-1",
        },
        "novu-sms" => Example {
            endpoint: json!({"wire_format": page, "settings": {
                "apiKeyRequestHeader": "X-API-KEY", "apiKey": "key-123-456", "from": "MyApp",
            }}),
            notification: json!({"payload": {"content": "420240 is your <code> \
                é"}, "recipient": {"phone": "+1234567890"}}),
            environment: |_| vec![("API_KEY", "key-123-456".to_owned())],
            proof: &["x-api-key"],
            proves_body: false,
            prints: "+1234567890",
        },
        "novu-push" => Example {
            notification: json!({
                "payload": {"title": "News é", "content": "Hello <&>", "payload": {"k": 1}},
                "recipient": {
                    "device_tokens": ["a-device-token"], "subscriber": {"subscriberId": "s1"},
                },
            }),
            environment: |endpoint| vec![("HMAC_SECRET_KEY", text(endpoint, "secret"))],
            proof: &["x-novu-signature"],
            prints: "a-device-token",
            ..base
        },
        "raw" => Example {
            endpoint: json!({
                "wire_format": page, "headers": {"Authorization": "Bearer 3fd0c2e91b77"},
            }),
            environment: |_| vec![("HOOK_TOKEN", "3fd0c2e91b77".to_owned())],
            proof: &["authorization"],
            proves_body: false,
            prints: "",
            ..base
        },
        other => panic!("docs/wire-formats/{other}.md shows a receiver that is not tried"),
    };
    vec![one]
}

/// In both modes, with the handshake: nothing proves an event, but what is none is refused.
fn cloudevents() -> Vec<Example> {
    let of_mode = |mode: &str| Example {
        endpoint: json!({"wire_format": "cloudevents", "settings": {
            "mode": mode, "handshake": true, "origin": "events.example.com", "request_rate": 600,
        }}),
        notification: json!({"type": "order.paid", "payload": {"order": 1001}}),
        environment: |_| Vec::new(),
        proof: if mode == "binary" { &["ce-type"] } else { &[] },
        proves_body: mode == "structured",
        prints: "order.paid",
    };
    vec![of_mode("structured"), of_mode("binary")]
}

/// Whether an answer takes the message: Authgear's says it in its body.
fn takes(status: StatusCode, body: &[u8]) -> bool {
    let code = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| body["code"].as_str().map(str::to_owned));
    status.is_success() && code.is_none_or(|code| code == "ok")
}

/// The same request with each part that proves it changed, or left out.
fn tampered_with(
    example: &Example,
    headers: &HeaderMap,
    body: &Bytes,
) -> Vec<(String, HeaderMap, Bytes)> {
    let mut requests = Vec::new();
    if example.proves_body {
        requests.push((
            "another body".to_owned(),
            headers.clone(),
            Bytes::from([body, &b"x"[..]].concat()),
        ));
    }
    for name in example.proof {
        let given = headers
            .get(*name)
            .unwrap_or_else(|| panic!("no {name} in {headers:?}"));
        let mut without = headers.clone();
        without.remove(*name);
        requests.push((format!("no {name}"), without, body.clone()));
        // Another type of event is an event too.
        if *name != "ce-type" {
            let mut changed = headers.clone();
            let value =
                HeaderValue::try_from(tampered(given.to_str().expect("text"))).expect("a value");
            changed.insert(HeaderName::from_static(name), value);
            requests.push((format!("another {name}"), changed, body.clone()));
        }
    }
    assert!(!requests.is_empty());
    requests
}

/// The page's blocks in a language that are programs which listen.
fn receivers(page: &str, language: &str) -> Vec<String> {
    blocks(page, language)
        .into_iter()
        .filter(|block| block.contains("9000"))
        .collect()
}

fn blocks(page: &str, language: &str) -> Vec<String> {
    let path = format!("{}/docs/wire-formats/{page}.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let fence = format!("```{language}\n");
    page.split(&fence)
        .skip(1)
        .map(|rest| rest.split("\n```").next().expect("a block").to_owned())
        .collect()
}

fn pages() -> Vec<String> {
    let folder = format!("{}/docs/wire-formats", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder)
        .expect("the pages")
        .map(|file| file.expect("a file").file_name());
    files
        .map(|name| {
            name.to_str()
                .expect("text")
                .trim_end_matches(".md")
                .to_owned()
        })
        .collect()
}

async fn try_receiver(
    scene: &Scene,
    what: &str,
    language: Language,
    source: &str,
    example: &Example,
) {
    let relay = Relay::start().await;
    let endpoint = scene
        .api
        .endpoint(&relay.url, example.endpoint.clone())
        .await;
    let environment = (example.environment)(&endpoint);
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let receiver = Program::start(language, source, &environment).await;
    relay.lead_to(receiver.url(""));
    let id = scene
        .api
        .enqueue_to(&endpoint, example.notification.clone())
        .await;
    let delivery = scene.api.finished(&id, 1).await.remove(0);
    assert_eq!(delivery["status"], "delivered", "{what}: {delivery}");
    receiver.printed(example.prints).await;

    let (headers, body) = relay.posted();
    let again = send(
        Method::POST,
        &receiver.url("/hook"),
        headers.clone(),
        body.clone(),
    )
    .await;
    assert!(takes(again.0, &again.2), "{what}: {again:?}");
    for (tampering, headers, body) in tampered_with(example, &headers, &body) {
        let (status, _, answer) = send(Method::POST, &receiver.url("/hook"), headers, body).await;
        assert!(
            !takes(status, &answer),
            "{what} takes a request with {tampering}: {status} {answer:?}"
        );
    }
}

async fn try_all(fence: &str, language: Language, least: usize) {
    let scene = Scene::start().await;
    let mut tried = 0;
    for page in pages() {
        for source in receivers(&page, fence) {
            for example in examples(&page) {
                try_receiver(
                    &scene,
                    &format!("{page}, {fence}"),
                    language,
                    &source,
                    &example,
                )
                .await;
            }
            tried += 1;
        }
    }
    assert!(tried >= least, "only {tried} receivers");
}

#[tokio::test]
async fn the_receivers_in_python_take_what_is_genuine() {
    try_all("python", Language::Python, 8).await;
}

#[tokio::test]
async fn the_receivers_in_javascript_take_what_is_genuine() {
    try_all("js", Language::Node, 7).await;
}

#[tokio::test]
async fn the_check_with_the_public_key_takes_what_is_genuine() {
    let scene = Scene::start().await;
    let settings = json!({"settings": {"signature": "v1a"}});
    let (endpoint, request) = scene
        .deliver(settings, json!({"payload": {"text": "Olá <&> é"}}))
        .await;
    let public_key = endpoint["public_keys"][0].as_str().expect("a public key");
    let block = blocks("standard", "python")
        .into_iter()
        .find(|block| block.contains("is_genuine"))
        .expect("the check");
    assert_eq!(block.matches("whpk_…").count(), 1);
    let tries = "
import json, sys
given = json.load(sys.stdin)
headers, body = given['headers'], given['body'].encode()
late = {**headers, 'webhook-timestamp': str(int(headers['webhook-timestamp']) - 301)}
other = {**headers, 'webhook-id': 'another'}
signature = {**headers, 'webhook-signature': given['tampered']}
tried = [(headers, body), (headers, body + b' '), (late, body), (other, body), (signature, body)]
print([is_genuine(*one) for one in tried])
";
    let headers: serde_json::Map<String, Value> = request
        .header_list()
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    let wrong = tampered(request.header("webhook-signature"));
    let given = json!({"headers": headers, "body": request.text(), "tampered": wrong}).to_string();
    let said = python(
        &format!("{}\n{tries}", block.replace("whpk_…", public_key)),
        &[],
        &given,
    )
    .await;
    assert_eq!(said.trim(), "[True, False, False, False, False]");
}
