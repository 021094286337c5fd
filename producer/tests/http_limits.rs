//! What one tenant may have at once.

mod support;

use std::time::Duration;

use posthaste_producer::http::ApiSettings;
use posthaste_shared::domain::delivery::{DeliveryState, Wait};
use posthaste_shared::domain::key::Scope;
use serde_json::{Value, json};
use support::{ADMIN_KEY, TestApi, answer, recorded};

fn endpoint(tenant: &str) -> Value {
    json!({ "url": "https://hooks.example/x", "wire_format": "standard", "tenant": tenant })
}

#[tokio::test]
async fn a_tenant_gets_no_more_endpoints_than_its_limit() {
    let settings = ApiSettings {
        tenant_max_endpoints: Some(3),
        ..ApiSettings::default()
    };
    let api = TestApi::start_with(settings, None).await;
    let made = futures::future::join_all(
        (0..12).map(|_| api.call("POST", "/v1/endpoints", endpoint("acme"))),
    )
    .await;
    let (created, refused): (Vec<_>, Vec<_>) =
        made.into_iter().partition(|made| made.status == 201);
    assert_eq!((created.len(), refused.len()), (3, 9));
    assert!(
        refused
            .iter()
            .all(|refused| (refused.status, refused.code()) == (422, "endpoint_limit")),
        "{refused:?}"
    );
    assert_eq!(
        api.call("POST", "/v1/endpoints", endpoint("other"))
            .await
            .status,
        201
    );
    let put = async |name: &str| {
        api.call(
            "PUT",
            &format!("/v1/endpoints/{name}?tenant=acme"),
            endpoint("acme"),
        )
        .await
    };
    assert_eq!(put("one-more").await.code(), "endpoint_limit");
    let id = created[0].body["id"].as_str().unwrap();
    assert_eq!(
        put(id).await.status,
        200,
        "one that is there can be changed"
    );
    assert_eq!(
        api.call("DELETE", &format!("/v1/endpoints/{id}"), Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(put("one-more").await.status, 201);
}

#[tokio::test]
async fn a_tenant_with_a_full_backlog_is_told_to_come_again_and_the_others_are_not() {
    let settings = ApiSettings {
        tenant_max_pending: Some(2),
        ..ApiSettings::default()
    };
    let api = TestApi::start_with(settings, None).await;
    let again = json!({ "type": "a.b", "payload": {}, "tenant": "acme", "id": "again" });
    let first = api.call("POST", "/v1/notifications", again.clone()).await;
    assert_eq!(first.status, 202, "{first:?}");
    let mut waiting = Vec::new();
    for name in ["a", "b"] {
        let due_at = api.clock.now().after(Duration::from_secs(600));
        waiting.push(
            recorded(&api, "acme", name, || {
                DeliveryState::Pending(Wait::Retry { due_at })
            })
            .await,
        );
    }
    let notification = |tenant: &str| json!({ "type": "a.b", "payload": {}, "tenant": tenant });
    // The count from before the deliveries is believed for a second.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let full = loop {
        let answer = api
            .call("POST", "/v1/notifications", notification("acme"))
            .await;
        if answer.status != 202 {
            break answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is full");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(
        (full.status, full.code()),
        (429, "backlog_limit"),
        "{full:?}"
    );
    assert!(
        full.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    let repeated = api.call("POST", "/v1/notifications", again).await;
    assert_eq!(repeated.body["deduplicated"], true, "{repeated:?}");
    let batch = async |tenants: &[&str]| {
        let items: Vec<Value> = tenants.iter().map(|tenant| notification(tenant)).collect();
        api.call("POST", "/v1/notifications/batch", items.into())
            .await
    };
    assert_eq!(batch(&["acme", "acme"]).await.code(), "backlog_limit");
    let mixed = batch(&["acme", "other"]).await;
    assert_eq!(
        (&mixed.body["accepted"], &mixed.body["rejected"]),
        (&json!(1), &json!(1)),
        "{mixed:?}"
    );
    assert_eq!(
        mixed.body["items"][0]["error"]["code"], "backlog_limit",
        "{mixed:?}"
    );
    let cancel = format!("/v1/deliveries/{}/cancel", waiting[0]);
    assert_eq!(api.call("POST", &cancel, Value::Null).await.status, 200);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while api
        .call("POST", "/v1/notifications", notification("acme"))
        .await
        .status
        != 202
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "there is room again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_tenant_has_no_more_event_streams_open_than_its_limit() {
    let settings = ApiSettings {
        tenant_max_streams: Some(2),
        ..ApiSettings::default()
    };
    let api = TestApi::start_with(settings, None).await;
    let key = api.key(&[Scope::Read], Some("acme")).await;
    let open = async |key: &str| {
        api.request("GET", "/v1/events/stream")
            .bearer_auth(key)
            .send()
            .await
            .unwrap()
    };
    let first = open(&key).await;
    let second = open(&key).await;
    assert_eq!(
        (first.status().as_u16(), second.status().as_u16()),
        (200, 200)
    );
    let refused = answer(api.request("GET", "/v1/events/stream").bearer_auth(&key)).await;
    assert_eq!(
        (refused.status, refused.code()),
        (429, "stream_limit"),
        "{refused:?}"
    );
    assert_eq!(open(ADMIN_KEY).await.status(), 200);
    drop(first);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while open(&key).await.status() != 200 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "a closed stream makes room"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(second);
}
