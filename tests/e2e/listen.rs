//! `posthaste listen` against real deliveries: what Posthaste signs, it verifies.

use std::process::{ExitStatus, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::process::run;
use crate::support::{Api, Backend, DEADLINE, Place, Process};

/// A running `posthaste listen --json`. Killed when dropped.
struct Listener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Listener {
    /// Ends after so many requests.
    async fn start(arguments: &[&str], requests: usize) -> Self {
        let mut command = Command::new(crate::support::posthaste());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("POSTHASTE_")) {
            command.env_remove(name);
        }
        command.args([
            "listen",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--exit-after",
            &requests.to_string(),
        ]);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let first = next(&mut lines).await;
        let url = format!(
            "http://{}/hook",
            first["listening"]
                .as_str()
                .unwrap_or_else(|| panic!("{first}"))
        );
        Self { child, lines, url }
    }

    async fn next(&mut self) -> Value {
        next(&mut self.lines).await
    }

    async fn ended(mut self) -> ExitStatus {
        tokio::time::timeout(DEADLINE, self.child.wait())
            .await
            .expect("it ends")
            .expect("a status")
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = tokio::time::timeout(DEADLINE, lines.next_line())
        .await
        .expect("a line in time")
        .expect("a line");
    serde_json::from_str(&line.expect("a line before the end")).expect("JSON")
}

/// Makes an endpoint whose URL comes later.
async fn endpoint(api: &Api, more: Value) -> Value {
    api.endpoint("http://127.0.0.1:9/", more).await
}

/// Points the endpoint to the listener and sends it a notification; returns what came, the last of
/// `count`.
async fn deliver(
    api: &Api,
    endpoint: &Value,
    mut listener: Listener,
    count: usize,
) -> (Vec<Value>, ExitStatus) {
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let (status, answer) = api
        .call(Method::PATCH, &path, Some(json!({"url": listener.url})))
        .await;
    assert!(status.is_success(), "{answer}");
    let id = api
        .enqueue_to(endpoint, json!({"payload": {"text": "Olá <&>"}}))
        .await;
    let mut came = Vec::new();
    for _ in 0..count {
        came.push(listener.next().await);
    }
    api.finished(&id, 1).await;
    (came, listener.ended().await)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[tokio::test]
async fn verifies_standard_webhooks_of_every_kind() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let made = endpoint(&api, json!({})).await;
    let old = text(&made["secret"]).to_owned();
    assert!(old.starts_with("whsec_"), "{made}");
    let (came, status) = deliver(
        &api,
        &made,
        Listener::start(&["--secret", &old], 1).await,
        1,
    )
    .await;
    assert!(came[0]["verified"] == true && status.success(), "{came:?}");

    // From v1 to v1a: while the two overlap, each of them suffices.
    let path = format!("/v1/endpoints/{}", text(&made["id"]));
    let (status, answer) = api
        .call(
            Method::PATCH,
            &path,
            Some(json!({"settings": {"signature": "v1a"}})),
        )
        .await;
    assert!(status.is_success(), "{answer}");
    let rotated = api.post(&format!("{path}/rotate-secret"), json!({})).await;
    let secret = text(&rotated["secret"]);
    let public = text(&rotated["endpoint"]["public_keys"][0]);
    assert!(
        secret.starts_with("whsk_") && public.starts_with("whpk_"),
        "{public}"
    );
    for key in [&old, secret, public] {
        let listener = Listener::start(&["--secret", key, "--format", "standard"], 1).await;
        let (came, status) = deliver(&api, &made, listener, 1).await;
        assert!(came[0]["verified"] == true && status.success(), "{came:?}");
        let signatures = text(&came[0]["headers"]["webhook-signature"]);
        assert!(
            signatures.starts_with("v1a,") && signatures.contains(" v1,"),
            "{signatures}"
        );
    }
    let show = ["endpoint", "show", text(&made["id"])];
    let shown = run(&place, &show, &[("POSTHASTE_API_URL", &up.url)], None).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(public) && !shown.contains("whsk_"),
        "{shown}"
    );

    let svix = endpoint(&api, json!({"settings": {"header_prefix": "svix"}})).await;
    let listener = Listener::start(&["--secret", text(&svix["secret"])], 1).await;
    let (came, status) = deliver(&api, &svix, listener, 1).await;
    assert!(came[0]["verified"] == true && status.success(), "{came:?}");
    let names = came[0]["headers"].as_object().unwrap();
    assert!(
        names.contains_key("svix-signature") && !names.contains_key("webhook-signature"),
        "{names:?}"
    );
}

#[tokio::test]
async fn refuses_what_another_key_signed() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let made = endpoint(&api, json!({"settings": {"signature": "v1a"}})).await;
    let other = endpoint(&api, json!({"settings": {"signature": "v1a"}})).await;
    let listener = Listener::start(&["--secret", text(&other["public_keys"][0])], 1).await;
    let (came, status) = deliver(&api, &made, listener, 1).await;
    assert_eq!(
        (&came[0]["verified"], &came[0]["answer"]),
        (&json!(false), &json!(401)),
        "{came:?}"
    );
    assert!(
        text(&came[0]["problem"]).contains("does not match"),
        "{came:?}"
    );
    assert_eq!(status.code(), Some(1));
}

#[tokio::test]
async fn checks_cloud_events_and_gives_consent() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    for mode in ["structured", "binary"] {
        let settings = json!({
            "mode": mode, "handshake": true, "origin": "events.example.com", "request_rate": 600,
        });
        let made = endpoint(
            &api,
            json!({"wire_format": "cloudevents", "settings": settings}),
        )
        .await;
        let consent = [
            "--format",
            "cloudevents",
            "--consent",
            "events.example.com",
            "--consent-rate",
            "120",
        ];
        let (came, status) = deliver(&api, &made, Listener::start(&consent, 2).await, 2).await;
        assert_eq!(
            (&came[0]["method"], &came[0]["verified"]),
            (&json!("OPTIONS"), &Value::Null),
            "{came:?}"
        );
        assert_eq!(
            (&came[1]["method"], &came[1]["verified"]),
            (&json!("POST"), &json!(true)),
            "{mode}: {came:?}"
        );
        assert!(status.success());
    }
    // What is no CloudEvent is refused.
    let made = endpoint(&api, json!({"wire_format": "raw"})).await;
    let (came, status) = deliver(
        &api,
        &made,
        Listener::start(&["--format", "cloudevents"], 1).await,
        1,
    )
    .await;
    assert!(
        came[0]["verified"] == false && text(&came[0]["problem"]).contains("not a CloudEvent"),
        "{came:?}"
    );
    assert_eq!(status.code(), Some(1));
}
