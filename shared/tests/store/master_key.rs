//! Which master key a store has, and changing it.

use posthaste_shared::domain::secret::Secret;
use posthaste_shared::store::cipher::CipherError;
use posthaste_shared::store::endpoints::EndpointChange;
use posthaste_shared::store::idempotent_answers::{Claimed, OnceOnly};
use posthaste_shared::store::master_key::{Pass, Renewed};
use posthaste_shared::store::{Store, StoreError, StoreOptions};

use crate::bench::{Bench, MASTER_KEY, at, endpoint, endpoint_id};

const NEW_KEY: &str = "a new master key, which is long enough";

async fn with_keys(bench: &Bench, key: Option<&str>, previous: Option<&str>) -> Store {
    let master_key = key.map(Secret::new);
    let previous_master_key = previous.map(Secret::new);
    Store::connect(&StoreOptions {
        master_key,
        previous_master_key,
        ..bench.options.clone()
    })
    .await
    .unwrap()
}

#[track_caller]
fn refused(result: Result<(), StoreError>) {
    assert!(
        matches!(result, Err(StoreError::Cipher(CipherError::NotOfStore))),
        "{result:?}"
    );
}

pub(crate) async fn another_master_key_is_refused(bench: &Bench) {
    assert!(!bench.store.needs_master_key().await.unwrap());
    bench.store.check_master_key().await.unwrap();
    assert!(bench.another().await.needs_master_key().await.unwrap());
    bench.another().await.check_master_key().await.unwrap();
    refused(
        with_keys(bench, Some(NEW_KEY), None)
            .await
            .check_master_key()
            .await,
    );
    with_keys(bench, None, None)
        .await
        .check_master_key()
        .await
        .unwrap();
    with_keys(bench, Some(NEW_KEY), Some(MASTER_KEY))
        .await
        .check_master_key()
        .await
        .unwrap();
}

pub(crate) async fn a_store_of_an_older_version_has_the_key_of_its_endpoints(bench: &Bench) {
    // The first was deleted, and has no secrets.
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_0")).await.unwrap();
    assert!(
        store
            .delete_endpoint(&endpoint_id("ep_0"), None, at(1))
            .await
            .unwrap()
    );
    bench
        .store
        .insert_endpoint(&endpoint("ep_1"))
        .await
        .unwrap();
    refused(
        with_keys(bench, Some(NEW_KEY), None)
            .await
            .check_master_key()
            .await,
    );
    // A process with both finds out which one it is, and writes what the others can read.
    let both = with_keys(bench, Some(NEW_KEY), Some(MASTER_KEY)).await;
    both.check_master_key().await.unwrap();
    both.insert_endpoint(&endpoint("ep_2")).await.unwrap();
    bench.store.check_master_key().await.unwrap();
    assert!(
        bench
            .store
            .endpoint(&endpoint_id("ep_2"))
            .await
            .unwrap()
            .is_some()
    );
}

async fn pass(store: &Store) -> Renewed {
    let mut pass = Pass::default();
    while !store.renew_step(&mut pass).await.unwrap() {}
    pass.done
}

pub(crate) async fn the_key_is_changed_while_others_write(bench: &Bench) {
    let old = &bench.store;
    old.check_master_key().await.unwrap();
    let once = OnceOnly {
        caller: "c".to_owned(),
        name: "n".to_owned(),
        fingerprint: [7; 32],
    };
    assert_eq!(
        old.claim_request(&once, at(0), at(0)).await.unwrap(),
        Claimed::New
    );
    old.keep_answer(&once, b"secret").await.unwrap();
    for number in 0..450 {
        old.insert_endpoint(&endpoint(&format!("ep_{number}")))
            .await
            .unwrap();
    }
    let first = with_keys(bench, Some(NEW_KEY), Some(MASTER_KEY)).await;
    let second = with_keys(bench, Some(NEW_KEY), Some(MASTER_KEY)).await;
    first.check_master_key().await.unwrap();
    second.check_master_key().await.unwrap();
    first.insert_endpoint(&endpoint("ep_before")).await.unwrap();
    assert!(
        old.endpoint(&endpoint_id("ep_before"))
            .await
            .unwrap()
            .is_some(),
        "all write what all can read"
    );

    second.begin_with_configured_key().await.unwrap();
    // Interrupted after a step, and begun again.
    assert!(!second.renew_step(&mut Pass::default()).await.unwrap());
    let done = pass(&second).await;
    assert_eq!(
        (done.renewed["endpoints"], done.renewed["answers"]),
        (451 - 200, 1),
        "{done:?}"
    );
    assert_eq!((done.looked_at, done.unreadable), (452, 0));

    // A process that does not know yet writes with the old key, for two seconds at most; the next
    // pass finds it.
    first
        .insert_endpoint(&endpoint("ep_between"))
        .await
        .unwrap();
    tokio::time::sleep(posthaste_shared::store::master_key::LOOK_EVERY).await;
    first.insert_endpoint(&endpoint("ep_after")).await.unwrap();
    pass(&second).await;
    assert_eq!(pass(&second).await.renewed.len(), 0);

    let new = with_keys(bench, Some(NEW_KEY), None).await;
    new.check_master_key().await.unwrap();
    refused(old.check_master_key().await);
    let readable = new.endpoint_changes(0).await.unwrap();
    let readable = readable
        .changes
        .iter()
        .filter(|change| matches!(change, EndpointChange::Saved(_)))
        .count();
    assert_eq!(readable, 453);
    for id in ["ep_0", "ep_before", "ep_between", "ep_after"] {
        assert!(
            new.endpoint(&endpoint_id(id)).await.unwrap().is_some(),
            "{id}"
        );
    }
    assert_eq!(
        new.claim_request(&once, at(1), at(0)).await.unwrap(),
        Claimed::Done(b"secret".to_vec())
    );
}
