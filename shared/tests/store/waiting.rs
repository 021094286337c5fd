//! What waits in the store.

use std::collections::BTreeSet;

use posthaste_shared::domain::delivery::{DeliveryState, FailureReason, Wait};
use posthaste_shared::domain::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::notification::{Notification, Origin};
use posthaste_shared::store::deliveries::Backlog;
use posthaste_shared::store::events::EventFilter;
use posthaste_shared::store::page::PageRequest;
use posthaste_shared::store::record::{Record, Recorded};
use std::sync::Arc;

use super::bench::{
    Bench, MARGIN, at, attempt, delivered, endpoint, endpoint_id, expiring, in_flight, new,
    notification, parked, put, put_as, retry,
};

pub(crate) async fn what_is_due_is_claimed_oldest_first(bench: &Bench) {
    let store = &bench.store;
    for (id, state) in [
        ("c", retry(3)),
        ("a", retry(1)),
        ("b", retry(2)),
        ("later", retry(9)),
        ("done", delivered(1)),
    ] {
        put(store, id, "ep_1", state).await;
    }
    put_as(store, expiring("expired", 2), "ep_1", retry(1)).await;
    put(store, "parked", "ep_1", parked()).await;
    let first = store.claim_due(at(3), MARGIN, 2).await.unwrap();
    let names: Vec<&str> = first.iter().map(|it| it.notification.id.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        first[0].delivery.state,
        retry(1),
        "as it was before the claim"
    );
    assert_eq!(*first[0].notification, *notification("a"));
    let second = store.claim_due(at(3), MARGIN, 10).await.unwrap();
    assert_eq!(second.len(), 1);
    assert_eq!(
        store
            .delivery(second[0].delivery.id)
            .await
            .unwrap()
            .unwrap()
            .0
            .state,
        in_flight(73)
    );
    assert!(store.claim_due(at(3), MARGIN, 10).await.unwrap().is_empty());
}

pub(crate) async fn two_workers_never_claim_the_same(bench: &Bench) {
    let batch: Vec<Record> = (0..300)
        .map(|n| new(&notification(&format!("n-{n}")), "ep_1", retry(1)))
        .collect();
    bench.store.record(&batch, at(0)).await.unwrap();
    let claim = |store: posthaste_shared::store::Store| async move {
        let mut claimed = Vec::new();
        loop {
            let some = store.claim_due(at(2), MARGIN, 7).await.unwrap();
            if some.is_empty() {
                return claimed;
            }
            claimed.extend(some.into_iter().map(|it| it.delivery.id));
        }
    };
    let (one, other) = tokio::join!(
        tokio::spawn(claim(bench.store.clone())),
        tokio::spawn(claim(bench.another().await))
    );
    let all: Vec<_> = one.unwrap().into_iter().chain(other.unwrap()).collect();
    assert_eq!(all.len(), 300);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 300);
}

pub(crate) async fn an_ended_lease_is_due_again(bench: &Bench) {
    let store = &bench.store;
    put(store, "n-1", "ep_1", retry(1)).await;
    assert_eq!(store.claim_due(at(1), MARGIN, 9).await.unwrap().len(), 1);
    assert!(store.claim_due(at(70), MARGIN, 9).await.unwrap().is_empty());
    let again = store.claim_due(at(71), MARGIN, 9).await.unwrap();
    assert_eq!(again[0].delivery.state, in_flight(71));
}

pub(crate) async fn a_lease_is_as_long_as_the_endpoints_timeout(bench: &Bench) {
    let store = &bench.store;
    for name in ["ep_quick", "ep_deleted"] {
        store.insert_endpoint(&endpoint(name)).await.unwrap();
    }
    store
        .delete_endpoint(&endpoint_id("ep_deleted"), None, at(1))
        .await
        .unwrap();
    for name in ["ep_quick", "ep_deleted", "ep_never"] {
        put(store, name, name, retry(1)).await;
    }
    put(store, "parked", "ep_quick", parked()).await;
    let mut claimed = store.claim_due(at(2), MARGIN, 9).await.unwrap();
    claimed.extend(
        store
            .claim_parked(&[(endpoint_id("ep_quick"), 9)], at(2), MARGIN)
            .await
            .unwrap(),
    );
    let mut ends: Vec<_> = claimed
        .iter()
        .map(|it| (it.notification.id.as_str(), it.lease_until))
        .collect();
    ends.sort_unstable();
    assert_eq!(
        ends,
        [
            ("ep_deleted", at(72)),
            ("ep_never", at(72)),
            ("ep_quick", at(17)),
            ("parked", at(17))
        ]
    );
    for one in &claimed {
        let stored = store.delivery(one.delivery.id).await.unwrap().unwrap().0;
        assert_eq!(
            stored.state,
            DeliveryState::Pending(Wait::InFlight {
                lease_until: one.lease_until
            })
        );
    }
}

