//! A sick endpoint harms only itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Api, Backend, Place, Process, Receiver, process};

/// Notifications a second, in all.
const RATE: u64 = 200;
const SECONDS: u64 = 15;

/// Ten endpoints, one of which hangs: the other nine get theirs as fast as if it were not there.
/// Said as a bound that a queue held up by five-second timeouts cannot keep, however fast the
/// machine.
async fn healthy_endpoints_see_no_difference(backend: Backend) {
    let place = Place::new(backend).await;
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    // Few slots, so that the one that hangs could take them all.
    let _worker = Process::start(&place, &["worker", "--slots", "64"]).await;
    let api = Api::of(&api_process);
    let mut endpoints: Vec<Value> = Vec::new();
    for n in 0..10 {
        let path = if n == 0 {
            "/hang".to_owned()
        } else {
            format!("/ok/{n}")
        };
        endpoints.push(
            api.endpoint(&receiver.url(&path), json!({"wire_format": "raw"}))
                .await,
        );
    }
    let begun = Instant::now();
    let mut sent = Vec::new();
    // Batches of ten, one for each endpoint.
    for round in 0..RATE * SECONDS / 10 {
        tokio::time::sleep_until((begun + Duration::from_millis(round * 10_000 / RATE)).into())
            .await;
        let item = |endpoint: &Value| {
            json!({
                "type": "a", "payload": round, "endpoint_id": endpoint["id"],
            })
        };
        sent.push(Instant::now());
        api.post(
            "/v1/notifications/batch",
            endpoints.iter().map(item).collect(),
        )
        .await;
    }
    let healthy = usize::try_from(RATE * SECONDS / 10 * 9).unwrap();
    let requests = receiver.wait_for("/ok", healthy).await;
    let mut latencies: Vec<Duration> = requests
        .iter()
        .map(|request| {
            request.at - sent[usize::try_from(request.json().as_u64().unwrap()).unwrap()]
        })
        .collect();
    latencies.sort();
    let p99 = latencies[latencies.len() * 99 / 100];
    println!(
        "healthy endpoints: p50 {:?}, p99 {p99:?}, max {:?}",
        latencies[latencies.len() / 2],
        latencies.last().unwrap()
    );
    assert!(p99 < Duration::from_secs(4), "p99 {p99:?}");
    let hanging = receiver.requests("/hang").len() as u64;
    assert!(
        hanging > 0 && hanging <= 32 * (SECONDS / 5 + 2),
        "{hanging} requests to the one that hangs"
    );
}

#[tokio::test]
async fn on_rabbitmq_and_postgres() {
    healthy_endpoints_see_no_difference(Backend::RabbitPostgres).await;
}

#[tokio::test]
async fn on_the_embedded_default() {
    healthy_endpoints_see_no_difference(Backend::EmbeddedSqlite).await;
}
