//! Novu's SMS Webhook: what is sent, and the id and date that its answer gives.

use serde_json::{Value, json};

use super::{Scene, body, end, error, once, shown};

pub(super) fn settings(more: Value) -> Value {
    let mut settings =
        json!({ "apiKeyRequestHeader": "X-API-KEY", "apiKey": "key-123", "from": "MyApp" });
    super::merge(&mut settings, more);
    settings
}

pub(super) fn message() -> Value {
    json!({ "type": "sms.otp", "payload": { "content": "Your verification code is 123456" },
        "recipient": { "phone": "+1234567890" } })
}

#[tokio::test]
async fn the_providers_id_and_date_are_kept() {
    let scene = Scene::start().await;
    let answer = r#"{"data":{"id":"msg_abc123","date":"2026-01-14T10:30:00.000Z"}}"#;
    scene.receiver.answers("/sms", &[(200, answer)]);
    let second = json!({ "secretKeyRequestHeader": "X-Secret", "secretKey": "secret-456" });
    let endpoint = scene
        .endpoint("novu-sms", "/sms?tenant=a", settings(second), json!({}))
        .await;
    let delivery = scene.outcome(&endpoint, message()).await;
    assert_eq!(end(&delivery), ("delivered", ""), "{delivery}");
    assert_eq!(delivery["provider_message_id"], "msg_abc123");
    assert_eq!(
        delivery["provider_message_date"],
        "2026-01-14T10:30:00.000Z"
    );
    assert_eq!(
        (&delivery["attempt_count"], &delivery["last_error"]),
        (&json!(1), &json!(null))
    );
    assert_eq!(
        (
            &delivery["attempts"][0]["status_code"],
            &delivery["attempts"][0]["result"]
        ),
        (&json!(200), &json!("2xx"))
    );
    assert_eq!(delivery["attempts"][0]["response_body"], answer);

    let requests = scene.receiver.requests("/sms");
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(
        (request.method.as_str(), request.query()),
        ("POST", "tenant=a")
    );
    assert_eq!(
        (request.header("x-api-key"), request.header("x-secret")),
        ("key-123", "secret-456")
    );
    assert_eq!(
        (
            request.header("content-type"),
            request.header("content-length")
        ),
        ("application/json", "82")
    );
    assert_eq!(request.header("webhook-id"), delivery["id"]);
    assert!(
        request.headers.get("authorization").is_none()
            && request.headers.get("webhook-signature").is_none()
    );
    let sent =
        r#"{"to":"+1234567890","content":"Your verification code is 123456","sender":"MyApp"}"#;
    assert_eq!(body(request), sent);
    // Neither key is told again.
    assert_eq!(
        (shown(&delivery, "x-api-key"), shown(&delivery, "x-secret")),
        ("[redacted]", "[redacted]")
    );
    let endpoint = scene
        .api
        .get(&format!(
            "/v1/endpoints/{}",
            endpoint["id"].as_str().unwrap()
        ))
        .await;
    for secret in ["key-123", "secret-456"] {
        assert!(
            !format!("{delivery}{endpoint}{}", scene.up.log()).contains(secret),
            "{secret} is shown"
        );
    }
}

