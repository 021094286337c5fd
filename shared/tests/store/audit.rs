//! Who did what, and which types there were.

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::domain::audit::{Act, Action};
use posthaste_shared::domain::id::{KeyId, NotificationType, TenantId};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::store::audit::AuditFilter;
use posthaste_shared::store::deliveries::Cancelled;
use posthaste_shared::store::page::PageRequest;

use super::bench::{Bench, at, delivered, notification, put, put_as, retry};

fn act(action: Action, object: &str, seconds: i64) -> Act {
    Act {
        action,
        key_id: KeyId::parse("key_1").unwrap(),
        key_name: "ops".to_owned(),
        object: Some(object.to_owned()),
        tenant: Some(TenantId::default()),
        request_id: Some("r-1".to_owned()),
        at: at(seconds),
    }
}

async fn listed(bench: &Bench, filter: &AuditFilter) -> Vec<(Action, Option<String>)> {
    let page = bench.store.audit(filter, &PageRequest::default()).await;
    let items = page.unwrap().items.into_iter();
    items.map(|entry| (entry.action, entry.object)).collect()
}

pub(crate) async fn what_was_done_is_there_with_who_did_it(bench: &Bench) {
    let store = &bench.store;
    let delivery = put(store, "n-1", "ep_1", retry(60)).await.id;
    let name = delivery.to_string();
    let done = store.for_act(act(Action::DeliveryCancel, &name, 2));
    assert_eq!(done.cancel(delivery, at(2)).await.unwrap(), Cancelled::Done);
    // The second does nothing, so nothing is written.
    done.cancel(delivery, at(2)).await.unwrap();
    // Without an act, as a worker does it.
    store.retry_now(delivery, at(3)).await.unwrap();
    let sent = act(Action::EndpointTest, "ep_1", 4);
    store.note_act(&sent).await.unwrap();
    let all = listed(bench, &AuditFilter::default()).await;
    let cancelled = (Action::DeliveryCancel, Some(name.clone()));
    let tested = (Action::EndpointTest, Some("ep_1".to_owned()));
    assert_eq!(all, [tested.clone(), cancelled.clone()]);
    let of = |object: &str| AuditFilter {
        object: Some(object.to_owned()),
        ..AuditFilter::default()
    };
    assert_eq!(listed(bench, &of(&name)).await, [cancelled]);
    let others = AuditFilter {
        key_id: Some(KeyId::parse("key_2").unwrap()),
        ..AuditFilter::default()
    };
    assert!(listed(bench, &others).await.is_empty());
    let later = AuditFilter {
        since: Some(at(3)),
        action: Some(Action::EndpointTest),
        tenant: Some(TenantId::default()),
        ..AuditFilter::default()
    };
    assert_eq!(listed(bench, &later).await, [tested]);
    let entry = store.audit(&of("ep_1"), &PageRequest::default()).await;
    let entry = entry.unwrap().items.remove(0);
    assert_eq!(
        (entry.key_name.as_str(), entry.request_id.as_deref()),
        ("ops", Some("r-1"))
    );
}

pub(crate) async fn a_change_that_is_refused_leaves_no_trace(bench: &Bench) {
    let store = &bench.store;
    let delivery = put(store, "n-1", "ep_1", retry(60)).await.id;
    // What cannot be written takes the change with it: both, or none.
    let mut wrong = act(Action::DeliveryCancel, "x", 2);
    bench.sql("DROP TABLE audit").await;
    wrong.object = None;
    let done = store.for_act(wrong);
    done.cancel(delivery, at(2)).await.unwrap_err();
    let (found, _) = store.delivery(delivery).await.unwrap().unwrap();
    assert_eq!(found.state, retry(60));
}

pub(crate) async fn the_audit_is_paged_and_kept_longer(bench: &Bench) {
    let store = &bench.store;
    for second in 1..=5 {
        let act = act(Action::EndpointTest, "ep_1", second);
        store.note_act(&act).await.unwrap();
    }
    let mut page = PageRequest {
        limit: 2,
        cursor: None,
    };
    let mut seen = Vec::new();
    loop {
        let found = store.audit(&AuditFilter::default(), &page).await.unwrap();
        seen.extend(found.items.iter().map(|entry| entry.at));
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1].map(at));
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let before = at(3).after(days(90));
    store.remove_finished(at(9), at(9), 9).await.unwrap();
    assert_eq!(listed(bench, &AuditFilter::default()).await.len(), 5);
    assert_eq!(store.remove_finished(before, at(9), 9).await.unwrap(), 2);
    assert_eq!(listed(bench, &AuditFilter::default()).await.len(), 3);
}

pub(crate) async fn the_types_that_there_were_are_told(bench: &Bench) {
    let store = &bench.store;
    assert!(store.delivery_types(None, 9).await.unwrap().is_empty());
    for (at, kind) in ["b.two", "a.one", "b.two", "c.three"].iter().enumerate() {
        let sent = Arc::new(Notification {
            kind: NotificationType::parse(kind).unwrap(),
            ..(*notification(&format!("n-{at}"))).clone()
        });
        put_as(store, sent, "ep_1", delivered(1)).await;
    }
    let names = async |tenant: Option<TenantId>, most: u32| {
        let types = store.delivery_types(tenant.as_ref(), most).await.unwrap();
        let names = types.iter().map(|kind| kind.as_str().to_owned());
        names.collect::<Vec<String>>()
    };
    assert_eq!(names(None, 9).await, ["a.one", "b.two", "c.three"]);
    assert_eq!(names(None, 2).await, ["a.one", "b.two"]);
    let own = Some(TenantId::default());
    assert_eq!(names(own, 9).await, ["a.one", "b.two", "c.three"]);
    let other = Some(TenantId::parse("other").unwrap());
    assert!(names(other, 9).await.is_empty());
}
