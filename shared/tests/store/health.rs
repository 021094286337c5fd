//! The health of endpoints.

use std::time::Duration;

use posthaste_shared::domain::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use posthaste_shared::domain::event::{Event, EventType};
use posthaste_shared::domain::health::HealthChange;
use posthaste_shared::domain::id::NotificationType;
use posthaste_shared::store::Store;
use posthaste_shared::store::events::EventFilter;
use serde_json::{Value, json};

use super::bench::{Bench, at, endpoint, endpoint_id};

const DISABLE_AFTER: Option<Duration> = Some(Duration::from_secs(5 * 86_400));

fn opened(endpoint: &str, until: i64) -> HealthChange {
    HealthChange::Opened {
        endpoint: endpoint_id(endpoint),
        until: at(until),
        failures: 5,
        last_error: "the endpoint answered 503".to_owned(),
        types: vec![NotificationType::parse("order.paid").unwrap()],
    }
}

fn recovered(endpoint: &str) -> HealthChange {
    let endpoint = endpoint_id(endpoint);
    HealthChange::Recovered { endpoint }
}

fn paused(endpoint: &str, until: i64) -> HealthChange {
    HealthChange::Paused {
        endpoint: endpoint_id(endpoint),
        until: at(until),
    }
}

async fn report(store: &Store, change: HealthChange, second: i64) -> usize {
    store
        .report_health(&[change], DISABLE_AFTER, at(second))
        .await
        .unwrap()
}

async fn events(store: &Store) -> Vec<Event> {
    let after = store
        .events_after(None, &EventFilter::default(), 100)
        .await
        .unwrap();
    after.into_iter().map(|(_, event)| event).collect()
}

fn body(event: &Event) -> Value {
    serde_json::from_str(event.body.as_str()).unwrap()
}

async fn is_open(store: &Store, endpoint: &str) -> bool {
    let health = store
        .endpoint_health(&endpoint_id(endpoint), at(0))
        .await
        .unwrap();
    health.is_some_and(|health| health.unhealthy.is_some())
}

pub(crate) async fn each_change_of_health_makes_one_event(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    assert_eq!(report(store, opened("ep_1", 30), 10).await, 1);
    assert_eq!(
        report(store, opened("ep_1", 40), 11).await,
        0,
        "another worker"
    );
    let renewed = HealthChange::Renewed {
        endpoint: endpoint_id("ep_1"),
        until: at(90),
        last_error: "the connection was refused".to_owned(),
    };
    assert_eq!(report(store, renewed.clone(), 41).await, 0);
    assert_eq!(report(store, recovered("ep_1"), 95).await, 1);
    assert_eq!(report(store, recovered("ep_1"), 96).await, 0);
    assert_eq!(report(store, renewed, 97).await, 0);
    assert!(!is_open(store, "ep_1").await);

    let events = events(store).await;
    let kinds: Vec<EventType> = events.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [EventType::EndpointUnhealthy, EventType::EndpointRecovered]
    );
    let shown = json!({
        "id": "ep_1", "url": "https://example.com/hook?x=1", "wire_format": "standard",
        "description": "it", "enabled": true, "disabled_reason": null,
    });
    assert_eq!(body(&events[0])["subject"], "ep_1");
    assert_eq!(
        body(&events[0])["data"],
        json!({
            "endpoint": shown, "since": at(10), "failures": 5,
            "last_error": "the endpoint answered 503", "types": ["order.paid"],
            "disable_at": at(10 + 5 * 86_400),
        })
    );
    assert_eq!(
        body(&events[1])["data"],
        json!({
            "endpoint": shown, "since": at(10), "failures": 6,
            "last_error": "the connection was refused", "types": ["order.paid"],
        })
    );
    // What is confidential of an endpoint is in no event.
    assert!(!events[0].body.as_str().contains("whsec_"));
}

pub(crate) async fn workers_that_report_at_once_make_one_event(bench: &Bench) {
    for name in ["ep_1", "ep_2"] {
        bench.store.insert_endpoint(&endpoint(name)).await.unwrap();
    }
    let mut reports = tokio::task::JoinSet::new();
    for worker in 0..6 {
        let store = bench.another().await;
        reports.spawn(async move {
            let mut both = [opened("ep_1", 30), opened("ep_2", 30)];
            if worker % 2 == 0 {
                both.reverse();
            }
            store.report_health(&both, None, at(10)).await.unwrap()
        });
    }
    let made: usize = reports.join_all().await.into_iter().sum();
    assert_eq!((made, events(&bench.store).await.len()), (2, 2));
    assert!(
        body(&events(&bench.store).await[0])["data"]
            .get("disable_at")
            .is_none()
    );
}

pub(crate) async fn it_is_said_when_a_failing_endpoint_will_be_disabled(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    // It has been failing for a while, too rarely for its circuit breaker.
    store
        .note_health(&[(endpoint_id("ep_1"), at(3))], &[])
        .await
        .unwrap();
    report(store, opened("ep_1", 30), 10).await;
    let events = events(store).await;
    assert_eq!(
        body(&events[0])["data"]["disable_at"],
        json!(at(3 + 5 * 86_400))
    );
}

