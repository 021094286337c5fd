//! Sessions of the web console, and links that sign in once.

use posthaste_shared::domain::id::KeyId;
use posthaste_shared::store::console_sessions::ConsoleSession;

use super::bench::{Bench, at};

fn session() -> ConsoleSession {
    ConsoleSession {
        key_id: KeyId::parse("key_1").unwrap(),
        key_hash: [1; 32],
        look_only: true,
        created_at: at(1),
        used_at: at(1),
    }
}

pub(crate) async fn sessions_are_known_by_the_hash_of_their_id(bench: &Bench) {
    let store = &bench.store;
    let session = session();
    store
        .insert_console_session(&[7; 32], &session)
        .await
        .unwrap();
    let found = store.console_session(&[7; 32]).await.unwrap();
    assert_eq!(found.as_ref(), Some(&session));
    assert_eq!(store.console_session(&[8; 32]).await.unwrap(), None);
    // Uses that arrive in another order than they were: the later one stays.
    store.note_console_use(&[7; 32], at(5)).await.unwrap();
    store.note_console_use(&[7; 32], at(3)).await.unwrap();
    let used = store.console_session(&[7; 32]).await.unwrap().unwrap();
    assert_eq!(used.used_at, at(5));
    store.remove_old_sign_ins(at(5), at(0)).await.unwrap();
    assert!(store.console_session(&[7; 32]).await.unwrap().is_some());
    store.remove_old_sign_ins(at(6), at(0)).await.unwrap();
    assert_eq!(store.console_session(&[7; 32]).await.unwrap(), None);
    store
        .insert_console_session(&[7; 32], &session)
        .await
        .unwrap();
    store.delete_console_session(&[7; 32]).await.unwrap();
    assert_eq!(store.console_session(&[7; 32]).await.unwrap(), None);
}

pub(crate) async fn a_link_is_used_once(bench: &Bench) {
    let store = &bench.store;
    store
        .insert_console_link(&[2; 32], &[1; 32], at(10))
        .await
        .unwrap();
    assert_eq!(store.use_console_link(&[3; 32], at(0)).await.unwrap(), None);
    let late = store.use_console_link(&[2; 32], at(11)).await.unwrap();
    assert_eq!(late, None, "it is too old");
    // Of those that come at the same time, one signs in.
    let (first, second) = tokio::join!(
        store.use_console_link(&[2; 32], at(10)),
        store.use_console_link(&[2; 32], at(10)),
    );
    let mut used = [first.unwrap(), second.unwrap()];
    used.sort_unstable();
    assert_eq!(used, [None, Some([1; 32])]);
    store
        .insert_console_link(&[2; 32], &[1; 32], at(10))
        .await
        .unwrap();
    store.remove_old_sign_ins(at(0), at(11)).await.unwrap();
    assert_eq!(
        store.use_console_link(&[2; 32], at(10)).await.unwrap(),
        None
    );
}
