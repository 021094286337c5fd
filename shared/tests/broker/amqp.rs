//! What only RabbitMQ must do: lost connections, foreign messages, other people's topology.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use lapin::BasicProperties;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use posthaste_shared::broker::amqp::AmqpOptions;
use posthaste_shared::broker::{Broker, BrokerError, Consumer, DeadReason};
use posthaste_shared::domain::secret::Secret;

use super::amqp_bench::{Handle, RabbitMq, connected, rabbitmq_test};
use super::bench::{
    Bench, DEADLINE, ids, is_quiet, message, messages, publish, run, soon, take, until,
};
use super::suite::event;
rabbitmq_test!(a_deleted_queue_is_declared_again, bench, {
    let broker = bench.client().await;
    let mut consumer = broker.consume(5000).await.unwrap();
    publish(&*broker, messages(1)).await;
    take(&mut *consumer, 1).await;
    let (connection, channel) = bench.channel().await;
    for id in ["first", "second"] {
        channel
            .queue_delete(bench.name("work"), QueueDeleteOptions::default())
            .await
            .unwrap();
        publish(&*broker, messages(700)).await;
        publish(&*broker, vec![message(id)]).await;
        while ids(&take(&mut *consumer, 1).await) != [id] {}
    }
    channel
        .exchange_delete(
            bench.name("notifications"),
            ExchangeDeleteOptions::default(),
        )
        .await
        .unwrap();
    until("published again", async || {
        broker.publish(vec![message("last")]).await[0].is_ok()
    })
    .await;
    connection.close(200, "OK".into()).await.unwrap();
    broker.close().await;
});

