//! `/v1/overview` and `/v1/failures`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use posthaste_shared::domain::delivery::{DeliveryState, FailureReason};
use posthaste_shared::domain::health::HealthChange;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::key::Scope;
use serde_json::{Value, json};
use support::{TestApi, recorded};

/// An endpoint of the tenant whose circuit breaker is open.
async fn failing(api: &TestApi, tenant: &str) -> String {
    let id = api.endpoint(tenant).await;
    let now = api.clock.now();
    let opened = HealthChange::Opened {
        endpoint: EndpointId::parse(&id).unwrap(),
        until: now.after(Duration::from_secs(60)),
        failures: 7,
        last_error: "503 Service Unavailable".to_owned(),
        types: vec![],
    };
    api.store.report_health(&[opened], None, now).await.unwrap();
    id
}

async fn failed(api: &TestApi, tenant: &str, name: &str, reason: FailureReason) {
    let at = api.clock.now();
    recorded(api, tenant, name, || DeliveryState::Failed { at, reason }).await;
}

#[tokio::test]
async fn the_overview_tells_what_is_wrong() {
    let api = TestApi::start().await;
    let first = api.call("GET", "/v1/overview", Value::Null).await;
    assert_eq!(first.status, 200, "{first:?}");
    let all = &first.body["installation"];
    assert_eq!(
        (&all["broker"], &all["workers"], &all["dead_letters"]),
        (&json!("ok"), &json!(0), &json!(0)),
        "{all}"
    );
    assert_eq!(first.body["failing"], json!([]));

    let of_acme = failing(&api, "acme").await;
    let of_bolt = failing(&api, "bolt").await;
    let seen = api.call("GET", "/v1/overview", Value::Null).await.body;
    // The whole is looked at every 5 s at the most, by however many.
    assert_eq!(seen["at"], first.body["at"]);
    let ids: Vec<_> = seen["failing"].as_array().unwrap().iter().collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(
        (
            &ids[0]["endpoint_id"],
            &ids[0]["failures"],
            &ids[0]["last_error"]
        ),
        (
            &json!(of_acme),
            &json!(7),
            &json!("503 Service Unavailable")
        )
    );
    // Whoever is bound to a tenant learns of that one alone.
    let key = api.key(&[Scope::Read], Some("bolt")).await;
    let bound = api.call_as(&key, "GET", "/v1/overview", Value::Null).await;
    assert_eq!(bound.body["installation"], Value::Null);
    let failing = bound.body["failing"].as_array().unwrap();
    assert_eq!(failing.len(), 1, "{bound:?}");
    assert_eq!(failing[0]["endpoint_id"], json!(of_bolt));
    let other = "/v1/overview?tenant=acme";
    let other = api.call_as(&key, "GET", other, Value::Null).await;
    assert_eq!((other.status, other.code()), (403, "other_tenant"));
    // A disabled endpoint is not called, so it does not fail.
    let path = format!("/v1/endpoints/{of_acme}/disable");
    assert_eq!(api.call("POST", &path, Value::Null).await.status, 200);
    let path = "/v1/overview?tenant=acme";
    let seen = api.call("GET", path, Value::Null).await;
    assert_eq!(seen.body["failing"], json!([]));
}

#[tokio::test]
async fn failures_are_grouped_by_endpoint_and_error() {
    let api = TestApi::start().await;
    let none = api.call("GET", "/v1/failures", Value::Null).await;
    assert_eq!((none.status, &none.body["items"]), (200, &json!([])));
    failed(&api, "acme", "n-1", FailureReason::Rejected).await;
    failed(&api, "acme", "n-2", FailureReason::RetriesExhausted).await;
    failed(&api, "bolt", "n-3", FailureReason::Rejected).await;
    let all = api.call("GET", "/v1/failures", Value::Null).await.body;
    let items = all["items"].as_array().unwrap();
    // Each has an endpoint of its own.
    assert_eq!(items.len(), 3, "{all}");
    assert!(items.iter().all(|item| item["count"] == 1), "{all}");
    let key = api.key(&[Scope::Read], Some("bolt")).await;
    let bound = api.call_as(&key, "GET", "/v1/failures", Value::Null).await;
    let items = bound.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{bound:?}");
    assert_eq!(
        (&items[0]["tenant"], &items[0]["reason"]),
        (&json!("bolt"), &json!("rejected"))
    );
    let later = "/v1/failures?since=2100-01-01T00:00:00Z";
    let later = api.call("GET", later, Value::Null).await;
    assert_eq!(later.body["items"], json!([]));
    for wrong in ["limit=0", "limit=101", "since=yesterday"] {
        let path = format!("/v1/failures?{wrong}");
        let refused = api.call("GET", &path, Value::Null).await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "invalid_query"),
            "{wrong}"
        );
    }
}
