//! What cannot be sent is refused when it comes in, by the name of each member that is wrong.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Scene, members, novu_sms};

/// Whether each of these members is named, and said of it what must be; and no other is named.
fn named(errors: &[(String, String)], expected: &[(&str, &str)]) {
    let mut fields: Vec<_> = errors.iter().map(|(field, _)| field.as_str()).collect();
    let mut wanted: Vec<_> = expected.iter().map(|(field, _)| *field).collect();
    fields.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(fields, wanted, "{errors:?}");
    for (field, text) in expected {
        let said = &errors.iter().find(|(own, _)| own == field).unwrap().1;
        assert!(
            said.contains(text),
            "{field}: {said:?} does not say {text:?}"
        );
    }
}

/// What is said of which member.
type Said = &'static [(&'static str, &'static str)];

#[tokio::test]
async fn an_endpoints_settings_are_refused_by_name() {
    let scene = Scene::start().await;
    let cases: Vec<(&str, Value, Said)> = vec![
        (
            "novu-sms",
            json!({}),
            &[
                ("settings.apiKeyRequestHeader", "is missing"),
                ("settings.apiKey", "is missing"),
                ("settings.from", "is missing"),
            ],
        ),
        (
            "novu-sms",
            novu_sms::settings(json!({ "apiKeyRequestHeader": "X API" })),
            &[("settings.apiKeyRequestHeader", "not a header's name")],
        ),
        (
            "novu-sms",
            novu_sms::settings(json!({ "apiKey": "a\nb" })),
            &[("settings.apiKey", "control characters")],
        ),
        (
            "novu-sms",
            novu_sms::settings(json!({ "apiKey": 7 })),
            &[("settings.apiKey", "must be a string")],
        ),
        (
            "novu-sms",
            novu_sms::settings(json!({ "authenticateByToken": true })),
            &[
                ("settings.domain", "is missing"),
                ("settings.authenticationTokenKey", "is missing"),
            ],
        ),
        (
            "novu-sms",
            novu_sms::settings(json!({ "idpath": "id" })),
            &[("settings.idpath", "is not known")],
        ),
        (
            "novu-push",
            json!({ "require_secret": "yes" }),
            &[("settings.require_secret", "must be true or false")],
        ),
        (
            "httpsms",
            json!({ "retry": "never" }),
            &[("settings.retry", "v2025")],
        ),
        (
            "authgear-sms",
            json!({ "app_id": 1 }),
            &[("settings.app_id", "must be a string")],
        ),
        (
            "authgear-script",
            json!({}),
            &[("settings.script", "is missing")],
        ),
        (
            "authgear-script",
            json!({ "script": " " }),
            &[("settings.script", "is empty")],
        ),
        (
            "cometchat-sms",
            json!({ "useBasicAuth": true }),
            &[
                ("settings.basicAuthUsername", "is missing"),
                ("settings.basicAuthPassword", "is missing"),
            ],
        ),
        (
            "cometchat-sms",
            json!({ "useBasicAuth": true, "basicAuthUsername": "a:b", "basicAuthPassword": "p" }),
            &[("settings.basicAuthUsername", "colon")],
        ),
        (
            "cometchat-sms",
            json!({ "region": "mars" }),
            &[("settings.region", "`us`, `eu`")],
        ),
        (
            "standard",
            json!({ "signature": "v2" }),
            &[("settings.signature", "`v1`")],
        ),
        (
            "cloudevents",
            json!({ "handshake": true }),
            &[("settings.origin", "is missing")],
        ),
        (
            "raw",
            json!({ "transform": 7 }),
            &[("settings.transform", "must be a string")],
        ),
    ];
    for (format, settings, expected) in cases {
        let body = json!({
            "url": scene.receiver.url("/ok"), "wire_format": format, "settings": settings,
        });
        named(&scene.refused("/v1/endpoints", body).await, expected);
    }
    // Nor can they be changed to such.
    let endpoint = scene
        .endpoint("novu-sms", "/ok", novu_sms::settings(json!({})), json!({}))
        .await;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let patch = json!({ "settings": { "apiKeyRequestHeader": "X-Key", "from": "" } });
    let (status, problem) = scene.api.call(Method::PATCH, &path, Some(patch)).await;
    assert_eq!(status.as_u16(), 422, "{problem}");
    named(
        &members(&problem),
        &[
            ("settings.apiKey", "is missing"),
            ("settings.from", "is missing"),
        ],
    );
    let secret = json!({
        "url": scene.receiver.url("/ok"), "wire_format": "standard", "secret": "hunter22",
    });
    let errors = scene.refused("/v1/endpoints", secret).await;
    named(&errors, &[("secret", "whsec_")]);
    assert!(!errors[0].1.contains("hunter22"));
}

