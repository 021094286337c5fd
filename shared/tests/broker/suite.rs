//! What every broker must do.

use std::collections::BTreeSet;

use posthaste_shared::broker::{BrokerError, Consumer, DeadReason, Incoming, Message, Tag};
use posthaste_shared::domain::event::{Event, EventType};
use posthaste_shared::domain::id::{EventId, TenantId};
use posthaste_shared::domain::notification::{Origin, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::time::Timestamp;

use super::bench::{Bench, ids, is_quiet, message, messages, numbers, publish, soon, take, until};

fn tags(incoming: &[Incoming]) -> Vec<Tag> {
    incoming.iter().map(|one| one.tag).collect()
}

pub(crate) async fn what_is_published_comes_out_the_same(bench: &dyn Bench) {
    let broker = bench.client().await;
    let sent = Message {
        origin: Origin::Event,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        priority: Priority::High,
        body: vec![0, 255, b'{'].into(),
        ..message("order-1")
    };
    publish(&*broker, vec![sent.clone()]).await;
    let mut consumer = broker.consume(10).await.unwrap();
    let got = take(&mut *consumer, 1).await.remove(0);
    assert_eq!(got.delivery_count, 0);
    assert_eq!(format!("{:?}", got.message), format!("{sent:?}"));
    consumer.acker().ack(vec![got.tag]).await;
    broker.close().await;
}

pub(crate) async fn answers_come_in_order_and_complete(bench: &dyn Bench) {
    let broker = bench.client().await;
    assert!(broker.publish(vec![]).await.is_empty());
    let answers = soon(broker.publish(messages(1234))).await;
    assert_eq!(answers.len(), 1234);
    assert!(
        answers.iter().all(Result::is_ok),
        "{:?}",
        answers.iter().find(|answer| answer.is_err())
    );
    until("all are in the queue", async || {
        broker.depths().await.unwrap()["work"] == 1234
    })
    .await;
    broker.close().await;
}

pub(crate) async fn prefetch_bounds_what_is_out(bench: &dyn Bench) {
    let broker = bench.client().await;
    publish(&*broker, messages(20)).await;
    let mut consumer = broker.consume(5).await.unwrap();
    let first = take(&mut *consumer, 5).await;
    assert!(is_quiet(&mut *consumer).await, "a sixth message came");
    consumer.acker().ack(tags(&first[..3])).await;
    take(&mut *consumer, 3).await;
    assert!(is_quiet(&mut *consumer).await, "a ninth message came");
    broker.close().await;
}

pub(crate) async fn acknowledged_messages_never_come_again(bench: &dyn Bench) {
    let broker = bench.client().await;
    publish(&*broker, messages(10)).await;
    let mut consumer = broker.consume(10).await.unwrap();
    let got = take(&mut *consumer, 10).await;
    let acker = consumer.acker();
    acker.ack(tags(&got[5..])).await;
    acker.ack(tags(&got[..4])).await;
    broker.close().await;

    let second = bench.client().await;
    let mut consumer = second.consume(10).await.unwrap();
    let left = take(&mut *consumer, 1).await;
    assert_eq!(left[0].message.id, got[4].message.id);
    assert!(is_quiet(&mut *consumer).await);
    second.close().await;
}

pub(crate) async fn requeued_messages_come_again_and_are_counted(bench: &dyn Bench) {
    let broker = bench.client().await;
    publish(&*broker, messages(3)).await;
    let mut consumer = broker.consume(10).await.unwrap();
    let got = take(&mut *consumer, 3).await;
    assert!(got.iter().all(|one| one.delivery_count == 0));
    let acker = consumer.acker();
    acker.requeue(vec![got[1].tag]).await;
    let again = take(&mut *consumer, 1).await;
    assert_eq!(again[0].message.id, got[1].message.id);
    assert_eq!(again[0].delivery_count, 1);
    acker.requeue(vec![again[0].tag]).await;
    assert_eq!(take(&mut *consumer, 1).await[0].delivery_count, 2);
    broker.close().await;
}

pub(crate) async fn unacknowledged_messages_come_back_when_the_client_closes(bench: &dyn Bench) {
    let first = bench.client().await;
    publish(&*first, messages(8)).await;
    let mut consumer = first.consume(8).await.unwrap();
    let got = take(&mut *consumer, 4).await;
    consumer.acker().ack(tags(&got[..2])).await;
    first.close().await;
    assert!(soon(consumer.next_batch(1)).await.is_none());
    consumer.acker().ack(tags(&got[2..])).await;

    let second = bench.client().await;
    let mut other = second.consume(10).await.unwrap();
    let back = take(&mut *other, 6).await;
    assert!(!ids(&back).contains(got[0].message.id.as_ref().unwrap()));
    assert!(is_quiet(&mut *other).await);
    second.close().await;
}

pub(crate) async fn dead_letters_are_listed_and_left(bench: &dyn Bench) {
    let broker = bench.client().await;
    assert!(broker.dead_letters(10).await.unwrap().is_empty());
    let reasons = [
        DeadReason::Undecodable,
        DeadReason::TooLarge,
        DeadReason::Poisonous,
    ];
    for (number, reason) in reasons.into_iter().enumerate() {
        let detail = format!("detail {number}");
        broker
            .dead_letter(&message(&number.to_string()), reason, &detail)
            .await
            .unwrap();
    }
    let unnamed = Message {
        body: "not JSON \u{fffd}".into(),
        ..Message::default()
    };
    broker
        .dead_letter(&unnamed, DeadReason::Unrecordable, "")
        .await
        .unwrap();

    for _ in 0..3 {
        let letters = soon(broker.dead_letters(10)).await.unwrap();
        assert_eq!(letters.len(), 4);
        for (number, reason) in reasons.into_iter().enumerate() {
            assert_eq!(letters[number].id, number.to_string());
            assert_eq!(letters[number].reason, reason);
            assert_eq!(letters[number].detail, format!("detail {number}"));
            assert!(letters[number].died_at.is_some());
            assert_eq!(letters[number].size as usize, message("0").body.len());
        }
        assert!(!letters[3].id.is_empty());
        assert_eq!(letters[3].body, "not JSON \u{fffd}");
    }
    assert_eq!(broker.dead_letters(2).await.unwrap().len(), 2);
    until("all are on the queue", async || {
        broker.depths().await.unwrap()["dead"] == 4
    })
    .await;
    broker.close().await;
}

pub(crate) async fn dead_letters_go_back_to_work(bench: &dyn Bench) {
    let broker = bench.client().await;
    for number in 0..6 {
        broker
            .dead_letter(
                &message(&number.to_string()),
                DeadReason::Undecodable,
                "why",
            )
            .await
            .unwrap();
    }
    let wanted = ["4".to_owned(), "1".to_owned(), "none".to_owned()];
    assert_eq!(
        soon(broker.redrive(Some(&wanted), 100))
            .await
            .unwrap()
            .moved,
        2
    );
    let mut consumer = broker.consume(10).await.unwrap();
    let back = take(&mut *consumer, 2).await;
    assert_eq!(ids(&back), ["1", "4"]);
    assert_eq!(back[0].message.accepted_at, message("1").accepted_at);
    assert_eq!(back[0].delivery_count, 0);

    until("the others are back", async || {
        broker.dead_letters(10).await.unwrap().len() == 4
    })
    .await;
    assert_eq!(soon(broker.redrive(None, 3)).await.unwrap().moved, 3);
    take(&mut *consumer, 3).await;
    until("one is left", async || {
        broker.dead_letters(10).await.unwrap().len() == 1
    })
    .await;
    assert_eq!(soon(broker.redrive(None, 100)).await.unwrap().moved, 1);
    assert_eq!(soon(broker.redrive(None, 100)).await.unwrap().moved, 0);
    broker.close().await;
}

/// How evenly is the broker's affair; but what one has not room for goes to the other, and nothing
/// to both.
pub(crate) async fn two_consumers_share_the_work(bench: &dyn Bench) {
    let first = bench.client().await;
    let second = bench.client().await;
    let mut one = first.consume(10).await.unwrap();
    let mut other = second.consume(10).await.unwrap();
    let publisher = bench.client().await;
    publish(&*publisher, messages(400)).await;
    // Neither acknowledges yet, so neither can have more than its prefetch.
    let mut by_one = take(&mut *one, 10).await;
    let mut by_other = take(&mut *other, 10).await;
    one.acker().ack(tags(&by_one)).await;
    other.acker().ack(tags(&by_other)).await;
    soon(async {
        while by_one.len() + by_other.len() < 400 {
            tokio::select! {
                batch = one.next_batch(10) => {
                    by_one.extend(acked(&*one, batch.unwrap()).await);
                }
                batch = other.next_batch(10) => {
                    by_other.extend(acked(&*other, batch.unwrap()).await);
                }
            }
        }
    })
    .await;
    by_one.extend(by_other);
    assert_eq!(ids(&by_one), numbers(400));
    for broker in [first, second, publisher] {
        broker.close().await;
    }
}

async fn acked(consumer: &dyn Consumer, batch: Vec<Incoming>) -> Vec<Incoming> {
    consumer.acker().ack(tags(&batch)).await;
    batch
}

pub(crate) async fn of_five_thousand_none_is_lost(bench: &dyn Bench) {
    const COUNT: usize = 5000;
    let broker = bench.client().await;
    let publisher = bench.client().await;
    let mut consumer = broker.consume(500).await.unwrap();
    let publishing = tokio::spawn(async move {
        for chunk in messages(COUNT).chunks(700) {
            publish(&*publisher, chunk.to_vec()).await;
        }
        publisher.close().await;
    });
    let mut seen = BTreeSet::new();
    soon(async {
        while seen.len() < COUNT {
            let batch = consumer.next_batch(100).await.unwrap();
            assert!((1..=100).contains(&batch.len()));
            for one in acked(&*consumer, batch).await {
                assert!(seen.insert(one.message.id.unwrap()), "came twice");
            }
        }
    })
    .await;
    publishing.await.unwrap();
    broker.close().await;
    let last = bench.client().await;
    assert!(is_quiet(&mut *last.consume(1).await.unwrap()).await);
    last.close().await;
}

pub(crate) async fn stopping_hands_back_what_was_not_taken(bench: &dyn Bench) {
    let first = bench.client().await;
    publish(&*first, messages(10)).await;
    let mut consumer = first.consume(10).await.unwrap();
    let got = take(&mut *consumer, 3).await;
    soon(consumer.stop()).await;
    assert!(soon(consumer.next_batch(10)).await.is_none());

    let second = bench.client().await;
    let mut other = second.consume(20).await.unwrap();
    let handed_back = take(&mut *other, 7).await;
    assert!(is_quiet(&mut *other).await, "what was taken came too");
    consumer.acker().ack(tags(&got[..2])).await;
    first.close().await;
    let left = take(&mut *other, 1).await;
    assert_eq!(left[0].message.id, got[2].message.id);
    assert!(
        is_quiet(&mut *other).await,
        "an acknowledged one came again"
    );
    assert_eq!(handed_back.len(), 7);
    second.close().await;
}

pub(crate) async fn tags_twice_and_foreign_tags_do_no_harm(bench: &dyn Bench) {
    let broker = bench.client().await;
    publish(&*broker, messages(6)).await;
    let mut consumer = broker.consume(3).await.unwrap();
    let acker = consumer.acker();
    let got = take(&mut *consumer, 3).await;
    let foreign = got
        .iter()
        .map(|one| Tag {
            epoch: one.tag.epoch + 1000,
            ..one.tag
        })
        .collect();
    acker.ack(foreign).await;
    assert!(is_quiet(&mut *consumer).await);
    acker.ack(vec![got[0].tag, got[0].tag]).await;
    acker.ack(tags(&got)).await;
    acker.requeue(tags(&got)).await;
    take(&mut *consumer, 3).await;
    assert!(is_quiet(&mut *consumer).await);
    broker.close().await;
}

pub(crate) fn event(subject: &str) -> Event {
    Event {
        id: EventId::of(subject, "test"),
        kind: EventType::DeliveryFailed,
        tenant: TenantId::default(),
        at: Timestamp::from_micros(1_767_225_600_000_000),
        body: RawJson::parse(format!("{{\"subject\":\"{subject}\"}}")).unwrap(),
    }
}

pub(crate) async fn events_need_no_listener(bench: &dyn Bench) {
    let broker = bench.client().await;
    let answers = soon(broker.publish_events(&[event("a"), event("b")])).await;
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    broker.close().await;
}

pub(crate) async fn says_that_and_what_it_is(bench: &dyn Bench) {
    let broker = bench.client().await;
    until("it answers", async || broker.ping().await.is_ok()).await;
    assert!(!broker.describe().await.is_empty());
    let depths = broker.depths().await.unwrap();
    assert_eq!(depths.get("work"), Some(&0));
    assert_eq!(depths.get("dead"), Some(&0));
    broker.close().await;
}

pub(crate) async fn a_closed_client_refuses(bench: &dyn Bench) {
    let broker = bench.client().await;
    publish(&*broker, messages(1)).await;
    broker.close().await;
    let answers = soon(broker.publish(messages(1))).await;
    assert!(
        matches!(answers[..], [Err(BrokerError::Unavailable(_))]),
        "{answers:?}"
    );
    assert!(broker.consume(1).await.is_err());
}
