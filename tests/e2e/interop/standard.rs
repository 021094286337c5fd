//! Standard Webhooks: the official libraries, Svix's, and ed25519 by the languages' own means.

use serde_json::{Value, json};

use super::{Scene, assert_only_genuine, judged_by_node, judged_by_python, with_tampered};
use crate::support::receiver::Received;

const OTHER_SECRET: &str = "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXItMzJieXRlcw==";

const PYTHON: &str = "
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
webhook = Webhook(given['secret'])
judge(lambda headers, body: webhook.verify(body, headers), WebhookVerificationError)
";

const NODE: &str = "
const { Webhook } = require('standardwebhooks');
const webhook = new Webhook(given.secret);
const verify = (headers, body) => webhook.verify(body.toString(), headers);
judge(verify, ['WebhookVerificationError']);
";

// Svix's libraries verify and leave the parsing to the caller.
const PYTHON_SVIX: &str = "
from svix.webhooks import Webhook, WebhookVerificationError
def check(headers, body):
    Webhook(given['secret']).verify(body, headers)
    return json.loads(body)
judge(check, WebhookVerificationError)
";

const NODE_SVIX: &str = "
import('svix').then(({ Webhook }) => judge((headers, body) => {
  new Webhook(given.secret).verify(body.toString(), headers);
  return JSON.parse(body);
}, ['WebhookVerificationError']));
";

fn proof(prefix: &str) -> [String; 3] {
    ["id", "timestamp", "signature"].map(|name| format!("{prefix}-{name}"))
}

async fn verdicts(request: &Received, prefix: &str, secret: &str) -> Vec<Value> {
    let proof = proof(prefix);
    let given = json!({
        "secret": secret, "requests": with_tampered(request, &proof.each_ref().map(String::as_str)),
    });
    let mut verdicts = vec![
        judged_by_python(PYTHON_SVIX, &given).await,
        judged_by_node(NODE_SVIX, &given).await,
    ];
    if prefix == "webhook" {
        verdicts.push(judged_by_python(PYTHON, &given).await);
        verdicts.push(judged_by_node(NODE, &given).await);
    }
    verdicts
}

/// All libraries that know the prefix verify the request with this secret, and with no other.
pub(super) async fn verify(request: &Received, prefix: &str, secret: &str, body: &Value) {
    for verdicts in verdicts(request, prefix, secret).await {
        assert_only_genuine(&verdicts, body, "WebhookVerificationError");
    }
    for verdicts in verdicts(request, prefix, OTHER_SECRET).await {
        assert_only_genuine(
            &verdicts,
            &json!({"refused": "WebhookVerificationError"}),
            "WebhookVerificationError",
        );
    }
}

fn text() -> Value {
    json!({"content": "Olá 你好 👋 <&>\u{2028}\"", "n": 1.5e300})
}

fn secret(endpoint: &Value) -> &str {
    endpoint["secret"].as_str().expect("a secret")
}

#[tokio::test]
async fn standard_webhooks_and_svix_verify_what_arrives() {
    let scene = Scene::start().await;
    for prefix in ["webhook", "svix"] {
        // Svix's libraries take webhook-id where there is no svix-id.
        let settings =
            json!({"settings": {"header_prefix": prefix, "webhook_id": prefix == "webhook"}});
        let (endpoint, request) = scene.deliver(settings, json!({"payload": text()})).await;
        assert_eq!(request.header("content-type"), "application/json");
        let body = request.json();
        assert_eq!(
            (&body["type"], &body["data"]),
            (&json!("test.sent"), &text())
        );
        verify(&request, prefix, secret(&endpoint), &body).await;
    }
    // Other wire formats carry the same headers where a secret is brought along.
    let settings = json!({
        "wire_format": "cloudevents",
        "secret": "whsec_dGhlLXNlY3JldC10aGUtc2VjcmV0LXRoZS1zZWNyZXQ=",
    });
    let (_, request) = scene
        .deliver(settings.clone(), json!({"payload": text()}))
        .await;
    verify(
        &request,
        "webhook",
        settings["secret"].as_str().unwrap(),
        &request.json(),
    )
    .await;
}

