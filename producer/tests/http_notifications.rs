//! Enqueueing over HTTP: what is accepted, refused and deduplicated, and what reaches the queue.

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_producer::http::ApiSettings;
use posthaste_shared::broker::{
    Broker, BrokerError, Consumer, DeadLetter, DeadReason, Message, Redriven,
};
use posthaste_shared::domain::event::Event;
use posthaste_shared::domain::key::Scope;
use serde_json::{Value, json};
use support::{ADMIN_KEY, TestApi, answer};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_accepted_notification_is_on_the_queue_as_it_was_written() {
    let api = TestApi::start().await;
    let body = concat!(
        r#"{"type":"a.b","payload":{ "b" : 1.0e2 , "a":"\u00e4" },"#,
        r#""tenant":"acme","ttl_seconds":60}"#,
    );
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = api
        .request("POST", "/v1/notifications")
        .bearer_auth(ADMIN_KEY)
        .header("traceparent", trace);
    let accepted = answer(
        request
            .header("content-type", "application/json")
            .body(body),
    )
    .await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert_eq!(accepted.body["deduplicated"], false);
    let [message] = <[_; 1]>::try_from(api.queued(1).await).unwrap();
    assert_eq!(
        message.message.id.as_deref(),
        Some(text(&accepted.body["id"]))
    );
    assert_eq!(message.message.traceparent.as_deref(), Some(trace));
    assert_eq!(
        message.message.accepted_at.unwrap().to_string(),
        text(&accepted.body["accepted_at"])
    );
    let queued = String::from_utf8(message.message.body.to_vec()).unwrap();
    assert!(
        queued.contains(r#""payload":{ "b" : 1.0e2 , "a":"\u00e4" }"#),
        "{queued}"
    );
    assert!(queued.contains(r#""tenant":"acme""#), "{queued}");
    assert!(
        api.metrics
            .render()
            .contains("posthaste_notifications_accepted_total{source=\"http\"} 1")
    );
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let api = TestApi::start().await;
    let json = "application/json";
    let cases = [
        ("{\"type\":", json, 400, "invalid_json", None),
        ("", json, 400, "invalid_json", None),
        (r#"{"type":"a"}"#, json, 422, "invalid", Some("payload")),
        (
            r#"{"type":"a","payload":1,"nope":2}"#,
            json,
            422,
            "invalid",
            Some("nope"),
        ),
        (
            r#"{"type":"a b","payload":1}"#,
            json,
            422,
            "invalid",
            Some("type"),
        ),
        (
            r#"{"type":"a","payload":1,"recipient":"x"}"#,
            json,
            422,
            "invalid",
            Some("recipient"),
        ),
        (
            r#"{"type":"a","payload":1,"ttl_seconds":-1}"#,
            json,
            422,
            "invalid",
            Some("ttl_seconds"),
        ),
        (
            r#"{"type":"a","payload":1,"endpoint_id":"ep_none"}"#,
            json,
            422,
            "unknown_endpoint",
            Some("endpoint_id"),
        ),
        (
            r#"{"type":"a","payload":1}"#,
            "text/plain",
            415,
            "unsupported_media_type",
            None,
        ),
    ];
    for (body, content_type, status, code, field) in cases {
        let refused = api.post_text("/v1/notifications", content_type, body).await;
        assert_eq!(
            (refused.status, refused.code()),
            (status, code),
            "{body}: {refused:?}"
        );
        assert_eq!(
            refused.fields().first().copied(),
            field,
            "{body}: {refused:?}"
        );
    }
    let long = format!(r#"{{"type":"a","payload":"{}"}}"#, "x".repeat(1024 * 1024));
    let refused = api.post_text("/v1/notifications", json, long).await;
    assert_eq!((refused.status, refused.code()), (413, "too_large"));
    assert_eq!(api.depth().await, 0);
}

#[tokio::test]
async fn what_the_named_endpoints_wire_format_lacks_is_named() {
    let api = TestApi::start().await;
    let endpoint = api
        .call(
            "POST",
            "/v1/endpoints",
            json!({ "url": "https://hooks.example/x" }),
        )
        .await;
    let body = json!({ "type": "a", "payload": "no good", "endpoint_id": endpoint.body["id"] });
    let refused = api.call("POST", "/v1/notifications", body.clone()).await;
    assert_eq!(
        (refused.status, refused.code(), refused.fields()),
        (422, "invalid", vec!["payload.text"])
    );
    let batch = api
        .call(
            "POST",
            "/v1/notifications/batch",
            json!([body, { "type": "a", "payload": "no good" }]),
        )
        .await;
    assert_eq!(
        batch.body["items"][0]["error"]["errors"][0]["field"], "payload.text",
        "{batch:?}"
    );
    assert!(
        batch.body["items"][1]["id"].is_string(),
        "only one that names its endpoint is checked: {batch:?}"
    );
}

#[tokio::test]
async fn an_endpoint_must_be_the_tenants_own() {
    let api = TestApi::start().await;
    let id = api.endpoint("acme").await;
    let body =
        |tenant: &str| json!({ "type": "a", "payload": 1, "endpoint_id": id, "tenant": tenant });
    assert_eq!(
        api.call("POST", "/v1/notifications", body("acme"))
            .await
            .status,
        202
    );
    let refused = api.call("POST", "/v1/notifications", body("other")).await;
    assert_eq!((refused.status, refused.code()), (422, "unknown_endpoint"));
    let another = api.endpoint("acme").await;
    let body = json!({ "type": "a", "payload": 1, "endpoint_id": another, "tenant": "acme" });
    assert_eq!(
        api.call("POST", "/v1/notifications", body).await.status,
        202,
        "known at once"
    );
}

#[tokio::test]
async fn the_same_name_is_accepted_once() {
    let api = TestApi::start().await;
    let body = json!({ "type": "a", "payload": {"n": 1}, "id": "order-1" });
    let first = api.call("POST", "/v1/notifications", body.clone()).await;
    let second = api.call("POST", "/v1/notifications", body).await;
    assert_eq!((first.status, second.status), (202, 202), "{second:?}");
    assert_eq!(first.body["deduplicated"], false);
    assert_eq!(second.body["deduplicated"], true);
    assert_eq!(second.body["id"], "order-1");
    assert_eq!(second.body["accepted_at"], first.body["accepted_at"]);
    let other = json!({ "type": "a", "payload": {"n": 2}, "id": "order-1" });
    let refused = api.call("POST", "/v1/notifications", other.clone()).await;
    assert_eq!(
        (refused.status, refused.code()),
        (409, "idempotency_conflict")
    );
    let mut elsewhere = other;
    elsewhere["tenant"] = "other".into();
    assert_eq!(
        api.call("POST", "/v1/notifications", elsewhere)
            .await
            .status,
        202
    );
    assert_eq!(api.depth().await, 2);
}

#[tokio::test]
async fn the_same_idempotency_key_is_accepted_once() {
    let api = TestApi::start().await;
    let send = |key: &str, body: Value| {
        let request = api
            .request("POST", "/v1/notifications")
            .bearer_auth(ADMIN_KEY);
        answer(request.header("Idempotency-Key", key).json(&body))
    };
    let body = json!({ "type": "a", "payload": 1, "ttl_seconds": 60 });
    let first = send("k-1", body.clone()).await;
    let second = send("k-1", body.clone()).await;
    assert_eq!(second.body["deduplicated"], true, "{second:?}");
    assert_eq!(second.body["id"], first.body["id"]);
    assert_ne!(send("k-2", body.clone()).await.body["id"], first.body["id"]);
    let refused = send("k-1", json!({ "type": "b", "payload": 1 })).await;
    assert_eq!(
        (refused.status, refused.code()),
        (409, "idempotency_conflict")
    );
    for unusable in ["", "a b", &"x".repeat(256)] {
        let refused = send(unusable, body.clone()).await;
        assert_eq!(
            (refused.status, refused.code()),
            (400, "invalid_header"),
            "{unusable:?}"
        );
    }
    assert_eq!(api.depth().await, 2);
}

#[tokio::test]
async fn a_batch_answers_for_each_in_order() {
    let api = TestApi::start().await;
    let batch = json!([
        { "type": "a", "payload": 1, "id": "b-1" },
        { "type": "a" },
        7,
        { "type": "a", "payload": 2, "endpoint_id": "ep_none" },
        { "type": "a", "payload": 3 },
    ]);
    let done = api
        .call("POST", "/v1/notifications/batch", batch.clone())
        .await;
    assert_eq!(done.status, 202, "{done:?}");
    assert_eq!(
        (&done.body["accepted"], &done.body["rejected"]),
        (&json!(2), &json!(3))
    );
    let items = done.body["items"].as_array().unwrap();
    assert_eq!(items[0]["id"], "b-1");
    assert_eq!(items[1]["error"]["errors"][0]["field"], "payload");
    assert_eq!(items[2]["error"]["code"], "invalid");
    assert_eq!(items[3]["error"]["code"], "unknown_endpoint");
    assert_eq!(items[4]["deduplicated"], false);
    assert_eq!(api.depth().await, 2);
    let again = api.call("POST", "/v1/notifications/batch", batch).await;
    assert_eq!(again.body["items"][0]["deduplicated"], true);
}

#[tokio::test]
async fn a_batch_may_be_lines() {
    let api = TestApi::start().await;
    let lines = "{\"type\":\"a\",\"payload\":1}\n\n{\"type\":\n{\"type\":\"a\",\"payload\":2}\r\n";
    for content_type in [
        "application/x-ndjson",
        "application/jsonl",
        "application/json",
    ] {
        let done = api
            .post_text("/v1/notifications/batch", content_type, lines)
            .await;
        assert_eq!(done.status, 202, "{content_type}: {done:?}");
        assert_eq!(
            (&done.body["accepted"], &done.body["rejected"]),
            (&json!(2), &json!(1))
        );
        assert_eq!(done.body["items"][1]["error"]["code"], "invalid_json");
    }
    let first_is_wrong = "[\"t\",1]\n{\"type\":\"a\",\"payload\":3}";
    let done = api
        .post_text(
            "/v1/notifications/batch",
            "application/x-ndjson",
            first_is_wrong,
        )
        .await;
    assert_eq!(
        (&done.body["accepted"], &done.body["rejected"]),
        (&json!(1), &json!(1)),
        "{done:?}"
    );
    let empty = api
        .post_text("/v1/notifications/batch", "application/x-ndjson", "")
        .await;
    assert_eq!((empty.status, &empty.body["items"]), (202, &json!([])));
    let broken = api
        .post_text("/v1/notifications/batch", "application/json", "[{]")
        .await;
    assert_eq!((broken.status, broken.code()), (400, "invalid_json"));
}

#[tokio::test]
async fn a_thousand_are_a_batch_and_one_more_are_not() {
    let api = TestApi::start().await;
    let batch = |count: usize| Value::from(vec![json!({ "type": "a", "payload": 1 }); count]);
    let done = api
        .call("POST", "/v1/notifications/batch", batch(1_000))
        .await;
    assert_eq!((done.status, &done.body["accepted"]), (202, &json!(1_000)));
    assert_eq!(api.depth().await, 1_000);
    let refused = api
        .call("POST", "/v1/notifications/batch", batch(1_001))
        .await;
    assert_eq!((refused.status, refused.code()), (413, "too_large"));
}

#[tokio::test]
async fn a_batch_with_an_idempotency_key_can_be_sent_again() {
    let api = TestApi::start().await;
    let send = || {
        let body = json!([{ "type": "a", "payload": 1 }, { "type": "a", "payload": 1 }]);
        let request = api
            .request("POST", "/v1/notifications/batch")
            .bearer_auth(ADMIN_KEY);
        answer(request.header("Idempotency-Key", "batch-1").json(&body))
    };
    let first = send().await;
    let second = send().await;
    for index in 0..2 {
        assert_eq!(first.body["items"][index]["deduplicated"], false);
        assert_eq!(second.body["items"][index]["deduplicated"], true);
        assert_eq!(
            second.body["items"][index]["id"],
            first.body["items"][index]["id"]
        );
    }
    assert_ne!(first.body["items"][0]["id"], first.body["items"][1]["id"]);
    assert_eq!(api.depth().await, 2);
}

#[tokio::test]
async fn a_bound_key_enqueues_for_its_tenant_alone() {
    let api = TestApi::start().await;
    let key = api.key(&[Scope::Enqueue], Some("acme")).await;
    let accepted = api
        .call_as(
            &key,
            "POST",
            "/v1/notifications",
            json!({ "type": "a", "payload": 1 }),
        )
        .await;
    assert_eq!(accepted.status, 202);
    let queued = api.queued(1).await.remove(0);
    assert!(String::from_utf8_lossy(&queued.message.body).contains(r#""tenant":"acme""#));
    let other = json!({ "type": "a", "payload": 1, "tenant": "other" });
    let refused = api
        .call_as(&key, "POST", "/v1/notifications", other.clone())
        .await;
    assert_eq!((refused.status, refused.code()), (403, "other_tenant"));
    let batch = api
        .call_as(&key, "POST", "/v1/notifications/batch", json!([other]))
        .await;
    assert_eq!(batch.body["items"][0]["error"]["code"], "other_tenant");
}

#[tokio::test]
async fn a_broker_that_does_not_confirm_is_503_and_nothing_is_forgotten() {
    let api = TestApi::start_with(ApiSettings::default(), Some(Arc::new(NoBroker))).await;
    let body = json!({ "type": "a", "payload": 1, "id": "order-1" });
    for _ in 0..2 {
        let refused = api.call("POST", "/v1/notifications", body.clone()).await;
        assert_eq!((refused.status, refused.code()), (503, "unavailable"));
        assert!(refused.headers.contains_key("retry-after"));
        assert!(
            !refused.body.to_string().contains("inner detail"),
            "{refused:?}"
        );
    }
    let batch = api
        .call("POST", "/v1/notifications/batch", json!([body, 7]))
        .await;
    assert_eq!((batch.status, batch.code()), (503, "unavailable"));
    assert!(
        api.metrics
            .render()
            .contains("posthaste_notifications_accepted_total{source=\"http\"} 0")
    );
}

#[tokio::test]
async fn an_unknown_notification_may_still_be_with_the_broker() {
    let api = TestApi::start().await;
    let missing = api.call("GET", "/v1/notifications/n-1", Value::Null).await;
    assert_eq!((missing.status, missing.code()), (404, "not_found"));
    assert!(
        text(&missing.body["detail"]).contains("broker"),
        "{missing:?}"
    );
}

/// A broker that is away.
struct NoBroker;

fn away() -> BrokerError {
    BrokerError::Unavailable("inner detail".to_owned())
}

#[async_trait]
impl Broker for NoBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        messages.iter().map(|_| Err(away())).collect()
    }
    async fn publish_events(&self, events: &[Event]) -> Vec<Result<(), BrokerError>> {
        events.iter().map(|_| Err(away())).collect()
    }
    async fn consume(&self, _: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        Err(away())
    }
    async fn dead_letter(&self, _: &Message, _: DeadReason, _: &str) -> Result<(), BrokerError> {
        Err(away())
    }
    async fn dead_letters(&self, _: u32) -> Result<Vec<DeadLetter>, BrokerError> {
        Err(away())
    }
    async fn redrive(&self, _: Option<&[String]>, _: u32) -> Result<Redriven, BrokerError> {
        Err(away())
    }
    async fn ping(&self) -> Result<(), BrokerError> {
        Err(away())
    }
    async fn depths(&self) -> Result<std::collections::BTreeMap<&'static str, u64>, BrokerError> {
        Err(away())
    }
    async fn describe(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    async fn close(&self) {}
}
