//! Lists and their filters, and the indexes that answer them.

use std::sync::Arc;

use posthaste_shared::domain::delivery::{FailureReason, Hold, Status};
use posthaste_shared::domain::event::{Event, EventType};
use posthaste_shared::domain::id::{DeliveryId, NotificationId, NotificationType, TenantId};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::store::deliveries::DeliveryFilter;
use posthaste_shared::store::events::EventFilter;
use posthaste_shared::store::idempotent_answers::{Claimed, OnceOnly};
use posthaste_shared::store::notification_list::NotificationFilter;
use posthaste_shared::store::page::{Cursor, PageRequest};
use posthaste_shared::store::record::Record;
use posthaste_shared::store::several::{Several, StatusCode};
use posthaste_shared::store::{DatabaseKind, Store};

use super::bench::{
    Bench, at, attempt, delivered, endpoint_id, expiring, failed, new, notification, parked, put,
    retry,
};

async fn all(store: &Store, filter: &DeliveryFilter, limit: u32) -> Vec<DeliveryId> {
    let mut page = PageRequest {
        limit,
        cursor: None,
    };
    let mut found = Vec::new();
    loop {
        let part = store.deliveries(filter, &page).await.unwrap();
        assert!(part.items.len() <= limit as usize);
        found.extend(part.items.iter().map(|delivery| delivery.id));
        match part.next_cursor {
            Some(cursor) => page.cursor = Some(cursor),
            None => return found,
        }
    }
}

pub(crate) async fn pending_deliveries_are_counted_up_to_a_limit(bench: &Bench) {
    let store = &bench.store;
    for n in 0..5 {
        put(store, &format!("n-{n}"), "ep_1", retry(9)).await;
    }
    put(store, "finished", "ep_1", failed(9)).await;
    let tenant = notification("n-0").tenant.clone();
    assert_eq!(store.pending_deliveries(&tenant, 100).await.unwrap(), 5);
    assert_eq!(store.pending_deliveries(&tenant, 3).await.unwrap(), 3);
    let other = TenantId::parse("other").unwrap();
    assert_eq!(store.pending_deliveries(&other, 100).await.unwrap(), 0);
}

