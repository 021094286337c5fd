//! Changes that people ask for: cancelling, retrying, replays, redrives.

use std::sync::Arc;

use posthaste_shared::broker::Redriven;
use posthaste_shared::domain::delivery::{DeliveryState, Status};
use posthaste_shared::domain::id::{DeliveryId, NotificationId, TenantId};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::store::deliveries::{Cancelled, DeliveryFilter, RetriedNow};
use posthaste_shared::store::page::PageRequest;
use posthaste_shared::store::redrives::{RedriveState, RedriveStep};
use posthaste_shared::store::replays::{JobCancelled, Matching, ReplayState};

use super::bench::{
    Bench, MARGIN, at, delivered, endpoint, endpoint_id, expiring, failed, in_flight, new,
    notification, parked, put, put_as, retry,
};

pub(crate) async fn cancelling_keeps_the_rules(bench: &Bench) {
    let store = &bench.store;
    let waiting = put(store, "a", "ep_1", parked()).await;
    let busy = put(store, "b", "ep_1", in_flight(9)).await;
    let done = put(store, "c", "ep_1", delivered(1)).await;
    assert_eq!(
        store.cancel(waiting.id, at(2)).await.unwrap(),
        Cancelled::Done
    );
    assert_eq!(
        store.cancel(waiting.id, at(2)).await.unwrap(),
        Cancelled::NotPending(Status::Cancelled)
    );
    assert_eq!(
        store.cancel(busy.id, at(2)).await.unwrap(),
        Cancelled::InFlight
    );
    assert_eq!(
        store.cancel(busy.id, at(9)).await.unwrap(),
        Cancelled::Done,
        "the lease has ended"
    );
    assert_eq!(
        store.cancel(done.id, at(2)).await.unwrap(),
        Cancelled::NotPending(Status::Delivered)
    );
    let unknown = DeliveryId::of(
        &NotificationId::parse("z").unwrap(),
        &endpoint_id("ep_1"),
        None,
    );
    assert_eq!(
        store.cancel(unknown, at(2)).await.unwrap(),
        Cancelled::NotFound
    );
    let state = store.delivery(waiting.id).await.unwrap().unwrap().0.state;
    assert_eq!(state, DeliveryState::Cancelled { at: at(2) });
    assert_eq!(store.outbox_pending().await.unwrap(), 0);
    assert_eq!(store.outbox_oldest().await.unwrap(), None);
}

pub(crate) async fn retrying_keeps_the_rules(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    let waiting = put(store, "a", "ep_1", parked()).await;
    let busy = put(store, "b", "ep_1", in_flight(9)).await;
    let late = put_as(store, expiring("c", 3), "ep_1", failed(1)).await;
    let homeless = put(store, "d", "ep_gone", failed(1)).await;
    let mut tried = new(&notification("e"), "ep_1", failed(1));
    tried.delivery.attempt_count = 5;
    store.record(&[tried.clone()], at(1)).await.unwrap();

    assert!(matches!(store.retry_now(waiting.id, at(4)).await.unwrap(),
        RetriedNow::Done(delivery) if delivery.state == retry(4) && delivery.round == 1));
    assert_eq!(
        store.retry_now(busy.id, at(4)).await.unwrap(),
        RetriedNow::InFlight
    );
    assert_eq!(
        store.retry_now(late.id, at(4)).await.unwrap(),
        RetriedNow::Expired
    );
    assert_eq!(
        store.retry_now(homeless.id, at(4)).await.unwrap(),
        RetriedNow::EndpointGone
    );
    let RetriedNow::Done(again) = store.retry_now(tried.delivery.id, at(4)).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        (again.round, again.round_base, again.attempt_count),
        (2, 5, 5)
    );
    assert_eq!(store.delivery(again.id).await.unwrap().unwrap().0, again);
    assert_eq!(store.claim_due(at(4), MARGIN, 9).await.unwrap().len(), 2);
}

pub(crate) async fn a_replay_starts_new_rounds(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    for n in 0..25 {
        put(store, &format!("n-{n}"), "ep_1", failed(1)).await;
    }
    put_as(store, expiring("late", 3), "ep_1", failed(1)).await;
    put(store, "fine", "ep_1", delivered(1)).await;
    let new = Notification {
        accepted_at: at(10),
        ..(*notification("new")).clone()
    };
    put_as(store, Arc::new(new), "ep_1", failed(11)).await;
    assert_eq!(store.step_replay(at(10), 10).await.unwrap(), None);
    let filter = DeliveryFilter {
        status: Status::Failed.into(),
        ..DeliveryFilter::default()
    };
    let replay = store.create_replay(&filter, at(10)).await.unwrap();
    let mut steps = 0;
    while let Some(step) = store.step_replay(at(11), 10).await.unwrap() {
        steps += 1;
        assert_eq!(step.id, replay.id);
    }
    let done = store.replay(replay.id).await.unwrap().unwrap();
    assert_eq!(
        (done.state, done.matched, done.replayed, done.skipped),
        (ReplayState::Done, 26, 25, 1)
    );
    assert_eq!(
        (steps, done.finished_at, &done.filter),
        (3, Some(at(11)), &filter)
    );
    assert_eq!(
        store.claim_due(at(11), MARGIN, 100).await.unwrap().len(),
        25
    );
}

