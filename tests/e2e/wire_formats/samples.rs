//! The samples that the API shows of all wire formats: they can be enqueued, and tried, as they
//! are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Scene, end, once};
use crate::support::Backend;

/// Takes everything, in every wire format's own words.
const ANSWER: &str =
    r#"{"code":"ok","id":"id-1","data":{"id":"id-2","date":"2026-01-14T10:30:00.000Z"}}"#;

/// An endpoint for each wire format, of what the API shows of it; with the notification that it
/// shows.
async fn endpoints(scene: &Scene) -> BTreeMap<String, (Value, Value)> {
    let mut endpoints = BTreeMap::new();
    for format in scene.api.get("/v1/wire-formats").await["items"]
        .as_array()
        .expect("wire formats")
    {
        let name = format["name"].as_str().expect("a name");
        let path = format!("/hooks/{name}");
        scene.receiver.answers(&path, &[(200, ANSWER)]);
        let settings = format["example_settings"]
            .to_string()
            .replace("https://example.com", &scene.receiver.url(&path));
        let settings = serde_json::from_str(&settings).unwrap();
        let endpoint = scene.endpoint(name, &path, settings, once()).await;
        endpoints.insert(name.to_owned(), (endpoint, format["example"].clone()));
    }
    endpoints
}

/// What the delivery of a sample shows: recipient, and the provider's id and date.
fn expected(format: &str) -> (Value, Value, Value) {
    let none = json!(null);
    let day = json!("2026-01-14T10:30:00.000Z");
    match format {
        "novu-sms" => (none, json!("id-2"), day),
        "novu-push" => (json!("a-token"), json!("id-1"), json!("a date")),
        "cometchat-sms" => (json!("cometchat-uid-1"), none.clone(), none),
        _ => (none.clone(), none.clone(), none),
    }
}

async fn samples_are_delivered(backend: Backend) {
    let scene = Scene::on(backend).await;
    let endpoints = endpoints(&scene).await;
    assert_eq!(endpoints.len(), 9, "{:?}", endpoints.keys());
    for (name, (endpoint, example)) in &endpoints {
        let delivery = scene.outcome(endpoint, example.clone()).await;
        assert_eq!(
            (end(&delivery), &delivery["attempt_count"]),
            (("delivered", ""), &json!(1)),
            "{delivery}"
        );
        assert_eq!(
            (&delivery["wire_format"], &delivery["type"]),
            (&json!(name), &example["type"])
        );
        let (recipient, id, date) = expected(name);
        assert_eq!(
            (
                &delivery["provider_message_id"],
                &delivery["provider_error_code"]
            ),
            (&id, &json!(null)),
            "{name}"
        );
        if name == "novu-push" {
            let tokens = &example["recipient"]["device_tokens"];
            assert_eq!(delivery["recipient"], tokens[0]);
            assert!(delivery["provider_message_date"].is_string());
        } else {
            assert_eq!(
                (&delivery["recipient"], &delivery["provider_message_date"]),
                (&recipient, &date),
                "{name}"
            );
        }
        let requests = scene.receiver.requests(&format!("/hooks/{name}"));
        assert_eq!(requests.len(), 1, "{name}");
        assert_eq!(requests[0].method, "POST");
        if name != "authgear-script" {
            assert_eq!(requests[0].header("webhook-id"), delivery["id"], "{name}");
        }
    }
}

#[tokio::test]
async fn every_sample_is_delivered_in_one_process() {
    samples_are_delivered(Backend::EmbeddedSqlite).await;
}

#[tokio::test]
async fn every_sample_is_delivered_with_servers() {
    samples_are_delivered(Backend::RabbitPostgres).await;
}

#[tokio::test]
async fn every_endpoint_can_be_tried_with_its_sample() {
    let scene = Scene::start().await;
    for (name, (endpoint, example)) in endpoints(&scene).await {
        let path = format!("/v1/endpoints/{}/test", endpoint["id"].as_str().unwrap());
        let tried = scene.api.post(&path, json!({})).await;
        assert_eq!(
            (&tried["outcome"], &tried["error"]),
            (&json!("delivered"), &json!(null)),
            "{name}: {tried}"
        );
        let requests = scene.receiver.requests(&format!("/hooks/{name}"));
        assert_eq!(requests.len(), 1, "{name}");
        let shown = &tried["request"];
        let got = &requests[0];
        assert_eq!(shown["body"], super::body(got), "{name}");
        if name == "authgear-script" {
            assert_eq!(
                (&shown["method"], &tried["response"]["body"]),
                (&json!("SCRIPT"), &json!(r#"{"code":"ok"}"#))
            );
        } else {
            assert_eq!(
                (&shown["method"], &shown["url"]),
                (&json!("POST"), &endpoint["url"]),
                "{name}"
            );
            assert_eq!(
                (&tried["response"]["status"], &tried["response"]["body"]),
                (&json!(200), &json!(ANSWER))
            );
        }
        // All that went out is shown, but for what is secret.
        for header in shown["headers"].as_array().unwrap() {
            let (header, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
            assert!(
                value == "[redacted]" || value == got.header(header),
                "{name}: {header}"
            );
        }
        for secret in [
            "key-123",
            "Bearer",
            "Basic",
            endpoint["secret"].as_str().unwrap_or("key-123"),
        ] {
            assert!(
                !tried.to_string().contains(secret),
                "{name}: {secret} is shown in {tried}"
            );
        }
        // Nothing is recorded.
        assert_eq!(scene.api.all_deliveries("").await.len(), 0, "{name}");
        // Another notification than the sample will do as well.
        let tried = scene
            .api
            .post(&path, json!({ "notification": example }))
            .await;
        assert_eq!(tried["outcome"], "delivered", "{name}: {tried}");
    }
}
