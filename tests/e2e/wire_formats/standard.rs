//! Standard Webhooks: secrets of both kinds in a rotation, and Svix's names of the headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Scene, end, once};
use crate::support::receiver::Received;

const SYMMETRIC: &str = "whsec_cGVlci12ZXJpZnktc3RhbmRhcmQta2V5LTMyYnl0ZXM=";

/// What was signed, and each signature behind its kind.
fn signed<'a>(request: &'a Received, prefix: &str) -> (Vec<u8>, Vec<(&'a str, Vec<u8>)>) {
    let header = |name: &str| request.header(&format!("{prefix}-{name}"));
    let text = [
        header("id").as_bytes(),
        b".",
        header("timestamp").as_bytes(),
        b".",
        &request.body,
    ]
    .concat();
    let signature = |one: &'a str| {
        let (kind, encoded) = one.split_once(',').expect("a kind");
        (kind, STANDARD.decode(encoded).expect("base64"))
    };
    (
        text,
        request.headers[format!("{prefix}-signature")]
            .to_str()
            .unwrap()
            .split(' ')
            .map(signature)
            .collect(),
    )
}

fn verify_symmetric(secret: &str, text: &[u8], signature: &[u8]) {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").expect("whsec_"))
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(text);
    mac.verify_slice(signature).expect("a valid v1 signature");
}

/// By the public key that the API shows.
fn verify_asymmetric(endpoint: &Value, text: &[u8], signature: &[u8]) {
    let shown = endpoint["public_keys"][0].as_str().expect("a public key");
    let key = STANDARD
        .decode(shown.strip_prefix("whpk_").expect("whpk_"))
        .unwrap();
    let key = VerifyingKey::from_bytes(&key.try_into().expect("32 bytes")).unwrap();
    key.verify(text, &Signature::from_slice(signature).unwrap())
        .expect("a valid v1a signature");
}

#[tokio::test]
async fn both_kinds_of_secret_sign_while_one_takes_over_from_the_other() {
    let scene = Scene::start().await;
    let settings = json!({ "signature": "v1a" });
    let endpoint = scene
        .endpoint("standard", "/ok", settings, json!({ "secret": SYMMETRIC }))
        .await;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let rotated = scene
        .api
        .post(&format!("{path}/rotate-secret"), json!({}))
        .await;
    assert!(
        rotated["secret"]
            .as_str()
            .expect("a new secret")
            .starts_with("whsk_"),
        "{}",
        rotated["endpoint"]
    );
    let endpoint = scene.api.get(&path).await;
    assert_eq!(
        (&endpoint["has_secret"], &endpoint["retiring_secrets"]),
        (&json!(true), &json!(1))
    );

    let delivery = scene.outcome(&endpoint, json!({})).await;
    assert_eq!(end(&delivery).0, "delivered");
    let request = scene.receiver.requests("/ok").remove(0);
    assert_eq!(request.header("webhook-id"), delivery["id"]);
    let (text, signatures) = signed(&request, "webhook");
    let kinds: Vec<_> = signatures.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["v1a", "v1"], "the newest first");
    verify_asymmetric(&endpoint, &text, &signatures[0].1);
    verify_symmetric(SYMMETRIC, &text, &signatures[1].1);
    // A library that knows v1 alone finds its signature beside the other.
    crate::interop::verify_by_libraries(&request, SYMMETRIC).await;
    assert!(!format!("{endpoint}{delivery}").contains(rotated["secret"].as_str().unwrap()));

    // Once the overlap is over, the new one signs alone.
    let again = scene
        .api
        .post(
            &format!("{path}/rotate-secret"),
            json!({ "overlap_seconds": 0 }),
        )
        .await;
    let delivery = scene.outcome(&endpoint, json!({})).await;
    assert_eq!(end(&delivery).0, "delivered");
    let request = scene.receiver.requests("/ok").remove(1);
    let (text, signatures) = signed(&request, "webhook");
    let kinds: Vec<_> = signatures.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["v1a"]);
    verify_asymmetric(&again["endpoint"], &text, &signatures[0].1);
}

#[tokio::test]
async fn the_headers_can_have_svixs_names() {
    let scene = Scene::start().await;
    let mut more = once();
    super::merge(&mut more, json!({ "secret": SYMMETRIC }));
    let settings = json!({ "header_prefix": "svix", "body": "payload" });
    let endpoint = scene.endpoint("standard", "/ok", settings, more).await;
    let delivery = scene
        .outcome(&endpoint, json!({ "payload": { "z": 1, "a": [2] } }))
        .await;
    assert_eq!(end(&delivery).0, "delivered");
    let request = scene.receiver.requests("/ok").remove(0);
    assert_eq!(request.header("svix-id"), delivery["id"]);
    assert_eq!(super::body(&request), r#"{"z":1,"a":[2]}"#);
    let (text, signatures) = signed(&request, "svix");
    assert_eq!((signatures.len(), signatures[0].0), (1, "v1"));
    verify_symmetric(SYMMETRIC, &text, &signatures[0].1);
    assert!(
        request.headers.get("webhook-signature").is_none()
            && request.headers.get("webhook-timestamp").is_none()
    );
}
