//! Never late by silence: expiry fires on time, whatever else happens, and nothing is sent after
//! it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Api, Backend, Place, Process, Receiver, process};

async fn expires_on_time(backend: Backend, path: &str, slots: &str) {
    let place = Place::new(backend).await;
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    let worker = Process::start(&place, &["worker", "--slots", slots]).await;
    let api = Api::of(&api_process);
    let endpoint = api
        .endpoint(&receiver.url(path), json!({"max_in_flight": 1}))
        .await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(api.enqueue_to(&endpoint, json!({"ttl_seconds": 3})).await);
    }
    for id in ids {
        let delivery = api.finished(&id, 1).await.remove(0);
        assert_eq!(delivery["status"], "expired", "{delivery}");
        let due = time(&delivery["expires_at"]);
        let done = time(&delivery["finished_at"]);
        // A request under way at its expiry ends first: up to its timeout of 5 s.
        let allowed = if path == "/hang" && delivery["attempt_count"] != 0 {
            7.0
        } else {
            1.0
        };
        assert!(
            (0.0..=allowed).contains(&(done - due)),
            "expired {} s late: {delivery}",
            done - due
        );
        assert_eq!(
            api.events("delivery.expired", delivery["id"].as_str().unwrap())
                .await
                .len(),
            1
        );
        let sent = receiver.requests(path);
        let mine = sent
            .iter()
            .filter(|request| request.header("webhook-id") == delivery["id"]);
        for request in mine {
            let at = request
                .wall
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs_f64();
            assert!(at <= due + 0.1, "sent {} s after its expiry", at - due);
        }
    }
    drop(worker);
}

/// Seconds since the epoch.
fn time(text: &serde_json::Value) -> f64 {
    let text = text.as_str().unwrap_or_else(|| panic!("{text} is no time"));
    posthaste_shared::domain::time::Timestamp::parse(text)
        .expect("a time")
        .as_micros() as f64
        / 1e6
}

#[tokio::test]
async fn while_its_endpoint_fails() {
    expires_on_time(Backend::RabbitPostgres, "/status/503", "16").await;
}

#[tokio::test]
async fn while_its_endpoint_hangs_and_most_were_never_tried() {
    expires_on_time(Backend::EmbeddedSqlite, "/hang", "16").await;
}

#[tokio::test]
async fn while_the_only_slot_of_the_worker_is_taken() {
    expires_on_time(Backend::RabbitSqlite, "/hang", "1").await;
}

#[tokio::test]
async fn while_its_endpoint_is_disabled() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api
        .endpoint(&receiver.url("/ok"), json!({"enabled": false}))
        .await;
    let id = api.enqueue_to(&endpoint, json!({"ttl_seconds": 2})).await;
    let delivery = api.finished(&id, 1).await.remove(0);
    assert_eq!(
        (&delivery["status"], &delivery["attempt_count"]),
        (&json!("expired"), &json!(0))
    );
    assert!(time(&delivery["finished_at"]) - time(&delivery["expires_at"]) <= 1.0);
    assert!(receiver.requests("/ok").is_empty());
}

#[tokio::test]
async fn a_notification_that_no_worker_saw_in_time_is_never_sent() {
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
    let endpoint = api.endpoint(&receiver.url("/ok"), json!({})).await;
    let id = api.enqueue_to(&endpoint, json!({"ttl_seconds": 0.2})).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _worker = Process::start(&place, &["worker"]).await;
    let delivery = api.finished(&id, 1).await.remove(0);
    assert_eq!(
        (&delivery["status"], &delivery["attempt_count"]),
        (&json!("expired"), &json!(0))
    );
    assert!(receiver.requests("/ok").is_empty());
    assert_eq!(
        api.events("delivery.expired", delivery["id"].as_str().unwrap())
            .await
            .len(),
        1
    );
}

#[tokio::test]
async fn a_delayed_notification_comes_when_it_is_due_and_not_before() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api.endpoint(&receiver.url("/ok"), json!({})).await;
    let begun = Instant::now();
    api.enqueue_to(&endpoint, json!({"delay_seconds": 5})).await;
    let request = receiver.wait_for("/ok", 1).await.remove(0);
    let waited = (request.at - begun).as_secs_f64();
    assert!((5.0..6.5).contains(&waited), "{waited} s");
}
