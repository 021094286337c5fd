//! Who may do what, and what holds for every route.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste_shared::domain::key::Scope;
use serde_json::{Value, json};
use support::{ADMIN_KEY, TestApi, answer};

/// Every route with the scope that it needs.
const ROUTES: [(&str, &str, Scope); 47] = [
    ("get", "/v1/notifications", Scope::Read),
    ("put", "/v1/endpoints/{id}", Scope::Admin),
    ("post", "/v1/notifications", Scope::Enqueue),
    ("post", "/v1/notifications/batch", Scope::Enqueue),
    ("get", "/v1/notifications/{id}", Scope::Read),
    ("get", "/v1/notifications/{id}/explain", Scope::Read),
    ("get", "/v1/deliveries", Scope::Read),
    ("post", "/v1/deliveries/replay", Scope::Admin),
    ("get", "/v1/deliveries/{id}", Scope::Read),
    ("get", "/v1/deliveries/{id}/explain", Scope::Read),
    ("post", "/v1/deliveries/{id}/retry", Scope::Admin),
    ("post", "/v1/deliveries/{id}/cancel", Scope::Admin),
    ("get", "/v1/replays", Scope::Read),
    ("get", "/v1/replays/{id}", Scope::Read),
    ("post", "/v1/replays/{id}/cancel", Scope::Admin),
    ("get", "/v1/endpoints", Scope::Read),
    ("post", "/v1/endpoints", Scope::Admin),
    ("get", "/v1/endpoints/{id}", Scope::Read),
    ("patch", "/v1/endpoints/{id}", Scope::Admin),
    ("delete", "/v1/endpoints/{id}", Scope::Admin),
    ("post", "/v1/endpoints/{id}/enable", Scope::Admin),
    ("post", "/v1/endpoints/{id}/disable", Scope::Admin),
    ("post", "/v1/endpoints/{id}/rotate-secret", Scope::Admin),
    ("post", "/v1/endpoints/{id}/test", Scope::Admin),
    ("post", "/v1/endpoints/{id}/render", Scope::Admin),
    ("post", "/v1/endpoints/{id}/transform/try", Scope::Admin),
    ("post", "/v1/notifications/audience", Scope::Read),
    ("get", "/v1/types", Scope::Read),
    ("get", "/v1/audit", Scope::Admin),
    ("get", "/v1/events", Scope::Read),
    ("get", "/v1/events/stream", Scope::Read),
    ("get", "/v1/overview", Scope::Read),
    ("get", "/v1/failures", Scope::Read),
    ("get", "/v1/stats", Scope::Read),
    ("get", "/v1/stats/endpoints", Scope::Read),
    ("get", "/v1/workers", Scope::Read),
    ("get", "/v1/dead-letters", Scope::Admin),
    ("post", "/v1/dead-letters/redrive", Scope::Admin),
    ("get", "/v1/redrives", Scope::Admin),
    ("post", "/v1/redrives", Scope::Admin),
    ("get", "/v1/redrives/{id}", Scope::Admin),
    ("post", "/v1/redrives/{id}/cancel", Scope::Admin),
    ("get", "/v1/keys", Scope::Admin),
    ("post", "/v1/keys", Scope::Admin),
    ("delete", "/v1/keys/{id}", Scope::Admin),
    ("post", "/v1/console-links", Scope::Read),
    ("get", "/v1/wire-formats", Scope::Read),
];

/// Added by the program beside this API, or open to all.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

fn concrete(path: &str) -> String {
    path.replace("{id}", "00000000-0000-0000-0000-000000000000")
}

#[test]
fn the_specification_has_every_route_and_no_other() {
    let document = posthaste_producer::http::openapi();
    assert_eq!(document["openapi"], "3.1.0");
    let mut written = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if !OPEN.contains(&path.as_str()) {
            for (method, operation) in item.as_object().unwrap() {
                assert_eq!(
                    operation["security"],
                    json!([{ "key": [] }]),
                    "{method} {path}"
                );
                assert!(operation["responses"]["401"].is_object(), "{method} {path}");
                assert!(
                    operation["operationId"].is_string() && operation["summary"].is_string(),
                    "{method} {path}"
                );
                written.insert((method.clone(), path.clone()));
            }
        }
    }
    let expected = ROUTES
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(written, expected);
    for path in OPEN {
        assert!(document["paths"][path]["get"].is_object(), "{path}");
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{pointer} leads nowhere"
        );
    }
}