pub(crate) async fn released_leases_are_due_at_once(bench: &Bench) {
    let store = &bench.store;
    let one = put(store, "n-1", "ep_1", in_flight(30)).await;
    let other = put(store, "n-2", "ep_1", in_flight(40)).await;
    assert_eq!(
        store
            .release(&[(one.id, at(30)), (other.id, at(30))], at(5))
            .await
            .unwrap(),
        1
    );
    assert_eq!(store.release(&[], at(5)).await.unwrap(), 0);
    let claimed = store.claim_due(at(5), MARGIN, 9).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].delivery.state, retry(5));
}

pub(crate) async fn expiry_comes_with_one_event(bench: &Bench) {
    let store = &bench.store;
    let mut tried = Record {
        attempt: Some(attempt(1)),
        ..new(&expiring("tried", 3), "ep_1", retry(9))
    };
    tried.delivery.attempt_count = 1;
    assert_eq!(
        store.record(&[tried.clone()], at(0)).await.unwrap(),
        [Recorded::Kept]
    );
    put_as(store, expiring("parked", 3), "ep_1", parked()).await;
    put_as(store, expiring("lease", 3), "ep_1", in_flight(4)).await;
    put_as(store, expiring("later", 9), "ep_1", retry(1)).await;
    let event = Notification {
        origin: Origin::Event,
        ..(*expiring("event", 3)).clone()
    };
    put_as(store, Arc::new(event), "ep_1", retry(1)).await;
    assert!(store.expire_due(at(2), 10).await.unwrap().is_empty());
    let expired = store.expire_due(at(4), 10).await.unwrap();
    assert_eq!(expired.len(), 4);
    assert!(
        expired
            .iter()
            .all(|delivery| delivery.state == DeliveryState::Expired { at: at(4) })
    );
    assert!(store.expire_due(at(4), 10).await.unwrap().is_empty());
    let events = store
        .events(&EventFilter::default(), &PageRequest::default())
        .await
        .unwrap()
        .items;
    assert_eq!(events.len(), 3, "none for the delivery of an event");
    assert!(
        events
            .iter()
            .all(|event| event.kind == EventType::DeliveryExpired)
    );
    let of_tried = events
        .iter()
        .find(|event| event.body.as_str().contains(&tried.delivery.id.to_string()))
        .unwrap();
    assert!(
        of_tried.body.as_str().contains("worker-1"),
        "it has the last attempt"
    );
}

pub(crate) async fn a_running_lease_is_not_expired(bench: &Bench) {
    let store = &bench.store;
    put_as(store, expiring("n-1", 3), "ep_1", in_flight(9)).await;
    assert!(store.expire_due(at(8), 10).await.unwrap().is_empty());
    assert_eq!(
        store.next_due().await.unwrap(),
        Some(at(9)),
        "nothing to do before the lease ends"
    );
    assert!(store.claim_due(at(9), MARGIN, 9).await.unwrap().is_empty());
    assert_eq!(store.expire_due(at(9), 10).await.unwrap().len(), 1);
}

