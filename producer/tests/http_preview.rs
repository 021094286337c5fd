//! What would be sent, and to whom: `/render`, `/transform/try`, `/audience`, `/v1/types`; and who
//! did what: `/v1/audit`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use posthaste_shared::domain::delivery::DeliveryState;
use posthaste_shared::domain::key::Scope;
use serde_json::{Value, json};
use support::{TestApi, recorded};

#[tokio::test]
async fn a_notification_is_rendered_and_nothing_is_sent() {
    let api = TestApi::start().await;
    let id = api.endpoint("acme").await;
    let path = format!("/v1/endpoints/{id}/render");
    let shown = api.call("POST", &path, Value::Null).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(shown.body["request"]["body"], "{\"sent\":{}}");
    assert_eq!(shown.body["outcome"], "sent");
    let body = json!({ "notification": { "type": "a", "payload": [1] } });
    let shown = api.call("POST", &path, body).await;
    assert_eq!(
        shown.body["notification"],
        json!({ "type": "a", "payload": [1] })
    );
    assert_eq!(shown.body["request"]["body"], "{\"sent\":[1]}");
    let wrong = json!({ "notification": { "type": "a b", "payload": 1 } });
    let refused = api.call("POST", &path, wrong).await;
    assert_eq!(refused.fields(), ["notification.type"]);
    assert_eq!(api.depth().await, 0);
    let other = api.key(&[Scope::Admin], Some("other")).await;
    let refused = api.call_as(&other, "POST", &path, Value::Null).await;
    assert_eq!((refused.status, refused.code()), (404, "not_found"));
}

#[tokio::test]
async fn a_transform_is_tried_before_it_is_saved() {
    let api = TestApi::start().await;
    let id = api.endpoint("acme").await;
    let path = format!("/v1/endpoints/{id}/transform/try");
    let body = json!({ "transform": "export default () => {\n  return 1 +;\n}" });
    let tried = api.call("POST", &path, body).await;
    assert_eq!(tried.status, 200, "{tried:?}");
    let expected = json!({ "line": 2, "column": 13, "message": "Unexpected token" });
    assert_eq!(tried.body, json!({ "problem": expected, "render": null }));
    let body = json!({
        "transform": "export default (n) => n",
        "notification": { "type": "a", "payload": 7, "tenant": "whoever" },
    });
    let tried = api.call("POST", &path, body).await;
    assert_eq!(tried.body["problem"], Value::Null, "{tried:?}");
    assert_eq!(tried.body["render"]["payload"], 7);
    assert_eq!(tried.body["render"]["console"], "export default (n) => n");
    let shown = api
        .call("GET", &format!("/v1/endpoints/{id}"), Value::Null)
        .await;
    assert_eq!(shown.body["settings"], json!({}), "nothing is saved");
    let refused = api.call("POST", &path, json!({})).await;
    assert_eq!(refused.status, 422);
    let other = api.key(&[Scope::Admin], Some("other")).await;
    let body = json!({ "transform": "x" });
    assert_eq!(api.call_as(&other, "POST", &path, body).await.status, 404);
}

#[tokio::test]
async fn it_is_told_who_would_get_a_notification() {
    let api = TestApi::start().await;
    let all = api.endpoint("acme").await;
    let some = json!({
        "url": "https://hooks.example/some", "wire_format": "standard", "tenant": "acme",
        "subscription": { "types": ["order.*"], "phone_numbers": ["+18005550199"] },
    });
    let some = api.call("POST", "/v1/endpoints", some).await.body["id"].clone();
    let off = api.endpoint("acme").await;
    api.call("POST", &format!("/v1/endpoints/{off}/disable"), Value::Null)
        .await;
    api.endpoint("other").await;
    let ids = async |key: &str, draft: Value| {
        let told = api
            .call_as(key, "POST", "/v1/notifications/audience", draft)
            .await;
        assert_eq!(told.status, 200, "{told:?}");
        assert_eq!(told.body["tenant"], "acme");
        let endpoints = told.body["endpoints"].as_array().unwrap().clone();
        assert_eq!(told.body["count"], endpoints.len());
        endpoints
    };
    let key = api.key(&[Scope::Read], Some("acme")).await;
    let draft = json!({ "type": "order.paid", "payload": { "owner": "+18005550199" } });
    let found = ids(&key, draft).await;
    let found: Vec<&Value> = found.iter().map(|endpoint| &endpoint["id"]).collect();
    assert_eq!(found, [&json!(all), &some]);
    let found = ids(&key, json!({ "type": "order.paid", "payload": 1 })).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let draft = json!({ "type": "a", "payload": "no good", "endpoint_id": off });
    let found = ids(&key, draft).await;
    assert_eq!(
        (&found[0]["enabled"], &found[0]["problems"][0]["field"]),
        (&json!(false), &json!("payload.text"))
    );
    for (draft, code) in [
        (
            json!({ "type": "a", "payload": 1, "endpoint_id": "ep_x" }),
            "unknown_endpoint",
        ),
        (
            json!({ "type": "a", "payload": 1, "tenant": "other" }),
            "other_tenant",
        ),
        (
            json!({ "type": "delivery.failed", "payload": 1 }),
            "invalid",
        ),
    ] {
        let refused = api
            .call_as(&key, "POST", "/v1/notifications/audience", draft)
            .await;
        assert_eq!(refused.code(), code);
    }
    assert_eq!(api.depth().await, 0, "nothing is enqueued");
}

