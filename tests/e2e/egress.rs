//! Addresses that must not be called are not called.

use reqwest::Method;
use serde_json::json;

use crate::support::{Api, Backend, Place, Process, Receiver, process};

#[tokio::test]
async fn forbidden_urls_are_refused_when_an_endpoint_is_saved() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start_with(
        &place,
        &["up"],
        &[("POSTHASTE_EGRESS_ALLOW", "127.0.0.0/8")],
    )
    .await;
    let api = Api::of(&up);
    for url in [
        "http://169.254.169.254/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.0.0.1/hook",
        "http://2130706434.nip.invalid/",
        "http://[fd00::1]/",
        "http://0x0a000001/",
        "ftp://127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "not a url",
    ] {
        let body = json!({"url": url, "wire_format": "raw"});
        let (status, problem) = api.call(Method::POST, "/v1/endpoints", Some(body)).await;
        assert_eq!(status.as_u16(), 422, "{url}: {problem}");
        assert_eq!(problem["errors"][0]["field"], "url", "{url}: {problem}");
    }
    assert_eq!(api.get("/v1/endpoints").await["items"], json!([]));
}

/// The endpoint was saved by a process with a wider allow list, as when a name changes its address
/// later: whoever makes the call decides.
#[tokio::test]
async fn a_forbidden_address_is_not_called_however_it_was_saved() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    let api = Api::of(&api_process);
    let by_address = api.endpoint(&receiver.url("/ok/address"), json!({})).await;
    let name = format!("http://localhost:{}/ok/name", receiver.port);
    let by_name = api.endpoint(&name, json!({})).await;
    let _worker = Process::start_with(
        &place,
        &["worker"],
        &[("POSTHASTE_EGRESS_ALLOW", "192.0.2.0/24")],
    )
    .await;
    for endpoint in [by_address, by_name] {
        let id = api.enqueue_to(&endpoint, json!({})).await;
        let delivery = api.finished(&id, 1).await.remove(0);
        assert_eq!(
            (&delivery["status"], &delivery["reason"]),
            (&json!("failed"), &json!("blocked")),
            "{delivery}"
        );
        assert_eq!(delivery["attempt_count"], 1);
    }
    assert!(receiver.requests("/").is_empty());
}
