//! What is tried again, when, and what becomes of it.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};

use crate::support::{Api, Backend, Place, Process, Receiver, eventually, within};

fn gaps(requests: &[crate::support::receiver::Received]) -> Vec<f64> {
    requests
        .windows(2)
        .map(|pair| (pair[1].at - pair[0].at).as_secs_f64())
        .collect()
}

async fn up(place: &Place) -> (Process, Api, Receiver) {
    let process = Process::start(place, &["up"]).await;
    let api = Api::of(&process);
    (process, api, Receiver::start().await)
}

async fn outcome(api: &Api, endpoint: &Value) -> Value {
    let id = api.enqueue_to(endpoint, json!({})).await;
    let deliveries = api.finished(&id, 1).await;
    api.delivery(&deliveries[0]).await
}

#[tokio::test]
async fn a_503_is_tried_five_times_and_makes_one_event() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let (_up, api, receiver) = up(&place).await;
    let connection =
        lapin::Connection::connect(&place.broker_url, lapin::ConnectionProperties::default())
            .await
            .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("{}.test-events", place.prefix);
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.clone().into(), options, FieldTable::default())
        .await
        .unwrap();
    let exchange = format!("{}.events", place.prefix);
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(
            queue.clone().into(),
            exchange.into(),
            "delivery.*".into(),
            bind,
            FieldTable::default(),
        )
        .await
        .unwrap();

    let endpoint = api.endpoint(&receiver.url("/status/503"), json!({})).await;
    let delivery = outcome(&api, &endpoint).await;
    assert_eq!(
        (&delivery["status"], &delivery["reason"]),
        (&json!("failed"), &json!("retries_exhausted"))
    );
    let requests = receiver.requests("/status/503");
    assert_eq!(requests.len(), 5);
    for (gap, least) in gaps(&requests).into_iter().zip([1.0, 2.0, 4.0, 8.0]) {
        // Up to a fifth more by jitter, and what a busy machine adds.
        assert!(
            gap >= least && gap < least * 1.2 + 2.0,
            "{gap} s where {least} s was due"
        );
    }
    let first = &requests[0];
    let distinct = |name: &str| {
        let values: std::collections::BTreeSet<_> = requests
            .iter()
            .map(|request| request.header(name))
            .collect();
        values.len()
    };
    assert!(requests.iter().all(|request| request.body == first.body));
    assert_eq!(distinct("webhook-id"), 1);
    assert_eq!(
        (distinct("webhook-timestamp"), distinct("webhook-signature")),
        (5, 5)
    );
    assert_eq!(first.header("webhook-id"), delivery["id"]);
    assert!(first.header("user-agent").starts_with("Posthaste/"));

    let mut events = channel
        .basic_consume(
            queue.into(),
            "t".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let event = tokio::time::timeout(Duration::from_secs(30), events.next())
        .await
        .expect("an event")
        .unwrap()
        .unwrap();
    assert_eq!(event.routing_key.as_str(), "delivery.failed");
    let event: Value = serde_json::from_slice(&event.data).unwrap();
    assert_eq!(
        (&event["specversion"], &event["subject"]),
        (&json!("1.0"), &delivery["id"])
    );
    assert_eq!(event["data"]["last_attempt"]["status_code"], 503);
    // One: nothing follows, though the relay has had time for several rounds.
    assert!(
        tokio::time::timeout(Duration::from_secs(3), events.next())
            .await
            .is_err(),
        "a second event"
    );
    assert_eq!(
        api.events("delivery.failed", delivery["id"].as_str().unwrap())
            .await
            .len(),
        1
    );
}

#[tokio::test]
async fn a_passing_failure_is_delivered_in_the_end() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let (_up, api, receiver) = up(&place).await;
    let endpoint = api.endpoint(&receiver.url("/fail/2/503"), json!({})).await;
    let delivery = outcome(&api, &endpoint).await;
    assert_eq!(
        (&delivery["status"], &delivery["attempt_count"]),
        (&json!("delivered"), &json!(3))
    );
    let results: Vec<_> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["result"].clone())
        .collect();
    assert_eq!(results, ["5xx", "5xx", "2xx"]);
}

