//! A work queue that is deleted and declared again before anybody notices: RabbitMQ tells the
//! consumers nothing.

use lapin::Channel;
use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use posthaste_shared::broker::amqp::AmqpOptions;
use posthaste_shared::broker::{Broker as _, Consumer, Consuming};
use tokio::time::Instant;

use super::amqp_bench::{Handle, RabbitMq, connected, rabbitmq_test};
use super::bench::{Bench, DEADLINE, ids, message, messages, publish, run, take, until};
use std::sync::Arc;
use std::time::Duration;

/// How long the publisher of these tests waits for a confirm: a confirm takes some milliseconds.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

/// Before that, a consumer does not look at its queue by itself.
const DEAF: Duration = Duration::from_secs(5);

/// Deletes the work queue and declares it again, as another process of Posthaste would.
async fn replace(bench: &RabbitMq, channel: &Channel) {
    let work = bench.name("work");
    let mut arguments = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1_000_000));
    arguments.insert(
        "x-dead-letter-exchange".into(),
        text(bench.name("dead").as_str()),
    );
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    let declare = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_delete(work.clone(), QueueDeleteOptions::default())
        .await
        .unwrap();
    channel
        .queue_declare(work.clone(), declare, arguments)
        .await
        .unwrap();
    let key = "notification".into();
    let none = FieldTable::default();
    channel
        .queue_bind(
            work,
            bench.name("notifications"),
            key,
            QueueBindOptions::default(),
            none,
        )
        .await
        .unwrap();
}

async fn ack(consumer: &dyn Consumer, incoming: &[posthaste_shared::broker::Incoming]) {
    consumer
        .acker()
        .ack(incoming.iter().map(|one| one.tag).collect())
        .await;
}

rabbitmq_test!(a_consumer_whose_queue_was_replaced_goes_on, bench, {
    let broker = bench.client().await;
    let mut consumer = broker.consume(10).await.unwrap();
    publish(&*broker, vec![message("before")]).await;
    let before = take(&mut *consumer, 1).await;
    ack(&*consumer, &before).await;
    until("subscribed", async || {
        broker.consuming().await == Consuming::Subscribed
    })
    .await;
    let (connection, channel) = bench.channel().await;
    // RabbitMQ may leave a publisher without confirms that knew the old queue, for as long as it
    // waits for them.
    let publisher = bench
        .open(AmqpOptions {
            confirm_timeout: CONFIRM_TIMEOUT,
            ..bench.options()
        })
        .await;
    connected(&*publisher).await;
    // What RabbitMQ does is a race: it tells the consumer, or forgets it, or goes on counting it
    // and hands it messages that never arrive. The last takes 10 to 15 s to be noticed, so the
    // rounds are bounded by their time and not by their number.
    let begun = Instant::now();
    for round in 0.. {
        replace(&bench, &channel).await;
        let id = format!("after {round}");
        until("published again", async || {
            publisher.publish(vec![message(&id)]).await[0].is_ok()
        })
        .await;
        let published = Instant::now();
        let after = take(&mut *consumer, 1).await;
        assert_eq!(after[0].message.id.as_ref(), Some(&id));
        ack(&*consumer, &after).await;
        // Whoever was deaf for so long that the consumer had to find out by itself says so.
        let was_deaf = published.elapsed() > DEAF;
        let forgotten = "posthaste_broker_resubscriptions_total{reason=\"forgotten\"} 0\n";
        let known = || !bench.metrics.render().contains(forgotten);
        if was_deaf {
            until("it is known that it was deaf", async || known()).await;
        }
        if known() || begun.elapsed() > DEADLINE / 2 {
            break;
        }
    }
    publisher.close().await;
    connection.close(200, "OK".into()).await.unwrap();
    broker.close().await;
});

// Two of them, so that the queue counts the other when one has come back; and the answer to whether
// each gets work is never yes before it does.
rabbitmq_test!(every_consumer_of_a_replaced_queue_goes_on, bench, {
    let first = bench.client().await;
    let second = bench.client().await;
    let mut one = first.consume(1).await.unwrap();
    let mut other = second.consume(1).await.unwrap();
    for broker in [&first, &second] {
        until("subscribed", async || {
            broker.consuming().await == Consuming::Subscribed
        })
        .await;
    }
    let (connection, channel) = bench.channel().await;
    replace(&bench, &channel).await;
    for broker in [&first, &second] {
        until("subscribed again", async || {
            broker.consuming().await == Consuming::Subscribed
        })
        .await;
    }
    let publisher = bench.client().await;
    publish(&*publisher, messages(2)).await;
    // Each has room for one: only together do they get both.
    let mut got = take(&mut *one, 1).await;
    got.extend(take(&mut *other, 1).await);
    assert_eq!(ids(&got), ["0", "1"]);
    connection.close(200, "OK".into()).await.unwrap();
    for broker in [first, second, publisher] {
        broker.close().await;
    }
});

// Nobody asks, and the queue is as it should be: what is in flight is neither sent again nor
// counted as delivered again when the consumer subscribes anew because another one has gone.
rabbitmq_test!(subscribing_again_leaves_alone_what_is_in_flight, bench, {
    let broker = bench.client().await;
    let leaving = bench.client().await;
    let mut consumer = broker.consume(10).await.unwrap();
    publish(&*broker, messages(4)).await;
    let held = take(&mut *consumer, 4).await;
    let _other = leaving.consume(10).await.unwrap();
    until("both are known", async || {
        leaving.consuming().await == Consuming::Subscribed
    })
    .await;
    let renewed = || {
        bench
            .metrics
            .render()
            .contains("resubscriptions_total{reason=\"precaution\"} 1\n")
    };
    let (connection, channel) = bench.channel().await;
    let counted = async || {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(bench.name("work"), passive, FieldTable::default())
            .await
            .unwrap()
            .consumer_count()
    };
    until("the consumer has seen the other", async || {
        counted().await == 2
    })
    .await;
    // It looks every five seconds; by then it has seen two.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    leaving.close().await;
    until("one has gone", async || counted().await <= 1).await;
    until("subscribed again", async || {
        broker.consuming().await == Consuming::Subscribed && renewed()
    })
    .await;
    publish(&*broker, vec![message("fresh")]).await;
    let fresh = take(&mut *consumer, 1).await;
    assert_eq!(
        (fresh[0].message.id.as_deref(), fresh[0].delivery_count),
        (Some("fresh"), 0)
    );
    ack(&*consumer, &held).await;
    ack(&*consumer, &fresh).await;
    broker.close().await;
    until("nothing is left", async || counted().await == 0).await;
    let again = bench.client().await;
    assert_eq!(again.depths().await.unwrap()["work"], 0);
    again.close().await;
    connection.close(200, "OK".into()).await.unwrap();
});
