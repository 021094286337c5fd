//! Novu's SMS Webhook with a token that is fetched before each message.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::novu_sms::{message, settings};
use super::{Scene, end, error, once, shown};

const SENT: &str = r#"{"data":{"id":"m"}}"#;

fn by_token(domain: &str) -> Value {
    settings(json!({
        "authenticateByToken": true, "domain": domain, "authenticationTokenKey": "X-Auth-Token",
    }))
}

#[tokio::test]
async fn a_token_is_fetched_before_each_message_and_never_shown() {
    let scene = Scene::start().await;
    let count = AtomicU32::new(0);
    scene.receiver.answer("/auth", move |_| {
        let token = format!("tok-secret-{}", count.fetch_add(1, Ordering::Relaxed));
        (
            200,
            json!({ "data": { "X-Auth-Token": token } }).to_string(),
        )
    });
    // The endpoint echoes what it got, and the first time it fails.
    let count = AtomicU32::new(0);
    scene.receiver.answer("/sms", move |request| {
        let status = if count.fetch_add(1, Ordering::Relaxed) == 0 {
            503
        } else {
            200
        };
        let token = request.header("x-auth-token").to_owned();
        (
            status,
            json!({ "data": { "id": "m", "token": token } }).to_string(),
        )
    });
    let endpoint = scene
        .endpoint(
            "novu-sms",
            "/sms",
            by_token(&scene.receiver.url("/auth")),
            json!({}),
        )
        .await;
    let retried = scene.outcome(&endpoint, message()).await;
    assert_eq!(
        (end(&retried), &retried["attempt_count"]),
        (("delivered", ""), &json!(2))
    );
    let second = scene.outcome(&endpoint, message()).await;
    assert_eq!(
        (end(&second), &second["provider_message_id"]),
        (("delivered", ""), &json!("m"))
    );

    let asked = scene.receiver.requests("/auth");
    let sent = scene.receiver.requests("/sms");
    assert_eq!((asked.len(), sent.len()), (3, 3));
    for (nth, (asked, sent)) in asked.iter().zip(&sent).enumerate() {
        assert_eq!(
            (
                asked.method.as_str(),
                asked.body.len(),
                asked.header("content-length")
            ),
            ("POST", 0, "0")
        );
        assert_eq!(
            (asked.header("x-api-key"), sent.header("x-api-key")),
            ("key-123", "key-123")
        );
        assert_eq!(sent.header("x-auth-token"), format!("tok-secret-{nth}"));
        assert!(asked.at < sent.at);
    }
    for delivery in [&retried, &second] {
        assert_eq!(shown(delivery, "x-auth-token"), "[redacted]");
        let id = delivery["notification_id"].as_str().unwrap();
        let notification = scene.api.get(&format!("/v1/notifications/{id}")).await;
        assert!(
            !format!("{delivery}{notification}").contains("tok-secret"),
            "{delivery}"
        );
        // The answer is kept, without it.
        let kept = delivery["attempts"][0]["response_body"].as_str().unwrap();
        assert!(kept.contains(r#""token":"[redacted]""#), "{kept}");
    }
    let path = format!("/v1/endpoints/{}/test", endpoint["id"].as_str().unwrap());
    let tried = scene.api.post(&path, json!({})).await;
    assert_eq!(tried["outcome"], "delivered", "{tried}");
    assert!(
        !format!("{tried}{}", scene.up.log()).contains("tok-secret"),
        "{tried}"
    );

    // As from Novu hosted by oneself: the token alone.
    let mut alone = by_token(&scene.receiver.url("/auth"));
    alone["token_replaces_keys"] = json!(true);
    let endpoint = scene.endpoint("novu-sms", "/sms", alone, json!({})).await;
    assert_eq!(
        end(&scene.outcome(&endpoint, message()).await).0,
        "delivered"
    );
    let asked = scene.receiver.requests("/auth");
    let sent = scene.receiver.requests("/sms");
    assert_eq!(asked.last().unwrap().header("x-api-key"), "key-123");
    assert!(sent.last().unwrap().headers.get("x-api-key").is_none());
    assert_eq!(sent.last().unwrap().header("x-auth-token"), "tok-secret-4");
}

#[tokio::test]
async fn where_no_token_can_be_had_now_it_is_tried_again() {
    let scene = Scene::start().await;
    scene.receiver.answers("/sms", &[(200, SENT)]);
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/auth", listener.local_addr().unwrap())
    };
    let one_retry = json!({ "retry": { "max_retries": 1 } });
    let endpoint = scene
        .endpoint("novu-sms", "/sms", by_token(&closed), one_retry)
        .await;
    let delivery = scene.outcome(&endpoint, message()).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("failed", "retries_exhausted"), &json!(2))
    );
    for attempt in [0, 1] {
        assert_eq!(error(&delivery, attempt, "code"), "connection_refused");
        assert!(
            error(&delivery, attempt, "text").starts_with("the auth URL: "),
            "{delivery}"
        );
    }
    assert!(scene.receiver.requests("/sms").is_empty());

    scene.receiver.answers(
        "/auth",
        &[(503, ""), (200, r#"{"data":{"X-Auth-Token":"t-later"}}"#)],
    );
    let endpoint = scene
        .endpoint(
            "novu-sms",
            "/sms",
            by_token(&scene.receiver.url("/auth")),
            json!({}),
        )
        .await;
    let delivery = scene.outcome(&endpoint, message()).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("delivered", ""), &json!(2))
    );
    let text = error(&delivery, 0, "text");
    assert!(
        text.starts_with("the auth URL: ") && text.contains("503"),
        "{text}"
    );
    assert_eq!(scene.receiver.requests("/sms").len(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_or_missing_fails_the_delivery() {
    let scene = Scene::start().await;
    scene.receiver.answers("/sms", &[(200, SENT)]);
    let refused = [
        (
            "/auth/401",
            401,
            r#"{"data":{"X-Auth-Token":"t"}}"#,
            "rejected",
            "http_status",
        ),
        (
            "/auth/none",
            200,
            r#"{"data":{"other":"t"}}"#,
            "provider_rejected",
            "missing_token",
        ),
        (
            "/auth/text",
            200,
            "tok",
            "provider_rejected",
            "missing_token",
        ),
    ];
    for (path, status, answer, reason, code) in refused {
        scene.receiver.answers(path, &[(status, answer)]);
        let endpoint = scene
            .endpoint(
                "novu-sms",
                "/sms",
                by_token(&scene.receiver.url(path)),
                json!({}),
            )
            .await;
        let delivery = scene.outcome(&endpoint, message()).await;
        assert_eq!(end(&delivery), ("failed", reason), "{delivery}");
        assert_eq!(
            (error(&delivery, 0, "code"), &delivery["attempt_count"]),
            (code, &json!(1))
        );
        assert!(
            delivery["last_error"]
                .as_str()
                .unwrap()
                .starts_with("the auth URL: "),
            "{delivery}"
        );
        // It may have a token in it.
        assert_eq!(delivery["attempts"][0]["response_body"], json!(null));
        assert_eq!(scene.receiver.requests(path).len(), 1);
    }
    assert!(scene.receiver.requests("/sms").is_empty());
    let phoneless = json!({ "type": "sms.otp", "payload": { "content": "c" } });
    scene.receiver.answers("/auth/unasked", &[(200, "{}")]);
    let endpoint = scene
        .endpoint(
            "novu-sms",
            "/sms",
            by_token(&scene.receiver.url("/auth/unasked")),
            once(),
        )
        .await;
    assert_eq!(
        end(&scene.outcome(&endpoint, phoneless).await).0,
        "cancelled"
    );
    assert!(scene.receiver.requests("/auth/unasked").is_empty());
}
