//! Recording results.

use std::sync::Arc;

use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, Wait};
use posthaste_shared::domain::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use posthaste_shared::domain::event::{Event, EventType};
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::notification::{Notification, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::store::endpoints::Saved;
use posthaste_shared::store::events::EventFilter;
use posthaste_shared::store::page::PageRequest;
use posthaste_shared::store::record::{Before, DisableEndpoint, Record, Recorded};

use super::bench::{
    Bench, at, attempt, delivered, endpoint, failed, new, notification, put, retry,
};

pub(crate) async fn a_new_delivery_is_kept_once(bench: &Bench) {
    let store = &bench.store;
    let notification = notification("n-1");
    let ids = [(notification.tenant.clone(), notification.id.clone())];
    assert!(store.look_up(&ids).await.unwrap().known.is_empty());
    let record = Record {
        attempt: Some(attempt(1)),
        ..new(&notification, "ep_1", failed(5))
    };
    assert_eq!(
        store
            .record(std::slice::from_ref(&record), at(5))
            .await
            .unwrap(),
        [Recorded::Kept]
    );
    assert_eq!(
        store
            .record(std::slice::from_ref(&record), at(6))
            .await
            .unwrap(),
        [Recorded::Stale]
    );
    let known = &store.look_up(&ids).await.unwrap().known[&ids[0]];
    assert_eq!(
        (known.fan_out, known.deliveries.as_slice()),
        (1, &[record.delivery.id][..])
    );
    let events = store
        .events(&EventFilter::default(), &PageRequest::default())
        .await
        .unwrap();
    assert_eq!(events.items, [record.event.unwrap()]);
    assert_eq!(
        store.delivery(record.delivery.id).await.unwrap().unwrap().1,
        [attempt(1)]
    );
}

pub(crate) async fn a_known_delivery_changes_only_from_the_state_it_was_read_in(bench: &Bench) {
    let store = &bench.store;
    let first = put(store, "n-1", "ep_1", retry(1)).await;
    let second = Delivery {
        state: retry(2),
        attempt_count: 1,
        ..first.clone()
    };
    let known = |delivery: &Delivery, attempt_count, number| Record {
        delivery: delivery.clone(),
        before: Before::Known {
            round: 1,
            attempt_count,
        },
        attempt: Some(attempt(number)),
        kept: None,
        event: Event::of_outcome(delivery, None),
        disable: None,
    };
    assert_eq!(
        store.record(&[known(&second, 0, 1)], at(1)).await.unwrap(),
        [Recorded::Kept]
    );
    assert_eq!(
        store.record(&[known(&second, 0, 1)], at(1)).await.unwrap(),
        [Recorded::Stale]
    );
    let last = Delivery {
        state: failed(3),
        attempt_count: 2,
        last_error: Some("503".to_owned()),
        ..first.clone()
    };
    assert_eq!(
        store.record(&[known(&last, 1, 2)], at(3)).await.unwrap(),
        [Recorded::Kept]
    );
    // What is finished stays so.
    let late = Delivery {
        state: delivered(4),
        attempt_count: 3,
        ..first.clone()
    };
    assert_eq!(
        store.record(&[known(&late, 2, 3)], at(4)).await.unwrap(),
        [Recorded::Stale]
    );
    let (found, attempts) = store.delivery(first.id).await.unwrap().unwrap();
    assert_eq!(found, last);
    assert_eq!(
        attempts
            .iter()
            .map(|attempt| attempt.number)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let events = store
        .events(&EventFilter::default(), &PageRequest::default())
        .await
        .unwrap()
        .items;
    assert_eq!(
        events.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventType::DeliveryFailed]
    );
}

/// A batch of which some is in the store already, and of which an id belongs to another
/// notification: the rest is kept, and each once.
pub(crate) async fn what_is_there_is_sorted_out_of_a_batch(bench: &Bench) {
    let store = &bench.store;
    let attempted = |notification: &Arc<Notification>| {
        let mut record = new(notification, "ep_1", failed(5));
        record.attempt = Some(attempt(1));
        record.delivery.attempt_count = 1;
        record
    };
    put(store, "n-2", "ep_1", delivered(1)).await;
    put(store, "n-3", "ep_2", delivered(1)).await;
    let other = Arc::new(Notification {
        payload: RawJson::parse("\"another\"".to_owned()).unwrap(),
        ..(*notification("n-3")).clone()
    });
    let batch = [
        attempted(&notification("n-1")),
        attempted(&notification("n-2")),
        attempted(&other),
        attempted(&notification("n-4")),
    ];
    let answers = [
        Recorded::Kept,
        Recorded::Stale,
        Recorded::Conflict,
        Recorded::Kept,
    ];
    assert_eq!(store.record(&batch, at(5)).await.unwrap(), answers);
    let mut attempts = Vec::new();
    for record in &batch {
        let found = store.delivery(record.delivery.id).await.unwrap();
        attempts.push(found.map(|(_, attempts)| attempts.len()));
    }
    assert_eq!(attempts, [Some(1), Some(0), None, Some(1)]);
    let events = store
        .events(&EventFilter::default(), &PageRequest::default())
        .await
        .unwrap();
    assert_eq!(events.items.len(), 2);
    assert_eq!(store.accounting(at(6)).await.unwrap().problem_count, 0);
}

/// More than goes into one statement.
pub(crate) async fn batches_of_megabytes_are_kept_whole(bench: &Bench) {
    let record = |n| {
        let text = format!("\"{}\"", "x".repeat(400_000));
        let large = Arc::new(Notification {
            payload: RawJson::parse(text).unwrap(),
            ..(*notification(&format!("n-{n}"))).clone()
        });
        new(&large, "ep_1", delivered(1))
    };
    let batch: Vec<Record> = (0..9).map(record).collect();
    let answers = bench.store.record(&batch, at(1)).await.unwrap();
    assert_eq!(answers, [Recorded::Kept; 9]);
    for record in &batch {
        let Before::New { notification, .. } = &record.before else {
            panic!("a new delivery");
        };
        let (read, deliveries) = bench
            .store
            .notification(Some(&notification.tenant), &notification.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(read, **notification);
        assert_eq!(deliveries.len(), 1);
    }
}

pub(crate) async fn the_second_change_in_a_batch_is_stale(bench: &Bench) {
    let notification = notification("n-1");
    let batch = [
        new(&notification, "ep_1", delivered(1)),
        new(&notification, "ep_2", delivered(1)),
        new(&notification, "ep_1", failed(1)),
    ];
    let answers = bench.store.record(&batch, at(1)).await.unwrap();
    assert_eq!(answers, [Recorded::Kept, Recorded::Kept, Recorded::Stale]);
    assert_eq!(bench.store.outbox_pending().await.unwrap(), 0);
    assert_eq!(bench.store.record(&[], at(1)).await.unwrap(), []);
}

pub(crate) async fn two_workers_record_the_same_delivery_once(bench: &Bench) {
    let stores = [bench.store.clone(), bench.another().await];
    let batch: Vec<Record> = (0..100)
        .map(|n| new(&notification(&format!("n-{n}")), "ep_1", failed(1)))
        .collect();
    let backwards: Vec<Record> = batch.iter().rev().cloned().collect();
    let (one, other) = tokio::join!(
        stores[0].record(&batch, at(1)),
        stores[1].record(&backwards, at(1))
    );
    let kept = one
        .unwrap()
        .into_iter()
        .zip(other.unwrap().into_iter().rev());
    assert!(
        kept.into_iter()
            .all(|(one, other)| (one == Recorded::Kept) != (other == Recorded::Kept))
    );
    assert_eq!(bench.store.outbox_pending().await.unwrap(), 100);
}

pub(crate) async fn a_gone_endpoint_is_disabled_once(bench: &Bench) {
    let store = &bench.store;
    let saved = store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    let gone = Endpoint {
        status: EndpointStatus::Disabled(DisabledReason::Gone),
        ..saved.clone()
    };
    for (n, events) in [(1, 2), (2, 3)] {
        let event = Event::of_endpoint(&gone, at(n));
        let record = Record {
            disable: Some(DisableEndpoint {
                endpoint: gone.clone(),
                event,
            }),
            ..new(&notification(&format!("n-{n}")), "ep_1", failed(n))
        };
        assert_eq!(
            store.record(&[record], at(n)).await.unwrap(),
            [Recorded::Kept]
        );
        assert_eq!(store.outbox_pending().await.unwrap(), events);
    }
    let found = store.endpoint(&saved.id).await.unwrap().unwrap();
    assert_eq!(found.status, gone.status);
    assert!(found.version > saved.version);
    assert_eq!(store.endpoints_version().await.unwrap(), found.version);
}

pub(crate) async fn a_gone_endpoint_that_was_repaired_stays_enabled(bench: &Bench) {
    let store = &bench.store;
    let called = store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    let moved = Endpoint {
        url: "https://example.com/new".parse().unwrap(),
        ..called.clone()
    };
    assert!(matches!(
        store.update_endpoint(&moved, None).await.unwrap(),
        Saved::Saved(_)
    ));
    let gone = Endpoint {
        status: EndpointStatus::Disabled(DisabledReason::Gone),
        ..called
    };
    let event = Event::of_endpoint(&gone, at(1));
    let record = Record {
        disable: Some(DisableEndpoint {
            endpoint: gone.clone(),
            event,
        }),
        ..new(&notification("n-1"), "ep_1", delivered(1))
    };
    assert_eq!(
        store.record(&[record], at(1)).await.unwrap(),
        [Recorded::Kept]
    );
    assert_eq!(
        store.endpoint(&gone.id).await.unwrap().unwrap().status,
        EndpointStatus::Enabled
    );
    assert_eq!(store.outbox_pending().await.unwrap(), 0);
}

pub(crate) async fn values_at_fault_are_told_from_a_database_at_fault(bench: &Bench) {
    let store = &bench.store;
    let mut impossible = new(&notification("n-1"), "ep_1", delivered(1));
    impossible.delivery.round = 0;
    let error = store.record(&[impossible], at(1)).await.unwrap_err();
    assert!(error.is_about_data() && !error.is_transient(), "{error:?}");
    bench.sql("DROP TABLE deliveries").await;
    let fine = new(&notification("n-2"), "ep_1", delivered(1));
    let error = store.record(&[fine], at(1)).await.unwrap_err();
    assert!(!error.is_about_data(), "{error:?}");
}

pub(crate) async fn everything_reads_back_as_it_was(bench: &Bench) {
    let full = Arc::new(Notification {
        target: Some(EndpointId::parse("ep_9").unwrap()),
        tenant: TenantId::parse("acme").unwrap(),
        recipient: Some(RawJson::parse("{\"phone_number\":\"+1\"}".to_owned()).unwrap()),
        overrides: Some(RawJson::parse("{ }".to_owned()).unwrap()),
        deliver_at: Some(at(10)),
        expires_at: Some(at(20)),
        priority: Priority::High,
        traceparent: Some("00-a-b-01".to_owned()),
        ..(*notification("n-1")).clone()
    });
    let mut record = new(
        &full,
        "ep_9",
        DeliveryState::Pending(Wait::Scheduled { due_at: at(10) }),
    );
    record.delivery.recipient = Some("+1".to_owned());
    record.delivery.provider_message_id = Some("m".to_owned());
    record.delivery.provider_error_code = Some("e".to_owned());
    bench
        .store
        .record(std::slice::from_ref(&record), at(0))
        .await
        .unwrap();
    let (read, deliveries) = bench
        .store
        .notification(None, &full.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read, *full);
    assert_eq!(deliveries, [record.delivery]);
    let other = TenantId::default();
    assert!(
        bench
            .store
            .notification(Some(&other), &full.id)
            .await
            .unwrap()
            .is_none()
    );
}

pub(crate) async fn large_batches_are_kept_whole(bench: &Bench) {
    let record = |n| Record {
        attempt: Some(attempt(1)),
        ..new(&notification(&format!("n-{n}")), "ep_1", delivered(1))
    };
    let batch: Vec<Record> = (0..777)
        .map(|n| {
            let mut record = record(n);
            record.delivery.attempt_count = 1;
            record
        })
        .collect();
    assert!(
        bench
            .store
            .record(&batch, at(1))
            .await
            .unwrap()
            .iter()
            .all(|answer| *answer == Recorded::Kept)
    );
    let ids: Vec<_> = batch
        .iter()
        .map(|it| {
            (
                it.delivery.tenant.clone(),
                it.delivery.notification_id.clone(),
            )
        })
        .collect();
    let found = bench.store.look_up(&ids).await.unwrap();
    assert_eq!(found.known.len(), 777);
    assert_eq!(found.endpoints_version, 0);
    assert_eq!(
        bench.store.accounting(at(1)).await.unwrap().problem_count,
        0
    );
    assert_eq!(bench.store.missing_notifications(&ids).await.unwrap(), []);
}

pub(crate) async fn zero_characters_do_no_harm(bench: &Bench) {
    let mut record = Record {
        attempt: Some(attempt(1)),
        ..new(&notification("n-1"), "ep_1", failed(1))
    };
    record.delivery.last_error = Some("a\0b".to_owned());
    record.attempt.as_mut().unwrap().response_body = Some("\0\0".to_owned());
    bench
        .store
        .record(std::slice::from_ref(&record), at(1))
        .await
        .unwrap();
    let (found, attempts) = bench
        .store
        .delivery(record.delivery.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.last_error.as_deref(), Some("a\u{FFFD}b"));
    assert_eq!(
        attempts[0].response_body.as_deref(),
        Some("\u{FFFD}\u{FFFD}")
    );
}

/// The clock of the worker that made it is an hour behind.
pub(crate) async fn an_attempt_of_before_its_notification_is_shown(bench: &Bench) {
    let store = &bench.store;
    let mut record = new(&notification("n-1"), "ep_1", retry(5));
    record.delivery.attempt_count = 1;
    record.attempt = Some(Attempt {
        started_at: at(-3600),
        ..attempt(1)
    });
    let kept = store.record(std::slice::from_ref(&record), at(-3599)).await;
    assert_eq!(kept.unwrap(), [Recorded::Kept]);
    let (delivery, attempts) = store.delivery(record.delivery.id).await.unwrap().unwrap();
    let started: Vec<_> = attempts.iter().map(|attempt| attempt.started_at).collect();
    assert_eq!(started, [delivery.created_at]);
    assert_eq!(store.accounting(at(9)).await.unwrap().problems, []);
}
