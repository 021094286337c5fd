//! Endpoints and their secrets.

use posthaste_shared::domain::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use posthaste_shared::domain::event::Event;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::store::cipher::CipherError;
use posthaste_shared::store::endpoints::{EndpointChange, EndpointFilter, Saved};
use posthaste_shared::store::page::PageRequest;
use posthaste_shared::store::{Store, StoreError, StoreOptions};

use super::bench::{Bench, at, endpoint, endpoint_id};

pub(crate) async fn an_endpoint_reads_back_and_is_locked_optimistically(bench: &Bench) {
    let store = &bench.store;
    let saved = store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    assert_eq!(
        store.endpoint(&saved.id).await.unwrap().as_ref(),
        Some(&saved)
    );
    let twice = store.insert_endpoint(&endpoint("ep_1")).await;
    assert!(matches!(twice, Err(StoreError::Taken { table: "endpoints", id }) if id == "ep_1"));
    let disabled = Endpoint {
        status: EndpointStatus::Disabled(DisabledReason::Manual),
        ..saved.clone()
    };
    let event = Event::of_endpoint(&disabled, at(2));
    let Saved::Saved(changed) = store
        .update_endpoint(&disabled, Some(&event))
        .await
        .unwrap()
    else {
        panic!()
    };
    assert!(changed.version > saved.version);
    assert_eq!(
        store.endpoint(&saved.id).await.unwrap(),
        Some(changed.clone())
    );
    assert_eq!(store.outbox_pending().await.unwrap(), 1);
    assert!(matches!(
        store
            .update_endpoint(&disabled, Some(&event))
            .await
            .unwrap(),
        Saved::Conflict
    ));
    assert_eq!(store.endpoint_counts().await.unwrap(), (0, 1));
    assert!(store.delete_endpoint(&saved.id, None, at(3)).await.unwrap());
    assert!(!store.delete_endpoint(&saved.id, None, at(4)).await.unwrap());
    assert!(matches!(
        store.update_endpoint(&changed, None).await.unwrap(),
        Saved::NotFound
    ));
    assert!(store.endpoint(&saved.id).await.unwrap().is_none());
}

pub(crate) async fn changes_are_followed(bench: &Bench) {
    let store = &bench.store;
    let nothing = store.endpoint_changes(0).await.unwrap();
    assert_eq!((nothing.version, nothing.changes.len()), (0, 0));
    let one = store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    let two = store.insert_endpoint(&endpoint("ep_2")).await.unwrap();
    let all = store.endpoint_changes(0).await.unwrap();
    assert_eq!((all.version, all.changes.len()), (two.version, 2));
    store.delete_endpoint(&one.id, None, at(1)).await.unwrap();
    let since = store.endpoint_changes(all.version).await.unwrap();
    assert!(matches!(&since.changes[..], [EndpointChange::Deleted(id)] if *id == one.id));
    assert_eq!(store.endpoints_version().await.unwrap(), since.version);
    assert_eq!(
        store.look_up(&[]).await.unwrap().endpoints_version,
        since.version
    );
    assert!(
        store
            .endpoint_changes(since.version)
            .await
            .unwrap()
            .changes
            .is_empty()
    );
}

