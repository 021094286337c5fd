//! Scripts of endpoints' owners, in the running program: what they can do, what they cannot, and
//! that bad ones harm only themselves.

mod bad;
mod beside;
mod compiling;
mod gateway;
mod round;
mod transform;

use serde_json::{Value, json};

use crate::support::receiver::Received;
use crate::wire_formats::Scene;

/// An endpoint whose script takes the place of a gateway.
async fn gateway(scene: &Scene, script: &str, timeout_ms: u64, max_retries: u32) -> Value {
    let body = json!({ "wire_format": "authgear-script", "settings": { "script": script },
        "timeout_ms": timeout_ms, "retry": { "max_retries": max_retries } });
    scene.api.post("/v1/endpoints", body).await
}

/// A message that such an endpoint can take.
fn sms() -> Value {
    json!({ "type": "sms.verification", "payload": { "to": "+44123456789", "body": "420240 is \
        your code.\n" } })
}

/// The one request to a path.
fn only(scene: &Scene, path: &str) -> Received {
    let mut requests = scene.receiver.requests(path);
    assert_eq!(requests.len(), 1, "{path}");
    requests.remove(0)
}