#[tokio::test]
async fn a_scripts_mistake_is_refused_with_its_place() {
    let scene = Scene::start().await;
    let scripts = [
        (
            "export default function (e) {\n  return { code: \"ok\" ;\n}\n",
            "line 2, column 23",
        ),
        ("const answer = 1;\nanswer;\n", "default"),
        ("export default 7;\n", "function"),
        (
            "import x from \"https://example.com/x.ts\";\nexport default () => x;\n",
            "line 1",
        ),
        (
            "let a = 1;\nlet a = 2;\nexport default () => a;\n",
            "line 2, column 5",
        ),
    ];
    for (script, place) in scripts {
        let body = json!({ "wire_format": "authgear-script", "settings": { "script": script } });
        named(
            &scene.refused("/v1/endpoints", body).await,
            &[("settings.script", place)],
        );
        let settings = json!({ "transform": script });
        let body = json!({
            "url": scene.receiver.url("/ok"), "wire_format": "standard", "settings": settings,
        });
        named(
            &scene.refused("/v1/endpoints", body).await,
            &[("settings.transform", place)],
        );
    }
    let long = format!("export default () => 1; // {}", "x".repeat(100 * 1024));
    let body = json!({ "wire_format": "authgear-script", "settings": { "script": long } });
    named(
        &scene.refused("/v1/endpoints", body).await,
        &[("settings.script", "102400")],
    );
}