pub(crate) async fn what_waits_too_long_for_a_disabled_endpoint_expires(bench: &Bench) {
    let store = &bench.store;
    let disabled = Endpoint {
        status: EndpointStatus::Disabled(DisabledReason::Manual),
        ..endpoint("ep_off")
    };
    store.insert_endpoint(&disabled).await.unwrap();
    store.insert_endpoint(&endpoint("ep_on")).await.unwrap();
    // All are created at second 0.
    let waits = put(store, "n-1", "ep_off", parked()).await;
    put(store, "n-2", "ep_on", parked()).await;
    put(store, "n-3", "ep_off", retry(900)).await;
    assert!(
        store
            .expire_disabled(at(0), at(60), 9)
            .await
            .unwrap()
            .is_empty()
    );
    let expired = store.expire_disabled(at(1), at(60), 9).await.unwrap();
    let ids: Vec<_> = expired.iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids, [waits.id]);
    assert_eq!(expired[0].state, DeliveryState::Expired { at: at(60) });
    assert!(
        store
            .expire_disabled(at(1), at(60), 9)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn parked_deliveries_wait_for_their_endpoint(bench: &Bench) {
    let store = &bench.store;
    assert!(store.endpoints_with_parked().await.unwrap().is_empty());
    for (seconds, id) in [(2, "b"), (1, "a"), (3, "c")] {
        let parked_at = Notification {
            accepted_at: at(seconds),
            ..(*notification(id)).clone()
        };
        put_as(store, Arc::new(parked_at), "ep_2", parked()).await;
    }
    put(store, "x", "ep_1", parked()).await;
    put(store, "y", "ep_3", retry(1)).await;
    let mut held = store.endpoints_with_parked().await.unwrap();
    held.sort();
    assert_eq!(held, [endpoint_id("ep_1"), endpoint_id("ep_2")]);
    let claimed = store
        .claim_parked(&[(endpoint_id("ep_2"), 2)], at(5), MARGIN)
        .await
        .unwrap();
    assert_eq!(
        claimed
            .iter()
            .map(|it| it.notification.id.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(claimed[0].delivery.state, parked());
    assert_eq!(
        store
            .claim_parked(&[(endpoint_id("ep_2"), 9)], at(5), MARGIN)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        store.endpoints_with_parked().await.unwrap(),
        [endpoint_id("ep_1")]
    );
}

pub(crate) async fn deliveries_of_deleted_endpoints_fail(bench: &Bench) {
    let store = &bench.store;
    for name in ["ep_1", "ep_2"] {
        store.insert_endpoint(&endpoint(name)).await.unwrap();
        put(store, &format!("{name}-a"), name, parked()).await;
        put(store, &format!("{name}-b"), name, in_flight(30)).await;
        put(store, &format!("{name}-c"), name, delivered(1)).await;
    }
    assert!(store.fail_orphans(at(2), 10).await.unwrap().is_empty());
    assert!(
        store
            .delete_endpoint(&endpoint_id("ep_1"), None, at(2))
            .await
            .unwrap()
    );
    let failed = store.fail_orphans(at(3), 10).await.unwrap();
    assert_eq!(
        failed
            .iter()
            .map(|it| it.notification_id.as_str())
            .collect::<Vec<_>>(),
        ["ep_1-a"]
    );
    assert_eq!(
        failed[0].state,
        DeliveryState::Failed {
            at: at(3),
            reason: FailureReason::EndpointDeleted
        }
    );
    assert_eq!(store.fail_orphans(at(30), 10).await.unwrap().len(), 1);
    assert_eq!(store.outbox_pending().await.unwrap(), 2);
}

pub(crate) async fn the_next_due_time_is_told(bench: &Bench) {
    let store = &bench.store;
    assert_eq!(store.next_due().await.unwrap(), None);
    put(store, "n-0", "ep_1", parked()).await;
    assert_eq!(store.next_due().await.unwrap(), None);
    put(store, "n-1", "ep_1", retry(9)).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(9)));
    put_as(store, expiring("n-2", 7), "ep_1", parked()).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(7)));
}

pub(crate) async fn the_backlog_is_counted(bench: &Bench) {
    let store = &bench.store;
    assert_eq!(store.backlog(at(0)).await.unwrap(), Backlog::default());
    let scheduled = DeliveryState::Pending(Wait::Scheduled { due_at: at(50) });
    for (id, state) in [
        ("a", in_flight(1)),
        ("b", in_flight(90)),
        ("c", retry(2)),
        ("d", retry(3)),
        ("e", retry(20)),
        ("f", scheduled),
        ("g", parked()),
        ("h", delivered(1)),
    ] {
        put(store, id, "ep_1", state).await;
    }
    let backlog = store.backlog(at(10)).await.unwrap();
    assert_eq!(
        backlog,
        Backlog {
            ready: 4,
            scheduled: 2,
            parked: 1,
            oldest_due: Some(at(2))
        }
    );
}
