//! Posthaste that is its own receiver: each circle comes to its end.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::ADMIN_KEY;
use crate::support::{Api, Backend, Place, Process, eventually};

/// As many times round as the API accepts.
const MAX_HOPS: usize = 3;

/// An endpoint that leads back to the API that it is an endpoint of.
async fn leads_back(api: &Api, up: &Process, subscription: Value, transform: &str) -> Value {
    let more = json!({
        "wire_format": "raw",
        "subscription": subscription,
        "headers": { "Authorization": format!("Bearer {ADMIN_KEY}") },
        "settings": { "transform": transform },
        "retry": { "max_retries": 0 }
    });
    api.endpoint(&format!("{}/v1/notifications", up.url), more)
        .await
}

/// Waits until all deliveries are finished and are as many as they should be.
async fn all_finished(api: &Api, count: usize) -> Vec<Value> {
    eventually(&format!("{count} finished deliveries"), async || {
        let all = api.all_deliveries("").await;
        let finished = all.iter().all(|delivery| delivery["status"] != "pending");
        (finished && all.len() >= count).then_some(all)
    })
    .await
}

async fn ends(backend: Backend, agent: Option<&str>) {
    let place = Place::new(backend).await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let transform = "export default (n) => ({ payload: { type: 'round', payload: n.payload } })";
    let endpoint = leads_back(&api, &up, json!({ "types": ["round"] }), transform).await;
    if let Some(agent) = agent {
        let headers = json!({ "headers": { "Authorization": "[redacted]", "User-Agent": agent } });
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
        let (status, changed) = api.call(Method::PATCH, &path, Some(headers)).await;
        assert_eq!(status.as_u16(), 200, "{changed}");
    }
    api.post(
        "/v1/notifications",
        json!({ "type": "round", "payload": {} }),
    )
    .await;
    let all = all_finished(&api, MAX_HOPS + 1).await;
    let failed: Vec<&Value> = all
        .iter()
        .filter(|delivery| delivery["status"] == "failed")
        .collect();
    assert_eq!((all.len(), failed.len()), (MAX_HOPS + 1, 1), "{all:?}");
    let answer = api.delivery(failed[0]).await["attempts"][0]["response_body"].to_string();
    assert!(answer.contains("too_many_hops"), "{answer}");
}

#[tokio::test]
async fn a_circle_ends_embedded() {
    ends(Backend::EmbeddedSqlite, None).await;
}

#[tokio::test]
async fn a_circle_ends_on_rabbitmq_and_postgres() {
    ends(Backend::RabbitPostgres, None).await;
}

#[tokio::test]
async fn a_circle_under_another_name_ends() {
    ends(Backend::EmbeddedSqlite, Some("somebody/1.0")).await;
}

#[tokio::test]
async fn a_circle_through_events_ends() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start_with(&place, &["up"], &[("POSTHASTE_EVENTS_SUCCEEDED", "true")]).await;
    let api = Api::of(&up);
    let transform = "export default () => ({ payload: { type: 'news', payload: {} } })";
    leads_back(
        &api,
        &up,
        json!({ "types": ["delivery.succeeded"] }),
        transform,
    )
    .await;
    // Whatever it is that is delivered: its news goes round.
    leads_back(
        &api,
        &up,
        json!({ "types": ["news"] }),
        "export default () => ({ payload: { type: 'end', payload: {} } })",
    )
    .await;
    api.post(
        "/v1/notifications",
        json!({ "type": "news", "payload": {} }),
    )
    .await;
    let failed = eventually("the end of the circle", async || {
        let all = api.all_deliveries("").await;
        all.iter()
            .find(|delivery| delivery["status"] == "failed")
            .cloned()
    })
    .await;
    let answer = api.delivery(&failed).await["attempts"][0]["response_body"].to_string();
    assert!(answer.contains("too_many_hops"), "{answer}");
    // News of the last delivery of all goes nowhere.
    let all = all_finished(&api, 2 * MAX_HOPS + 1).await;
    assert_eq!(all.len(), 2 * MAX_HOPS + 1, "{all:?}");
}

#[tokio::test]
async fn what_posthaste_sends_changes_nothing_in_posthaste() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let more = json!({
        "wire_format": "raw",
        "headers": { "Authorization": format!("Bearer {ADMIN_KEY}") },
        "settings": { "transform": "export default () => ({ payload: { confirm: true } })" },
        "retry": { "max_retries": 0 }
    });
    let endpoint = api
        .endpoint(&format!("{}/v1/deliveries/replay", up.url), more)
        .await;
    let id = api.enqueue_to(&endpoint, json!({})).await;
    let delivery = api.finished(&id, 1).await.remove(0);
    assert_eq!(delivery["reason"], "rejected", "{delivery}");
    let answer = api.delivery(&delivery).await["attempts"][0]["response_body"].to_string();
    assert!(answer.contains("too_many_hops"), "{answer}");
    // Nobody else can claim that it is not so.
    let own = json!({
        "url": "https://hooks.example/x", "wire_format": "raw",
        "headers": { "Posthaste-Hops": "0" },
    });
    let (status, problem) = api.call(Method::POST, "/v1/endpoints", Some(own)).await;
    assert_eq!(status.as_u16(), 422, "{problem}");
}