#[tokio::test]
async fn the_types_are_those_of_the_tenant() {
    let api = TestApi::start().await;
    let at = api.clock.now();
    recorded(&api, "acme", "n-1", || DeliveryState::Delivered { at }).await;
    let types = api.call("GET", "/v1/types", Value::Null).await;
    let own = types.body["items"].clone();
    assert_eq!(own.as_array().map(Vec::len), Some(1), "{types:?}");
    let acme = api.key(&[Scope::Read], Some("acme")).await;
    let other = api.key(&[Scope::Read], Some("other")).await;
    let types = api.call_as(&acme, "GET", "/v1/types", Value::Null).await;
    assert_eq!(types.body["items"], own);
    let types = api.call_as(&other, "GET", "/v1/types", Value::Null).await;
    assert_eq!(types.body["items"], json!([]));
    let refused = api
        .call_as(&other, "GET", "/v1/types?tenant=acme", Value::Null)
        .await;
    assert_eq!(refused.code(), "other_tenant");
}

#[tokio::test]
async fn who_did_what_is_kept() {
    let api = TestApi::start().await;
    let id = api.endpoint("acme").await;
    let path = format!("/v1/endpoints/{id}");
    let patch = json!({ "description": "mine" });
    api.call("PATCH", &path, patch.clone()).await;
    // The same again changes nothing.
    api.call("PATCH", &path, patch).await;
    api.call("POST", &format!("{path}/disable"), Value::Null)
        .await;
    api.call("POST", &format!("{path}/rotate-secret"), Value::Null)
        .await;
    api.call("POST", &format!("{path}/test"), Value::Null).await;
    let key = json!({ "name": "ci", "scopes": ["admin"], "tenant": "acme" });
    let key = api.call("POST", "/v1/keys", key).await.body;
    let text = key["key"].as_str().unwrap();
    let refused = api.call_as(text, "GET", "/v1/audit", Value::Null).await;
    assert_eq!((refused.status, refused.code()), (403, "other_tenant"));
    let request = api.request("DELETE", &path).bearer_auth(text);
    let gone = support::answer(request.header("x-request-id", "ticket-7")).await;
    assert_eq!(gone.status, 204);
    let listed = api
        .call("GET", &format!("/v1/audit?object={id}"), Value::Null)
        .await;
    let items = listed.body["items"].as_array().unwrap();
    let actions: Vec<&str> = items
        .iter()
        .map(|item| item["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "endpoint.delete",
            "endpoint.test",
            "endpoint.rotate_secret",
            "endpoint.disable",
            "endpoint.change",
            "endpoint.create",
        ]
    );
    let last = &items[0];
    assert_eq!(
        json!([
            last["key_id"],
            last["key_name"],
            last["tenant"],
            last["request_id"]
        ]),
        json!([key["id"], "ci", "acme", "ticket-7"])
    );
    assert_eq!(items[5]["key_id"], "key_bootstrap");
    let of_key = format!("/v1/audit?key_id={}", key["id"].as_str().unwrap());
    let listed = api.call("GET", &of_key, Value::Null).await;
    assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(1));
    let made = api
        .call("GET", "/v1/audit?action=key.create", Value::Null)
        .await;
    assert_eq!(made.body["items"][0]["object"], key["id"]);
    assert!(!listed.body.to_string().contains(text));
    let refused = api
        .call("GET", "/v1/audit?action=nothing", Value::Null)
        .await;
    assert_eq!(refused.code(), "invalid_query");
}
