//! What this program cannot read, such as the rows of a newer version, holds up nobody else.

use posthaste_shared::domain::delivery::Status;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::store::deliveries::DeliveryFilter;
use posthaste_shared::store::endpoints::{EndpointChange, EndpointChanges, EndpointFilter};
use posthaste_shared::store::page::PageRequest;
use posthaste_shared::store::record::Record;
use posthaste_shared::store::replays::ReplayState;
use posthaste_shared::store::{Store, StoreOptions};

use super::bench::{
    Bench, MARGIN, at, attempt, endpoint, endpoint_id, expiring, failed, new, notification, parked,
    put, put_as, retry,
};

/// Makes the deliveries of `bad…` such that only a newer version can read them.
async fn spoil(bench: &Bench) {
    bench
        .sql(
            "UPDATE deliveries SET wire_format = 'of_the_future' WHERE notification_id LIKE 'bad%'",
        )
        .await;
}

async fn mend(bench: &Bench) {
    bench
        .sql("UPDATE deliveries SET wire_format = 'standard'")
        .await;
}

pub(crate) async fn what_is_due_behind_unreadable_deliveries_is_claimed(bench: &Bench) {
    let store = &bench.store;
    for n in 0..20 {
        put(store, &format!("bad-{n}"), "ep_1", retry(1)).await;
    }
    for n in 0..3 {
        put(store, &format!("good-{n}"), "ep_1", retry(2)).await;
    }
    put(store, "payload", "ep_1", retry(1)).await;
    spoil(bench).await;
    bench
        .sql(
            "UPDATE notifications SET priority = 'high', origin = 'event', target = '' WHERE id \
               = 'payload'",
        )
        .await;
    let claimed = store.claim_due(at(3), MARGIN, 2).await.unwrap();
    assert_eq!(claimed.len(), 2);
    assert!(
        claimed
            .iter()
            .all(|it| it.notification.id.as_str().starts_with("good"))
    );
    assert_eq!(store.claim_due(at(3), MARGIN, 2).await.unwrap().len(), 1);
    assert_eq!(
        store.next_due().await.unwrap(),
        Some(at(63)),
        "they are looked at again in a minute"
    );
    assert!(store.claim_due(at(63), MARGIN, 9).await.unwrap().is_empty());
    mend(bench).await;
    assert_eq!(
        store.claim_due(at(123), MARGIN, 99).await.unwrap().len(),
        23,
        "nothing is lost"
    );
}

