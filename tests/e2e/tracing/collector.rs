//! A collector that is away, hangs, refuses or has no URL.

use std::time::{Duration, Instant};

use serde_json::json;

use super::ENDPOINT;
use crate::support::collector::{Collector, Mood};
use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process};

/// Delivers, with a collector that is of no use, and ends.
async fn goes_on(url: &str) {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let mut up = Process::start_with(&place, &["up"], &[(ENDPOINT, url)]).await;
    let api = Api::of(&up);
    let endpoint = api
        .endpoint(&receiver.url("/ok"), json!({"wire_format": "raw"}))
        .await;
    let item = |n: usize| json!({"type": "a", "payload": n, "endpoint_id": endpoint["id"]});
    for _ in 0..2 {
        api.post("/v1/notifications/batch", (0..300).map(item).collect())
            .await;
    }
    receiver.wait_for("/ok", 600).await;
    let began = Instant::now();
    up.signal("-TERM");
    let status = up.ended(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    // The last spans may take 3 s; the rest is for a busy machine.
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "{:?}",
        began.elapsed()
    );
    assert!(up.log().contains("spans"), "it says that spans were lost");
}

#[tokio::test]
async fn a_collector_that_hangs_delays_nothing() {
    let collector = Collector::start().await;
    collector.set(Mood::Hangs);
    goes_on(&collector.url).await;
}

#[tokio::test]
async fn a_collector_that_is_away_delays_nothing() {
    // Nobody listens on the port of a listener that is gone.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    goes_on(&url).await;
}

#[tokio::test]
async fn spans_that_are_refused_are_counted() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let collector = Collector::start().await;
    collector.set(Mood::Refuses);
    let up = Process::start_with(&place, &["up"], &[(ENDPOINT, &collector.url)]).await;
    let api = Api::of(&up);
    api.get("/v1/endpoints").await;
    eventually("a dropped span is counted", async || {
        let metrics = reqwest::get(format!("{}/metrics", up.url))
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        metrics
            .contains("posthaste_trace_spans_dropped_total 1")
            .then_some(())
    })
    .await;
    up.logs("it answered 400").await;
}

#[tokio::test]
async fn a_collectors_url_that_is_none_is_said_at_the_start() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    for (name, value, expected) in [
        (
            ENDPOINT,
            "collector:4317",
            "tracing_otlp_endpoint (from POSTHASTE_TRACING_OTLP_ENDPOINT)",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://u:hunter2@c:4318",
            "put credentials into tracing_headers",
        ),
        (
            "POSTHASTE_TRACING_SAMPLE_RATIO",
            "50",
            "must be a number from 0 (none) to 1 (all)",
        ),
    ] {
        let output = process::run(&place, &["worker"], &[(name, value)], None).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(expected),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}
