//! Novu's Push Webhook: one request for each device token, each a delivery of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{Scene, body, end, hmac_hex, once};

const KEY: &str = "super-secret-key";

#[tokio::test]
async fn each_token_gets_a_request_of_its_own() {
    let scene = Scene::start().await;
    scene.receiver.answer("/push", |request| {
        match request.json()["target"][0].as_str() {
            Some("bad") => (503, r#"{"id":"never"}"#.to_owned()),
            Some(token) => (200, json!({ "id": format!("push-{token}") }).to_string()),
            None => (400, String::new()),
        }
    });
    let mut more = once();
    super::merge(&mut more, json!({ "secret": KEY }));
    let endpoint = scene.endpoint("novu-push", "/push", json!({}), more).await;
    let notification = json!({
        "type": "push.test",
        "payload": {
            "title": "Olá 你好 👋", "content": "a & b <c> \"d\" é", "payload": { "k": 1 },
        },
        "recipient": {
            "device_tokens": ["t1", "bad", "t2", "t1"], "subscriber": { "subscriberId": "s1" },
        },
    });
    let deliveries = scene.deliver(&endpoint, notification, 3).await;
    let mut ends = BTreeMap::new();
    for delivery in &deliveries {
        assert_eq!(delivery["attempt_count"], 1);
        let id = delivery["provider_message_id"].as_str().unwrap_or_default();
        ends.insert(
            delivery["recipient"].as_str().expect("a recipient"),
            (end(delivery), id),
        );
    }
    let failed = (("failed", "retries_exhausted"), "");
    let expected = [
        ("bad", failed),
        ("t1", (("delivered", ""), "push-t1")),
        ("t2", (("delivered", ""), "push-t2")),
    ];
    assert_eq!(ends, BTreeMap::from(expected));
    // The sender's day, as Novu writes it: Sat Nov 21 2026.
    let dated = deliveries
        .iter()
        .find(|delivery| delivery["recipient"] == "t1")
        .unwrap();
    let date: Vec<_> = dated["provider_message_date"]
        .as_str()
        .unwrap()
        .split(' ')
        .map(str::len)
        .collect();
    assert_eq!(date, [3, 3, 2, 4], "{dated}");

    let requests = scene.receiver.requests("/push");
    let ids: BTreeSet<_> = requests
        .iter()
        .map(|request| request.header("webhook-id"))
        .collect();
    assert_eq!((requests.len(), ids.len()), (3, 3));
    for request in &requests {
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(
            request.header("x-novu-signature"),
            hmac_hex(KEY, &request.body)
        );
    }
    let first = requests
        .iter()
        .find(|request| request.json()["target"] == json!(["t1"]))
        .unwrap();
    let sent = concat!(
        r#"{"target":["t1"],"title":"Olá 你好 👋","content":"a & b <c> \"d\" é","overrides":{},"#,
        r#""payload":{"k":1,"subscriber":{"subscriberId":"s1"},"#,
        r#""step":{"digest":false,"events":[],"total_count":0}}}"#
    );
    assert_eq!(body(first), sent);
    // The contract's own vector for these bytes.
    let signature = "4f7b1c1f32045cc3237b9042c18a1eafaa65d93177583e7c1cb2d5efa79ef90f";
    assert_eq!(first.header("x-novu-signature"), signature);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_without_a_secret_nothing_signed() {
    let scene = Scene::start().await;
    let endpoint = scene
        .endpoint("novu-push", "/ok", json!({}), json!({ "secret": "" }))
        .await;
    let payload = json!({ "title": "t", "content": "c" });
    for recipient in [
        json!(null),
        json!({ "device_tokens": [] }),
        json!({ "subscriber": { "phone": "+1" } }),
    ] {
        let delivery = scene
            .outcome(
                &endpoint,
                json!({ "payload": payload, "recipient": recipient }),
            )
            .await;
        assert_eq!(end(&delivery), ("cancelled", ""), "{delivery}");
        assert!(
            delivery["last_error"]
                .as_str()
                .unwrap()
                .contains("no_device_token"),
            "{delivery}"
        );
        assert_eq!(
            (&delivery["recipient"], &delivery["attempts"]),
            (&json!(null), &json!([]))
        );
    }
    assert!(scene.receiver.requests("/").is_empty());
    let tokens = json!({ "push-webhook": { "deviceTokens": ["of-override"] } });
    let recipient = json!({ "device_tokens": ["replaced"] });
    let notification = json!({ "payload": payload, "recipient": recipient, "overrides": tokens });
    let delivery = scene.outcome(&endpoint, notification).await;
    // An answer that is no JSON has no id, and is none the worse for it.
    assert_eq!(
        (end(&delivery), &delivery["provider_message_id"]),
        (("delivered", ""), &json!(null))
    );
    assert_eq!(delivery["recipient"], "of-override");
    let request = scene.receiver.requests("/ok").remove(0);
    assert_eq!(request.json()["target"], json!(["of-override"]));
    assert!(request.headers.get("x-novu-signature").is_none());
}
