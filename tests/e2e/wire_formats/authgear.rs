//! Authgear's custom SMS gateway as a webhook: what it gets, and how its answers are read.

use serde_json::{Value, json};

use super::{Scene, body, end, error, hmac_hex, once};

const KEY: &str = "authgear_webhook_key_0123456789A";

pub(crate) fn message() -> Value {
    json!({ "type": "sms.verification", "payload": {
        "to": "+44123456789", "body": "A & B <c>", "app_id": "demo-enterprise",
        "template_name": "verification_sms.txt", "language_tag": "en",
        "template_variables": { "code": "420240", "link": "", "has_password": false } } })
}

async fn answered(scene: &Scene, path: &str, answers: &[(u16, &str)], retries: u32) -> Value {
    scene.receiver.answers(path, answers);
    let more = json!({ "secret": KEY, "retry": { "max_retries": retries } });
    let endpoint = scene.endpoint("authgear-sms", path, json!({}), more).await;
    let delivery = scene.outcome(&endpoint, message()).await;
    assert_eq!(
        delivery["attempt_count"],
        scene.receiver.requests(path).len(),
        "{delivery}"
    );
    delivery
}

#[tokio::test]
async fn the_body_is_signed_as_the_gateway_signs() {
    let scene = Scene::start().await;
    let delivery = answered(&scene, "/sms", &[(200, r#"{"code":"ok"}"#)], 4).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("delivered", ""), &json!(1))
    );
    let request = scene.receiver.requests("/sms").remove(0);
    let sent = concat!(
        r#"{"to":"+44123456789","body":"A \u0026 B \u003cc\u003e","app_id":"demo-enterprise","#,
        r#""template_name":"verification_sms.txt","language_tag":"en","#,
        r#""template_variables":{"code":"420240"}}"#
    );
    assert_eq!(
        (body(&request), request.header("content-type")),
        (sent, "application/json")
    );
    // The contract's own vector for these bytes.
    let signature = "dff344b3de3ca38bb9f581ae15765b53d7c33a1e6c3dd8baf066a4040945a863";
    assert_eq!(request.header("x-authgear-body-signature"), signature);

    // A key that Posthaste makes is 32 characters of theirs, and used as they are.
    let endpoint = scene
        .endpoint("authgear-sms", "/sms", json!({}), json!({}))
        .await;
    let key = endpoint["secret"].as_str().expect("a new key");
    assert!(
        key.len() == 32 && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
        "{key}"
    );
    assert_eq!(
        end(&scene.outcome(&endpoint, message()).await).0,
        "delivered"
    );
    let request = scene.receiver.requests("/sms").remove(1);
    assert_eq!(
        request.header("x-authgear-body-signature"),
        hmac_hex(key, &request.body)
    );
}

#[tokio::test]
async fn the_code_decides_before_the_status() {
    let scene = Scene::start().await;
    let limited = (
        200,
        r#"{"code":"rate_limited","provider_error_code":"20429"}"#,
    );
    let delivery = answered(&scene, "/limited", &[limited, (200, r#"{"code":"ok"}"#)], 4).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("delivered", ""), &json!(2)),
        "{delivery}"
    );
    let first = &delivery["attempts"][0];
    assert_eq!(
        (
            &first["status_code"],
            &first["result"],
            &first["error"]["code"]
        ),
        (&json!(200), &json!("2xx"), &json!("rate_limited"))
    );
    assert_eq!(
        (&delivery["provider_error_code"], &delivery["last_error"]),
        (&json!(null), &json!(null))
    );

    let delivery = answered(&scene, "/exhausted", &[limited], 1).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("failed", "retries_exhausted"), &json!(2))
    );
    assert_eq!(delivery["provider_error_code"], "20429");

    let delivery = answered(&scene, "/ok-500", &[(500, r#"{"code":"ok"}"#)], 4).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("delivered", ""), &json!(1))
    );
    assert_eq!(
        (
            &delivery["attempts"][0]["status_code"],
            &delivery["attempts"][0]["error"]
        ),
        (&json!(500), &json!(null))
    );

    let delivery = answered(
        &scene,
        "/timeout",
        &[(200, r#"{"code":"timeout"}"#), (200, "")],
        4,
    )
    .await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("delivered", ""), &json!(2))
    );
    assert_eq!(error(&delivery, 0, "code"), "timeout");
}

#[tokio::test]
async fn what_the_provider_rejects_fails_with_its_code() {
    let scene = Scene::start().await;
    let rejected = [
        (
            "/top",
            concat!(
                r#"{"code":"delivery_rejected","provider_error_code":"30003","#,
                r#""description":"no such number"}"#
            ),
        ),
        (
            "/info",
            concat!(
                r#"{"code":"delivery_rejected","info":{"provider_error_code":"30003"},"#,
                r#""description":"no such number"}"#
            ),
        ),
    ];
    for (path, answer) in rejected {
        let delivery = answered(&scene, path, &[(200, answer)], 4).await;
        assert_eq!(
            (end(&delivery), &delivery["attempt_count"]),
            (("failed", "provider_rejected"), &json!(1)),
            "{delivery}"
        );
        assert_eq!(
            (
                &delivery["provider_error_code"],
                error(&delivery, 0, "code")
            ),
            (&json!("30003"), "delivery_rejected")
        );
        assert!(
            delivery["last_error"]
                .as_str()
                .unwrap()
                .contains("no such number"),
            "{delivery}"
        );
        assert_eq!(delivery["attempts"][0]["response_body"], answer);
    }
    for code in [
        "invalid_phone_number",
        "authentication_failed",
        "unsupported_request",
    ] {
        let answer = json!({ "code": code }).to_string();
        let delivery = answered(&scene, &format!("/{code}"), &[(503, &answer)], 4).await;
        assert_eq!(
            (end(&delivery), error(&delivery, 0, "code")),
            (("failed", "provider_rejected"), code),
            "{delivery}"
        );
    }
}

#[tokio::test]
async fn answers_without_a_code_are_read_as_authgear_reads_them() {
    let scene = Scene::start().await;
    for (path, answer) in [
        ("/empty", ""),
        ("/text", "queued"),
        ("/array", "[]"),
        ("/number", r#"{"code":1}"#),
    ] {
        let delivery = answered(&scene, path, &[(200, answer)], 4).await;
        assert_eq!(end(&delivery), ("delivered", ""), "{path} {delivery}");
    }
    for (path, answer) in [
        ("/none", "{}"),
        ("/null", "null"),
        ("/unknown", r#"{"code":"unknown_error"}"#),
    ] {
        let delivery = answered(&scene, path, &[(200, answer)], 4).await;
        assert_eq!(end(&delivery), ("failed", "rejected"), "{path} {delivery}");
        assert_eq!(
            (error(&delivery, 0, "code"), &delivery["attempt_count"]),
            ("unexpected", &json!(1))
        );
    }
    for (path, status, answer) in [("/302", 302, ""), ("/404", 404, "no such route")] {
        let delivery = answered(&scene, path, &[(status, answer)], 4).await;
        assert_eq!(
            (end(&delivery), error(&delivery, 0, "code")),
            (("failed", "rejected"), "http_status"),
            "{delivery}"
        );
    }
    let endpoint = scene
        .endpoint("authgear-sms", "/redirect", json!({}), once())
        .await;
    assert_eq!(
        end(&scene.outcome(&endpoint, message()).await),
        ("failed", "rejected")
    );
    assert!(
        scene.receiver.requests("/ok").is_empty(),
        "the redirect was followed"
    );
}
