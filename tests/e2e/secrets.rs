//! Secrets of endpoints are in no list, log or error.

use reqwest::Method;
use serde_json::json;

use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process};

#[tokio::test]
async fn secrets_are_shown_once_and_never_again() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let up = Process::start_with(&place, &["up"], &[("POSTHASTE_LOG", "trace")]).await;
    let api = Api::of(&up);
    let header = "Bearer a-very-secret-token";
    let setting = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTE=";
    let headers = json!({"Authorization": header, "X-Static": "plain"});
    let more = json!({"headers": headers, "secret": setting, "retry": {"max_retries": 0}});
    let echo = api.endpoint(&receiver.url("/echo"), more.clone()).await;
    let mut speaking = more.clone();
    speaking["wire_format"] = json!("authgear-sms");
    let speaking = api.endpoint(&receiver.url("/echo-code"), speaking).await;
    let failing = api.endpoint(&receiver.url("/status/500"), more).await;
    let made = api.endpoint(&receiver.url("/ok"), json!({})).await;
    let made_secret = made["secret"]
        .as_str()
        .expect("a new secret is shown once")
        .to_owned();
    assert!(made_secret.starts_with("whsec_"));

    let mut seen = String::new();
    for endpoint in [&echo, &speaking, &failing, &made] {
        let id = api
            .enqueue_to(endpoint, json!({"payload": {"to": "+1", "body": "hi"}}))
            .await;
        let delivery = api.finished(&id, 1).await.remove(0);
        seen += &api.delivery(&delivery).await.to_string();
        let id = endpoint["id"].as_str().unwrap();
        seen += &api.get(&format!("/v1/endpoints/{id}")).await.to_string();
        seen += &api
            .post(&format!("/v1/endpoints/{id}/test"), json!({}))
            .await
            .to_string();
        let bad = json!({
            "secret": format!("{setting}!"), "headers": {"Authorization": format!("{header}\n")},
        });
        let (status, problem) = api
            .call(Method::PATCH, &format!("/v1/endpoints/{id}"), Some(bad))
            .await;
        assert_eq!(status.as_u16(), 422, "{problem}");
        seen += &problem.to_string();
    }
    seen += &api.get("/v1/endpoints").await.to_string();
    seen += &api.get("/v1/events").await.to_string();
    assert!(seen.contains("plain"), "what is no secret is shown");
    assert!(
        seen.contains("the gateway answered delivery_rejected: {"),
        "what the gateway said is shown"
    );
    for command in [
        vec!["endpoint", "list"],
        vec!["endpoint", "list", "--json"],
        vec!["doctor"],
    ] {
        let output = process::run(&place, &command, &[("POSTHASTE_API_URL", &up.url)], None).await;
        seen += &String::from_utf8_lossy(&output.stdout);
        seen += &String::from_utf8_lossy(&output.stderr);
    }
    seen += &up.log();
    assert_eq!(
        receiver.requests("/echo")[0].header("authorization"),
        header,
        "it is sent all the same"
    );
    let stored = std::fs::read(place.dir.path().join("store.db")).unwrap();
    let wal = std::fs::read(place.dir.path().join("store.db-wal")).unwrap_or_default();
    seen += &String::from_utf8_lossy(&stored);
    seen += &String::from_utf8_lossy(&wal);
    for secret in [
        "a-very-secret-token",
        &setting[6..],
        &made_secret[6..],
        crate::support::api::ADMIN_KEY,
    ] {
        assert!(!seen.contains(secret), "{secret} is seen");
    }
}

#[tokio::test]
async fn a_rotated_secret_goes_on_signing_beside_the_new_one() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api.endpoint(&receiver.url("/ok"), json!({})).await;
    let path = format!(
        "/v1/endpoints/{}/rotate-secret",
        endpoint["id"].as_str().unwrap()
    );
    let rotated = api.post(&path, json!({})).await;
    assert_ne!(rotated["secret"], endpoint["secret"]);
    api.enqueue_to(&endpoint, json!({})).await;
    let request = receiver.wait_for("/ok", 1).await.remove(0);
    assert_eq!(request.header("webhook-signature").split(' ').count(), 2);
    for secret in [&rotated["secret"], &endpoint["secret"]] {
        crate::interop::verify_by_libraries(&request, secret.as_str().unwrap()).await;
    }
}

#[tokio::test]
async fn who_changed_what_is_in_the_log() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api.endpoint("http://127.0.0.1:9/", json!({})).await;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    api.post(&format!("{path}/rotate-secret"), json!({})).await;
    api.enqueue_to(&endpoint, json!({})).await;
    api.get(&path).await;
    let lines = eventually("two lines", async || {
        let log = up.log();
        let lines: Vec<String> = log
            .lines()
            .filter(|line| line.contains("posthaste_producer::http::auth::audit"))
            .map(str::to_owned)
            .collect();
        (lines.len() >= 2).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("POST /v1/endpoints") && lines[0].contains("http.status=201"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains(&format!("POST {path}/rotate-secret")),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line.contains("key.id=key_bootstrap")
                && line.matches("request.id=").count() == 1),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_worker_with_another_master_key_does_not_start() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    Api::of(&api_process)
        .endpoint("http://127.0.0.1:9/", json!({}))
        .await;
    for key in ["another-master-key-for-tests-0123456789", ""] {
        let output =
            process::run(&place, &["worker"], &[("POSTHASTE_MASTER_KEY", key)], None).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("POSTHASTE_MASTER_KEY"), "{said}");
    }
}
