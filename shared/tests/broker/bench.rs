//! What the suite needs to run on some broker.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use posthaste_shared::broker::{Broker, Consumer, Incoming, Message};
use posthaste_shared::domain::time::Timestamp;

/// The bound of every wait in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How long nothing must happen where nothing should.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

/// Queues of one test's own.
#[async_trait]
pub(crate) trait Bench: Send + Sync {
    /// Another client of the same queues.
    async fn client(&self) -> Arc<dyn Broker>;
    /// Removes the queues.
    async fn clean_up(&self);
}

/// Runs a test and cleans up after it, also when it fails.
pub(crate) async fn run<B: Bench, F: AsyncFnOnce(&dyn Bench)>(bench: B, test: F) {
    let result =
        tokio::time::timeout(2 * DEADLINE, AssertUnwindSafe(test(&bench)).catch_unwind()).await;
    bench.clean_up().await;
    match result {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => panic!("the test hangs"),
    }
}

/// Awaits something that must come.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("in time")
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A message with this id and a body that tells it.
pub(crate) fn message(id: &str) -> Message {
    Message {
        id: Some(id.to_owned()),
        body: format!("{{\"type\":\"test\",\"payload\":\"{id}\"}}").into(),
        accepted_at: Some(Timestamp::from_micros(1_767_225_600_123_456)),
        ..Message::default()
    }
}

/// Messages `0`, `1`, ….
pub(crate) fn messages(count: usize) -> Vec<Message> {
    (0..count)
        .map(|number| message(&number.to_string()))
        .collect()
}

/// Publishes and insists on every confirm.
pub(crate) async fn publish(broker: &dyn Broker, messages: Vec<Message>) {
    for answer in soon(broker.publish(messages)).await {
        answer.expect("confirmed");
    }
}

/// Takes exactly so many messages.
pub(crate) async fn take(consumer: &mut dyn Consumer, count: usize) -> Vec<Incoming> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(
            soon(consumer.next_batch(count - taken.len()))
                .await
                .expect("still open"),
        );
    }
    taken
}

/// Whether nothing comes for a while.
pub(crate) async fn is_quiet(consumer: &mut dyn Consumer) -> bool {
    tokio::time::timeout(QUIET, consumer.next_batch(1))
        .await
        .is_err()
}

/// The ids, sorted.
pub(crate) fn ids(incoming: &[Incoming]) -> Vec<String> {
    let mut ids: Vec<String> = incoming
        .iter()
        .map(|one| one.message.id.clone().expect("an id"))
        .collect();
    ids.sort_unstable();
    ids
}

/// The numbers below `count` as sorted texts.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    let mut numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    numbers.sort_unstable();
    numbers
}
