//! Receivers written with other people's libraries accept what arrives.

use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::support::receiver::Received;
use crate::support::{Api, Backend, Place, Process, Receiver, required};

/// Runs a Python script with the test libraries; panics when it fails.
pub(crate) async fn python(script: &str, arguments: &[&str], input: &str) -> String {
    let mut command = tokio::process::Command::new(required("POSTHASTE_TEST_PYTHON"));
    command.arg("-c").arg(script).args(arguments);
    run(command, input).await
}

async fn node(script: &str, arguments: &[&str], input: &str) -> String {
    let mut command = tokio::process::Command::new("node");
    command.env("NODE_PATH", required("POSTHASTE_TEST_NODE_PATH")).arg("-e").arg(script).arg("--").args(arguments);
    run(command, input).await
}

async fn run(mut command: tokio::process::Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("the interpreter starts");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).await.expect("writing stdin");
    let output =
        tokio::time::timeout(crate::support::DEADLINE, child.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The official Standard Webhooks libraries verify a request.
pub(crate) async fn verify_by_libraries(request: &Received, secret: &str) {
    let headers = json!({
        "webhook-id": request.header("webhook-id"),
        "webhook-timestamp": request.header("webhook-timestamp"),
        "webhook-signature": request.header("webhook-signature"),
    });
    let body = std::str::from_utf8(&request.body).expect("text");
    let given = json!({"secret": secret, "headers": headers, "body": body}).to_string();
    let script = "
import json, sys
from standardwebhooks.webhooks import Webhook
given = json.load(sys.stdin)
Webhook(given['secret']).verify(given['body'], given['headers'])
try:
    Webhook(given['secret']).verify(given['body'] + ' ', given['headers'])
except Exception:
    print('verified')
";
    assert_eq!(python(script, &[], &given).await.trim(), "verified");
    let script = "
const { Webhook } = require('standardwebhooks');
const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));
new Webhook(given.secret).verify(given.body, given.headers);
try { new Webhook(given.secret).verify(given.body + ' ', given.headers); } catch { console.log('verified'); }
";
    assert_eq!(node(script, &[], &given).await.trim(), "verified");
}

#[tokio::test]
async fn the_official_libraries_verify_what_arrives() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api.endpoint(&receiver.url("/ok"), json!({})).await;
    let payload = json!({"content": "Olá 你好 👋 <&>\u{2028}\"", "n": 1.5e300});
    api.enqueue_to(&endpoint, json!({"payload": payload})).await;
    let request = receiver.wait_for("/ok", 1).await.remove(0);
    assert_eq!(request.header("content-type"), "application/json");
    let body = request.json();
    assert_eq!((&body["type"], &body["data"]), (&json!("test.sent"), &payload));
    verify_by_libraries(&request, endpoint["secret"].as_str().unwrap()).await;
}
