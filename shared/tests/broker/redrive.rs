//! Taking dead letters, looking at them, and stopping, with so many messages at once that RabbitMQ
//! keeps acknowledgements back: nothing that was acknowledged comes again.

use futures::{StreamExt as _, stream};
use posthaste_shared::broker::{Broker, DeadReason, Redriven};

use super::bench::{Bench, ids, is_quiet, message, messages, numbers, publish, soon, take, until};

/// Puts messages `0`, `1`, … on the dead-letter queue, in any order.
async fn fill_dead_letters(broker: &dyn Broker, count: usize) {
    let dying = stream::iter(messages(count)).map(|message| async move {
        broker
            .dead_letter(&message, DeadReason::Poisonous, "a test")
            .await
    });
    for answer in soon(dying.buffered(200).collect::<Vec<_>>()).await {
        answer.unwrap();
    }
    until("all are dead", async || {
        broker.depths().await.unwrap()["dead"] == count as u64
    })
    .await;
}

/// The ids of up to `limit` dead letters, in their order.
async fn seen(broker: &dyn Broker, limit: u32) -> Vec<String> {
    soon(broker.dead_letters(limit))
        .await
        .unwrap()
        .into_iter()
        .map(|letter| letter.id)
        .collect()
}

/// The ids of all that is on the work queue, each as often as it is there.
async fn on_the_work_queue(bench: &dyn Bench, count: usize) -> Vec<String> {
    let client = bench.client().await;
    let mut consumer = client.consume(5000).await.unwrap();
    let mut found = ids(&take(&mut *consumer, count).await);
    if !is_quiet(&mut *consumer).await {
        found.extend(ids(&take(&mut *consumer, 1).await));
    }
    client.close().await;
    found
}

async fn all_go_back_once(bench: &dyn Bench, count: usize) {
    let broker = bench.client().await;
    fill_dead_letters(&*broker, count).await;
    assert_eq!(
        soon(broker.redrive(None, 5000)).await.unwrap(),
        Redriven {
            moved: count as u64,
            undecodable: 0
        }
    );
    assert_eq!(soon(broker.redrive(None, 5000)).await.unwrap().moved, 0);
    assert_eq!(
        broker.depths().await.unwrap(),
        [("dead", 0), ("work", count as u64)].into()
    );
    broker.close().await;
    assert_eq!(on_the_work_queue(bench, count).await, numbers(count));
}

pub(crate) async fn a_hundred_dead_letters_go_back_once(bench: &dyn Bench) {
    all_go_back_once(bench, 100).await;
}

pub(crate) async fn dead_letters_beyond_a_window_go_back_once(bench: &dyn Bench) {
    all_go_back_once(bench, 156).await;
}

pub(crate) async fn three_thousand_dead_letters_go_back_once(bench: &dyn Bench) {
    all_go_back_once(bench, 3000).await;
}

pub(crate) async fn dead_letters_chosen_by_id_go_back_once(bench: &dyn Bench) {
    let broker = bench.client().await;
    fill_dead_letters(&*broker, 300).await;
    let in_order = seen(&*broker, 300).await;
    // No two of them beside each other, so that each is acknowledged by a command of its own.
    let chosen: Vec<String> = in_order.iter().step_by(2).cloned().collect();
    assert_eq!(
        soon(broker.redrive(Some(&chosen), 1000))
            .await
            .unwrap()
            .moved,
        150
    );
    assert_eq!(
        soon(broker.redrive(Some(&chosen), 1000))
            .await
            .unwrap()
            .moved,
        0
    );
    let expected: Vec<String> = in_order.into_iter().skip(1).step_by(2).collect();
    assert!(
        seen(&*broker, 1000).await == expected,
        "the others stay, in their order"
    );
    let mut sorted = chosen.clone();
    sorted.sort_unstable();
    broker.close().await;
    assert_eq!(on_the_work_queue(bench, 150).await, sorted);
}

pub(crate) async fn looking_at_many_dead_letters_moves_none(bench: &dyn Bench) {
    let broker = bench.client().await;
    fill_dead_letters(&*broker, 1000).await;
    let in_order = seen(&*broker, 1000).await;
    assert_eq!(in_order.len(), 1000);
    let all_back = async || broker.depths().await.unwrap()["dead"] == 1000;
    until("all are back", all_back).await;
    assert!(
        seen(&*broker, 1000).await == in_order,
        "they are in another order"
    );
    // What came back once is behind the others that did, where only some are looked at: RabbitMQ
    // has it so.
    for limit in [150, 1] {
        until("all are back", all_back).await;
        assert_eq!(seen(&*broker, limit).await.len(), limit as usize);
    }
    until("all are back", all_back).await;
    let mut after = seen(&*broker, 1000).await;
    after.sort_unstable();
    assert!(after == numbers(1000), "none is lost or doubled");
    broker.close().await;
}

pub(crate) async fn what_cannot_be_decoded_is_counted(bench: &dyn Bench) {
    let broker = bench.client().await;
    fill_dead_letters(&*broker, 3).await;
    let garbage = posthaste_shared::broker::Message {
        body: "not JSON".into(),
        ..message("garbage")
    };
    broker
        .dead_letter(&garbage, DeadReason::Undecodable, "why")
        .await
        .unwrap();
    until("all are dead", async || {
        broker.depths().await.unwrap()["dead"] == 4
    })
    .await;
    assert_eq!(
        soon(broker.redrive(None, 100)).await.unwrap(),
        Redriven {
            moved: 4,
            undecodable: 1
        }
    );
    broker.close().await;
}

pub(crate) async fn what_was_acknowledged_before_the_end_never_comes_again(bench: &dyn Bench) {
    let broker = bench.client().await;
    publish(&*broker, messages(2000)).await;
    let mut consumer = broker.consume(2000).await.unwrap();
    let mut got = take(&mut *consumer, 2000).await;
    got.sort_by_key(|one| one.tag);
    let (acked, left): (Vec<_>, Vec<_>) = got.into_iter().partition(|one| one.tag.number % 2 == 0);
    // Each by a command of its own: some must wait within RabbitMQ when the channel is closed right
    // behind them.
    consumer
        .acker()
        .ack(acked.iter().map(|one| one.tag).collect())
        .await;
    broker.close().await;
    assert_eq!(on_the_work_queue(bench, left.len()).await, ids(&left));
}
