//! A transform over the attempts of a delivery: what the first one sends, the others send, too.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::receiver::Received;
use crate::support::{Backend, eventually};
use crate::wire_formats::{Scene, end, merge};

/// Every run gives something else, and a credential.
const DICE: &str = r#"export default ({ payload }) => {
    console.log("thrown");
    return {
        payload: { ...payload, dice: Math.random(), at: Date.now() },
        headers: { "x-api-key": crypto.randomUUID() },
    };
};"#;

/// Three failures, then success; and one more for the next round.
fn retried() -> Value {
    json!({
        "timeout_ms": 30_000,
        "retry": { "max_retries": 3, "initial_delay_ms": 1_000, "multiplier": 1.0 },
    })
}

fn sent(requests: &[Received]) -> HashSet<(String, String)> {
    requests
        .iter()
        .map(|request| {
            (
                request.text().to_owned(),
                request.header("x-api-key").to_owned(),
            )
        })
        .collect()
}

async fn change(scene: &Scene, endpoint: &Value, transform: Value) {
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let (status, body) = scene
        .api
        .call(
            Method::PATCH,
            &path,
            Some(json!({ "settings": { "transform": transform } })),
        )
        .await;
    assert!(status.is_success(), "{body}");
}

async fn all_attempts_send_the_same(backend: Backend) {
    let scene = Scene::on(backend).await;
    scene
        .receiver
        .answers("/hook", &[(503, ""), (503, ""), (503, ""), (200, "")]);
    let endpoint = scene
        .endpoint("raw", "/hook", json!({ "transform": DICE }), retried())
        .await;
    let id = scene
        .api
        .enqueue_to(&endpoint, json!({ "payload": { "n": 1 } }))
        .await;
    scene.receiver.wait_for("/hook", 1).await;
    // What becomes of the transform is of no concern to a round that has begun.
    change(
        &scene,
        &endpoint,
        json!("export default () => ({ payload: 'another', headers: { 'x-api-key': 'other' } });"),
    )
    .await;
    scene.receiver.wait_for("/hook", 2).await;
    change(&scene, &endpoint, Value::Null).await;
    let delivery = scene
        .api
        .delivery(&scene.api.finished(&id, 1).await[0])
        .await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("delivered", ""), &json!(4)),
        "{delivery}"
    );
    let requests = scene.receiver.requests("/hook");
    assert_eq!(
        (requests.len(), sent(&requests).len()),
        (4, 1),
        "{:?}",
        sent(&requests)
    );
    assert!(requests[0].json()["dice"].is_number());
    assert_eq!(delivery["attempts"][0]["console"], "thrown\n", "{delivery}");
    assert_eq!(
        delivery["attempts"][1]["console"],
        Value::Null,
        "it ran once"
    );

    // The next round begins with the transform as it is then.
    change(
        &scene,
        &endpoint,
        json!("export default () => ({ payload: 'later', headers: { 'x-api-key': 'k' } });"),
    )
    .await;
    scene
        .api
        .post(
            &format!("/v1/deliveries/{}/retry", delivery["id"].as_str().unwrap()),
            json!({}),
        )
        .await;
    let requests = scene.receiver.wait_for("/hook", 5).await;
    assert_eq!(requests[4].text(), r#""later""#);
    assert_eq!(
        requests[4].header("webhook-id"),
        requests[0].header("webhook-id")
    );
}

#[tokio::test]
async fn all_attempts_of_a_round_send_the_same_on_sqlite() {
    all_attempts_send_the_same(Backend::EmbeddedSqlite).await;
}

#[tokio::test]
async fn all_attempts_of_a_round_send_the_same_on_postgres() {
    all_attempts_send_the_same(Backend::RabbitPostgres).await;
}