#[tokio::test]
async fn what_is_final_is_not_tried_again() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let (_up, api, receiver) = up(&place).await;
    for path in ["/status/400", "/redirect"] {
        let endpoint = api.endpoint(&receiver.url(path), json!({})).await;
        let delivery = outcome(&api, &endpoint).await;
        assert_eq!(
            (&delivery["status"], &delivery["reason"]),
            (&json!("failed"), &json!("rejected")),
            "{path}"
        );
        assert_eq!(receiver.requests(path).len(), 1, "{path}");
    }
    assert!(
        receiver.requests("/ok").is_empty(),
        "the redirect was followed"
    );

    let endpoint = api.endpoint(&receiver.url("/status/410"), json!({})).await;
    let delivery = outcome(&api, &endpoint).await;
    assert_eq!(
        (&delivery["status"], &delivery["reason"]),
        (&json!("failed"), &json!("gone"))
    );
    let id = endpoint["id"].as_str().unwrap();
    let shown = api.get(&format!("/v1/endpoints/{id}")).await;
    assert_eq!(
        (&shown["enabled"], &shown["disabled_reason"]),
        (&json!(false), &json!("gone"))
    );
    assert_eq!(api.events("endpoint.disabled", id).await.len(), 1);
    // Enabled again, it is called again.
    api.post(&format!("/v1/endpoints/{id}/enable"), json!({}))
        .await;
    api.enqueue_to(&endpoint, json!({})).await;
    receiver.wait_for("/status/410", 2).await;
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let (_up, api, receiver) = up(&place).await;
    let endpoint = api
        .endpoint(&receiver.url("/retry-after/3"), json!({}))
        .await;
    let delivery = outcome(&api, &endpoint).await;
    assert_eq!(
        (&delivery["status"], &delivery["attempt_count"]),
        (&json!("delivered"), &json!(2))
    );
    let gap = gaps(&receiver.requests("/retry-after"))[0];
    assert!((3.0..6.0).contains(&gap), "{gap} s");
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up_and_tried_again() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let (_up, api, receiver) = up(&place).await;
    let endpoint = api
        .endpoint(&receiver.url("/hang"), json!({"retry": {"max_retries": 1}}))
        .await;
    let begun = Instant::now();
    let delivery = outcome(&api, &endpoint).await;
    assert_eq!(
        (&delivery["status"], &delivery["attempt_count"]),
        (&json!("failed"), &json!(2))
    );
    for attempt in delivery["attempts"].as_array().unwrap() {
        assert_eq!(
            (&attempt["result"], &attempt["error"]["code"]),
            (&json!("timeout"), &json!("timeout"))
        );
        let duration = attempt["duration_ms"].as_f64().unwrap();
        assert!((5_000.0..8_000.0).contains(&duration), "{duration} ms");
    }
    assert!(begun.elapsed() >= Duration::from_secs(11));
    assert_eq!(receiver.requests("/hang").len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_fails_with_the_reason() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let (_up, api, receiver) = up(&place).await;
    let port = receiver.port;
    drop(receiver);
    let url = format!("http://127.0.0.1:{port}/");
    let endpoint = api
        .endpoint(&url, json!({"retry": {"max_retries": 0}}))
        .await;
    // The aborted receiver's socket closes a moment later.
    within(Duration::from_secs(10), "the port is closed", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
            .then_some(())
    })
    .await;
    let delivery = outcome(&api, &endpoint).await;
    let attempt = &delivery["attempts"][0];
    assert_eq!(
        (&attempt["result"], &attempt["error"]["code"]),
        (&json!("network"), &json!("connection_refused"))
    );
    assert_eq!(attempt["resolved_address"], format!("127.0.0.1:{port}"));
}

#[tokio::test]
async fn an_event_gets_to_the_endpoints_that_ask_for_it_and_makes_no_further_one() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let (_up, api, receiver) = up(&place).await;
    let events =
        json!({"subscription": {"types": ["delivery.failed"]}, "retry": {"max_retries": 0}});
    api.endpoint(&receiver.url("/status/500"), events).await;
    let endpoint = api
        .endpoint(
            &receiver.url("/status/400"),
            json!({"subscription": {"types": ["x"]}}),
        )
        .await;
    let delivery = outcome(&api, &endpoint).await;
    let told = receiver.wait_for("/status/500", 1).await;
    assert_eq!(
        told[0].json()["data"]["data"]["delivery"]["id"],
        delivery["id"]
    );
    let failed = eventually("the event's own delivery fails", async || {
        let failed = api.all_deliveries("&status=failed").await;
        (failed.len() == 2).then_some(failed)
    })
    .await;
    let own = failed
        .iter()
        .find(|failed| failed["id"] != delivery["id"])
        .unwrap();
    assert!(
        api.events("delivery.failed", own["id"].as_str().unwrap())
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_delivery_can_be_replayed_cancelled_and_brought_forward() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let (_up, api, receiver) = up(&place).await;
    let endpoint = api.endpoint(&receiver.url("/fail/1/400"), json!({})).await;
    let failed = outcome(&api, &endpoint).await;
    let path = format!("/v1/deliveries/{}", failed["id"].as_str().unwrap());
    api.post(&format!("{path}/retry"), json!({})).await;
    let again = eventually("the replayed delivery arrives", async || {
        Some(api.get(&path).await).filter(|delivery| delivery["status"] == "delivered")
    })
    .await;
    assert_eq!(
        (&again["round"], &again["attempt_count"]),
        (&json!(2), &json!(2))
    );

    let waiting = api
        .enqueue_to(&endpoint, json!({"delay_seconds": 3600}))
        .await;
    let scheduled = eventually("a scheduled delivery", async || {
        api.deliveries(&waiting).await.into_iter().next()
    })
    .await;
    assert_eq!(scheduled["waiting_for"], "scheduled");
    let path = format!("/v1/deliveries/{}", scheduled["id"].as_str().unwrap());
    api.post(&format!("{path}/cancel"), json!({})).await;
    assert_eq!(api.get(&path).await["status"], "cancelled");

    let waiting = api
        .enqueue_to(&endpoint, json!({"delay_seconds": 3600}))
        .await;
    let scheduled = eventually("a scheduled delivery", async || {
        api.deliveries(&waiting).await.into_iter().next()
    })
    .await;
    api.post(
        &format!("/v1/deliveries/{}/retry", scheduled["id"].as_str().unwrap()),
        json!({}),
    )
    .await;
    receiver.wait_for("/fail", 3).await;
}