#[tokio::test]
async fn a_notifications_members_are_refused_by_name_alone_and_in_a_batch() {
    let scene = Scene::start().await;
    let script = json!({ "script": "export default () => ({ code: \"ok\" });" });
    let novu = scene
        .endpoint("novu-sms", "/ok", novu_sms::settings(json!({})), json!({}))
        .await;
    let push = scene
        .endpoint("novu-push", "/ok", json!({}), json!({}))
        .await;
    let httpsms = scene.endpoint("httpsms", "/ok", json!({}), json!({})).await;
    let authgear = scene
        .endpoint("authgear-sms", "/ok", json!({}), json!({}))
        .await;
    let script = scene
        .endpoint("authgear-script", "/ok", script, json!({}))
        .await;
    let cometchat = scene
        .endpoint("cometchat-sms", "/ok", json!({}), json!({}))
        .await;
    let cases: Vec<(&Value, Value, Said)> = vec![
        (
            &novu,
            json!({ "payload": {} }),
            &[("payload.content", "is missing")],
        ),
        (
            &novu,
            json!({ "payload": { "content": 7 } }),
            &[("payload.content", "must be a string")],
        ),
        (
            &novu,
            json!({ "payload": { "content": "c" }, "recipient": { "phone": 7 } }),
            &[("recipient.phone", "must be a string")],
        ),
        (
            &novu,
            json!({ "payload": { "content": "c" }, "overrides": { "sms": { "to": 7 } } }),
            &[("overrides.sms.to", "must be a string")],
        ),
        (
            &push,
            json!({ "payload": {}, "recipient": { "device_tokens": "t" } }),
            &[("recipient.device_tokens", "must be a list")],
        ),
        (
            &httpsms,
            json!({ "type": "message.phone.received", "payload": { "owner": 1 } }),
            &[("payload.owner", "must be a string")],
        ),
        (
            &authgear,
            json!({ "payload": {} }),
            &[("payload.to", "is missing"), ("payload.body", "is missing")],
        ),
        (
            &authgear,
            json!({ "payload": { "to": "+1", "body": ["b"] } }),
            &[("payload.body", "must be a string")],
        ),
        (
            &script,
            json!({ "payload": { "to": "+1" } }),
            &[("payload.body", "is missing")],
        ),
        (
            &cometchat,
            json!({ "payload": { "messages": [] }, "recipient": { "name": "n" } }),
            &[
                ("payload.messages", "is empty"),
                ("payload.senderDetails", "is missing"),
                ("payload.smsContent", "is missing"),
                ("payload.appId", "is missing"),
                ("payload.region", "is missing"),
                ("recipient.uid", "is missing"),
            ],
        ),
    ];
    let mut batch = Vec::new();
    for (endpoint, more, expected) in &cases {
        let mut body = json!({ "type": "sms.otp", "endpoint_id": endpoint["id"] });
        super::merge(&mut body, more.clone());
        named(
            &scene.refused("/v1/notifications", body.clone()).await,
            expected,
        );
        batch.push(body);
    }
    // In a batch a good one between them goes through.
    let good = json!({
        "type": "sms.otp", "endpoint_id": authgear["id"], "payload": { "to": "+1", "body": "b" },
    });
    batch.insert(3, good);
    let answer = scene
        .api
        .post("/v1/notifications/batch", json!(batch))
        .await;
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(1), &json!(cases.len())),
        "{answer}"
    );
    let mut items = answer["items"].as_array().unwrap().clone();
    let accepted = items.remove(3);
    for (item, (_, _, expected)) in items.iter().zip(&cases) {
        named(&members(&item["error"]), expected);
    }
    scene
        .api
        .finished(accepted["id"].as_str().unwrap(), 1)
        .await;
    assert_eq!(scene.receiver.requests("/").len(), 1);
}

#[tokio::test]
async fn a_url_in_the_settings_that_may_not_be_called_is_refused_when_it_is_saved() {
    let scene = Scene::start().await;
    let settings = |domain: &str| {
        json!({
            "apiKeyRequestHeader": "X-Key", "apiKey": "key-123", "from": "MyApp",
            "authenticateByToken": true, "domain": domain, "authenticationTokenKey": "X-Token",
        })
    };
    let body = |domain: &str| {
        json!({
            "wire_format": "novu-sms", "url": scene.receiver.url("/ok"),
            "settings": settings(domain),
        })
    };
    let blocked = async |method: Method, path: &str, body: Value| {
        let (status, problem) = scene.api.call(method, path, Some(body)).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (422, &json!("blocked_url")),
            "{problem}"
        );
        assert_eq!(
            problem["errors"][0]["field"], "settings.domain",
            "{problem}"
        );
    };
    for domain in [
        "http://10.0.0.1/token",
        "169.254.169.254/latest",
        "https://[fd00::1]/",
        "https://metadata.google.internal/",
    ] {
        blocked(Method::POST, "/v1/endpoints", body(domain)).await;
    }
    // A name that cannot be resolved now may be resolved later.
    let endpoint = scene
        .api
        .post("/v1/endpoints", body("https://auth.invalid/token"))
        .await;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    blocked(
        Method::PATCH,
        &path,
        json!({ "settings": settings("http://10.0.0.1/token") }),
    )
    .await;
    let (status, _) = scene
        .api
        .call(
            Method::PATCH,
            &path,
            Some(json!({ "settings": settings("http://127.0.0.1:1/token") })),
        )
        .await;
    assert_eq!(status.as_u16(), 200);
    // One that is not called, as no token is fetched, does no harm.
    let mut unused = body("http://10.0.0.1/token");
    unused["settings"]["authenticateByToken"] = false.into();
    scene.api.post("/v1/endpoints", unused).await;
}