pub(crate) async fn deliveries_are_paged_and_filtered(bench: &Bench) {
    let store = &bench.store;
    let record = |n: i64| {
        let made = Notification {
            accepted_at: at(n / 3),
            tenant: TenantId::parse(if n % 2 == 0 { "even" } else { "odd" }).unwrap(),
            kind: NotificationType::parse(if n % 5 == 0 { "five" } else { "other" }).unwrap(),
            ..(*notification(&format!("n-{n}"))).clone()
        };
        let endpoint = if n % 10 == 0 { "ep_ten" } else { "ep_1" };
        if n % 4 != 0 {
            return new(&Arc::new(made), endpoint, delivered(9));
        }
        let mut record = new(&Arc::new(made), endpoint, failed(9));
        record.delivery.attempt_count = 1;
        record.attempt = Some(attempt(1));
        record
    };
    let batch: Vec<Record> = (0..1000).map(record).collect();
    store.record(&batch, at(9)).await.unwrap();
    let none = DeliveryFilter::default();
    let everything = all(store, &none, 77).await;
    assert_eq!(everything.len(), 1000);
    let mut expected: Vec<_> = batch
        .iter()
        .map(|it| (it.delivery.created_at, it.delivery.id))
        .collect();
    expected.sort_by(|a, b| b.cmp(a));
    assert_eq!(
        everything,
        expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    );
    let tenant = Some(TenantId::parse("even").unwrap());
    let status = || Several::from(Status::Failed);
    let endpoint = || Several::from(endpoint_id("ep_ten"));
    let code = |text: &str| text.parse::<StatusCode>().unwrap();
    let kind = |name: &str| NotificationType::parse(name).unwrap();
    for (filter, count) in [
        (
            DeliveryFilter {
                tenant: tenant.clone(),
                ..none.clone()
            },
            500,
        ),
        (
            DeliveryFilter {
                status: status(),
                ..none.clone()
            },
            250,
        ),
        (
            DeliveryFilter {
                status: Status::Delivered.into(),
                tenant: tenant.clone(),
                ..none.clone()
            },
            250,
        ),
        (
            DeliveryFilter {
                status: status(),
                tenant,
                ..none.clone()
            },
            250,
        ),
        (
            DeliveryFilter {
                status: vec![Status::Failed, Status::Delivered].into(),
                ..none.clone()
            },
            1000,
        ),
        (
            DeliveryFilter {
                status: vec![Status::Failed, Status::Expired].into(),
                ..none.clone()
            },
            250,
        ),
        (
            DeliveryFilter {
                endpoint_id: endpoint(),
                ..none.clone()
            },
            100,
        ),
        (
            DeliveryFilter {
                endpoint_id: vec![endpoint_id("ep_ten"), endpoint_id("ep_1")].into(),
                ..none.clone()
            },
            1000,
        ),
        (
            DeliveryFilter {
                endpoint_id: endpoint(),
                status: status(),
                ..none.clone()
            },
            50,
        ),
        (
            DeliveryFilter {
                kind: kind("five").into(),
                ..none.clone()
            },
            200,
        ),
        (
            DeliveryFilter {
                kind: vec![kind("five"), kind("other")].into(),
                ..none.clone()
            },
            1000,
        ),
        (
            DeliveryFilter {
                reason: FailureReason::RetriesExhausted.into(),
                ..none.clone()
            },
            250,
        ),
        (
            DeliveryFilter {
                reason: FailureReason::Gone.into(),
                ..none.clone()
            },
            0,
        ),
        (
            DeliveryFilter {
                reason: FailureReason::RetriesExhausted.into(),
                status: Status::Delivered.into(),
                ..none.clone()
            },
            0,
        ),
        (
            DeliveryFilter {
                hold: Hold::RateLimit.into(),
                ..none.clone()
            },
            0,
        ),
        (
            DeliveryFilter {
                status_code: code("503").into(),
                ..none.clone()
            },
            250,
        ),
        (
            DeliveryFilter {
                status_code: vec![code("404"), code("503")].into(),
                ..none.clone()
            },
            250,
        ),
        (
            DeliveryFilter {
                status_code: code("404").into(),
                ..none.clone()
            },
            0,
        ),
        (
            DeliveryFilter {
                notification_id: NotificationId::parse("n-7").ok(),
                ..none.clone()
            },
            1,
        ),
        (
            DeliveryFilter {
                since: Some(at(100)),
                until: Some(at(101)),
                ..none.clone()
            },
            3,
        ),
    ] {
        assert_eq!(all(store, &filter, 100).await.len(), count, "{filter:?}");
    }
}

pub(crate) async fn notifications_are_paged_and_filtered(bench: &Bench) {
    let store = &bench.store;
    for n in 0..6 {
        put(store, &format!("wanted-{n}"), "ep_1", delivered(n + 1)).await;
    }
    for n in 0..4 {
        let lonely = Notification {
            accepted_at: at(n),
            ..(*notification(&format!("lonely-{n}"))).clone()
        };
        store.record_unmatched(&[Arc::new(lonely)]).await.unwrap();
    }
    let listed = async |unmatched: Option<bool>, limit: u32| {
        let filter = NotificationFilter {
            unmatched,
            ..NotificationFilter::default()
        };
        let mut page = PageRequest {
            limit,
            cursor: None,
        };
        let mut found = Vec::new();
        loop {
            let part = store.list_notifications(&filter, &page).await.unwrap();
            found.extend(
                part.items
                    .into_iter()
                    .map(|it| (it.notification.id.to_string(), it.fan_out)),
            );
            match part.next_cursor {
                Some(cursor) => page.cursor = Some(Cursor::parse(&cursor.encode()).unwrap()),
                None => return found,
            }
        }
    };
    assert_eq!(listed(None, 3).await.len(), 10);
    let lonely = listed(Some(true), 1).await;
    let expected: Vec<_> = (0..4).rev().map(|n| (format!("lonely-{n}"), 0)).collect();
    assert_eq!(lonely, expected);
    let wanted = listed(Some(false), 500).await;
    assert!(
        wanted.len() == 6
            && wanted
                .iter()
                .all(|(id, fan_out)| id.starts_with("wanted-") && *fan_out == 1)
    );
}

