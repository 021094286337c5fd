//! Creating endpoints over HTTP: which members and addresses are refused, and which secrets are
//! shown.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

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
async fn an_endpoint_shows_its_secret_once() {
    let api = TestApi::start().await;
    let made = create(&api, json!({})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(made.headers["location"], format!("/v1/endpoints/{id}"));
    assert_eq!(made.body["retry"]["max_retries"], 4);
    assert_eq!(made.body["timeout_ms"], 5_000);
    for path in [format!("/v1/endpoints/{id}"), "/v1/endpoints".to_owned()] {
        let shown = api.call("GET", &path, Value::Null).await;
        assert_eq!(shown.status, 200);
        assert!(!shown.body.to_string().contains(&secret), "{shown:?}");
    }
    let own = create(&api, json!({ "secret": "whsec_mine" })).await;
    assert_eq!((own.status, own.body.get("secret")), (201, None), "{own:?}");
    assert_eq!(own.body["has_secret"], true);
    let refused = create(&api, json!({ "secret": "mine" })).await;
    assert_eq!((refused.status, refused.fields()), (422, vec!["secret"]));
    assert!(!refused.body.to_string().contains("\"mine\""));
    let raw = create(&api, json!({ "wire_format": "raw" })).await;
    assert_eq!(
        (raw.status, raw.body.get("secret"), &raw.body["has_secret"]),
        (201, None, &json!(false))
    );
}

#[tokio::test]
async fn a_url_is_needed_unless_a_script_is_called() {
    let api = TestApi::start().await;
    let without = |format: &str| json!({ "wire_format": format });
    let refused = api.call("POST", "/v1/endpoints", without("standard")).await;
    assert_eq!(
        (refused.status, refused.fields()),
        (422, vec!["url"]),
        "{refused:?}"
    );
    let made = api
        .call("POST", "/v1/endpoints", without("authgear-script"))
        .await;
    assert_eq!(
        (made.status, &made.body["url"]),
        (201, &json!("script:")),
        "{made:?}"
    );
}

#[tokio::test]
async fn an_empty_secret_stands_for_none() {
    let api = TestApi::start().await;
    let made = create(&api, json!({ "secret": "" })).await;
    assert_eq!(
        (
            made.status,
            made.body.get("secret"),
            &made.body["has_secret"]
        ),
        (201, None, &json!(false)),
        "{made:?}"
    );
}

#[tokio::test]
async fn scripts_are_not_shown() {
    let api = TestApi::start().await;
    let made = create(
        &api,
        json!({ "settings": { "script": "const key = 'sesame'", "mode": "x" } }),
    )
    .await;
    assert_eq!(
        made.body["settings"],
        json!({ "script": "[redacted]", "mode": "x" }),
        "{made:?}"
    );
}

#[tokio::test]
async fn addresses_that_may_not_be_called_are_refused() {
    let api = TestApi::start().await;
    for url in [
        "http://hooks.example/",
        "https://169.254.169.254/",
        "https://[::ffff:127.0.0.1]/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://inside.example/",
        "https://mixed.example/",
        "https://mapped.example/",
        "https://user:pass@hooks.example/",
        "ftp://hooks.example/",
        "https://2130706433/",
    ] {
        let refused = create(&api, json!({ "url": url })).await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "blocked_url"),
            "{url}: {refused:?}"
        );
        assert_eq!(refused.fields(), ["url"], "{url}");
    }
    for url in ["https://empty.example/", "https://unknown.example/"] {
        let refused = create(&api, json!({ "url": url })).await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "unresolvable_host"),
            "{url}: {refused:?}"
        );
        assert_eq!(refused.fields(), ["url"], "{url}");
    }
    // That name servers do not answer is no fault of the URL: the workers look again.
    assert_eq!(
        create(&api, json!({ "url": "https://slow.example/" }))
            .await
            .status,
        201
    );
    let refused = create(&api, json!({ "url": "https://" })).await;
    assert_eq!(
        (refused.status, refused.code(), refused.fields()),
        (422, "invalid", vec!["url"])
    );
    assert_eq!(
        create(&api, json!({ "url": "https://allowed.example/x" }))
            .await
            .status,
        201
    );
    let id = create(&api, json!({})).await.body["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let moved = api
        .call(
            "PATCH",
            &format!("/v1/endpoints/{id}"),
            json!({ "url": "https://inside.example/" }),
        )
        .await;
    assert_eq!((moved.status, moved.code()), (422, "blocked_url"));
}

#[tokio::test]
async fn every_broken_rule_is_named() {
    let api = TestApi::start().await;
    for (members, field) in [
        (json!({ "timeout_ms": 999 }), "timeout_ms"),
        (json!({ "timeout_ms": 60_001 }), "timeout_ms"),
        (json!({ "timeout_ms": "5s" }), "timeout_ms"),
        (json!({ "max_in_flight": 0 }), "max_in_flight"),
        (json!({ "max_in_flight": 10_001 }), "max_in_flight"),
        (
            json!({ "rate_limit_per_second": 0 }),
            "rate_limit_per_second",
        ),
        (json!({ "description": "x".repeat(1_001) }), "description"),
        (
            json!({ "retry": { "max_retries": 101 } }),
            "retry.max_retries",
        ),
        (json!({ "retry": { "retries": 1 } }), "retry.retries"),
        (json!({ "retry": { "on": ["6xx"] } }), "retry.on[0]"),
        (
            json!({ "subscription": { "types": ["a*"] } }),
            "subscription.types[0]",
        ),
        (
            json!({ "subscription": { "phone_numbers": ["+1 800"] } }),
            "subscription.phone_numbers[0]",
        ),
        (json!({ "headers": { "Host": "x" } }), "headers.Host"),
        (
            json!({ "headers": { "webhook-id": "x" } }),
            "headers.webhook-id",
        ),
        (json!({ "headers": { "a b": "x" } }), "headers.a b"),
        (json!({ "headers": { "X-A": "a\nb" } }), "headers.X-A"),
        (
            json!({ "headers": { "X-Key": "[redacted]" } }),
            "headers.X-Key",
        ),
        (json!({ "settings": { "nope": 1 } }), "settings.nope"),
        (
            json!({ "settings": { "api_key": "[redacted]" } }),
            "settings.api_key",
        ),
        (json!({ "wire_format": "carrier-pigeon" }), "wire_format"),
        (json!({ "colour": "red" }), "colour"),
        (json!({ "tenant": "a b" }), "tenant"),
    ] {
        let refused = create(&api, members.clone()).await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "invalid"),
            "{members}: {refused:?}"
        );
        assert_eq!(refused.fields(), [field], "{members}: {refused:?}");
    }
    let headers: serde_json::Map<String, Value> =
        (0..51).map(|n| (format!("X-{n}"), json!("v"))).collect();
    assert_eq!(
        create(&api, json!({ "headers": headers })).await.fields(),
        ["headers"]
    );
    let many = create(&api, json!({ "timeout_ms": 1, "max_in_flight": 0 })).await;
    assert_eq!(many.fields(), ["timeout_ms", "max_in_flight"]);
    let missing = api
        .call("POST", "/v1/endpoints", json!({ "wire_format": "raw" }))
        .await;
    assert_eq!(missing.fields(), ["url"]);
}