#[tokio::test]
async fn either_of_two_secrets_in_rotation_verifies() {
    let scene = Scene::start().await;
    for prefix in ["webhook", "svix"] {
        let path = scene.path("ok");
        let settings =
            json!({"settings": {"header_prefix": prefix, "webhook_id": prefix == "webhook"}});
        let endpoint = scene
            .api
            .endpoint(&scene.receiver.url(&path), settings)
            .await;
        let rotate = format!(
            "/v1/endpoints/{}/rotate-secret",
            endpoint["id"].as_str().unwrap()
        );
        let rotated = scene.api.post(&rotate, json!({})).await;
        let request = scene
            .deliver_to(&endpoint, &path, json!({"payload": text()}))
            .await;
        assert_eq!(
            request
                .header(&format!("{prefix}-signature"))
                .split(' ')
                .count(),
            2
        );
        for secret in [secret(&endpoint), secret(&rotated)] {
            verify(&request, prefix, secret, &request.json()).await;
        }
    }
}

const PYTHON_ED25519: &str = "
import base64
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
public_key = base64.b64decode(given['public_key'].removeprefix('whpk_'))
key = Ed25519PublicKey.from_public_bytes(public_key)
def check(headers, body):
    signed = f\"{headers['webhook-id']}.{headers['webhook-timestamp']}.\".encode() + body
    version, signature = headers['webhook-signature'].split(' ')[0].split(',')
    assert version == 'v1a'
    key.verify(base64.b64decode(signature), signed)
    return json.loads(body)
judge(check, (InvalidSignature, KeyError))
";

const NODE_ED25519: &str = "
const crypto = require('node:crypto');
class Unverified extends Error {}
const x = Buffer.from(given.public_key.slice('whpk_'.length), 'base64').toString('base64url');
const key = crypto.createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x } });
judge((headers, body) => {
  const before = `${headers['webhook-id']}.${headers['webhook-timestamp']}.`;
  const signed = Buffer.concat([Buffer.from(before), body]);
  const [version, signature] = (headers['webhook-signature'] ?? 'v1a,').split(' ')[0].split(',');
  if (version !== 'v1a') throw new Error(version);
  if (crypto.verify(null, signed, key, Buffer.from(signature, 'base64'))) return JSON.parse(body);
  throw new Unverified();
}, ['Unverified']);
";

/// Every request but the genuine one is refused, however the check says so.
fn assert_refused(verdicts: &Value, accepted: &Value) {
    for (name, verdict) in verdicts.as_object().expect("an object") {
        assert_eq!(
            verdict.get("refused").is_none(),
            name == "as sent",
            "{name}: {verdict}"
        );
    }
    assert_eq!(verdicts["as sent"], *accepted);
}

/// The libraries verify no `v1a` yet; `cryptography` and Node's own do.
#[tokio::test]
async fn ed25519_signatures_verify_with_the_public_key() {
    let scene = Scene::start().await;
    let path = scene.path("ok");
    let settings = json!({"settings": {"signature": "v1a"}});
    let endpoint = scene
        .api
        .endpoint(&scene.receiver.url(&path), settings)
        .await;
    assert!(secret(&endpoint).starts_with("whsk_"), "{endpoint}");
    let public_key = endpoint["public_keys"][0]
        .as_str()
        .expect("a public key")
        .to_owned();
    let request = scene
        .deliver_to(&endpoint, &path, json!({"payload": text()}))
        .await;
    let proof = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let given = json!({"public_key": public_key, "requests": with_tampered(&request, &proof)});
    assert_refused(
        &judged_by_python(PYTHON_ED25519, &given).await,
        &request.json(),
    );
    assert_refused(&judged_by_node(NODE_ED25519, &given).await, &request.json());

    // Beside the old kind: the libraries pass over the v1a signature and verify the other.
    let rotate = format!(
        "/v1/endpoints/{}/rotate-secret",
        endpoint["id"].as_str().unwrap()
    );
    scene
        .api
        .post(&rotate, json!({"secret": OTHER_SECRET}))
        .await;
    let request = scene
        .deliver_to(&endpoint, &path, json!({"payload": text()}))
        .await;
    let versions: Vec<&str> = request
        .header("webhook-signature")
        .split(' ')
        .map(|one| &one[..one.find(',').unwrap()])
        .collect();
    assert_eq!(versions, ["v1", "v1a"]);
    for verdicts in verdicts(&request, "webhook", OTHER_SECRET).await {
        assert_eq!(verdicts["as sent"], request.json());
        assert_eq!(
            verdicts["changed body"],
            json!({"refused": "WebhookVerificationError"})
        );
    }
}