pub(crate) async fn a_request_is_claimed_once(bench: &Bench) {
    let store = &bench.store;
    let request = OnceOnly {
        caller: "key_1".to_owned(),
        name: "a".to_owned(),
        fingerprint: [1; 32],
    };
    let claim = async |request: &OnceOnly, now| {
        store
            .claim_request(request, at(now), at(now - 100))
            .await
            .unwrap()
    };
    assert_eq!(claim(&request, 0).await, Claimed::New);
    assert_eq!(claim(&request, 50).await, Claimed::UnderWay);
    let other = OnceOnly {
        fingerprint: [2; 32],
        ..request.clone()
    };
    assert_eq!(claim(&other, 500).await, Claimed::Mismatch);
    assert_eq!(
        claim(&request, 500).await,
        Claimed::New,
        "whoever claimed it is gone"
    );
    store.forget_request(&request).await.unwrap();
    assert_eq!(claim(&request, 501).await, Claimed::New, "it was refused");
    store.keep_answer(&request, b"made").await.unwrap();
    assert_eq!(
        claim(&request, 9_000).await,
        Claimed::Done(b"made".to_vec())
    );
    let another = OnceOnly {
        caller: "key_2".to_owned(),
        ..request.clone()
    };
    assert_eq!(claim(&another, 1).await, Claimed::New);
    assert!(store.remove_finished(at(1), at(9_999), 100).await.unwrap() >= 2);
    assert_eq!(claim(&request, 9_999).await, Claimed::New);
}

