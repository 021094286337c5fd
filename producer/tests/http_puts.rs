//! Requests that may come twice, endpoints by an id of their owner's choice, and lists.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use posthaste_producer::http::ApiSettings;
use posthaste_shared::domain::key::Scope;
use serde_json::{Value, json};
use support::{ADMIN_KEY, Answer, TestApi, answer};

async fn with(
    api: &TestApi,
    method: &str,
    path: &str,
    header: (&str, &str),
    body: Value,
) -> Answer {
    let request = api
        .request(method, path)
        .bearer_auth(ADMIN_KEY)
        .header(header.0, header.1);
    answer(if body.is_null() {
        request
    } else {
        request.json(&body)
    })
    .await
}

fn tag(answer: &Answer) -> String {
    answer.headers["etag"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_endpoint_is_put_by_its_owners_id() {
    let api = TestApi::start().await;
    let path = "/v1/endpoints/billing";
    let wanted =
        json!({ "url": "https://hooks.example/a", "wire_format": "standard", "timeout_ms": 9000 });
    let created = api.call("PUT", path, wanted.clone()).await;
    assert_eq!(
        (created.status, &created.body["uid"]),
        (201, &json!("billing")),
        "{created:?}"
    );
    assert!(created.body["secret"].is_string());
    let id = created.body["id"].as_str().unwrap().to_owned();
    // The same again changes nothing.
    let again = api.call("PUT", path, wanted).await;
    assert_eq!((again.status, &again.body["id"]), (200, &json!(id)));
    assert_eq!(
        (tag(&again), &again.body["secret"]),
        (tag(&created), &Value::Null)
    );
    // What is left out has its default; whether it is enabled stays.
    assert_eq!(
        api.call("POST", "/v1/endpoints/billing/disable", Value::Null)
            .await
            .status,
        200
    );
    let changed = api
        .call(
            "PUT",
            path,
            json!({ "url": "https://hooks.example/b", "wire_format": "standard" }),
        )
        .await;
    assert_eq!(changed.body["url"], "https://hooks.example/b");
    assert_eq!(
        (&changed.body["timeout_ms"], &changed.body["enabled"]),
        (&json!(5000), &json!(false))
    );
    for named in ["billing", &id] {
        let shown = api
            .call("GET", &format!("/v1/endpoints/{named}"), Value::Null)
            .await;
        assert_eq!((shown.status, &shown.body["id"]), (200, &json!(id)));
    }
    let other_format = api
        .call(
            "PUT",
            path,
            json!({ "url": "https://hooks.example/b", "wire_format": "raw" }),
        )
        .await;
    assert_eq!(other_format.fields(), ["wire_format"]);
    // Unique in its tenant, and only there.
    let twice = json!({ "uid": "billing", "url": "https://hooks.example/c", "wire_format": "raw" });
    assert_eq!(
        api.call("POST", "/v1/endpoints", twice).await.code(),
        "uid_taken"
    );
    let acme = json!({ "tenant": "acme", "url": "https://hooks.example/c", "wire_format": "raw" });
    assert_eq!(api.call("PUT", path, acme).await.status, 201);
    let acme = api
        .call("GET", "/v1/endpoints/billing?tenant=acme", Value::Null)
        .await;
    assert_eq!((acme.status, &acme.body["tenant"]), (200, &json!("acme")));
    let bound = api.key(&[Scope::Admin], Some("other")).await;
    assert_eq!(
        api.call_as(&bound, "GET", path, Value::Null).await.status,
        404
    );
    // Ids of Posthaste's own are not created, and its prefix is its own.
    let own = json!({ "url": "https://hooks.example/c", "wire_format": "raw" });
    assert_eq!(
        api.call("PUT", "/v1/endpoints/ep_none", own).await.status,
        404
    );
    let own = json!({ "uid": "ep_mine", "url": "https://hooks.example/c", "wire_format": "raw" });
    assert_eq!(
        api.call("POST", "/v1/endpoints", own).await.fields(),
        ["uid"]
    );
    // When it is deleted, its uid is free.
    assert_eq!(api.call("DELETE", path, Value::Null).await.status, 204);
    let anew = api
        .call(
            "PUT",
            path,
            json!({ "url": "https://hooks.example/d", "wire_format": "raw" }),
        )
        .await;
    assert_eq!(anew.status, 201);
    assert_ne!(anew.body["id"], json!(id));
}

#[tokio::test]
async fn tags_guard_against_changing_what_others_changed() {
    let api = TestApi::start().await;
    let id = api.endpoint("default").await;
    let path = format!("/v1/endpoints/{id}");
    let seen = tag(&api.call("GET", &path, Value::Null).await);
    let body = json!({ "description": "mine" });
    let changed = with(&api, "PATCH", &path, ("if-match", &seen), body.clone()).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_ne!(tag(&changed), seen);
    for (method, path, body) in [
        ("PATCH", path.clone(), body),
        (
            "PUT",
            path.clone(),
            json!({ "url": "https://hooks.example/x", "wire_format": "standard" }),
        ),
        ("POST", format!("{path}/disable"), Value::Null),
        ("POST", format!("{path}/rotate-secret"), json!({})),
        ("DELETE", path.clone(), Value::Null),
    ] {
        let refused = with(&api, method, &path, ("if-match", &seen), body).await;
        assert_eq!(
            (refused.status, refused.code()),
            (412, "precondition_failed"),
            "{method} {path}"
        );
    }
    let several = format!("\"0\", {}", tag(&changed));
    assert_eq!(
        with(&api, "PATCH", &path, ("if-match", &several), json!({}))
            .await
            .status,
        200
    );
    assert_eq!(
        with(&api, "DELETE", &path, ("if-match", "*"), Value::Null)
            .await
            .status,
        204
    );
    let wanted = json!({ "url": "https://hooks.example/x", "wire_format": "raw" });
    let only_new = ("if-none-match", "*");
    assert_eq!(
        with(
            &api,
            "PUT",
            "/v1/endpoints/new",
            ("if-match", "*"),
            wanted.clone()
        )
        .await
        .status,
        412
    );
    assert_eq!(
        with(&api, "PUT", "/v1/endpoints/new", only_new, wanted.clone())
            .await
            .status,
        201
    );
    assert_eq!(
        with(&api, "PUT", "/v1/endpoints/new", only_new, wanted)
            .await
            .status,
        412
    );
}

#[tokio::test]
async fn every_post_is_done_once_for_an_idempotency_key() {
    let api = TestApi::start().await;
    let body = json!({ "url": "https://hooks.example/a", "wire_format": "standard" });
    let key = ("idempotency-key", "create-1");
    let first = with(&api, "POST", "/v1/endpoints", key, body.clone()).await;
    let again = with(&api, "POST", "/v1/endpoints", key, body.clone()).await;
    assert_eq!(
        (first.status, again.status, &again.body),
        (201, 201, &first.body)
    );
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(
        (again.headers["location"].clone(), tag(&again)),
        (first.headers["location"].clone(), tag(&first))
    );
    let listed = api.call("GET", "/v1/endpoints", Value::Null).await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
    let other = with(
        &api,
        "POST",
        "/v1/endpoints",
        key,
        json!({ "url": "https://hooks.example/b" }),
    )
    .await;
    assert_eq!((other.status, other.code()), (409, "idempotency_conflict"));
    // Another key's requests are its own.
    let admin = api.key(&[Scope::Admin], None).await;
    let theirs = api
        .request("POST", "/v1/endpoints")
        .bearer_auth(&admin)
        .header(key.0, key.1)
        .json(&body);
    let theirs = answer(theirs).await;
    assert_eq!(theirs.status, 201);
    assert_ne!(theirs.body["id"], first.body["id"]);
    // What was refused was not done, and may come again.
    let wrong = ("idempotency-key", "create-2");
    assert_eq!(
        with(
            &api,
            "POST",
            "/v1/endpoints",
            wrong,
            json!({ "wire_format": "raw" })
        )
        .await
        .status,
        422
    );
    assert_eq!(
        with(&api, "POST", "/v1/endpoints", wrong, body)
            .await
            .status,
        201
    );
    // A rotation is not done twice.
    let path = format!(
        "/v1/endpoints/{}/rotate-secret",
        first.body["id"].as_str().unwrap()
    );
    let rotated = with(
        &api,
        "POST",
        &path,
        ("idempotency-key", "rotate-1"),
        Value::Null,
    )
    .await;
    let once = with(
        &api,
        "POST",
        &path,
        ("idempotency-key", "rotate-1"),
        Value::Null,
    )
    .await;
    assert_eq!((rotated.status, &once.body), (200, &rotated.body));
    let keys = json!({ "name": "ci", "scopes": ["read"] });
    let made = with(
        &api,
        "POST",
        "/v1/keys",
        ("idempotency-key", "key-1"),
        keys.clone(),
    )
    .await;
    let once = with(&api, "POST", "/v1/keys", ("idempotency-key", "key-1"), keys).await;
    assert_eq!((made.status, &once.body), (201, &made.body));
}

#[tokio::test]
async fn a_request_with_a_large_answer_is_done_once_all_the_same() {
    let settings = ApiSettings {
        max_body_bytes: 4 * 1024 * 1024,
        ..ApiSettings::default()
    };
    let api = TestApi::start_with(settings, None).await;
    let body = json!({
        "url": "https://hooks.example/a", "wire_format": "standard",
        "settings": { "mode": "x".repeat(2 * 1024 * 1024) },
    });
    let key = ("idempotency-key", "large-1");
    let first = with(&api, "POST", "/v1/endpoints", key, body.clone()).await;
    assert_eq!(first.status, 201, "whoever asked gets all of it");
    let again = with(&api, "POST", "/v1/endpoints", key, body).await;
    assert_eq!((again.status, again.code()), (409, "idempotency_conflict"));
    let detail = again.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("201") && detail.contains("too large"),
        "{detail}"
    );
    let listed = api.call("GET", "/v1/endpoints", Value::Null).await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn filters_take_several_values() {
    let api = TestApi::start().await;
    for query in [
        "status=failed,expired",
        "status=failed&status=expired",
        "reason=rejected,gone&status_code=400,503",
        "status_code=400&status_code=503",
        "hold=rate_limit,slots",
        "type=a.b,c&endpoint_id=ep_1,ep_2",
    ] {
        let listed = api
            .call("GET", &format!("/v1/deliveries?{query}"), Value::Null)
            .await;
        assert_eq!(listed.status, 200, "{query}: {listed:?}");
    }
    let wanted = json!({ "url": "https://hooks.example/a", "wire_format": "standard" });
    let put = api.call("PUT", "/v1/endpoints/billing", wanted).await;
    let id = put.body["id"].as_str().unwrap();
    let sent = json!({ "type": "a", "payload": 1, "endpoint_id": "billing" });
    let sent = api.call("POST", "/v1/notifications", sent).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    for named in ["billing", id, "nobody"] {
        for list in ["deliveries", "notifications"] {
            let path = format!("/v1/{list}?endpoint_id={named}");
            let listed = api.call("GET", &path, Value::Null).await;
            assert_eq!(listed.status, 200, "{path}: {listed:?}");
        }
        let filter = json!({ "endpoint_id": named, "status": "failed" });
        let path = "/v1/deliveries/replay?dry_run=true";
        let would = api.call("POST", path, filter).await;
        assert_eq!(would.status, 200, "{would:?}");
    }
    for query in [
        "status=failed,lost",
        "reason=none",
        "status_code=5xx",
        "hold=a",
        "limit=1&limit=2",
    ] {
        let refused = api
            .call("GET", &format!("/v1/deliveries?{query}"), Value::Null)
            .await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "invalid_query"),
            "{query}"
        );
    }
    let events = api
        .call(
            "GET",
            "/v1/events?type=delivery.failed,endpoint.disabled",
            Value::Null,
        )
        .await;
    assert_eq!(events.status, 200);
    let listed = api
        .call(
            "GET",
            "/v1/notifications?unmatched=true&type=a,b",
            Value::Null,
        )
        .await;
    assert_eq!(
        (listed.status, &listed.body["items"]),
        (200, &json!([])),
        "{listed:?}"
    );
}
