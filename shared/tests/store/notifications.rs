//! Notifications as deliveries bring them: one row each, however many deliveries it has.

use std::sync::Arc;

use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::store::record::{Before, Record, Recorded};

use super::bench::{Bench, at, delivered, failed, new, notification, retry};

/// Two workers that take up two notifications of one id in the same moment.
pub(crate) async fn an_id_stands_for_one_notification(bench: &Bench) {
    let store = &bench.store;
    let first = notification("n-1");
    let unmatched = notification("n-2");
    let other = |it: &Arc<Notification>| {
        Arc::new(Notification {
            payload: RawJson::parse("2".to_owned()).unwrap(),
            ..it.as_ref().clone()
        })
    };
    assert_eq!(
        store
            .record(&[new(&first, "ep_1", retry(1))], at(1))
            .await
            .unwrap(),
        [Recorded::Kept]
    );
    // Nothing is written of the other, not for another endpoint either: its retry would send the
    // first one's payload.
    let batch = [
        new(&other(&first), "ep_1", delivered(2)),
        new(&other(&first), "ep_2", retry(2)),
        new(&first, "ep_3", retry(2)),
    ];
    let answers = store.record(&batch, at(2)).await.unwrap();
    assert_eq!(
        answers,
        [Recorded::Conflict, Recorded::Conflict, Recorded::Kept]
    );
    let (kept, deliveries) = store.notification(None, &first.id).await.unwrap().unwrap();
    assert_eq!((&kept, deliveries.len()), (first.as_ref(), 2));
    // Both in one batch: the first counts.
    let batch = [
        new(&notification("n-3"), "ep_1", retry(1)),
        new(&other(&notification("n-3")), "ep_2", retry(1)),
    ];
    let answers = store.record(&batch, at(1)).await.unwrap();
    assert_eq!(
        answers
            .iter()
            .filter(|answer| **answer == Recorded::Conflict)
            .count(),
        1
    );

    assert_eq!(
        store
            .record_unmatched(std::slice::from_ref(&unmatched))
            .await
            .unwrap(),
        [false]
    );
    assert_eq!(
        store.record_unmatched(&[other(&unmatched)]).await.unwrap(),
        [true]
    );
    let found = store.notification(None, &unmatched.id).await.unwrap();
    assert_eq!(found, Some((unmatched.as_ref().clone(), vec![])));
    assert_eq!(
        store
            .record_unmatched(std::slice::from_ref(&unmatched))
            .await
            .unwrap(),
        [false]
    );

    let ids = [
        (first.tenant.clone(), first.id.clone()),
        (unmatched.tenant.clone(), unmatched.id.clone()),
    ];
    for time in [1, 2] {
        store
            .note_id_conflict(&first.tenant, &first.id, at(time))
            .await
            .unwrap();
    }
    assert_eq!(store.count_id_conflicts().await.unwrap(), 1);
    assert_eq!(store.id_conflicts(&ids).await.unwrap(), [ids[0].clone()]);
    assert_eq!(
        store.remove_finished(at(2), at(2), 9).await.unwrap(),
        1,
        "the unmatched one alone"
    );
    assert_eq!(store.remove_finished(at(3), at(3), 9).await.unwrap(), 1);
    assert_eq!(store.count_id_conflicts().await.unwrap(), 0);
}

/// Many deliveries of one notification: its payload is written and read once, and each is claimed
/// with it.
pub(crate) async fn deliveries_of_one_notification_share_it(bench: &Bench) {
    let store = &bench.store;
    let shared = notification("n-1");
    let several = |endpoint: &str| Record {
        before: Before::New {
            notification: Arc::clone(&shared),
            fan_out: 3,
        },
        ..new(&shared, endpoint, retry(1))
    };
    for endpoint in ["ep_1", "ep_2", "ep_3"] {
        assert_eq!(
            store.record(&[several(endpoint)], at(0)).await.unwrap(),
            [Recorded::Kept]
        );
    }
    let claimed = store
        .claim_due(at(1), std::time::Duration::from_secs(1), 9)
        .await
        .unwrap();
    assert_eq!(claimed.len(), 3);
    assert!(
        claimed
            .iter()
            .all(|one| Arc::ptr_eq(&one.notification, &shared)),
        "it was in memory"
    );
    // Another process reads it, once.
    let other = bench.another().await;
    let claimed = other
        .claim_due(at(60_000_000), std::time::Duration::from_secs(1), 9)
        .await
        .unwrap();
    assert_eq!(claimed.len(), 3, "their leases ended");
    assert!(
        claimed
            .iter()
            .all(|one| Arc::ptr_eq(&one.notification, &claimed[0].notification))
    );
    assert_eq!(claimed[0].notification, shared);
}

pub(crate) async fn notifications_are_read_in_one_go(bench: &Bench) {
    let of_acme = Notification {
        tenant: TenantId::parse("acme").unwrap(),
        ..(*notification("n-1")).clone()
    };
    let all = [
        notification("n-1"),
        Arc::new(of_acme),
        notification("n-2"),
        notification("n-3"),
    ];
    for (notification, endpoint) in all.iter().zip(["ep_1", "ep_2", "ep_1", "ep_1"]) {
        bench
            .store
            .record(&[new(notification, endpoint, failed(1))], at(1))
            .await
            .unwrap();
    }
    let key = |notification: &Notification| (notification.tenant.clone(), notification.id.clone());
    let asked = [&all[0], &all[1], &all[2], &all[0], &notification("n-4")].map(|it| key(it));
    let found = bench.store.notifications(&asked).await.unwrap();
    assert_eq!(found.len(), 3);
    for expected in &all[..3] {
        assert_eq!(found[&key(expected)], **expected);
    }
    assert!(bench.store.notifications(&[]).await.unwrap().is_empty());
}

pub(crate) async fn unmatched_notifications_are_seen(bench: &Bench) {
    let lonely = notification("n-1");
    for _ in 0..2 {
        bench
            .store
            .record_unmatched(&[Arc::clone(&lonely)])
            .await
            .unwrap();
    }
    let id = (lonely.tenant.clone(), lonely.id.clone());
    let known = bench
        .store
        .look_up(std::slice::from_ref(&id))
        .await
        .unwrap()
        .known;
    assert_eq!(known[&id].fan_out, 0);
    assert!(known[&id].deliveries.is_empty());
}