pub(crate) async fn secrets_are_encrypted_where_they_lie(bench: &Bench) {
    let store = &bench.store;
    let saved = store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    for plain in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "tok_plain"] {
        match &bench.file {
            Some(file) => {
                for path in [file.clone(), file.with_extension("db-wal")] {
                    let bytes = std::fs::read(path).unwrap();
                    assert!(
                        !bytes
                            .windows(plain.len())
                            .any(|window| window == plain.as_bytes())
                    );
                }
            }
            None => {
                let row = bench
                    .sql("SELECT row_to_json(e)::text FROM endpoints e")
                    .await
                    .remove(0);
                let hex: String = plain.bytes().map(|byte| format!("{byte:02x}")).collect();
                assert!(row.contains("ep_1") && !row.contains(plain) && !row.contains(&hex));
            }
        }
    }
    let with_key = async |master_key| {
        Store::connect(&StoreOptions {
            master_key,
            ..bench.options.clone()
        })
        .await
        .unwrap()
    };
    let wrong = with_key(Some(Secret::new("another master key, which is long too"))).await;
    let error = wrong.endpoint(&saved.id).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Cipher(CipherError::WrongKey { .. })),
        "{error}"
    );
    assert!(
        error.to_string().contains("ep_1") && error.to_string().contains("POSTHASTE_MASTER_KEY"),
        "{error}"
    );
    let none = with_key(None).await;
    assert!(matches!(
        none.endpoint(&saved.id).await,
        Err(StoreError::Cipher(CipherError::NoKey))
    ));
    let short = StoreOptions {
        master_key: Some(Secret::new("short")),
        ..bench.options.clone()
    };
    assert!(matches!(
        Store::connect(&short).await,
        Err(StoreError::Cipher(CipherError::ShortKey { .. }))
    ));
}

pub(crate) async fn endpoints_are_paged(bench: &Bench) {
    let store = &bench.store;
    for n in 0..7 {
        let made = Endpoint {
            created_at: at(n / 2),
            ..endpoint(&format!("ep_{n}"))
        };
        store.insert_endpoint(&made).await.unwrap();
    }
    store
        .delete_endpoint(&endpoint_id("ep_3"), None, at(9))
        .await
        .unwrap();
    let mut page = PageRequest {
        limit: 4,
        cursor: None,
    };
    let first = store
        .endpoints(&EndpointFilter::default(), &page)
        .await
        .unwrap();
    page.cursor = first.next_cursor;
    let second = store
        .endpoints(&EndpointFilter::default(), &page)
        .await
        .unwrap();
    let names: Vec<_> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|it| it.id.as_str())
        .collect();
    assert_eq!(names, ["ep_0", "ep_1", "ep_2", "ep_4", "ep_5", "ep_6"]);
    assert!(second.next_cursor.is_none());
    let disabled = EndpointFilter {
        enabled: Some(false),
        ..EndpointFilter::default()
    };
    assert!(
        store
            .endpoints(&disabled, &PageRequest::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

pub(crate) async fn endpoints_that_only_fail_are_disabled(bench: &Bench) {
    let store = &bench.store;
    for name in ["ep_1", "ep_2", "ep_3"] {
        store.insert_endpoint(&endpoint(name)).await.unwrap();
    }
    let [one, two, three] = ["ep_1", "ep_2", "ep_3"].map(endpoint_id);
    let all = [one.clone(), two.clone(), three.clone()];
    store
        .note_health(
            &[
                (one.clone(), at(1)),
                (two.clone(), at(1)),
                (three.clone(), at(9)),
            ],
            &[],
        )
        .await
        .unwrap();
    store
        .note_health(&[(one.clone(), at(5))], std::slice::from_ref(&two))
        .await
        .unwrap();
    assert!(
        store
            .disable_failing(at(0), &all, at(10))
            .await
            .unwrap()
            .is_empty()
    );
    let quiet = store
        .disable_failing(at(2), &[two.clone(), three.clone()], at(10))
        .await
        .unwrap();
    assert!(quiet.is_empty(), "one that was not called since it failed");
    assert!(
        store
            .disable_failing(at(2), &[], at(10))
            .await
            .unwrap()
            .is_empty()
    );
    let disabled = store.disable_failing(at(2), &all, at(10)).await.unwrap();
    assert_eq!(
        disabled.iter().map(|it| &it.id).collect::<Vec<_>>(),
        [&one],
        "the first failure counts"
    );
    assert_eq!(
        disabled[0].status,
        EndpointStatus::Disabled(DisabledReason::Failing)
    );
    assert_eq!(
        store.endpoint(&one).await.unwrap().as_ref(),
        Some(&disabled[0])
    );
    assert_eq!(store.outbox_pending().await.unwrap(), 1);
    assert!(
        store
            .disable_failing(at(2), &all, at(11))
            .await
            .unwrap()
            .is_empty()
    );
}