#[tokio::test]
async fn every_route_needs_its_scope() {
    let api = TestApi::start().await;
    for held in Scope::ALL {
        let key = api.key(&[held], None).await;
        for (method, path, needed) in ROUTES {
            if held == needed || held == Scope::Admin {
                continue;
            }
            let refused = api
                .call_as(&key, &method.to_uppercase(), &concrete(path), Value::Null)
                .await;
            assert_eq!(
                (refused.status, refused.code()),
                (403, "missing_scope"),
                "{held:?}: {method} {path}"
            );
        }
    }
    for (method, path, _) in ROUTES {
        let refused = answer(api.request(&method.to_uppercase(), &concrete(path))).await;
        assert_eq!(
            (refused.status, refused.code()),
            (401, "missing_key"),
            "{method} {path}"
        );
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
        let refused = api
            .call_as(
                "ph_nonsense",
                &method.to_uppercase(),
                &concrete(path),
                Value::Null,
            )
            .await;
        assert_eq!(
            (refused.status, refused.code()),
            (401, "invalid_key"),
            "{method} {path}"
        );
    }
    let basic = answer(
        api.request("GET", "/v1/endpoints")
            .basic_auth("a", Some(ADMIN_KEY)),
    )
    .await;
    assert_eq!((basic.status, basic.code()), (401, "missing_key"));
}

