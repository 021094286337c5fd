//! What is not sampled.

use serde_json::json;

use super::{ENDPOINT, PARENT, TRACE};
use crate::support::collector::Collector;
use crate::support::{Api, Backend, Place, Process, Receiver};

#[tokio::test]
async fn what_is_not_sampled_is_carried_on_and_not_exported() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let collector = Collector::start().await;
    let receiver = Receiver::start().await;
    let up = Process::start_with(&place, &["up"], &[(ENDPOINT, &collector.url)]).await;
    let api = Api::of(&up);
    let more = json!({"wire_format": "raw", "settings": {"traceparent": true}});
    let endpoint = api.endpoint(&receiver.url("/ok"), more).await;
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    let body = json!({"type": "a", "payload": 1, "endpoint_id": endpoint["id"]});
    let answer = api
        .post_with(
            "/v1/notifications",
            body.clone(),
            &[("traceparent", &unsampled)],
        )
        .await;
    api.finished(answer["id"].as_str().unwrap(), 1).await;
    assert_eq!(receiver.requests("/ok")[0].header("traceparent"), unsampled);
    // One that is sampled, behind it, shows that whatever there was has been sent.
    let other = "11111111111111111111111111111111";
    let sampled = format!("00-{other}-{PARENT}-01");
    let answer = api
        .post_with("/v1/notifications", body, &[("traceparent", &sampled)])
        .await;
    api.finished(answer["id"].as_str().unwrap(), 1).await;
    collector.trace(other, 4).await;
    assert!(up.stop().await.success());
    assert!(collector.spans().iter().all(|span| span.trace != TRACE));
}

#[tokio::test]
async fn no_trace_begins_where_the_ratio_is_zero() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let collector = Collector::start().await;
    let receiver = Receiver::start().await;
    let environment = [
        (ENDPOINT, collector.url.as_str()),
        ("POSTHASTE_TRACING_SAMPLE_RATIO", "0"),
    ];
    let up = Process::start_with(&place, &["up"], &environment).await;
    let api = Api::of(&up);
    let more = json!({"wire_format": "raw", "settings": {"traceparent": true}});
    let endpoint = api.endpoint(&receiver.url("/ok"), more).await;
    let id = api.enqueue_to(&endpoint, json!({})).await;
    api.finished(&id, 1).await;
    assert!(
        receiver.requests("/ok")[0]
            .header("traceparent")
            .ends_with("-00"),
        "all who come later agree"
    );
    assert!(up.stop().await.success());
    assert!(collector.spans().is_empty(), "{:#?}", collector.spans());
}
