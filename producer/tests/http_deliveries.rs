//! Deliveries and replays over HTTP, on rows that the store really has.

mod support;

use std::time::Duration;

use posthaste_shared::domain::delivery::{DeliveryState, FailureReason, Wait};
use posthaste_shared::domain::key::Scope;
use serde_json::{Value, json};
use support::{TestApi, recorded};

fn failed(api: &TestApi) -> impl FnOnce() -> DeliveryState + use<> {
    let at = api.clock.now();
    move || DeliveryState::Failed {
        at,
        reason: FailureReason::Rejected,
    }
}

fn waiting(api: &TestApi) -> impl FnOnce() -> DeliveryState + use<> {
    let due_at = api.clock.now().after(Duration::from_secs(60));
    move || DeliveryState::Pending(Wait::Retry { due_at })
}

#[tokio::test]
async fn deliveries_are_listed_filtered_shown_and_explained() {
    let api = TestApi::start().await;
    let failed_one = recorded(&api, "acme", "n-1", failed(&api)).await;
    let waiting_one = recorded(&api, "other", "n-2", waiting(&api)).await;
    let ids = |answer: support::Answer| -> Vec<String> {
        assert_eq!(answer.status, 200, "{answer:?}");
        let items = answer.body["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    for (query, expected) in [
        ("", vec![waiting_one, failed_one]),
        ("?status=failed", vec![failed_one]),
        ("?tenant=other", vec![waiting_one]),
        ("?notification_id=n-1", vec![failed_one]),
        ("?type=a.b&status=pending", vec![waiting_one]),
        ("?type=c", vec![]),
        ("?until=2020-01-01T00:00:00Z", vec![]),
        ("?since=2020-01-01T00:00:00Z&limit=1", vec![waiting_one]),
    ] {
        let listed = ids(api
            .call("GET", &format!("/v1/deliveries{query}"), Value::Null)
            .await);
        assert_eq!(
            listed,
            expected.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "{query}"
        );
    }
    let refused = api
        .call("GET", "/v1/deliveries?status=lost", Value::Null)
        .await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_query"));

    let shown = api
        .call("GET", &format!("/v1/deliveries/{failed_one}"), Value::Null)
        .await;
    assert_eq!(
        (&shown.body["status"], &shown.body["reason"]),
        (&json!("failed"), &json!("rejected")),
        "{shown:?}"
    );
    assert_eq!(shown.body["attempts"], json!([]));
    let explained = api
        .call(
            "GET",
            &format!("/v1/deliveries/{waiting_one}/explain"),
            Value::Null,
        )
        .await;
    let summary = explained.body["summary"].as_str().unwrap();
    assert!(
        summary.contains("The next attempt is due at") && summary.contains("It expires at"),
        "{summary}"
    );
    assert_eq!(explained.body["endpoint"]["enabled"], true);

    let notification = api.call("GET", "/v1/notifications/n-1", Value::Null).await;
    assert_eq!(
        (notification.status, &notification.body["payload"]),
        (200, &json!({"n": 1})),
        "{notification:?}"
    );
    assert_eq!(
        notification.body["deliveries"][0]["id"],
        failed_one.to_string()
    );
    let explained = api
        .call("GET", "/v1/notifications/n-1/explain", Value::Null)
        .await;
    assert_eq!(
        explained.body["deliveries"][0]["delivery"]["status"], "failed",
        "{explained:?}"
    );

    let bound = api.key(&[Scope::Admin], Some("acme")).await;
    assert_eq!(
        ids(api
            .call_as(&bound, "GET", "/v1/deliveries", Value::Null)
            .await),
        [failed_one.to_string()]
    );
    for (method, path) in [
        ("GET", format!("/v1/deliveries/{waiting_one}")),
        ("GET", format!("/v1/deliveries/{waiting_one}/explain")),
        ("POST", format!("/v1/deliveries/{waiting_one}/retry")),
        ("POST", format!("/v1/deliveries/{waiting_one}/cancel")),
        ("GET", "/v1/notifications/n-2".to_owned()),
    ] {
        let refused = api.call_as(&bound, method, &path, Value::Null).await;
        assert_eq!(
            (refused.status, refused.code()),
            (404, "not_found"),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn deliveries_are_cancelled_and_sent_again() {
    let api = TestApi::start().await;
    let waiting_one = recorded(&api, "default", "n-1", waiting(&api)).await;
    let cancelled = api
        .call(
            "POST",
            &format!("/v1/deliveries/{waiting_one}/cancel"),
            Value::Null,
        )
        .await;
    assert_eq!(
        (cancelled.status, &cancelled.body["status"]),
        (200, &json!("cancelled")),
        "{cancelled:?}"
    );
    let again = api
        .call(
            "POST",
            &format!("/v1/deliveries/{waiting_one}/cancel"),
            Value::Null,
        )
        .await;
    assert_eq!((again.status, again.code()), (409, "wrong_state"));
    let retried = api
        .call(
            "POST",
            &format!("/v1/deliveries/{waiting_one}/retry"),
            Value::Null,
        )
        .await;
    assert_eq!(
        (
            retried.status,
            &retried.body["status"],
            &retried.body["round"]
        ),
        (200, &json!("pending"), &json!(2))
    );
    let gone = api
        .call(
            "POST",
            &format!("/v1/deliveries/{}/retry", uuid::Uuid::nil()),
            Value::Null,
        )
        .await;
    assert_eq!((gone.status, gone.code()), (404, "not_found"));
}

#[tokio::test]
async fn a_replay_is_a_job_to_follow() {
    let api = TestApi::start().await;
    recorded(&api, "acme", "n-1", failed(&api)).await;
    let started = api
        .call(
            "POST",
            "/v1/deliveries/replay",
            json!({ "status": "failed" }),
        )
        .await;
    assert_eq!(
        (started.status, &started.body["state"]),
        (202, &json!("running")),
        "{started:?}"
    );
    let location = started.headers["location"].to_str().unwrap().to_owned();
    while api
        .store
        .step_replay(api.clock.now(), 100)
        .await
        .unwrap()
        .is_some()
    {}
    let done = api.call("GET", &location, Value::Null).await;
    assert_eq!(
        (&done.body["state"], &done.body["replayed"]),
        (&json!("done"), &json!(1)),
        "{done:?}"
    );
    for (filter, field) in [
        (json!({}), ""),
        (json!({ "tenant": "acme" }), ""),
        (json!({ "status": "pending" }), "status"),
        (json!({ "colour": "red" }), "colour"),
    ] {
        let refused = api
            .call("POST", "/v1/deliveries/replay", filter.clone())
            .await;
        assert_eq!(
            (refused.status, refused.fields()),
            (422, vec![field]),
            "{filter}"
        );
    }
    let bound = api.key(&[Scope::Admin], Some("acme")).await;
    assert_eq!(
        api.call_as(&bound, "GET", &location, Value::Null)
            .await
            .status,
        404
    );
    let own = api
        .call_as(
            &bound,
            "POST",
            "/v1/deliveries/replay",
            json!({ "status": "failed" }),
        )
        .await;
    assert_eq!(
        (own.status, &own.body["filter"]["tenant"]),
        (202, &json!("acme"))
    );
}

#[tokio::test]
async fn a_replay_is_tried_listed_and_cancelled() {
    let api = TestApi::start().await;
    recorded(&api, "acme", "n-1", failed(&api)).await;
    recorded(&api, "acme", "n-2", failed(&api)).await;
    let would = api
        .call(
            "POST",
            "/v1/deliveries/replay?dry_run=true",
            json!({ "status": "failed" }),
        )
        .await;
    assert_eq!(
        (would.status, &would.body["matched"]),
        (200, &json!(2)),
        "{would:?}"
    );
    assert!(
        would.body["oldest"].is_string() && would.body["newest"].is_string(),
        "{would:?}"
    );
    assert_eq!(
        api.call("GET", "/v1/replays", Value::Null).await.body["items"],
        json!([]),
        "it began nothing"
    );

    let started = api
        .call(
            "POST",
            "/v1/deliveries/replay",
            json!({ "status": "failed" }),
        )
        .await;
    assert_eq!(
        (started.status, &started.body["total"]),
        (202, &json!(2)),
        "{started:?}"
    );
    let location = started.headers["location"].to_str().unwrap().to_owned();
    api.store
        .step_replay(api.clock.now(), 1)
        .await
        .unwrap()
        .unwrap();
    let bound = api.key(&[Scope::Admin], Some("acme")).await;
    assert_eq!(
        api.call_as(&bound, "POST", &format!("{location}/cancel"), Value::Null)
            .await
            .status,
        404
    );
    let cancelled = api
        .call("POST", &format!("{location}/cancel"), Value::Null)
        .await;
    assert_eq!(
        (cancelled.status, &cancelled.body["state"]),
        (200, &json!("cancelled")),
        "{cancelled:?}"
    );
    assert_eq!(
        (&cancelled.body["matched"], &cancelled.body["replayed"]),
        (&json!(1), &json!(1)),
        "{cancelled:?}"
    );
    assert_eq!(
        api.store.step_replay(api.clock.now(), 1).await.unwrap(),
        None
    );
    let again = api
        .call("POST", &format!("{location}/cancel"), Value::Null)
        .await;
    assert_eq!((again.status, again.code()), (409, "wrong_state"));
    let listed = api.call("GET", "/v1/replays?limit=1", Value::Null).await;
    assert_eq!(
        listed.body["items"][0]["id"], started.body["id"],
        "{listed:?}"
    );
    assert_eq!(
        api.call_as(&bound, "GET", "/v1/replays", Value::Null)
            .await
            .body["items"],
        json!([])
    );
}
