//! `settings.transform`: a script that changes what is sent.

use serde_json::{Value, json};

use super::only;
use crate::wire_formats::{Scene, end, merge, once, shown};

async fn with(scene: &Scene, path: &str, transform: &str) -> Value {
    let mut more = once();
    merge(&mut more, json!({ "timeout_ms": 30_000 }));
    scene.endpoint("standard", path, json!({ "transform": transform }), more).await
}

#[tokio::test]
async fn payload_headers_and_url_can_be_changed() {
    let scene = Scene::start().await;
    let script = r#"
        interface Order { total: number; items: string[] }
        export default function (notification: { payload: Order; type: string; tenant: string }) {
          const { total, items } = notification.payload as Order;
          console.log("items:", items.length, notification.tenant);
          return {
            payload: { text: `${items.join(", ")} for ${total}`, of: notification.type },
            headers: { "X-Total": String(total), "X-Auth-Key": "a-secret-key" },
            url: "URL",
          };
        }"#;
    let script = script.replace("URL", &scene.receiver.url("/elsewhere?b=c"));
    let endpoint = with(&scene, "/ok", &script).await;
    let payload = json!({ "total": 12.5, "items": ["tea", "milk"] });
    let delivery = scene.outcome(&endpoint, json!({ "type": "order.paid", "payload": payload })).await;
    assert_eq!((end(&delivery), &delivery["attempt_count"]), (("delivered", ""), &json!(1)), "{delivery}");
    assert_eq!(delivery["attempts"][0]["console"].as_str().expect("a console").trim(), "items: 2 default");
    let request = only(&scene, "/elsewhere");
    assert!(scene.receiver.requests("/ok").is_empty());
    assert_eq!(request.query(), "b=c");
    assert_eq!(request.json()["data"], json!({ "text": "tea, milk for 12.5", "of": "order.paid" }));
    assert_eq!((request.header("x-total"), request.header("x-auth-key")), ("12.5", "a-secret-key"));
    assert_eq!((shown(&delivery, "x-total"), shown(&delivery, "x-auth-key")), ("12.5", "[redacted]"));
    // What was changed is what is signed; what was enqueued is what is kept.
    crate::interop::verify_by_libraries(&request, endpoint["secret"].as_str().unwrap()).await;
    let id = delivery["notification_id"].as_str().unwrap();
    assert_eq!(scene.api.get(&format!("/v1/notifications/{id}")).await["payload"], payload);
}

#[tokio::test]
async fn what_it_skips_is_cancelled() {
    let scene = Scene::start().await;
    let script = "export default ({ payload }) => payload.quiet ? { skip: true } : {};";
    let endpoint = with(&scene, "/ok", script).await;
    let skipped = scene.outcome(&endpoint, json!({ "payload": { "quiet": true } })).await;
    assert_eq!((end(&skipped), &skipped["attempts"]), (("cancelled", ""), &json!([])), "{skipped}");
    assert!(skipped["last_error"].as_str().unwrap().starts_with("skipped (transform)"), "{skipped}");
    let sent = scene.outcome(&endpoint, json!({ "payload": { "quiet": false } })).await;
    assert_eq!((end(&sent), &sent["attempts"][0]["console"]), (("delivered", ""), &json!(null)), "{sent}");
    assert_eq!(only(&scene, "/ok").json()["data"], json!({ "quiet": false }));
}

#[tokio::test]
async fn one_that_fails_fails_the_delivery_and_says_where() {
    let scene = Scene::start().await;
    let failing = [
        ("export default (n) => {\n  const p = n.payload;\n  return p.missing.deeper;\n};", "line 3"),
        ("export default () => {\n  throw new Error(\"no such customer\");\n};", "no such customer (line 2"),
        ("export default async () => {\n  await Promise.reject(new Error(\"not today\"));\n};", "not today"),
        ("export default async () => {\n  await fetch(\"RECEIVER\");\n  return {};\n};", "no network in a transform"),
        ("export default () => {};", "returned nothing"),
        ("export default () => 7;", "payload?, headers?, url?, skip?"),
        ("export default () => ({ body: 1 });", "body"),
        ("export default () => ({ headers: { \"X A\": \"b\" } });", "X A"),
        ("export default () => ({ url: \"not a url\" });", "url"),
        ("export default () => { const a = []; for (;;) a.push(new Array(100000).fill(a)); };", "32 MiB of memory"),
    ];
    for (script, told) in failing {
        let script = script.replace("RECEIVER", &scene.receiver.url("/fetched"));
        let settings = json!({ "transform": script });
        // They have time, however busy the machine.
        let timeout = json!({ "timeout_ms": 30_000 });
        let endpoint = scene.endpoint("standard", "/ok", settings, timeout).await;
        let delivery = scene.outcome(&endpoint, json!({})).await;
        assert_eq!(end(&delivery), ("failed", "render_error"), "{script} {delivery}");
        let error = delivery["last_error"].as_str().unwrap();
        assert!(error.starts_with("settings.transform failed: ") && error.contains(told), "{script} {error}");
    }
    assert!(scene.receiver.requests("/").is_empty());
    // Where it must not go, it cannot send to either.
    let endpoint = with(&scene, "/ok", "export default () => ({ url: \"http://169.254.169.254/\" });").await;
    let delivery = scene.outcome(&endpoint, json!({})).await;
    assert_eq!(
        (end(&delivery), &delivery["attempts"][0]["result"]),
        (("failed", "blocked"), &json!("blocked")),
        "{delivery}"
    );
}

/// As a script's, a transform's time-out is an attempt that is made again, and never a notification that cannot be written.
#[tokio::test]
async fn one_that_does_not_end_is_tried_again() {
    let scene = Scene::start().await;
    let script = "export default () => { console.log(\"begun\"); while (true); };";
    let more = json!({ "timeout_ms": 1_000, "retry": { "max_retries": 1 } });
    let endpoint = scene.endpoint("standard", "/ok", json!({ "transform": script }), more).await;
    let delivery = scene.outcome(&endpoint, json!({})).await;
    assert_eq!(end(&delivery), ("failed", "retries_exhausted"), "{delivery}");
    assert_eq!(delivery["attempt_count"], 2, "{delivery}");
    for attempt in delivery["attempts"].as_array().unwrap() {
        assert_eq!(
            (&attempt["result"], &attempt["error"]["code"]),
            (&json!("timeout"), &json!("timeout")),
            "{attempt}"
        );
        assert_eq!(attempt["console"].as_str().unwrap().trim(), "begun", "{attempt}");
    }
    let error = delivery["last_error"].as_str().unwrap();
    assert!(error.contains("settings.transform: the script did not end within 1000 ms"), "{error}");
    assert!(scene.receiver.requests("/ok").is_empty());
}
