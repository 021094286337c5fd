//! The attempt that finishes a delivery as its first: it lies in the delivery's row.

use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::delivery::{Delivery, DeliveryState};
use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::id::DeliveryId;
use posthaste_shared::store::Store;
use posthaste_shared::store::deliveries::DeliveryFilter;
use posthaste_shared::store::events::EventFilter;
use posthaste_shared::store::page::PageRequest;
use posthaste_shared::store::record::{Record, Recorded};
use posthaste_shared::store::several::StatusCode;

use super::bench::{
    Bench, at, attempt, delivered, endpoint, expiring, failed, new, notification, retry,
};

/// Keeps a delivery with its first attempt.
async fn put(store: &Store, id: &str, state: DeliveryState, attempt: Attempt) -> Delivery {
    put_as(store, new(&notification(id), "ep_1", state), attempt).await
}

async fn put_as(store: &Store, mut record: Record, attempt: Attempt) -> Delivery {
    record.delivery.attempt_count = 1;
    record.attempt = Some(attempt);
    let kept = store.record(std::slice::from_ref(&record), at(2)).await;
    assert_eq!(kept.unwrap(), [Recorded::Kept]);
    record.delivery
}

async fn attempts(store: &Store, delivery: &Delivery) -> Vec<Attempt> {
    store.delivery(delivery.id).await.unwrap().unwrap().1
}

async fn with_code(store: &Store, code: &str) -> Vec<DeliveryId> {
    let filter = DeliveryFilter {
        status_code: code.parse::<StatusCode>().unwrap().into(),
        ..DeliveryFilter::default()
    };
    let found = store.deliveries(&filter, &PageRequest::default()).await;
    let mut ids: Vec<_> = found.unwrap().items.iter().map(|it| it.id).collect();
    ids.sort_unstable();
    ids
}

pub(crate) async fn the_attempt_that_finishes_a_delivery_lies_in_its_row(bench: &Bench) {
    let store = &bench.store;
    let all = attempt(1);
    let least = Attempt {
        status_code: None,
        error: None,
        response_body: None,
        resolved_address: None,
        request_headers: vec![],
        console: None,
        ..attempt(1)
    };
    let full = put(store, "n-1", failed(2), all.clone()).await;
    let bare = put(store, "n-2", delivered(2), least.clone()).await;
    // It waits for a second attempt, so its first is a row like those that follow.
    let waiting = put(store, "n-3", retry(9), all.clone()).await;
    assert_eq!(attempts(store, &full).await, std::slice::from_ref(&all));
    assert_eq!(attempts(store, &bare).await, [least]);
    assert_eq!(attempts(store, &waiting).await, [all]);
    let rows = "SELECT CAST(count(*) AS TEXT) FROM attempts";
    assert_eq!(bench.sql(rows).await, ["1"]);
    let mut both = [full.id, waiting.id];
    both.sort_unstable();
    assert_eq!(with_code(store, "503").await, both);
    assert_eq!(with_code(store, "404").await, []);
    let sums = store.accounting(at(10)).await.unwrap();
    assert_eq!((sums.attempts, sums.problems.as_slice()), (3, &[][..]));
}

pub(crate) async fn a_later_round_adds_to_the_attempt_in_the_row(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    let record = new(&expiring("n-1", 30), "ep_1", failed(2));
    let delivery = put_as(store, record, attempt(1)).await;
    store.retry_now(delivery.id, at(3)).await.unwrap();
    assert_eq!(with_code(store, "503").await, [delivery.id]);
    // Its event tells of the attempt, though it was one of an earlier round.
    let expired = store.expire_due(at(31), 10).await.unwrap();
    assert_eq!(expired.len(), 1);
    let filter = EventFilter {
        kind: EventType::DeliveryExpired.into(),
        ..EventFilter::default()
    };
    let events = store.events(&filter, &PageRequest::default()).await;
    let event = events.unwrap().items.pop().expect("its event");
    assert!(
        event.body.as_str().contains("\"status_code\":503"),
        "{event:?}"
    );
    assert_eq!(attempts(store, &delivery).await, [attempt(1)]);
    let sums = store.accounting(at(40)).await.unwrap();
    assert_eq!((sums.attempts, sums.problems.as_slice()), (1, &[][..]));
}