pub(crate) async fn events_are_published_once_and_streamed_in_order(bench: &Bench) {
    let store = &bench.store;
    for n in 1..=5 {
        put(store, &format!("n-{n}"), "ep_1", failed(n)).await;
    }
    let another = bench.another().await;
    let first = store.claim_unpublished(at(10), at(20), 3).await.unwrap();
    let second = another.claim_unpublished(at(10), at(20), 3).await.unwrap();
    assert_eq!((first.len(), second.len()), (3, 2));
    assert!(
        first.iter().zip(1..).all(|(event, n)| event.at == at(n)),
        "the oldest first"
    );
    let ids: Vec<_> = first.iter().map(|event| event.id).collect();
    store.mark_published(&ids, at(11)).await.unwrap();
    store.mark_published(&ids, at(12)).await.unwrap();
    assert_eq!(store.outbox_pending().await.unwrap(), 2);
    assert_eq!(store.outbox_oldest().await.unwrap(), Some(at(4)));
    assert_eq!(
        store.claim_unpublished(at(20), at(30), 9).await.unwrap(),
        second,
        "an ended lease"
    );

    let none = EventFilter::default();
    let listed = store
        .events(
            &none,
            &PageRequest {
                limit: 2,
                cursor: None,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        listed
            .items
            .iter()
            .map(|event| event.at)
            .collect::<Vec<_>>(),
        [at(5), at(4)]
    );
    let next = PageRequest {
        limit: 9,
        cursor: listed.next_cursor,
    };
    assert_eq!(store.events(&none, &next).await.unwrap().items.len(), 3);
    let other = EventFilter {
        kind: EventType::EndpointDisabled.into(),
        ..none.clone()
    };
    assert!(
        store
            .events(&other, &PageRequest::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );

    let last = store.last_event_sequence().await.unwrap();
    let streamed: Vec<(i64, Event)> = store.events_after(None, &none, 4).await.unwrap();
    assert_eq!(streamed.len(), 4);
    assert!(streamed.is_sorted_by_key(|(sequence, _)| *sequence));
    assert_eq!(
        store
            .events_after(Some(streamed[3].0), &none, 9)
            .await
            .unwrap()[0]
            .0,
        last
    );
    assert!(
        store
            .events_after(Some(last), &none, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

/// The planner, asked for the statements as the store words them, uses the index that was made for
/// each.
pub(crate) async fn scans_use_their_indexes(bench: &Bench) {
    let batch: Vec<Record> = (0..4000)
        .map(|n| {
            let state = match n % 8 {
                0 => retry(n),
                1 => parked(),
                2 => failed(n),
                _ => delivered(n),
            };
            new(
                &expiring(&format!("n-{n}"), 10_000 + n),
                &format!("ep_{}", n % 50),
                state,
            )
        })
        .collect();
    bench.store.record(&batch, at(0)).await.unwrap();
    let explain = match bench.store.kind() {
        DatabaseKind::Sqlite => "EXPLAIN QUERY PLAN",
        DatabaseKind::Postgres => "SET enable_seqscan = off; SET enable_bitmapscan = off; EXPLAIN",
    };
    bench.sql("ANALYZE").await;
    for (query, index) in [
        (
            "due_at IS NOT NULL AND due_at <= 5 AND (expires_at IS NULL OR expires_at > 5) ORDER \
             BY due_at LIMIT 9",
            "deliveries_due",
        ),
        (
            "status = 'pending' AND expires_at IS NOT NULL AND expires_at <= 5 ORDER BY \
             expires_at LIMIT 9",
            "deliveries_expiring",
        ),
        (
            "wait = 'parked' AND endpoint_id = 'x' ORDER BY created_at, id LIMIT 9",
            "deliveries_parked",
        ),
        (
            "true ORDER BY created_at DESC, id DESC LIMIT 9",
            "deliveries_by_time",
        ),
        (
            "tenant = 'x' ORDER BY created_at DESC, id DESC LIMIT 9",
            "deliveries_by_tenant",
        ),
        (
            "endpoint_id = 'ep_1' ORDER BY created_at DESC, id DESC LIMIT 9",
            "deliveries_by_endpoint",
        ),
        (
            "status = 'failed' AND status <> 'delivered' ORDER BY created_at DESC, id DESC LIMIT 9",
            "deliveries_by_status",
        ),
        (
            "tenant = 'x' AND status = 'pending' AND status <> 'delivered' LIMIT 9",
            "deliveries_by_tenant_status",
        ),
        (
            "finished_at IS NOT NULL AND finished_at < 5 ORDER BY finished_at LIMIT 9",
            "deliveries_finished",
        ),
    ] {
        let query = format!("SELECT id, last_error FROM deliveries WHERE {query}");
        check_plan(bench, explain, &query, index).await;
    }
    // A notification by its id alone.
    for (query, index) in [
        (
            "SELECT d.tenant FROM deliveries d WHERE d.notification_id = 'n-1'",
            "deliveries_by_notification",
        ),
        (
            "SELECT u.tenant FROM notifications u WHERE u.id = 'n-1' AND u.fan_out = 0",
            "notifications_unmatched_by_id",
        ),
    ] {
        check_plan(bench, explain, query, index).await;
    }
}

async fn check_plan(bench: &Bench, explain: &str, query: &str, index: &str) {
    let plan = bench.sql(&format!("{explain} {query}")).await.join("\n");
    assert!(plan.contains(index), "{query}:\n{plan}");
    assert!(
        !plan.contains("Sort") && !plan.contains("TEMP B-TREE"),
        "{query}:\n{plan}"
    );
}