rabbitmq_test!(cut_connections_lose_nothing, bench, {
    let proxy = bench.proxy().await;
    let broker = bench.through(&proxy).await;
    connected(&*broker).await;
    let mut consumer = broker.consume(50).await.unwrap();
    let publishing = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            let mut number = 0;
            let mut confirmed = BTreeSet::new();
            while confirmed.len() < 2000 {
                let batch: Vec<_> = (number..number + 50)
                    .map(|number| message(&number.to_string()))
                    .collect();
                let answers = broker.publish(batch).await;
                assert_eq!(answers.len(), 50);
                for (offset, answer) in answers.into_iter().enumerate() {
                    match answer {
                        Ok(()) => drop(confirmed.insert((number + offset).to_string())),
                        Err(BrokerError::Unavailable(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                number += 50;
            }
            confirmed
        })
    };
    let mut seen = BTreeSet::new();
    let mut old = Vec::new();
    let mut cuts = 0;
    soon(async {
        while !publishing.is_finished() {
            collect(&mut *consumer, &mut seen, &mut old).await;
            if seen.len() >= 300 * (cuts + 1) && cuts < 4 {
                cuts += 1;
                proxy.cut();
            }
        }
        let confirmed = publishing.await.unwrap();
        while !confirmed.is_subset(&seen) {
            collect(&mut *consumer, &mut seen, &mut old).await;
        }
    })
    .await;
    assert_eq!(cuts, 4);
    assert!(
        bench.metrics.broker_reconnects.get() >= 4,
        "{}",
        bench.metrics.broker_reconnects.get()
    );
    broker.close().await;
});

/// Takes what is there, acknowledges it, and acknowledges older tags once more.
async fn collect(
    consumer: &mut dyn Consumer,
    seen: &mut BTreeSet<String>,
    old: &mut Vec<posthaste_shared::broker::Tag>,
) {
    let Ok(batch) = tokio::time::timeout(Duration::from_millis(100), consumer.next_batch(20)).await
    else {
        return;
    };
    let batch = batch.unwrap();
    seen.extend(batch.iter().filter_map(|one| one.message.id.clone()));
    let acker = consumer.acker();
    acker.ack(std::mem::take(old)).await;
    old.extend(batch.iter().map(|one| one.tag));
    acker.ack(old.clone()).await;
}

rabbitmq_test!(reconnecting_leaks_no_tasks_and_no_connections, bench, {
    let proxy = bench.proxy().await;
    let broker = bench.through(&proxy).await;
    connected(&*broker).await;
    let mut consumer = broker.consume(5).await.unwrap();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    publish(&*broker, messages(1)).await;
    let got = take(&mut *consumer, 1).await;
    consumer.acker().ack(vec![got[0].tag]).await;
    let before = tasks();
    for round in 1..=5 {
        proxy.cut();
        let reconnected = bench.metrics.broker_reconnects.get();
        until("both connections are back", async || {
            bench.metrics.broker_reconnects.get() >= reconnected + 2
        })
        .await;
        let id = format!("round {round}");
        until("published", async || {
            broker.publish(vec![message(&id)]).await[0].is_ok()
        })
        .await;
        until("came", async || {
            let Ok(Some(batch)) = tokio::time::timeout(DEADLINE, consumer.next_batch(1)).await
            else {
                return false;
            };
            consumer.acker().ack(vec![batch[0].tag]).await;
            batch[0].message.id.as_ref() == Some(&id)
        })
        .await;
    }
    until("no more tasks than before", async || tasks() <= before).await;
    let counted = |up: u32, down: u32| {
        let text = bench.metrics.render();
        let has = |state, count| {
            text.contains(&format!(
                "posthaste_broker_connections{{state=\"{state}\"}} {count}\n"
            ))
        };
        has("up", up) && has("down", down)
    };
    assert!(counted(2, 0), "{}", bench.metrics.render());
    proxy.refuse(true);
    proxy.cut();
    until("both connections are counted as down", async || {
        counted(0, 2)
    })
    .await;
    broker.close().await;
    until("no connection is wanted", async || counted(0, 0)).await;
    until("no connection is left", async || proxy.connections() == 0).await;
});

rabbitmq_test!(
    without_a_broker_publishing_fails_soon_and_goes_on_later,
    bench,
    {
        let proxy = bench.proxy().await;
        proxy.refuse(true);
        let broker = bench.through(&proxy).await;
        let mut consumer = broker.consume(10).await.unwrap();
        let asked = tokio::time::Instant::now();
        let answers = broker.publish(messages(3)).await;
        assert!(
            asked.elapsed() < Duration::from_secs(3),
            "{:?}",
            asked.elapsed()
        );
        assert!(
            answers
                .iter()
                .all(|answer| matches!(answer, Err(BrokerError::Unavailable(_)))),
            "{answers:?}"
        );
        let text = broker.ping().await.unwrap_err().to_string();
        assert!(!text.contains("guest"), "{text}");
        proxy.refuse(false);
        until("it answers", async || broker.ping().await.is_ok()).await;
        publish(&*broker, vec![message("late")]).await;
        assert_eq!(ids(&take(&mut *consumer, 1).await), ["late"]);
        broker.close().await;
    }
);

rabbitmq_test!(
    a_broker_that_says_nothing_is_given_up_and_found_again,
    bench,
    {
        let proxy = bench.proxy().await;
        proxy.silence(true);
        let broker = bench.through(&proxy).await;
        let asked = tokio::time::Instant::now();
        assert!(broker.ping().await.is_err());
        assert!(
            asked.elapsed() < Duration::from_secs(3),
            "{:?}",
            asked.elapsed()
        );
        until("given up", async || {
            broker
                .ping()
                .await
                .unwrap_err()
                .to_string()
                .contains("no answer in time")
        })
        .await;
        proxy.silence(false);
        until("found again", async || broker.ping().await.is_ok()).await;
        broker.close().await;
    }
);

rabbitmq_test!(what_is_refused_for_a_moment_is_published_again, bench, {
    let proxy = bench.proxy().await;
    let broker = bench.through(&proxy).await;
    proxy.nack(2);
    publish(&*broker, vec![message("patient")]).await;
    assert_eq!(proxy.nack(1000), 0, "both refusals were heard");
    let answers = soon(broker.publish(vec![message("unwanted")])).await;
    assert!(
        matches!(&answers[..], [Err(BrokerError::Refused(_))]),
        "{answers:?}"
    );
    assert_eq!(1000 - proxy.nack(0), 5, "tried as often as it should be");
    publish(&*broker, vec![message("late")]).await;
    broker.close().await;
});

rabbitmq_test!(when_one_channel_hears_nothing_all_are_opened_anew, bench, {
    let proxy = bench.proxy().await;
    // Longer than a busy RabbitMQ takes for two thousand messages, and three times less than a
    // test may take: the one that is not confirmed is waited for once.
    let options = AmqpOptions {
        url: Secret::new(bench.url_through(&proxy)),
        confirm_timeout: Duration::from_secs(15),
        ..bench.options()
    };
    let broker = bench.open(options).await;
    connected(&*broker).await;
    until("all four channels publish", async || {
        publish(&*broker, messages(4 * 500)).await;
        proxy.acking() == 4
    })
    .await;
    proxy.keep_acks();
    let answers = soon(broker.publish(vec![message("unheard")])).await;
    assert!(
        matches!(&answers[..], [Err(BrokerError::Unavailable(_))]),
        "{answers:?}"
    );
    for _ in 0..4 {
        publish(&*broker, messages(4 * 500)).await;
    }
    broker.close().await;
});

rabbitmq_test!(foreign_messages_are_read_as_far_as_they_go, bench, {
    let broker = bench.client().await;
    until("declared", async || broker.ping().await.is_ok()).await;
    let (connection, channel) = bench.channel().await;
    let mut headers = FieldTable::default();
    headers.insert(
        "posthaste-accepted-at".into(),
        AMQPValue::LongString("yesterday".into()),
    );
    headers.insert(
        "traceparent".into(),
        AMQPValue::ByteArray(b"00-ab-cd-01".to_vec().into()),
    );
    headers.insert("posthaste-origin".into(), AMQPValue::LongLongInt(7));
    let strange = BasicProperties::default()
        .with_headers(headers)
        .with_timestamp(1_767_225_600);
    for properties in [BasicProperties::default(), strange] {
        let exchange = bench.name("notifications");
        let options = BasicPublishOptions::default();
        let sent = channel
            .basic_publish(
                exchange,
                "notification".into(),
                options,
                b"not JSON",
                properties,
            )
            .await;
        sent.unwrap().await.unwrap();
    }
    let mut consumer = broker.consume(10).await.unwrap();
    let got = take(&mut *consumer, 2).await;
    assert!(got[0].message.id.is_none() && got[0].message.accepted_at.is_none());
    assert_eq!(&got[0].message.body[..], b"not JSON");
    assert_eq!(
        got[1].message.accepted_at.unwrap().to_string(),
        "2026-01-01T00:00:00Z"
    );
    assert_eq!(got[1].message.traceparent.as_deref(), Some("00-ab-cd-01"));
    connection.close(200, "OK".into()).await.unwrap();
    broker.close().await;
});

rabbitmq_test!(redriving_keeps_foreign_headers, bench, {
    let broker = bench.client().await;
    until("declared", async || broker.ping().await.is_ok()).await;
    let (connection, channel) = bench.channel().await;
    let mut headers = FieldTable::default();
    headers.insert("x-customer".into(), AMQPValue::LongString("acme".into()));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_correlation_id("c-1".into());
    let options = BasicPublishOptions::default();
    let sent = channel
        .basic_publish(bench.name("dead"), "".into(), options, b"{}", properties)
        .await;
    sent.unwrap().await.unwrap();
    until("it is there", async || {
        broker.dead_letters(5).await.unwrap().len() == 1
    })
    .await;
    let letter = broker.dead_letters(5).await.unwrap().remove(0);
    assert_eq!(letter.reason, DeadReason::DeliveryLimit);
    assert_eq!(
        broker.redrive(Some(&[letter.id]), 1).await.unwrap().moved,
        1
    );
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(
            bench.name("work"),
            "".into(),
            options,
            FieldTable::default(),
        )
        .await
        .unwrap();
    let back = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(
        back.properties.correlation_id().as_ref().unwrap().as_str(),
        "c-1"
    );
    assert!(
        back.properties
            .headers()
            .as_ref()
            .unwrap()
            .contains_key("x-customer")
    );
    connection.close(200, "OK".into()).await.unwrap();
    broker.close().await;
});

rabbitmq_test!(events_reach_whoever_binds, bench, {
    let broker = bench.client().await;
    until("declared", async || broker.ping().await.is_ok()).await;
    let (connection, channel) = bench.channel().await;
    // RabbitMQ 4 wants queues that are not durable to be exclusive.
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let none = FieldTable::default();
    channel
        .queue_declare(bench.name("listener"), options, none.clone())
        .await
        .unwrap();
    let listener = bench.name("listener");
    let events = bench.name("events");
    channel
        .queue_bind(
            listener.clone(),
            events,
            "delivery.*".into(),
            QueueBindOptions::default(),
            none.clone(),
        )
        .await
        .unwrap();
    let sent = event("a");
    broker
        .publish_events(std::slice::from_ref(&sent))
        .await
        .remove(0)
        .unwrap();
    let mut consumer = channel
        .basic_consume(listener, "".into(), BasicConsumeOptions::default(), none)
        .await
        .unwrap();
    let got = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(got.routing_key.as_str(), "delivery.failed");
    assert_eq!(got.data, sent.body.as_str().as_bytes());
    assert_eq!(
        got.properties.message_id().as_ref().unwrap().as_str(),
        sent.id.to_string()
    );
    let content_type = got.properties.content_type().as_ref().unwrap().as_str();
    assert_eq!(content_type, "application/cloudevents+json; charset=utf-8");
    connection.close(200, "OK".into()).await.unwrap();
    broker.close().await;
});

rabbitmq_test!(another_topology_is_named_in_the_error, bench, {
    let (connection, channel) = bench.channel().await;
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(bench.name("work"), options, FieldTable::default())
        .await
        .unwrap();
    let broker = bench.open(bench.options()).await;
    let mut error = String::new();
    until("it says so", async || match broker.ping().await {
        Err(BrokerError::Topology(text)) => {
            error = text;
            true
        }
        _ => false,
    })
    .await;
    assert!(error.contains(&*bench.name("work").to_string()), "{error}");
    assert!(
        error.contains("PRECONDITION_FAILED") && error.contains("POSTHASTE_NAME_PREFIX"),
        "{error}"
    );
    let answer = broker.publish(messages(1)).await.remove(0);
    assert!(
        matches!(answer, Err(BrokerError::Topology(_))),
        "{answer:?}"
    );
    channel
        .queue_delete(bench.name("work"), QueueDeleteOptions::default())
        .await
        .unwrap();
    until("it goes on by itself", async || broker.ping().await.is_ok()).await;
    connection.close(200, "OK".into()).await.unwrap();
    broker.close().await;
});

rabbitmq_test!(a_wrong_password_is_said_and_not_shown, bench, {
    let mut url = url::Url::parse(&bench.url).unwrap();
    url.set_password(Some("hunter2")).unwrap();
    let broker = bench
        .open(AmqpOptions {
            url: Secret::new(url.as_str()),
            ..bench.options()
        })
        .await;
    let mut text = String::new();
    until("refused", async || {
        text = broker.ping().await.unwrap_err().to_string();
        text.contains("ACCESS_REFUSED")
    })
    .await;
    let shown = format!("{text} {:?}", broker.describe().await);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        shown.contains("RabbitMQ 3.") || shown.contains("RabbitMQ 4."),
        "{shown}"
    );
    broker.close().await;
});

rabbitmq_test!(a_dropped_consumer_gives_its_messages_back, bench, {
    let broker = bench.client().await;
    publish(&*broker, messages(4)).await;
    let mut consumer = broker.consume(4).await.unwrap();
    take(&mut *consumer, 2).await;
    drop(consumer);
    let mut other = broker.consume(10).await.unwrap();
    take(&mut *other, 4).await;
    assert!(is_quiet(&mut *other).await);
    broker.close().await;
});