#[tokio::test]
async fn ids_are_read_where_the_settings_say() {
    let scene = Scene::start().await;
    scene
        .receiver
        .answers("/number", &[(201, r#"{"data":{"id":42}}"#)]);
    let endpoint = scene
        .endpoint("novu-sms", "/number", settings(json!({})), json!({}))
        .await;
    let delivery = scene.outcome(&endpoint, message()).await;
    assert_eq!(
        (end(&delivery), &delivery["provider_message_id"]),
        (("delivered", ""), &json!("42"))
    );
    // Without a date of the provider's it is that of the answer, to the millisecond.
    let date = delivery["provider_message_date"].as_str().expect("a date");
    assert_eq!(
        (date.len(), &date[10..11], &date[23..]),
        (24, "T", "Z"),
        "{date}"
    );
    let begun = delivery["attempts"][0]["started_at"].as_str().unwrap();
    let over = &delivery["finished_at"];
    assert!(
        begun[..23] <= date[..23] && date[..23] <= over.as_str().unwrap()[..23],
        "{begun} {date} {over}"
    );

    scene
        .receiver
        .answers("/path", &[(200, r#"{"sms":[{"ref":"r-1","at":"today"}]}"#)]);
    let paths = settings(json!({ "idPath": "sms.0.ref", "datePath": "sms.0.at" }));
    let endpoint = scene.endpoint("novu-sms", "/path", paths, json!({})).await;
    let delivery = scene.outcome(&endpoint, message()).await;
    let provider = (
        &delivery["provider_message_id"],
        &delivery["provider_message_date"],
    );
    assert_eq!(provider, (&json!("r-1"), &json!("today")));
}

#[tokio::test]
async fn a_missing_id_is_a_failure_unless_it_may_be_missing() {
    let scene = Scene::start().await;
    for (path, answer) in [
        ("/empty", ""),
        ("/text", "queued"),
        ("/null", r#"{"data":{"id":null}}"#),
    ] {
        scene.receiver.answers(path, &[(200, answer)]);
        let endpoint = scene
            .endpoint("novu-sms", path, settings(json!({})), json!({}))
            .await;
        let delivery = scene.outcome(&endpoint, message()).await;
        assert_eq!(
            end(&delivery),
            ("failed", "provider_rejected"),
            "{delivery}"
        );
        assert_eq!(error(&delivery, 0, "code"), "missing_id");
        let told = delivery["last_error"].as_str().unwrap();
        assert!(told.contains("200") && told.contains("data.id"), "{told}");
        assert_eq!(
            (
                scene.receiver.requests(path).len(),
                &delivery["attempt_count"]
            ),
            (1, &json!(1))
        );

        let optional = settings(json!({ "id_optional": true }));
        let endpoint = scene.endpoint("novu-sms", path, optional, json!({})).await;
        let delivery = scene.outcome(&endpoint, message()).await;
        assert_eq!(
            (end(&delivery), &delivery["provider_message_id"]),
            (("delivered", ""), &json!(null)),
            "{path}"
        );
    }
    // What is no success is none with an id either, and is tried again as ever.
    scene.receiver.answers(
        "/down",
        &[
            (503, r#"{"data":{"id":"a"}}"#),
            (200, r#"{"data":{"id":"b"}}"#),
        ],
    );
    let endpoint = scene
        .endpoint("novu-sms", "/down", settings(json!({})), json!({}))
        .await;
    let delivery = scene.outcome(&endpoint, message()).await;
    assert_eq!(
        (end(&delivery), &delivery["provider_message_id"]),
        (("delivered", ""), &json!("b"))
    );
    let requests = scene.receiver.requests("/down");
    assert_eq!(
        (requests.len(), body(&requests[0])),
        (2, body(&requests[1]))
    );
}

#[tokio::test]
async fn without_a_phone_nothing_is_sent() {
    let scene = Scene::start().await;
    scene
        .receiver
        .answers("/sms", &[(200, r#"{"data":{"id":1}}"#)]);
    let endpoint = scene
        .endpoint("novu-sms", "/sms", settings(json!({})), once())
        .await;
    for recipient in [json!(null), json!({}), json!({ "phone": "" })] {
        let mut notification = message();
        notification["recipient"] = recipient;
        let delivery = scene.outcome(&endpoint, notification).await;
        assert_eq!(end(&delivery), ("cancelled", ""), "{delivery}");
        assert!(
            delivery["last_error"]
                .as_str()
                .unwrap()
                .contains("no_subscriber_phone"),
            "{delivery}"
        );
        assert_eq!(
            (&delivery["attempts"], &delivery["attempt_count"]),
            (&json!([]), &json!(0))
        );
    }
    assert!(scene.receiver.requests("/").is_empty());

    // Where the number may come from, the strongest last.
    let mut notification = message();
    notification["recipient"] = json!({ "phone_number": "+11" });
    let mut sent = Vec::new();
    for more in [
        json!({}),
        json!({ "recipient": { "phone": "+12", "phone_number": "+11" } }),
        json!({ "payload": { "content": "c", "phone": "+13" } }),
        json!({ "overrides": { "sms": { "to": "+14" } } }),
        json!({
            "overrides": {
                "sms": { "to": "+14" }, "providers": { "generic-sms": { "to": "+15" } },
            },
        }),
    ] {
        super::merge(&mut notification, more);
        assert_eq!(
            end(&scene.outcome(&endpoint, notification.clone()).await).0,
            "delivered"
        );
        sent.push(
            scene.receiver.requests("/sms").last().unwrap().json()["to"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(sent, ["+11", "+12", "+13", "+14", "+15"]);
}

#[tokio::test]
async fn overrides_and_the_whole_body_go_out_as_from_novu() {
    let scene = Scene::start().await;
    scene
        .receiver
        .answers("/sms", &[(200, r#"{"data":{"id":1}}"#)]);
    let endpoint = scene
        .endpoint("novu-sms", "/sms", settings(json!({})), once())
        .await;
    let overrides = json!({ "providers": { "generic-sms": { "template_id": 7, "_passthrough": {
        "body": { "templateId2": "otp-template" },
        "headers": { "X-Extra": "e", "X-API-KEY": "other" } } } } });
    let mut notification = message();
    super::merge(&mut notification, json!({ "overrides": overrides }));
    assert_eq!(
        end(&scene.outcome(&endpoint, notification).await).0,
        "delivered"
    );
    let sent = concat!(
        r#"{"to":"+1234567890","content":"Your verification code is 123456","sender":"MyApp","#,
        r#""templateId":7,"templateId2":"otp-template"}"#
    );
    let request = scene.receiver.requests("/sms").remove(0);
    assert_eq!(body(&request), sent);
    assert_eq!(
        (request.header("x-extra"), request.header("x-api-key")),
        ("e", "other")
    );

    let endpoint = scene
        .endpoint(
            "novu-sms",
            "/sms",
            settings(json!({ "full_body": true })),
            once(),
        )
        .await;
    let payload =
        json!({ "content": "Your verification code is 123456", "id": "65c0d71c0959a38e8857b131" });
    let mut notification = message();
    notification["payload"] = payload;
    assert_eq!(
        end(&scene.outcome(&endpoint, notification).await).0,
        "delivered"
    );
    let sent = concat!(
        r#"{"to":"+1234567890","from":"MyApp","content":"Your verification code is 123456","#,
        r#""id":"65c0d71c0959a38e8857b131","customData":{},"sender":"MyApp"}"#
    );
    assert_eq!(body(&scene.receiver.requests("/sms")[1]), sent);
}