#[tokio::test]
async fn a_transform_that_comes_later_changes_nothing_in_a_round_that_has_begun() {
    let scene = Scene::start().await;
    scene
        .receiver
        .answers("/hook", &[(503, ""), (503, ""), (200, "")]);
    let endpoint = scene.endpoint("raw", "/hook", json!({}), retried()).await;
    let id = scene
        .api
        .enqueue_to(&endpoint, json!({ "payload": { "n": 1 } }))
        .await;
    scene.receiver.wait_for("/hook", 1).await;
    change(
        &scene,
        &endpoint,
        json!("export default () => ({ payload: 'another' });"),
    )
    .await;
    scene.api.finished(&id, 1).await;
    let bodies: Vec<String> = scene
        .receiver
        .requests("/hook")
        .iter()
        .map(|request| request.text().to_owned())
        .collect();
    assert_eq!(bodies, [r#"{"n":1}"#; 3]);
}

#[tokio::test]
async fn what_waited_without_an_attempt_is_transformed_when_it_is_sent() {
    let scene = Scene::start().await;
    let more = json!({ "enabled": false });
    let transform = json!({ "transform": "export default () => ({ payload: 'early' });" });
    let endpoint = scene.endpoint("raw", "/ok", transform, more).await;
    let id = scene
        .api
        .enqueue_to(&endpoint, json!({ "payload": { "n": 1 } }))
        .await;
    eventually("the delivery to be parked", async || {
        let deliveries = scene.api.deliveries(&id).await;
        deliveries
            .into_iter()
            .find(|delivery| delivery["attempt_count"] == 0)
    })
    .await;
    change(
        &scene,
        &endpoint,
        json!("export default () => ({ payload: 'late' });"),
    )
    .await;
    scene
        .api
        .post(
            &format!("/v1/endpoints/{}/enable", endpoint["id"].as_str().unwrap()),
            json!({}),
        )
        .await;
    scene.api.finished(&id, 1).await;
    assert_eq!(scene.receiver.requests("/ok")[0].text(), r#""late""#);
}

#[tokio::test]
async fn what_it_wrote_is_shown_when_it_fails_skips_or_leaves_what_cannot_be_sent() {
    let scene = Scene::start().await;
    for (format, script, told) in [
        (
            "raw",
            "export default () => { console.log('said'); throw new Error('no'); };",
            "settings.transform failed: Error: no",
        ),
        (
            "raw",
            "export default () => { console.log('said'); return {}; };",
            "keep_payload: true",
        ),
        (
            "raw",
            "export default () => { console.log('said'); return { payload: undefined }; };",
            "payload is undefined",
        ),
        (
            "httpsms",
            "export default () => { console.log('said'); return { payload: {} }; };",
            "after the endpoint's transform",
        ),
    ] {
        let mut more = json!({ "timeout_ms": 30_000 });
        if format == "httpsms" {
            merge(&mut more, json!({ "secret": "a-key" }));
        }
        let endpoint = scene
            .endpoint(format, "/ok", json!({ "transform": script }), more)
            .await;
        let delivery = scene
            .outcome(&endpoint, json!({ "type": "message.phone.received" }))
            .await;
        assert_eq!(end(&delivery), ("failed", "render_error"), "{delivery}");
        let attempt = &delivery["attempts"][0];
        assert_eq!(
            (&attempt["result"], &attempt["console"]),
            (&json!("script"), &json!("said\n")),
            "{delivery}"
        );
        for text in [&delivery["last_error"], &attempt["error"]["text"]] {
            assert!(text.as_str().unwrap().contains(told), "{script} {delivery}");
        }
        let path = format!("/v1/endpoints/{}/test", endpoint["id"].as_str().unwrap());
        let test = json!({ "notification": { "type": "message.phone.received", "payload": {} } });
        let report = scene.api.post(&path, test).await;
        assert_eq!(
            (&report["console"], &report["outcome"]),
            (&json!("said\n"), &json!("render_error")),
            "{report}"
        );
        assert_eq!(report["request"], Value::Null, "{report}");
    }
    let skips = "export default () => { console.log('said'); return { skip: true }; };";
    let endpoint = scene
        .endpoint("raw", "/ok", json!({ "transform": skips }), json!({}))
        .await;
    let path = format!("/v1/endpoints/{}/test", endpoint["id"].as_str().unwrap());
    let report = scene.api.post(&path, json!({})).await;
    assert_eq!(
        (&report["console"], &report["outcome"]),
        (&json!("said\n"), &json!("cancelled")),
        "{report}"
    );
    assert!(scene.receiver.requests("/").is_empty());
}
