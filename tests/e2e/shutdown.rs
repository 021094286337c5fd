//! A worker that is told to stop finishes what it can and leaves the rest to others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process};

async fn nothing_is_lost(backend: Backend, slow: &str, grace: &str, cut_off: bool) {
    let place = Place::new(backend).await;
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    let settings = [("POSTHASTE_SHUTDOWN_GRACE", grace)];
    let mut first = Process::start_with(&place, &["worker"], &settings).await;
    let api = Api::of(&api_process);
    let endpoint = api
        .endpoint(
            &receiver.url(slow),
            json!({"max_in_flight": 500, "timeout_ms": 20_000}),
        )
        .await;
    let item = |n: usize| json!({"type": "test.sent", "payload": n, "endpoint_id": endpoint["id"]});
    api.post("/v1/notifications/batch", (0..200).map(item).collect())
        .await;
    receiver.wait_for(slow, 200).await;

    let told = Instant::now();
    first.signal("-TERM");
    let second = Process::start(&place, &["worker"]).await;
    assert!(first.ended(Duration::from_secs(30)).await.success());
    assert!(
        told.elapsed() < Duration::from_secs(20),
        "it took {:?} to stop",
        told.elapsed()
    );

    eventually("everything is delivered", async || {
        (api.all_deliveries("&status=delivered").await.len() == 200).then_some(())
    })
    .await;
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for request in receiver.requests(slow) {
        *times
            .entry(request.header("webhook-id").to_owned())
            .or_default() += 1;
    }
    assert_eq!(times.len(), 200);
    let most = times.values().max().copied().unwrap_or(0);
    assert!(
        most <= if cut_off { 2 } else { 1 },
        "one was sent {most} times"
    );
    assert!(second.stop().await.success());
}

#[tokio::test]
async fn what_is_in_flight_is_finished() {
    nothing_is_lost(Backend::RabbitPostgres, "/slow/3000", "15s", false).await;
}

#[tokio::test]
async fn what_is_cut_off_is_made_again_by_another_worker() {
    nothing_is_lost(Backend::RabbitPostgres, "/slow/8000", "1s", true).await;
}

#[tokio::test]
async fn what_is_cut_off_is_made_again_on_the_embedded_broker() {
    nothing_is_lost(Backend::EmbeddedSqlite, "/slow/8000", "1s", true).await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let mut up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api
        .endpoint(&receiver.url("/hang"), json!({"timeout_ms": 60_000}))
        .await;
    api.enqueue_to(&endpoint, json!({})).await;
    receiver.wait_for("/hang", 1).await;
    up.signal("-TERM");
    eventually("it says that it stops", async || {
        up.log().contains("stopping").then_some(())
    })
    .await;
    up.signal("-TERM");
    let status = up.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn a_worker_that_is_killed_loses_nothing() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    let first = Process::start(&place, &["worker"]).await;
    let api = Api::of(&api_process);
    let endpoint = api
        .endpoint(&receiver.url("/slow/50"), json!({"max_in_flight": 4}))
        .await;
    let item = |n: usize| json!({"type": "test.sent", "payload": n, "endpoint_id": endpoint["id"]});
    api.post("/v1/notifications/batch", (0..100).map(item).collect())
        .await;
    receiver.wait_for("/slow", 20).await;
    first.kill().await;
    let _second = Process::start(&place, &["worker"]).await;
    // Deliveries that the dead worker had parked or claimed wait for the end of its leases at most;
    // those it had from the broker come back at once.
    let all = crate::support::within(
        Duration::from_secs(180),
        "everything is delivered",
        async || (api.all_deliveries("&status=delivered").await.len() == 100).then_some(()),
    );
    all.await;
}

/// At full speed results are committed by the hundred, and runs of messages are acknowledged at
/// once: what was in flight at the kill is delivered again, and nothing that was not recorded was
/// acknowledged.
#[tokio::test]
async fn a_worker_that_is_killed_at_full_speed_loses_nothing() {
    const COUNT: usize = 2_000;
    let place = Place::new(Backend::RabbitPostgres).await;
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    let api = Api::of(&api_process);
    let endpoint = api
        .endpoint(&receiver.url("/ok"), json!({"max_in_flight": 500}))
        .await;
    let item = |n: usize| json!({"type": "test.sent", "payload": n, "endpoint_id": endpoint["id"]});
    for half in [0..COUNT / 2, COUNT / 2..COUNT] {
        api.post("/v1/notifications/batch", half.map(item).collect())
            .await;
    }
    let first = Process::start(&place, &["worker"]).await;
    receiver.wait_for("/ok", COUNT / 4).await;
    first.kill().await;
    let _second = Process::start(&place, &["worker"]).await;
    let all = crate::support::within(
        Duration::from_secs(180),
        "everything is delivered",
        async || (api.all_deliveries("&status=delivered").await.len() == COUNT).then_some(()),
    );
    all.await;
    let ids: BTreeSet<String> = receiver
        .requests("/ok")
        .iter()
        .map(|request| request.header("webhook-id").to_owned())
        .collect();
    assert_eq!(ids.len(), COUNT);
}

#[tokio::test]
async fn what_was_counted_is_kept_when_a_worker_stops() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;

    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let fast = json!({"retry": {"max_retries": 2, "initial_delay_ms": 1_000}});
    let endpoint = api.endpoint(&receiver.url("/fail/1/503"), fast).await;
    let notification = api.enqueue_to(&endpoint, json!({})).await;
    api.finished(&notification, 1).await;
    let workers = api.get("/v1/workers").await;
    assert_eq!(workers["items"][0]["alive"], true, "{workers}");
    // Long before the next report is due.
    assert!(up.stop().await.success());

    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let stats = api.get("/v1/stats").await;
    let total = &stats["total"];
    assert_eq!(
        (&total["attempts"], &total["succeeded"]),
        (&json!(2), &json!(1)),
        "{total}"
    );
    assert_eq!(
        (&total["first_tries"], &total["first_successes"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(total["results"]["5xx"], 1);
    // The one that stopped is forgotten.
    let workers = api.get("/v1/workers").await;
    assert_eq!(workers["items"].as_array().unwrap().len(), 1, "{workers}");
    assert!(up.stop().await.success());
}