pub(crate) async fn what_is_not_called_is_not_unhealthy(bench: &Bench) {
    let store = &bench.store;
    let disabled = Endpoint {
        status: EndpointStatus::Disabled(DisabledReason::Manual),
        ..endpoint("ep_disabled")
    };
    store.insert_endpoint(&disabled).await.unwrap();
    store
        .insert_endpoint(&endpoint("ep_deleted"))
        .await
        .unwrap();
    store
        .delete_endpoint(&endpoint_id("ep_deleted"), None, at(1))
        .await
        .unwrap();
    let version = store.health_changes(0).await.unwrap().version;
    for name in ["ep_disabled", "ep_deleted", "ep_unknown"] {
        assert_eq!(report(store, opened(name, 30), 10).await, 0);
        assert_eq!(report(store, paused(name, 30), 10).await, 0);
        assert!(!is_open(store, name).await);
    }
    // Nothing changed, so that no worker reads anything.
    assert_eq!(store.health_changes(0).await.unwrap().version, version);
}

pub(crate) async fn health_is_followed_by_its_change_number(bench: &Bench) {
    let store = &bench.store;
    for name in ["ep_1", "ep_2"] {
        store.insert_endpoint(&endpoint(name)).await.unwrap();
    }
    report(store, opened("ep_1", 30), 10).await;
    let first = store.health_changes(0).await.unwrap();
    assert_eq!(
        first.changes[0].unhealthy.as_ref().unwrap().open_until,
        at(30)
    );
    assert!(
        store
            .health_changes(first.version)
            .await
            .unwrap()
            .changes
            .is_empty()
    );

    report(store, paused("ep_2", 60), 11).await;
    report(store, paused("ep_2", 50), 12).await;
    let second = store.health_changes(first.version).await.unwrap();
    assert_eq!(second.changes.len(), 1);
    assert_eq!(second.changes[0].paused_until, Some(at(60)));
    assert_eq!(store.health_counts(at(20)).await.unwrap(), (1, 1));

    report(store, recovered("ep_1"), 13).await;
    let third = store.health_changes(second.version).await.unwrap();
    assert_eq!(third.changes.len(), 1);
    assert!(third.changes[0].is_clear());

    let ids = [
        endpoint_id("ep_1"),
        endpoint_id("ep_2"),
        endpoint_id("ep_3"),
    ];
    let found = store.endpoints_health(&ids, at(59)).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&ids[1]]);
    assert_eq!(store.endpoint_health(&ids[1], at(60)).await.unwrap(), None);
    assert_eq!(store.health_counts(at(60)).await.unwrap(), (0, 0));

    let forgotten = HealthChange::Forgotten {
        endpoint: ids[1].clone(),
    };
    assert_eq!(report(store, forgotten, 14).await, 0);
    assert!(store.health_changes(third.version).await.unwrap().changes[0].is_clear());
}

pub(crate) async fn who_is_to_be_disabled_is_warned_three_times(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    report(store, opened("ep_1", 30), 10).await;
    let failing = [endpoint_id("ep_1")];
    store
        .note_health(&[(failing[0].clone(), at(0))], &[])
        .await
        .unwrap();
    let warn = async |second| {
        store
            .warn_of_disabling(Duration::from_secs(100), &failing, at(second))
            .await
            .unwrap()
    };
    let mut warned = Vec::new();
    for second in [0, 49, 50, 51, 69, 70, 89, 95, 99] {
        if warn(second).await > 0 {
            warned.push(second);
        }
    }
    assert_eq!(warned, [50, 70, 95]);
    let percent = |event: &Event| body(event)["data"]["disable_percent"].as_u64();
    let events = events(store).await;
    assert_eq!(
        events.iter().filter_map(percent).collect::<Vec<_>>(),
        [50, 70, 90]
    );
    let last = body(events.last().unwrap());
    let data = &last["data"];
    assert_eq!(data["last_error"], "the endpoint answered 503", "{last}");
    assert_eq!(data["types"], json!(["order.paid"]));
    // Nobody is warned of an endpoint that is not called, or had a success.
    store.note_health(&[], &failing).await.unwrap();
    assert_eq!(warn(99).await, 0);
}

pub(crate) async fn what_is_well_is_removed(bench: &Bench) {
    let store = &bench.store;
    for name in ["ep_open", "ep_well", "ep_paused", "ep_deleted"] {
        store.insert_endpoint(&endpoint(name)).await.unwrap();
        report(store, opened(name, 30), 10).await;
    }
    report(store, recovered("ep_well"), 20).await;
    report(store, recovered("ep_paused"), 20).await;
    report(store, paused("ep_paused", 500), 20).await;
    store
        .delete_endpoint(&endpoint_id("ep_deleted"), None, at(20))
        .await
        .unwrap();
    assert_eq!(store.remove_clear_health(at(10), 9).await.unwrap(), 0);
    assert_eq!(store.remove_clear_health(at(100), 9).await.unwrap(), 2);
    assert_eq!(store.remove_clear_health(at(501), 9).await.unwrap(), 1);
    assert!(is_open(store, "ep_open").await);
    assert_eq!(store.health_changes(0).await.unwrap().changes.len(), 1);
}
