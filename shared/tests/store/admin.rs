//! Migrations, keys, retention and the accounting.

use posthaste_shared::domain::id::{KeyId, NotificationId, TenantId};
use posthaste_shared::domain::key::{ApiKey, Scope};
use posthaste_shared::store::Migrated;
use posthaste_shared::store::idempotency::{Begun, IdempotencyClaim};
use posthaste_shared::store::record::Record;

use super::bench::{
    Bench, at, attempt, delivered, failed, in_flight, new, newest_version, notification, put, retry,
};

pub(crate) async fn migrating_twice_does_nothing(bench: &Bench) {
    let store = &bench.store;
    let newest = newest_version().await;
    assert_eq!(
        store.migrate().await.unwrap(),
        Migrated {
            from: newest,
            to: newest
        }
    );
    store.check_schema().await.unwrap();
    store.ping().await.unwrap();
    assert!(store.server_time().await.unwrap() > at(0));
    bench.sql("DELETE FROM _sqlx_migrations").await;
    let error = store.check_schema().await.unwrap_err();
    assert!(error.to_string().contains("posthaste migrate"), "{error}");
}

pub(crate) async fn keys_are_found_by_hash(bench: &Bench) {
    let store = &bench.store;
    let key = ApiKey {
        id: KeyId::parse("key_1").unwrap(),
        name: "ci".to_owned(),
        tenant: Some(TenantId::default()),
        scopes: vec![Scope::Enqueue, Scope::Read],
        created_at: at(1),
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    };
    store.insert_key(&key, &[7; 32]).await.unwrap();
    assert_eq!(
        store.key_by_hash(&[7; 32]).await.unwrap(),
        Some(key.clone())
    );
    assert_eq!(store.key_by_hash(&[8; 32]).await.unwrap(), None);
    assert!(store.revoke_key(&key.id, at(2)).await.unwrap());
    assert!(!store.revoke_key(&key.id, at(3)).await.unwrap());
    assert_eq!(
        store.keys().await.unwrap(),
        [ApiKey {
            revoked_at: Some(at(2)),
            ..key
        }]
    );
}

pub(crate) async fn idempotency_keys_stand_for_one_notification(bench: &Bench) {
    let store = &bench.store;
    let claim = |key: &str, fingerprint, id: &str| IdempotencyClaim {
        tenant: TenantId::default(),
        key: key.to_owned(),
        fingerprint: [fingerprint; 32],
        notification: NotificationId::parse(id).unwrap(),
        accepted_at: at(1),
    };
    let first = || (NotificationId::parse("n-1").unwrap(), at(1));
    let (notification, accepted_at) = first();
    let in_progress = Begun::InProgress {
        notification,
        accepted_at,
    };
    let claims = [
        claim("a", 1, "n-1"),
        claim("a", 1, "n-2"),
        claim("b", 1, "n-3"),
        claim("a", 2, "n-4"),
    ];
    let begun = store.begin(&claims).await.unwrap();
    assert_eq!(
        begun,
        [Begun::New, in_progress.clone(), Begun::New, Begun::Mismatch]
    );
    assert_eq!(store.begin(&claims[..1]).await.unwrap(), [in_progress]);
    store
        .finish(&[(TenantId::default(), "a".to_owned())])
        .await
        .unwrap();
    let (notification, accepted_at) = first();
    assert_eq!(
        store.begin(&claims[1..2]).await.unwrap(),
        [Begun::Done {
            notification,
            accepted_at
        }]
    );
    assert_eq!(store.begin(&[]).await.unwrap(), []);
}

pub(crate) async fn old_deliveries_are_removed(bench: &Bench) {
    let store = &bench.store;
    let both = notification("both");
    let mut batch = vec![
        Record {
            attempt: Some(attempt(1)),
            ..new(&both, "ep_1", delivered(1))
        },
        new(&both, "ep_2", retry(90)),
        new(&notification("old"), "ep_1", failed(1)),
        new(&notification("recent"), "ep_1", delivered(50)),
    ];
    batch[0].delivery.attempt_count = 1;
    for record in &mut batch[..2] {
        record.before = posthaste_shared::store::record::Before::New {
            notification: both.clone(),
            fan_out: 2,
        };
    }
    store.record(&batch, at(1)).await.unwrap();
    store
        .record_unmatched(&[notification("lonely")])
        .await
        .unwrap();
    let events = store.claim_unpublished(at(1), at(2), 9).await.unwrap();
    store.mark_published(&[events[0].id], at(1)).await.unwrap();
    let mut removed = 0;
    loop {
        match store.remove_finished(at(20), at(20), 1).await.unwrap() {
            0 => break,
            some => removed += some,
        }
    }
    // Two deliveries, one with its attempt, two notifications, an event.
    assert_eq!(removed, 5);
    assert!(
        store
            .notification(None, &notification("old").id)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        store
            .notification(None, &both.id)
            .await
            .unwrap()
            .unwrap()
            .1
            .len(),
        1
    );
    assert!(
        store
            .delivery(batch[3].delivery.id)
            .await
            .unwrap()
            .is_some()
    );
    let books = store.accounting(at(2)).await.unwrap();
    assert_eq!(
        (
            books.notifications,
            books.attempts,
            books.events,
            books.problem_count
        ),
        (2, 0, 0, 0),
        "{books:?}"
    );
}

pub(crate) async fn the_accounting_finds_what_is_wrong(bench: &Bench) {
    let store = &bench.store;
    put(store, "fine", "ep_1", failed(1)).await;
    put(store, "waiting", "ep_1", retry(1)).await;
    let books = store.accounting(at(100)).await.unwrap();
    assert_eq!(
        (books.problem_count, books.expected, books.unpublished),
        (0, 2, 1),
        "{books:?}"
    );
    assert_eq!(
        (
            books.deliveries["failed"],
            books.deliveries["pending"],
            books.deliveries["delivered"]
        ),
        (1, 1, 0)
    );

    let mut lost_event = new(&notification("event"), "ep_1", failed(1));
    lost_event.event = None;
    let mut lost_attempt = new(&notification("attempt"), "ep_1", delivered(1));
    lost_attempt.delivery.attempt_count = 1;
    let lease = new(&notification("lease"), "ep_1", in_flight(1));
    let orphan = new(&notification("orphan"), "ep_1", retry(1));
    let removed = new(&notification("removed"), "ep_1", delivered(1));
    let batch = [lost_event, lost_attempt, lease, orphan, removed];
    store.record(&batch, at(1)).await.unwrap();
    bench
        .sql("DELETE FROM notifications WHERE id = 'orphan'")
        .await;
    bench
        .sql("DELETE FROM deliveries WHERE notification_id = 'removed'")
        .await;
    let books = store.accounting(at(100)).await.unwrap();
    assert_eq!(books.problem_count, 5, "{books:#?}");
    for id in batch[..4]
        .iter()
        .map(|record| record.delivery.id.to_string())
        .chain(["default/removed".to_owned()])
    {
        assert!(
            books.problems.iter().any(|problem| problem.id == id),
            "{id}: {books:#?}"
        );
    }
    let missing = (TenantId::default(), NotificationId::parse("never").unwrap());
    let there = (TenantId::default(), NotificationId::parse("fine").unwrap());
    assert_eq!(
        store
            .missing_notifications(&[missing.clone(), there])
            .await
            .unwrap(),
        [missing]
    );
}
