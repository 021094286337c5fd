//! Spans, as a collector gets them from the built program.

mod collector;
mod sampling;
mod whole;

use serde_json::json;

use crate::support::collector::{Collector, Exported};
use crate::support::{Api, Backend, Place, Process, Receiver};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const ENDPOINT: &str = "POSTHASTE_TRACING_OTLP_ENDPOINT";

/// Spans of a kind whose names begin so.
fn named<'a>(spans: &'a [Exported], kind: i32, name: &str) -> Vec<&'a Exported> {
    spans
        .iter()
        .filter(|span| span.kind == kind && span.name.starts_with(name))
        .collect()
}

const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

#[tokio::test]
async fn nothing_confidential_is_in_a_span() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let collector = Collector::start().await;
    let receiver = Receiver::start().await;
    receiver.answers("/secret-path/refuses", &[(400, "said-by-the-receiver")]);
    receiver.answers("/secret-path/token", &[(200, r#"{"token":"tok-secret"}"#)]);
    let up = Process::start_with(&place, &["up"], &[(ENDPOINT, &collector.url)]).await;
    let api = Api::of(&up);
    let number = "+18005550199";
    let url = receiver.url("/secret-path/refuses?token=secret-query");
    let more =
        json!({"headers": {"Authorization": "Bearer secret-header"}, "retry": {"max_retries": 0}});
    let plain = api.endpoint(&url, more).await;
    let transform = "export default () => { throw new Error('said-by-a-script') }";
    let scripted = api
        .endpoint(&url, json!({"settings": {"transform": transform}}))
        .await;
    let recipient = json!({"phone_number": number, "phone": number});
    for endpoint in [&plain, &scripted] {
        let more =
            json!({"payload": {"to": number, "text": "secret-payload"}, "recipient": recipient});
        let id = api.enqueue_to(endpoint, more).await;
        api.finished(&id, 1).await;
    }
    api.get(&format!(
        "/v1/deliveries?endpoint_id={}",
        plain["id"].as_str().unwrap()
    ))
    .await;
    assert!(up.stop().await.success());
    let spans = collector.spans();
    assert_eq!(named(&spans, CLIENT, "POST").len(), 1, "{spans:#?}");
    assert_eq!(named(&spans, INTERNAL, "run transform").len(), 1);
    let failed: Vec<&str> = named(&spans, CONSUMER, "process")
        .iter()
        .map(|span| span.get("error.type"))
        .collect();
    assert_eq!(failed, ["http_status", "render_error"]);
    let sent: Vec<u8> = collector
        .requests()
        .iter()
        .flat_map(|(_, body)| body.to_vec())
        .collect();
    let sent = String::from_utf8_lossy(&sent);
    let secret = plain["secret"].as_str().unwrap();
    for confidential in [
        "secret-path",
        "secret-query",
        "secret-header",
        "secret-payload",
        "said-by",
        "8005550199",
        &secret[6..],
        crate::support::api::ADMIN_KEY,
    ] {
        assert!(!sent.contains(confidential), "{confidential} is in a span");
    }
}
