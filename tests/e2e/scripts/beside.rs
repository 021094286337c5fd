//! Endpoints with bad scripts get work all the time, and the others get theirs as if there were
//! none.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::gateway;
use crate::support::Backend;
use crate::wire_formats::{Scene, once};

/// How long.
const SECONDS: u64 = 10;
/// Notifications to the healthy endpoint a second.
const HEALTHY: u64 = 200;
/// Notifications to each endpoint with a bad script a second.
const BAD: u64 = 4;
/// Batches a second.
const BATCHES: u64 = 20;
/// What bad scripts do, and how their deliveries end; two endpoints each.
const SCRIPTS: [(&str, &str); 4] = [
    ("while (true) {}", "retries_exhausted"),
    (
        "const all = []; for (let n = 0; n < 1024; n++) all.push(new Uint8Array(1024 ** \
         2).fill(n));",
        "rejected",
    ),
    ("await Promise.reject(new Error(\"never\"));", "rejected"),
    (
        "await fetch(\"http://169.254.169.254/latest/meta-data/\");",
        "blocked",
    ),
];

async fn bad_endpoints(scene: &Scene) -> Vec<Value> {
    let mut endpoints = Vec::new();
    for nth in 0..2 * SCRIPTS.len() {
        let (body, _) = SCRIPTS[nth % SCRIPTS.len()];
        let script = format!("export default async () => {{ {body} return {{ code: \"ok\" }}; }};");
        endpoints.push(gateway(scene, &script, 2000, 0).await);
    }
    endpoints
}

/// Sends all there is to send, evenly; when each batch went, and how many went to bad endpoints.
async fn send(scene: &Scene, healthy: &Value, bad: &[Value]) -> (Vec<Instant>, usize) {
    let begun = Instant::now();
    let mut sent = Vec::new();
    let mut to_bad = 0;
    for batch in 0..SECONDS * BATCHES {
        tokio::time::sleep_until((begun + Duration::from_millis(batch * 1_000 / BATCHES)).into())
            .await;
        let mut items: Vec<Value> = (0..HEALTHY / BATCHES)
            .map(|_| json!({ "type": "a", "payload": batch, "endpoint_id": healthy["id"] }))
            .collect();
        if batch % (BATCHES / BAD) == 0 {
            let payload = json!({ "to": "+44123456789", "body": "b" });
            items.extend(
                bad.iter().map(
                    |one| json!({ "type": "b", "payload": payload, "endpoint_id": one["id"] }),
                ),
            );
            to_bad += bad.len();
        }
        sent.push(Instant::now());
        let count = items.len();
        let answer = scene
            .api
            .post("/v1/notifications/batch", json!(items))
            .await;
        assert_eq!(answer["accepted"], count, "{answer}");
    }
    (sent, to_bad)
}

#[tokio::test]
async fn bad_scripts_do_not_hold_up_healthy_endpoints() {
    // Each of the bad is to be called all the time, so none may be left alone.
    let environment = [("POSTHASTE_BREAKER_FAILURES", "0")];
    let scene = Scene::with(Backend::EmbeddedSqlite, &environment).await;
    let healthy = scene.endpoint("raw", "/ok", json!({}), once()).await;
    let bad = bad_endpoints(&scene).await;
    let (sent, to_bad) = send(&scene, &healthy, &bad).await;

    let all = usize::try_from(HEALTHY * SECONDS).unwrap();
    let requests = scene.receiver.wait_for("/ok", all).await;
    assert_eq!(requests.len(), all, "each arrives once");
    let mut latencies: Vec<Duration> = requests
        .iter()
        .map(|request| {
            request.at - sent[usize::try_from(request.json().as_u64().unwrap()).unwrap()]
        })
        .collect();
    latencies.sort();
    let p50 = latencies[all / 2];
    let p99 = latencies[all * 99 / 100];
    let max = latencies[all - 1];
    println!("beside bad scripts: {all} healthy deliveries, p50 {p50:?}, p99 {p99:?}, max {max:?}");

    // The bad ones failed, all of them, each for its own reason.
    let ended = crate::support::eventually("the bad deliveries end", async || {
        let failed = scene.api.all_deliveries("&status=failed").await;
        (failed.len() >= to_bad).then_some(failed)
    })
    .await;
    assert_eq!(
        (ended.len(), to_bad),
        (to_bad, bad.len() * usize::try_from(BAD * SECONDS).unwrap())
    );
    let mut own_reason = [0; SCRIPTS.len()];
    for delivery in &ended {
        let nth = bad
            .iter()
            .position(|one| one["id"] == delivery["endpoint_id"])
            .expect("one of the bad");
        let kind = nth % SCRIPTS.len();
        let reason = delivery["reason"].as_str().expect("a reason");
        // On a busy machine the loops may leave the others no time, for scripts come last.
        assert!(
            [SCRIPTS[kind].1, "retries_exhausted"].contains(&reason),
            "{delivery}"
        );
        own_reason[kind] += usize::from(reason == SCRIPTS[kind].1);
    }
    println!(
        "of {} bad deliveries of each kind failed for their own reason: {own_reason:?}",
        to_bad / SCRIPTS.len()
    );
    assert!(own_reason.iter().all(|count| *count > 0), "{own_reason:?}");
    assert_eq!(
        scene.api.all_deliveries("&status=delivered").await.len(),
        all
    );
    assert!(!scene.up.log().contains("panicked"), "{}", scene.up.log());
    assert!(p99 < Duration::from_secs(2), "p99 {p99:?}");
    // The process is there, and a SIGTERM is all that it needs to end well.
    assert!(scene.up.stop().await.success());
}