pub(crate) async fn a_replay_is_cancelled_between_two_steps(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    for n in 0..25 {
        put(store, &format!("n-{n}"), "ep_1", failed(1)).await;
    }
    let filter = DeliveryFilter {
        status: Status::Failed.into(),
        ..DeliveryFilter::default()
    };
    let matching = store.matching_deliveries(&filter, at(10)).await.unwrap();
    assert_eq!((matching.count, matching.oldest.is_some()), (25, true));
    let none = DeliveryFilter {
        status: Status::Expired.into(),
        ..DeliveryFilter::default()
    };
    assert_eq!(
        store.matching_deliveries(&none, at(10)).await.unwrap(),
        Matching::default()
    );

    let replay = store.create_replay(&filter, at(10)).await.unwrap();
    assert_eq!(replay.total, Some(25));
    store.step_replay(at(11), 10).await.unwrap().unwrap();
    assert_eq!(
        store.cancel_replay(replay.id, at(12)).await.unwrap(),
        JobCancelled::Done
    );
    assert_eq!(
        store.step_replay(at(13), 10).await.unwrap(),
        None,
        "nothing is running"
    );
    assert_eq!(
        store.cancel_replay(replay.id, at(14)).await.unwrap(),
        JobCancelled::NotRunning
    );
    let cancelled = store.replay(replay.id).await.unwrap().unwrap();
    assert_eq!(
        (cancelled.state, cancelled.matched, cancelled.replayed),
        (ReplayState::Cancelled, 10, 10)
    );
    assert_eq!(cancelled.finished_at, Some(at(12)));
    assert_eq!(
        (
            store.due(at(13), 100).await.unwrap(),
            store.due(at(13), 4).await.unwrap()
        ),
        (10, 4)
    );

    let own = DeliveryFilter {
        tenant: Some(TenantId::parse("acme").unwrap()),
        ..filter
    };
    let second = store.create_replay(&own, at(20)).await.unwrap();
    let ids = async |tenant: Option<&TenantId>, limit: u32| {
        let page = store
            .replays(
                tenant,
                &PageRequest {
                    limit,
                    cursor: None,
                },
            )
            .await
            .unwrap();
        (
            page.items
                .iter()
                .map(|replay| replay.id)
                .collect::<Vec<_>>(),
            page.next_cursor,
        )
    };
    assert_eq!(ids(None, 5).await.0, [second.id, replay.id]);
    assert_eq!(ids(own.tenant.as_ref(), 5).await.0, [second.id]);
    let (first, next) = ids(None, 1).await;
    assert_eq!(first, [second.id]);
    let page = store
        .replays(
            None,
            &PageRequest {
                limit: 1,
                cursor: next,
            },
        )
        .await
        .unwrap();
    assert_eq!((page.items[0].id, page.next_cursor), (replay.id, None));
}

pub(crate) async fn a_redrive_is_leased_followed_and_cancelled(bench: &Bench) {
    let store = &bench.store;
    assert_eq!(
        store.create_redrive(0, at(1)).await.unwrap().state,
        RedriveState::Done
    );
    assert_eq!(store.claim_redrive(at(2), at(3)).await.unwrap(), None);
    let redrive = store.create_redrive(300, at(2)).await.unwrap();
    assert_eq!(
        store.claim_redrive(at(3), at(9)).await.unwrap().unwrap().id,
        redrive.id
    );
    assert_eq!(
        store.claim_redrive(at(8), at(9)).await.unwrap(),
        None,
        "somebody is at it"
    );
    let moved = RedriveStep::Moved(Redriven {
        moved: 100,
        undecodable: 3,
    });
    let noted = store
        .note_redrive(redrive.id, &moved, at(4), at(20))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (noted.redriven, noted.undecodable, noted.state),
        (100, 3, RedriveState::Running)
    );
    assert_eq!(
        store.claim_redrive(at(10), at(30)).await.unwrap(),
        None,
        "leased further"
    );
    assert!(
        store.claim_redrive(at(21), at(30)).await.unwrap().is_some(),
        "its process is gone"
    );
    let failed = RedriveStep::Failed("away".to_owned());
    let noted = store
        .note_redrive(redrive.id, &failed, at(22), at(30))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (noted.redriven, noted.last_error.as_deref()),
        (100, Some("away"))
    );
    assert_eq!(
        store.cancel_redrive(redrive.id, at(23)).await.unwrap(),
        JobCancelled::Done
    );
    // A step that was running counts.
    let last = RedriveStep::Last(Redriven {
        moved: 100,
        undecodable: 0,
    });
    let noted = store
        .note_redrive(redrive.id, &last, at(24), at(40))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (noted.redriven, noted.state, noted.finished_at),
        (200, RedriveState::Cancelled, Some(at(23)))
    );
    assert_eq!(
        store.cancel_redrive(redrive.id, at(25)).await.unwrap(),
        JobCancelled::NotRunning
    );
    let page = store
        .redrives(&PageRequest {
            limit: 1,
            cursor: None,
        })
        .await
        .unwrap();
    assert_eq!(
        (page.items[0].id, page.next_cursor.is_some()),
        (redrive.id, true)
    );
}
