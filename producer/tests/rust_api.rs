//! The Rust API against the embedded queue and against RabbitMQ.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};
use posthaste_producer::{Draft, EnqueueError, Producer, ProducerOptions, TraceContext};
use posthaste_shared::broker::amqp::{AmqpBroker, AmqpOptions};
use posthaste_shared::broker::{Broker, Consumer};
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::secret::Secret;
use support::TestApi;

fn draft(id: &str) -> NotificationDraft {
    Draft::new("order.paid", &serde_json::json!({ "order": id }))
        .id(id)
        .build()
        .unwrap()
}

fn invalid(id: &str) -> NotificationDraft {
    NotificationDraft {
        recipient: Some(RawJson::of(&1).unwrap()),
        ..draft(id)
    }
}

/// Enqueues one, then three of which the middle one is refused.
async fn enqueue_some(producer: &Producer) {
    let accepted = producer.enqueue(draft("o-1")).await.unwrap();
    assert_eq!(accepted.id.as_str(), "o-1");
    let results = producer
        .enqueue_batch(vec![draft("o-2"), invalid("o-3"), draft("o-4")])
        .await;
    assert!(
        matches!(results[1], Err(EnqueueError::Invalid(_))),
        "{results:?}"
    );
    let ids: Vec<&str> = results
        .iter()
        .flatten()
        .map(|accepted| accepted.id.as_str())
        .collect();
    assert_eq!(ids, ["o-2", "o-4"]);
}

#[tokio::test]
async fn enqueues_into_the_embedded_queue() {
    let api = TestApi::start().await;
    let producer = Producer::over(
        Arc::clone(&api.broker),
        Arc::clone(&api.clock),
        Arc::clone(&api.metrics),
    );
    enqueue_some(&producer).await;
    let queued = api.queued(3).await;
    assert_eq!(queued[0].message.id.as_deref(), Some("o-1"));
    assert!(
        api.metrics
            .render()
            .contains("posthaste_notifications_accepted_total{source=\"rust\"} 3")
    );
}

#[tokio::test]
async fn what_is_enqueued_carries_the_callers_trace_context() {
    let api = TestApi::start().await;
    let producer = Producer::over(
        Arc::clone(&api.broker),
        Arc::clone(&api.clock),
        Arc::clone(&api.metrics),
    );
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    producer
        .in_trace(TraceContext::parse(text).unwrap())
        .enqueue(draft("o-1"))
        .await
        .unwrap();
    producer.enqueue(draft("o-2")).await.unwrap();
    let queued = api.queued(2).await;
    assert_eq!(queued[0].message.traceparent.as_deref(), Some(text));
    assert_eq!(queued[1].message.traceparent, None);
}

#[tokio::test]
async fn enqueues_into_rabbitmq() {
    let url = std::env::var("POSTHASTE_TEST_AMQP_URL").expect(
        "POSTHASTE_TEST_AMQP_URL names no RabbitMQ: set it, such as \
         amqp://guest:guest@127.0.0.1:5672, or use ./tests/run.sh",
    );
    let name_prefix = format!("producer-{}", uuid::Uuid::new_v4().simple());
    let options = AmqpOptions {
        name_prefix: name_prefix.clone(),
        ..AmqpOptions::new(Secret::new(url.clone()))
    };
    let producer = Producer::connect(ProducerOptions::Amqp(options.clone()))
        .await
        .unwrap();
    enqueue_some(&producer).await;

    let metrics = Arc::default();
    let clock = Arc::new(posthaste_shared::clock::SystemClock);
    let broker = AmqpBroker::connect(options, metrics, clock).await.unwrap();
    let mut consumer: Box<dyn Consumer> = broker.consume(10).await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < 3 {
        let batch = tokio::time::timeout(Duration::from_secs(10), consumer.next_batch(10))
            .await
            .unwrap()
            .unwrap();
        consumer
            .acker()
            .ack(batch.iter().map(|incoming| incoming.tag).collect())
            .await;
        ids.extend(batch.into_iter().filter_map(|incoming| incoming.message.id));
    }
    assert_eq!(ids, ["o-1", "o-2", "o-4"]);
    consumer.stop().await;
    broker.close().await;
    producer.close().await;
    remove_topology(&url, &name_prefix).await;
}

async fn remove_topology(url: &str, prefix: &str) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    for queue in ["work", "dead"] {
        channel
            .queue_delete(
                format!("{prefix}.{queue}").into(),
                QueueDeleteOptions::default(),
            )
            .await
            .unwrap();
    }
    for exchange in ["notifications", "dead", "events"] {
        channel
            .exchange_delete(
                format!("{prefix}.{exchange}").into(),
                ExchangeDeleteOptions::default(),
            )
            .await
            .unwrap();
    }
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_worth_another_try() {
    let options = AmqpOptions {
        confirm_timeout: Duration::from_millis(300),
        ..AmqpOptions::new(Secret::new("amqp://guest:guest@127.0.0.1:9"))
    };
    let producer = Producer::connect(ProducerOptions::Amqp(options))
        .await
        .unwrap();
    let error = producer.enqueue(draft("o-1")).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(
        !producer
            .enqueue(invalid("o-2"))
            .await
            .unwrap_err()
            .is_transient()
    );
}