#[tokio::test]
async fn keys_allow_what_they_name() {
    let api = TestApi::start().await;
    let read = api.key(&[Scope::Read], None).await;
    let enqueue = api.key(&[Scope::Enqueue], None).await;
    let admin = api.key(&[Scope::Admin], None).await;
    let body = json!({ "type": "a", "payload": 1 });
    assert_eq!(
        api.call_as(&enqueue, "POST", "/v1/notifications", body.clone())
            .await
            .status,
        202
    );
    assert_eq!(
        api.call_as(&admin, "POST", "/v1/notifications", body)
            .await
            .status,
        202
    );
    for path in [
        "/v1/endpoints",
        "/v1/deliveries",
        "/v1/events",
        "/v1/wire-formats",
    ] {
        assert_eq!(
            api.call_as(&read, "GET", path, Value::Null).await.status,
            200,
            "{path}"
        );
        assert_eq!(
            api.call_as(&admin, "GET", path, Value::Null).await.status,
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    let api = TestApi::start().await;
    let draft = json!({ "name": "ci", "scopes": ["read", "read"], "tenant": "acme" });
    let made = api.call("POST", "/v1/keys", draft).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body["scopes"], json!(["read"]));
    let key = made.body["key"].as_str().unwrap().to_owned();
    let listed = api.call("GET", "/v1/keys", Value::Null).await;
    assert!(!listed.body.to_string().contains(&key));
    assert_eq!(listed.body["items"][0]["name"], "ci");
    assert_eq!(
        api.call_as(&key, "GET", "/v1/endpoints", Value::Null)
            .await
            .status,
        200
    );
    let path = format!("/v1/keys/{}", made.body["id"].as_str().unwrap());
    assert_eq!(api.call("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(
        api.call_as(&key, "GET", "/v1/endpoints", Value::Null)
            .await
            .code(),
        "invalid_key"
    );
    assert_eq!(api.call("DELETE", &path, Value::Null).await.status, 404);
    for (draft, field) in [
        (json!({ "name": "", "scopes": ["read"] }), "name"),
        (json!({ "name": "x", "scopes": [] }), "scopes"),
        (json!({ "name": "x", "scopes": ["root"] }), "scopes[0]"),
        (
            json!({ "name": "x", "scopes": ["read"], "expires_at": "2026-01-01T00:00:00Z" }),
            "expires_at",
        ),
    ] {
        assert_eq!(api.call("POST", "/v1/keys", draft).await.fields(), [field]);
    }
}

#[tokio::test]
async fn a_key_ends_by_itself_and_shows_when_it_was_last_used() {
    let api = TestApi::start().await;
    let expires_at = api.clock.now().after(Duration::from_millis(1500));
    let draft = json!({ "name": "short", "scopes": ["read"], "expires_at": expires_at });
    let made = api.call("POST", "/v1/keys", draft).await;
    assert_eq!(
        (made.status, &made.body["expires_at"]),
        (201, &json!(expires_at)),
        "{made:?}"
    );
    assert!(made.body["last_used_at"].is_null());
    let key = made.body["key"].as_str().unwrap().to_owned();
    let used = async |key: &str| api.call_as(key, "GET", "/v1/endpoints", Value::Null).await;
    assert_eq!(used(&key).await.status, 200);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    // It is remembered when it was used, and not for longer than it works.
    loop {
        let listed = api.call("GET", "/v1/keys", Value::Null).await;
        let refused = used(&key).await;
        if !listed.body["items"][0]["last_used_at"].is_null() && refused.status == 401 {
            assert_eq!(refused.code(), "invalid_key");
            assert!(
                refused.body["detail"]
                    .as_str()
                    .unwrap()
                    .contains("expired at"),
                "{refused:?}"
            );
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{listed:?} {refused:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn bound_keys_do_not_reach_what_is_about_every_tenant() {
    let api = TestApi::start().await;
    let key = api.key(&[Scope::Admin], Some("acme")).await;
    for (method, path, body) in [
        ("GET", "/v1/keys", Value::Null),
        (
            "POST",
            "/v1/keys",
            json!({ "name": "x", "scopes": ["admin"] }),
        ),
        ("DELETE", "/v1/keys/key_1", Value::Null),
        ("GET", "/v1/dead-letters", Value::Null),
        ("POST", "/v1/dead-letters/redrive", json!({ "all": true })),
        ("POST", "/v1/redrives", Value::Null),
        ("GET", "/v1/redrives", Value::Null),
    ] {
        let refused = api.call_as(&key, method, path, body).await;
        assert_eq!(
            (refused.status, refused.code()),
            (403, "other_tenant"),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn everything_wrong_is_a_problem() {
    let api = TestApi::start().await;
    let unknown = answer(api.request("GET", "/v2/nothing")).await;
    assert_eq!((unknown.status, unknown.code()), (404, "unknown_route"));
    let wrong = answer(api.request("PUT", "/v1/endpoints")).await;
    assert_eq!((wrong.status, wrong.code()), (405, "method_not_allowed"));
    assert!(wrong.headers.contains_key("allow"), "{wrong:?}");
    for path in [
        "/v1/deliveries/nonsense",
        "/v1/endpoints/a%20b",
        "/v1/replays/x",
        "/v1/keys/%ff",
    ] {
        let method = if path.contains("keys") {
            "DELETE"
        } else {
            "GET"
        };
        let missing = api.call(method, path, Value::Null).await;
        assert_eq!(
            (missing.status, missing.code()),
            (404, "not_found"),
            "{path}"
        );
    }
    let body =
        json!({ "url": "https://hooks.example/", "wire_format": "raw", "description": "panic" });
    let panicked = api.call("POST", "/v1/endpoints", body).await;
    assert_eq!((panicked.status, panicked.code()), (500, "internal"));
    assert!(!panicked.body.to_string().contains("asked to panic"));
    let document = answer(api.request("GET", "/openapi.json")).await;
    assert_eq!(
        (document.status, &document.body["openapi"]),
        (200, &json!("3.1.0"))
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_503() {
    let api = TestApi::start().await;
    let id = api.endpoint("default").await;
    api.store.close().await;
    for path in [
        "/v1/endpoints".to_owned(),
        format!("/v1/endpoints/{id}"),
        "/v1/deliveries".to_owned(),
    ] {
        let refused = api.call("GET", &path, Value::Null).await;
        assert_eq!(
            (refused.status, refused.code()),
            (503, "unavailable"),
            "{path}"
        );
        assert!(refused.headers.contains_key("retry-after"));
    }
    for body in [
        json!({ "type": "a", "payload": 1 }),
        json!({ "type": "a", "payload": 1, "id": "n-1" }),
        json!({ "type": "a", "payload": 1, "endpoint_id": "ep_none" }),
    ] {
        let refused = api.call("POST", "/v1/notifications", body.clone()).await;
        assert_eq!(
            (refused.status, refused.code()),
            (503, "unavailable"),
            "{body}"
        );
    }
    let unknown = api
        .call_as("ph_unknown", "GET", "/v1/endpoints", Value::Null)
        .await;
    assert_eq!((unknown.status, unknown.code()), (503, "unavailable"));
}

#[tokio::test]
async fn a_count_of_hops_says_nothing_of_a_route_to_whoever_has_no_key() {
    let api = TestApi::start().await;
    let read = api.key(&[Scope::Read], None).await;
    let tried = async |method: &str, path: &str, key: Option<&str>| {
        let request = api.request(method, path).header("posthaste-hops", "1");
        let request = match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let refused = answer(request.json(&json!({ "url": "https://hooks.example/" }))).await;
        (refused.status, refused.code().to_owned())
    };
    for (method, path, key, expected) in [
        ("POST", "/v2/nothing", None, (404, "unknown_route")),
        ("PUT", "/v1/endpoints", None, (405, "method_not_allowed")),
        ("POST", "/v1/endpoints", None, (401, "missing_key")),
        ("POST", "/v1/endpoints", Some("ph_no"), (401, "invalid_key")),
        (
            "POST",
            "/v1/endpoints",
            Some(read.as_str()),
            (403, "missing_scope"),
        ),
        (
            "POST",
            "/v1/endpoints",
            Some(ADMIN_KEY),
            (422, "too_many_hops"),
        ),
        (
            "POST",
            "/v1/redrives",
            Some(ADMIN_KEY),
            (422, "too_many_hops"),
        ),
    ] {
        let (status, code) = tried(method, path, key).await;
        assert_eq!((status, code.as_str()), expected, "{method} {path} {key:?}");
    }
}