pub(crate) async fn what_is_parked_behind_unreadable_deliveries_is_claimed(bench: &Bench) {
    let store = &bench.store;
    for n in 0..5 {
        put(store, &format!("bad-{n}"), "ep_1", parked()).await;
    }
    put(store, "good", "ep_1", parked()).await;
    spoil(bench).await;
    let claimed = store
        .claim_parked(&[(endpoint_id("ep_1"), 1)], at(3), MARGIN)
        .await
        .unwrap();
    assert_eq!(
        claimed
            .iter()
            .map(|it| it.notification.id.as_str())
            .collect::<Vec<_>>(),
        ["good"]
    );
    assert!(
        store
            .claim_parked(&[(endpoint_id("ep_1"), 9)], at(3), MARGIN)
            .await
            .unwrap()
            .is_empty()
    );
    mend(bench).await;
    assert!(
        !store
            .claim_due(at(63), MARGIN, 99)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn what_expires_behind_unreadable_deliveries_expires(bench: &Bench) {
    let store = &bench.store;
    for n in 0..5 {
        put_as(store, expiring(&format!("bad-{n}"), 2), "ep_1", retry(9)).await;
    }
    let mut tried = Record {
        attempt: Some(attempt(1)),
        ..new(&expiring("good", 3), "ep_1", parked())
    };
    tried.delivery.attempt_count = 1;
    store.record(&[tried], at(0)).await.unwrap();
    bench
        .sql("UPDATE attempts SET result = 'of_the_future'")
        .await;
    spoil(bench).await;
    let expired = store.expire_due(at(4), 2).await.unwrap();
    assert_eq!(
        expired
            .iter()
            .map(|it| it.notification_id.as_str())
            .collect::<Vec<_>>(),
        ["good"]
    );
    assert_eq!(
        store.outbox_pending().await.unwrap(),
        1,
        "its event is kept, though without the attempt"
    );
    assert!(store.expire_due(at(4), 9).await.unwrap().is_empty());
    assert_eq!(
        store.next_due().await.unwrap(),
        Some(at(64)),
        "they are looked at again in a minute"
    );
    mend(bench).await;
    assert_eq!(store.expire_due(at(64), 9).await.unwrap().len(), 5);
}

pub(crate) async fn orphans_behind_unreadable_ones_fail(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    for id in ["bad-1", "bad-2", "bad-3", "good"] {
        put(store, id, "ep_1", parked()).await;
    }
    spoil(bench).await;
    store
        .delete_endpoint(&endpoint_id("ep_1"), None, at(1))
        .await
        .unwrap();
    let failed = store.fail_orphans(at(2), 1).await.unwrap();
    assert_eq!(
        failed
            .iter()
            .map(|it| it.notification_id.as_str())
            .collect::<Vec<_>>(),
        ["good"]
    );
    assert!(store.fail_orphans(at(2), 9).await.unwrap().is_empty());
    mend(bench).await;
    assert_eq!(store.fail_orphans(at(62), 9).await.unwrap().len(), 3);
}

pub(crate) async fn a_replay_passes_over_what_it_cannot_read(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    for id in ["bad-1", "good-1", "bad-2", "good-2", "bad-3"] {
        put(store, id, "ep_1", failed(1)).await;
    }
    spoil(bench).await;
    let filter = DeliveryFilter {
        status: Status::Failed.into(),
        ..DeliveryFilter::default()
    };
    let unreadable = store.create_replay(&filter, at(9)).await.unwrap();
    bench.sql("UPDATE replays SET filter = '7'").await;
    let replay = store.create_replay(&filter, at(10)).await.unwrap();
    while let Some(step) = store.step_replay(at(11), 1).await.unwrap() {
        assert_ne!(step.id, unreadable.id);
    }
    let done = store.replay(replay.id).await.unwrap().unwrap();
    assert_eq!(
        (done.state, done.matched, done.replayed, done.skipped),
        (ReplayState::Done, 5, 2, 3)
    );
}

/// The ids that can be read, and those that cannot.
fn sorted(changes: &EndpointChanges) -> (Vec<&str>, Vec<&str>) {
    let mut saved = Vec::new();
    let mut unreadable = Vec::new();
    for change in &changes.changes {
        match change {
            EndpointChange::Saved(endpoint) => saved.push(endpoint.id.as_str()),
            EndpointChange::Unreadable(id) => unreadable.push(id.as_str()),
            EndpointChange::Deleted(id) => panic!("{id} is not deleted"),
        }
    }
    (saved, unreadable)
}

pub(crate) async fn an_unreadable_endpoint_leaves_the_others_usable(bench: &Bench) {
    let store = &bench.store;
    let with_key = async |master_key| {
        Store::connect(&StoreOptions {
            master_key,
            ..bench.options.clone()
        })
        .await
        .unwrap()
    };
    let other = with_key(Some(Secret::new("another master key, which is long too"))).await;
    let none = with_key(None).await;
    let first = store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    other.insert_endpoint(&endpoint("ep_2")).await.unwrap();
    let last = store.insert_endpoint(&endpoint("ep_3")).await.unwrap();
    bench
        .sql("UPDATE endpoints SET wire_format = 'of_the_future' WHERE id = 'ep_3'")
        .await;

    let changes = store.endpoint_changes(0).await.unwrap();
    assert_eq!(sorted(&changes), (vec!["ep_1"], vec!["ep_2", "ep_3"]));
    assert_eq!(changes.version, last.version);
    assert_eq!(
        sorted(&other.endpoint_changes(0).await.unwrap()),
        (vec!["ep_2"], vec!["ep_1", "ep_3"])
    );
    let changes = none.endpoint_changes(0).await.unwrap();
    assert_eq!(sorted(&changes), (vec![], vec!["ep_1", "ep_2", "ep_3"]));
    assert!(store.endpoint(&endpoint_id("ep_2")).await.is_err());
    // One that cannot be read fails no list.
    let listed = store
        .endpoints(&EndpointFilter::default(), &PageRequest::default())
        .await
        .unwrap();
    assert_eq!(
        listed
            .items
            .iter()
            .map(|it| it.id.as_str())
            .collect::<Vec<_>>(),
        ["ep_1"]
    );
    // Nor does it end one: pages of nothing else lead on, too.
    let mut page = PageRequest {
        limit: 1,
        cursor: None,
    };
    let mut pages = Vec::new();
    loop {
        let found = other.endpoints(&EndpointFilter::default(), &page).await;
        let found = found.unwrap();
        pages.push(found.items.len());
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, [0, 1, 0]);

    let all = ["ep_1", "ep_2", "ep_3"].map(endpoint_id);
    store
        .note_health(&all.clone().map(|id| (id, at(1))), &[])
        .await
        .unwrap();
    let disabled = store.disable_failing(at(2), &all, at(3)).await.unwrap();
    assert_eq!(
        disabled.iter().map(|it| &it.id).collect::<Vec<_>>(),
        [&first.id]
    );
    put(store, notification("n").id.as_str(), "ep_2", retry(1)).await;
    let claimed = store.claim_due(at(2), MARGIN, 9).await.unwrap();
    assert_eq!(
        claimed[0].lease_until,
        at(17),
        "its timeout is known all the same"
    );
}
