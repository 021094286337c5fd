//! Endpoints that exist, over HTTP: changing, enabling, rotating secrets, testing, deleting and
//! listing them.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::store::events::EventFilter;
use posthaste_shared::store::page::PageRequest;
use serde_json::{Value, json};
use support::{Answer, TestApi};

async fn create(api: &TestApi, more: Value) -> Answer {
    let mut body = json!({ "url": "https://hooks.example/x", "wire_format": "standard" });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    api.call("POST", "/v1/endpoints", body).await
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_keeps_what_was_redacted() {
    let api = TestApi::start().await;
    let made = create(
        &api,
        json!({
            "headers": { "Authorization": "Bearer x", "X-Plain": "1" },
            "settings": { "api_key": "k", "mode": "a" },
            "retry": { "max_retries": 7, "jitter": 0.5 },
            "rate_limit_per_second": 5,
            "subscription": { "types": ["a.*"], "phone_numbers": ["+18005550199"] },
        }),
    )
    .await;
    assert_eq!(
        made.body["headers"],
        json!({ "Authorization": "[redacted]", "X-Plain": "[redacted]" }),
        "{made:?}"
    );
    assert_eq!(made.body["settings"]["api_key"], "[redacted]");
    let id = made.body["id"].as_str().unwrap();
    let path = format!("/v1/endpoints/{id}");
    let patch = json!({
        "headers": made.body["headers"],
        "settings": { "api_key": "[redacted]", "mode": "b" },
        "retry": { "jitter": null },
        "rate_limit_per_second": null,
        "subscription": { "types": ["b.*"] },
        "description": "moved",
    });
    let changed = api.call("PATCH", &path, patch).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.body["retry"]["max_retries"], 7);
    assert_eq!(changed.body["retry"]["jitter"], 0.2);
    assert_eq!(changed.body["rate_limit_per_second"], Value::Null);
    assert_eq!(
        changed.body["subscription"],
        json!({ "types": ["b.*"], "phone_numbers": ["+18005550199"] })
    );
    assert_eq!(changed.body["description"], "moved");
    let stored = api
        .store
        .endpoint(&EndpointId::parse(id).unwrap())
        .await
        .unwrap()
        .unwrap();
    let header = stored
        .confidential
        .headers
        .iter()
        .find(|(name, _)| name == "Authorization")
        .unwrap();
    assert_eq!(header.1.expose(), "Bearer x");
    assert_eq!(stored.confidential.settings["api_key"], "k");
    assert_eq!(stored.confidential.settings["mode"], "b");
    assert_eq!(stored.confidential.secrets.len(), 1);
    let merge_patch = api.request("PATCH", &path).bearer_auth(support::ADMIN_KEY);
    let merge_patch = merge_patch
        .header("content-type", "application/merge-patch+json")
        .body(r#"{"headers":null}"#);
    let changed = support::answer(merge_patch).await;
    assert_eq!(
        (changed.status, &changed.body["headers"]),
        (200, &json!({})),
        "{changed:?}"
    );
    for (patch, field) in [
        (json!({ "secret": "whsec_x" }), "secret"),
        (json!({ "wire_format": "raw" }), "wire_format"),
        (json!({ "retry": { "jitter": 2 } }), "retry.jitter"),
        (json!({ "timeout_ms": 1 }), "timeout_ms"),
    ] {
        let refused = api.call("PATCH", &path, patch.clone()).await;
        assert_eq!(
            (refused.status, refused.fields()),
            (422, vec![field]),
            "{patch}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_kept() {
    let api = TestApi::start().await;
    let id = api.endpoint("default").await;
    let path = format!("/v1/endpoints/{id}");
    let (a, b, c) = tokio::join!(
        api.call("PATCH", &path, json!({ "description": "d" })),
        api.call("PATCH", &path, json!({ "timeout_ms": 7_000 })),
        api.call("PATCH", &path, json!({ "max_in_flight": 3 })),
    );
    assert_eq!((a.status, b.status, c.status), (200, 200, 200));
    let shown = api.call("GET", &path, Value::Null).await.body;
    assert_eq!(
        (
            &shown["description"],
            &shown["timeout_ms"],
            &shown["max_in_flight"]
        ),
        (&json!("d"), &json!(7_000), &json!(3))
    );
}

#[tokio::test]
async fn enabling_and_disabling_are_told_once() {
    let api = TestApi::start().await;
    let id = api.endpoint("default").await;
    for action in ["disable", "disable", "enable", "enable"] {
        let switched = api
            .call("POST", &format!("/v1/endpoints/{id}/{action}"), Value::Null)
            .await;
        assert_eq!(
            (switched.status, &switched.body["enabled"]),
            (200, &json!(action == "enable")),
            "{switched:?}"
        );
    }
    let patched = api
        .call(
            "PATCH",
            &format!("/v1/endpoints/{id}"),
            json!({ "enabled": false }),
        )
        .await;
    assert_eq!(patched.body["disabled_reason"], "manual");
    let events = api
        .store
        .events(&EventFilter::default(), &PageRequest::default())
        .await
        .unwrap();
    let mut kinds: Vec<&str> = events
        .items
        .iter()
        .map(|event| event.kind.as_str())
        .collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        ["endpoint.disabled", "endpoint.disabled", "endpoint.enabled"]
    );
    assert!(
        events
            .items
            .iter()
            .all(|event| event.kind != EventType::DeliveryFailed)
    );
}

#[tokio::test]
async fn a_rotated_secret_is_shown_once_and_the_old_one_retires() {
    let api = TestApi::start().await;
    let id = api.endpoint("default").await;
    let path = format!("/v1/endpoints/{id}/rotate-secret");
    let rotated = api
        .call("POST", &path, json!({ "overlap_seconds": 3_600 }))
        .await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert!(
        rotated.body["secret"]
            .as_str()
            .unwrap()
            .starts_with("whsec_")
    );
    assert_eq!(rotated.body["endpoint"]["retiring_secrets"], 1);
    let own = api
        .call(
            "POST",
            &path,
            json!({ "secret": "whsec_own", "overlap_seconds": 0 }),
        )
        .await;
    assert_eq!((own.status, own.body.get("secret")), (200, None), "{own:?}");
    assert_eq!(own.body["endpoint"]["retiring_secrets"], 0);
    assert_eq!(
        api.call("POST", &path, Value::Null).await.status,
        200,
        "a body is not needed"
    );
    let refused = api
        .call("POST", &path, json!({ "overlap_seconds": 2_592_001 }))
        .await;
    assert_eq!(
        (refused.status, refused.fields()),
        (422, vec!["overlap_seconds"])
    );
    let raw = create(&api, json!({ "wire_format": "raw" })).await.body["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = api
        .call(
            "POST",
            &format!("/v1/endpoints/{raw}/rotate-secret"),
            Value::Null,
        )
        .await;
    assert_eq!(
        (refused.status, refused.fields()),
        (422, vec!["wire_format"])
    );
}

#[tokio::test]
async fn an_endpoint_is_tested_and_deleted() {
    let api = TestApi::start().await;
    let id = api.endpoint("default").await;
    let path = format!("/v1/endpoints/{id}");
    let report = api.call("POST", &format!("{path}/test"), Value::Null).await;
    assert_eq!(
        (report.status, &report.body["outcome"]),
        (200, &json!("delivered")),
        "{report:?}"
    );
    let with = json!({ "notification": { "type": "a.b", "payload": 1 } });
    let report = api.call("POST", &format!("{path}/test"), with).await;
    assert!(
        report.body["verdict"].as_str().unwrap().contains("a.b"),
        "{report:?}"
    );
    assert_eq!(api.call("DELETE", &path, Value::Null).await.status, 204);
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/enable")),
    ] {
        assert_eq!(
            api.call(method, &path, Value::Null).await.code(),
            "not_found",
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn a_bound_key_manages_its_tenants_endpoints_alone() {
    let api = TestApi::start().await;
    let key = api.key(&[Scope::Admin], Some("acme")).await;
    let own = api.endpoint("acme").await;
    let others = api.endpoint("other").await;
    let listed = api.call_as(&key, "GET", "/v1/endpoints", Value::Null).await;
    let ids: Vec<&Value> = listed.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["id"])
        .collect();
    assert_eq!(ids, [&json!(own)]);
    for (method, path, body) in [
        ("GET", format!("/v1/endpoints/{others}"), Value::Null),
        (
            "PATCH",
            format!("/v1/endpoints/{others}"),
            json!({ "description": "x" }),
        ),
        ("DELETE", format!("/v1/endpoints/{others}"), Value::Null),
        (
            "POST",
            format!("/v1/endpoints/{others}/disable"),
            Value::Null,
        ),
        (
            "POST",
            format!("/v1/endpoints/{others}/rotate-secret"),
            Value::Null,
        ),
        ("POST", format!("/v1/endpoints/{others}/test"), Value::Null),
    ] {
        let refused = api.call_as(&key, method, &path, body).await;
        assert_eq!(
            (refused.status, refused.code()),
            (404, "not_found"),
            "{method} {path}"
        );
    }
    let body = json!({ "url": "https://hooks.example/", "wire_format": "raw", "tenant": "other" });
    assert_eq!(
        api.call_as(&key, "POST", "/v1/endpoints", body)
            .await
            .code(),
        "other_tenant"
    );
    assert_eq!(
        api.call_as(&key, "GET", "/v1/endpoints?tenant=other", Value::Null)
            .await
            .code(),
        "other_tenant"
    );
    let body = json!({ "url": "https://hooks.example/", "wire_format": "raw" });
    assert_eq!(
        api.call_as(&key, "POST", "/v1/endpoints", body).await.body["tenant"],
        "acme"
    );
}

#[tokio::test]
async fn lists_are_paged() {
    let api = TestApi::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(api.endpoint("default").await);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api
            .call(
                "GET",
                &format!("/v1/endpoints?limit=2{cursor}"),
                Value::Null,
            )
            .await;
        assert_eq!(page.status, 200, "{page:?}");
        seen.extend(
            page.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, made);
    for query in [
        "limit=0",
        "limit=501",
        "cursor=nonsense",
        "limit=x",
        "colour=red",
    ] {
        let refused = api
            .call("GET", &format!("/v1/endpoints?{query}"), Value::Null)
            .await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "invalid_query"),
            "{query}"
        );
    }
}
