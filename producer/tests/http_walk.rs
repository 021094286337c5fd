//! A walk through every operation of the OpenAPI document, with every kind of key that must not get
//! through.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use posthaste_shared::domain::key::Scope;
use serde_json::{Value, json};
use support::{TestApi, answer};

/// An operation of the document.
struct Operation {
    method: String,
    path: String,
    definition: Value,
}

impl Operation {
    fn all() -> Vec<Self> {
        let document = posthaste_producer::http::openapi();
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, definition) in item.as_object().unwrap() {
                let method = method.to_uppercase();
                let path = path.clone();
                all.push(Self {
                    method,
                    path,
                    definition: definition.clone(),
                });
            }
        }
        all.retain(|operation| operation.definition["security"] != json!([]));
        assert!(all.len() > 25, "{}", all.len());
        all
    }

    /// The path with an id that is there for nobody.
    fn nowhere(&self) -> String {
        self.path
            .replace("{id}", "00000000-0000-0000-0000-000000000000")
    }

    /// What the document says that may be answered.
    fn knows(&self, status: u16) -> bool {
        self.definition["responses"]
            .get(status.to_string())
            .is_some()
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[tokio::test]
async fn no_operation_is_done_without_a_key_that_works() {
    let api = TestApi::start().await;
    let revoked = api
        .call(
            "POST",
            "/v1/keys",
            json!({ "name": "revoked", "scopes": ["admin"] }),
        )
        .await;
    let id = revoked.body["id"].as_str().unwrap();
    let revoked = revoked.body["key"].as_str().unwrap();
    // It has been used, so that it is remembered.
    assert_eq!(
        api.call_as(revoked, "GET", "/v1/endpoints", Value::Null)
            .await
            .status,
        200
    );
    assert_eq!(
        api.call("DELETE", &format!("/v1/keys/{id}"), Value::Null)
            .await
            .status,
        204
    );
    for operation in Operation::all() {
        let name = operation.name();
        let path = operation.nowhere();
        assert!(operation.knows(401) && operation.knows(403), "{name}");
        let refused = answer(api.request(&operation.method, &path)).await;
        assert_eq!(
            (refused.status, refused.code()),
            (401, "missing_key"),
            "{name}"
        );
        assert_eq!(refused.headers["www-authenticate"], "Bearer", "{name}");
        for key in ["ph_nonsense", revoked] {
            for body in [Value::Null, json!({})] {
                let refused = api.call_as(key, &operation.method, &path, body).await;
                assert_eq!(
                    (refused.status, refused.code()),
                    (401, "invalid_key"),
                    "{name}"
                );
            }
        }
    }
}

#[tokio::test]
async fn no_operation_is_done_with_too_small_a_scope() {
    let api = TestApi::start().await;
    let mut refusals = [0, 0];
    for (index, scope) in [Scope::Enqueue, Scope::Read].into_iter().enumerate() {
        let key = api.key(&[scope], None).await;
        for operation in Operation::all() {
            let name = operation.name();
            let method = operation.method.as_str();
            // Enqueueing is a POST, reading a GET; all else changes something, and so do lists of
            // what is no tenant's.
            let asks = operation.path == "/v1/notifications/audience";
            let of_notifications = operation.path.starts_with("/v1/notifications");
            let enqueues = method == "POST" && of_notifications && !asks;
            let administers = ["/v1/keys", "/v1/dead-letters", "/v1/redrives", "/v1/audit"]
                .iter()
                .any(|path| operation.path.starts_with(path));
            // A link to the console has the rights of the key that it comes from.
            let links = operation.path == "/v1/console-links";
            let reads = (method == "GET" && !administers) || links || asks;
            let allowed = match scope {
                Scope::Enqueue => enqueues,
                Scope::Read => reads,
                Scope::Admin => true,
            };
            if allowed {
                continue;
            }
            let refused = api
                .call_as(&key, method, &operation.nowhere(), Value::Null)
                .await;
            assert_eq!(
                (refused.status, refused.code()),
                (403, "missing_scope"),
                "{scope:?}: {name}"
            );
            refusals[index] += 1;
        }
    }
    assert!(refusals.iter().all(|count| *count > 10), "{refusals:?}");
}

#[tokio::test]
async fn another_tenants_things_are_not_there() {
    let api = TestApi::start().await;
    let endpoint = api.endpoint("acme").await;
    let key = api.key(&[Scope::Admin], Some("other")).await;
    let replay = json!({ "status": "failed", "tenant": "acme" });
    let replay = api.call("POST", "/v1/deliveries/replay", replay).await.body["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for operation in Operation::all() {
        let name = operation.name();
        let method = operation.method.as_str();
        let of_nobody = [
            "/v1/keys",
            "/v1/dead-letters",
            "/v1/redrives",
            "/v1/audit",
            "/v1/workers",
        ]
        .iter()
        .any(|path| operation.path.starts_with(path));
        let id = match &operation.path {
            path if path.starts_with("/v1/endpoints") => &endpoint,
            path if path.starts_with("/v1/replays") => &replay,
            path if path.starts_with("/v1/keys") => "key_1",
            _ => "00000000-0000-0000-0000-000000000000",
        };
        let path = operation.path.replace("{id}", id);
        let body = match operation.definition.get("requestBody") {
            Some(_) if operation.path.ends_with("/batch") => json!([]),
            Some(_) => json!({ "url": "https://hooks.example/x" }),
            None => Value::Null,
        };
        if of_nobody {
            let refused = api.call_as(&key, method, &path, body).await;
            assert_eq!(
                (refused.status, refused.code()),
                (403, "other_tenant"),
                "{name}"
            );
        } else if operation.path.contains("{id}") {
            // PATCH and PUT read their body before they look for the endpoint.
            let body = if operation.path.ends_with("/test")
                || operation.path.ends_with("/rotate-secret")
                || operation.path.ends_with("/render")
            {
                json!({})
            } else if operation.path.ends_with("/transform/try") {
                json!({ "transform": "export default (n) => n" })
            } else {
                body
            };
            let missing = api.call_as(&key, method, &path, body).await;
            assert_eq!(
                (missing.status, missing.code()),
                (404, "not_found"),
                "{name}: {missing:?}"
            );
            assert!(operation.knows(404), "{name}");
        } else if has_tenant(&operation) {
            let refused = api
                .call_as(&key, method, &format!("{path}?tenant=acme"), body)
                .await;
            assert_eq!(
                (refused.status, refused.code()),
                (403, "other_tenant"),
                "{name}"
            );
        }
    }
    // It is all still there.
    let there = api
        .call("GET", &format!("/v1/endpoints/{endpoint}"), Value::Null)
        .await;
    assert_eq!((there.status, &there.body["enabled"]), (200, &json!(true)));
}

fn has_tenant(operation: &Operation) -> bool {
    operation.definition["parameters"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["name"] == "tenant"))
}
