//! `settings.transform`: a script that changes what is sent.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::only;
use crate::wire_formats::{Scene, end, merge, once, shown};

async fn with(scene: &Scene, path: &str, transform: &str) -> Value {
    let mut more = once();
    merge(&mut more, json!({ "timeout_ms": 30_000 }));
    scene
        .endpoint("standard", path, json!({ "transform": transform }), more)
        .await
}

#[tokio::test]
async fn payload_headers_and_url_can_be_changed() {
    let scene = Scene::start().await;
    let script = r#"
        interface Order { total: number; items: string[] }
        export default function (notification: { payload: Order; type: string; tenant: string }) {
          const { total, items } = notification.payload as Order;
          console.log("items:", items.length, notification.tenant);
          return {
            payload: { text: `${items.join(", ")} for ${total}`, of: notification.type },
            headers: { "X-Total": String(total), "X-Auth-Key": "a-secret-key" },
            url: "URL",
          };
        }"#;
    let script = script.replace("URL", &scene.receiver.url("/elsewhere?b=c"));
    let endpoint = with(&scene, "/ok", &script).await;
    let payload = json!({ "total": 12.5, "items": ["tea", "milk"] });
    let delivery = scene
        .outcome(
            &endpoint,
            json!({ "type": "order.paid", "payload": payload }),
        )
        .await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("delivered", ""), &json!(1)),
        "{delivery}"
    );
    assert_eq!(
        delivery["attempts"][0]["console"]
            .as_str()
            .expect("a console")
            .trim(),
        "items: 2 default"
    );
    let request = only(&scene, "/elsewhere");
    assert!(scene.receiver.requests("/ok").is_empty());
    assert_eq!(request.query(), "b=c");
    assert_eq!(
        request.json()["data"],
        json!({ "text": "tea, milk for 12.5", "of": "order.paid" })
    );
    assert_eq!(
        (request.header("x-total"), request.header("x-auth-key")),
        ("12.5", "a-secret-key")
    );
    assert_eq!(
        (shown(&delivery, "x-total"), shown(&delivery, "x-auth-key")),
        ("[redacted]", "[redacted]")
    );
    // What was changed is what is signed; what was enqueued is what is kept.
    crate::interop::verify_by_libraries(&request, endpoint["secret"].as_str().unwrap()).await;
    let id = delivery["notification_id"].as_str().unwrap();
    assert_eq!(
        scene.api.get(&format!("/v1/notifications/{id}")).await["payload"],
        payload
    );
}

#[tokio::test]
async fn what_it_skips_is_cancelled() {
    let scene = Scene::start().await;
    let script =
        "export default ({ payload }) => payload.quiet ? { skip: true } : { keep_payload: true };";
    let endpoint = with(&scene, "/ok", script).await;
    let skipped = scene
        .outcome(&endpoint, json!({ "payload": { "quiet": true } }))
        .await;
    assert_eq!(
        (end(&skipped), &skipped["attempts"]),
        (("cancelled", ""), &json!([])),
        "{skipped}"
    );
    assert!(
        skipped["last_error"]
            .as_str()
            .unwrap()
            .starts_with("skipped (transform)"),
        "{skipped}"
    );
    let sent = scene
        .outcome(&endpoint, json!({ "payload": { "quiet": false } }))
        .await;
    assert_eq!(
        (end(&sent), &sent["attempts"][0]["console"]),
        (("delivered", ""), &json!(null)),
        "{sent}"
    );
    assert_eq!(
        only(&scene, "/ok").json()["data"],
        json!({ "quiet": false })
    );
}

#[tokio::test]
async fn one_that_fails_fails_the_delivery_and_says_where() {
    let scene = Scene::start().await;
    let failing = [
        (
            "export default (n) => {\n  const p = n.payload;\n  return p.missing.deeper;\n};",
            "line 3",
        ),
        (
            "export default () => {\n  throw new Error(\"no such customer\");\n};",
            "no such customer (line 2",
        ),
        (
            "export default async () => {\n  await Promise.reject(new Error(\"not today\"));\n};",
            "not today",
        ),
        (
            "export default async () => {\n  await fetch(\"RECEIVER\");\n  return {};\n};",
            "no network in a transform",
        ),
        ("export default () => {};", "returned nothing"),
        (
            "export default () => 7;",
            "payload or keep_payload: true, headers?, url?",
        ),
        ("export default () => ({});", "it returned no payload"),
        (
            "export default () => ({ payload: undefined });",
            "payload is undefined",
        ),
        (
            "export default ({ payload }) => ({ payload, headers: null });",
            "headers",
        ),
        ("export default () => ({ body: 1 });", "body"),
        (
            "export default () => ({ keep_payload: true, headers: { \"X A\": \"b\" } });",
            "X A",
        ),
        (
            "export default () => ({ keep_payload: true, url: \"not a url\" });",
            "the url that it returned",
        ),
        (
            "export default () => { const a = []; for (;;) a.push(new Array(100000).fill(a)); };",
            "32 MiB of memory",
        ),
    ];
    for (script, told) in failing {
        let script = script.replace("RECEIVER", &scene.receiver.url("/fetched"));
        let settings = json!({ "transform": script });
        // They have time, however busy the machine.
        let timeout = json!({ "timeout_ms": 30_000 });
        let endpoint = scene.endpoint("standard", "/ok", settings, timeout).await;
        let delivery = scene.outcome(&endpoint, json!({})).await;
        assert_eq!(
            end(&delivery),
            ("failed", "render_error"),
            "{script} {delivery}"
        );
        let error = delivery["last_error"].as_str().unwrap();
        assert!(
            error.starts_with("settings.transform failed: ") && error.contains(told),
            "{script} {error}"
        );
    }
    assert!(scene.receiver.requests("/").is_empty());
    // Where it must not go, it cannot send to either.
    let endpoint = with(
        &scene,
        "/ok",
        "export default () => ({ keep_payload: true, url: \"http://169.254.169.254/\" });",
    )
    .await;
    let delivery = scene.outcome(&endpoint, json!({})).await;
    assert_eq!(
        (end(&delivery), &delivery["attempts"][0]["result"]),
        (("failed", "blocked"), &json!("blocked")),
        "{delivery}"
    );
}

#[tokio::test]
async fn a_redaction_that_goes_wrong_sends_nothing_and_null_is_a_payload() {
    let scene = Scene::start().await;
    let payload = json!({ "card": "4111 1111 1111 1111" });
    for returned in [
        "{ payload: undefined }",
        "{}",
        "{ headers: { a: 'b' } }",
        "{ payload: payload.redacted }",
    ] {
        let endpoint = with(
            &scene,
            "/ok",
            &format!("export default ({{ payload }}) => ({returned});"),
        )
        .await;
        let delivery = scene
            .outcome(&endpoint, json!({ "payload": payload }))
            .await;
        assert_eq!(
            end(&delivery),
            ("failed", "render_error"),
            "{returned} {delivery}"
        );
    }
    assert!(scene.receiver.requests("/").is_empty());
    let endpoint = with(&scene, "/ok", "export default () => ({ payload: null });").await;
    scene
        .outcome(&endpoint, json!({ "payload": payload }))
        .await;
    assert_eq!(only(&scene, "/ok").json()["data"], Value::Null);
}

#[tokio::test]
async fn what_it_does_not_touch_has_the_bytes_that_were_enqueued() {
    let scene = Scene::start().await;
    let given =
        r#"{ "z": 9007199254740993, "big": 1e400, "2": 1.0, "1": [ -0, 0.10 ], "u": "\u0041" }"#;
    for (script, sent) in [
        ("({ payload }) => ({ payload })", given.to_owned()),
        ("() => ({ keep_payload: true })", given.to_owned()),
        (
            "({ payload: { z, u } }) => ({ payload: { z, u, more: true } })",
            r#"{"z":9007199254740993,"u":"\u0041","more":true}"#.to_owned(),
        ),
        (
            "({ payload }) => ({ payload: { z: payload.z + 2 } })",
            r#"{"z":9007199254740994}"#.to_owned(),
        ),
    ] {
        let mut more = once();
        merge(&mut more, json!({ "timeout_ms": 30_000 }));
        let settings = json!({ "transform": format!("export default {script};") });
        let endpoint = scene.endpoint("raw", "/raw", settings, more).await;
        let id = endpoint["id"].as_str().unwrap();
        let notification = format!(r#"{{"type":"a.b","endpoint_id":"{id}","payload":{given}}}"#);
        let accepted: Value = reqwest::Client::new()
            .post(format!("{}/v1/notifications", scene.up.url))
            .bearer_auth(crate::support::api::ADMIN_KEY)
            .header("content-type", "application/json")
            .body(notification)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        scene
            .api
            .finished(accepted["id"].as_str().unwrap(), 1)
            .await;
        assert_eq!(
            scene.receiver.requests("/raw").last().unwrap().text(),
            sent,
            "{script}"
        );
    }
}

#[tokio::test]
async fn the_url_that_it_chooses_takes_the_place_of_the_endpoints_everywhere() {
    let scene = Scene::start().await;
    scene.receiver.answer("/chosen", |_| (410, String::new()));
    let chosen = scene.receiver.url("/chosen?access_token=of-the-receiver");
    let script = format!("export default ({{ payload }}) => ({{ payload, url: \"{chosen}\" }});");
    let mut more = once();
    merge(&mut more, json!({ "timeout_ms": 30_000 }));
    let settings = json!({ "transform": script });
    let cloudevents = scene
        .endpoint("cloudevents", "/own", settings.clone(), more.clone())
        .await;
    let delivery = scene.outcome(&cloudevents, json!({})).await;
    // A token in the URL must not get into caches; and that this URL is gone says nothing of the
    // endpoint's own.
    assert_eq!(only(&scene, "/chosen").header("cache-control"), "no-store");
    assert_eq!(end(&delivery), ("failed", "rejected"), "{delivery}");
    let path = format!("/v1/endpoints/{}", cloudevents["id"].as_str().unwrap());
    assert_eq!(scene.api.get(&path).await["enabled"], true);
    let report = scene.api.post(&format!("{path}/test"), json!({})).await;
    let shown = report["request"]["url"].as_str().unwrap();
    assert!(
        shown.contains("/chosen") && !shown.contains("of-the-receiver"),
        "{report}"
    );

    merge(&mut more, json!({ "secret": "a-key" }));
    let httpsms = scene.endpoint("httpsms", "/own", settings, more).await;
    let payload = json!({
        "message_id": "0b0123bb-ef2e-468f-908a-c026d51636aa", "user_id": "u",
        "owner": "+18005550199", "contact": "+18005550100", "content": "x", "sim": "SIM1",
    });
    scene
        .outcome(
            &httpsms,
            json!({ "type": "message.phone.received", "payload": payload }),
        )
        .await;
    let token = scene
        .receiver
        .requests("/chosen")
        .last()
        .unwrap()
        .header("authorization")
        .to_owned();
    let claims = URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1).unwrap())
        .unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&claims).unwrap()["aud"],
        json!([chosen])
    );
    assert!(scene.receiver.requests("/own").is_empty());
}

#[tokio::test]
async fn what_it_has_yet_to_write_is_not_checked_at_the_door() {
    let scene = Scene::start().await;
    let script = "export default ({ payload }) => \
        ({ payload: { to: payload.phone, body: payload.text } });";
    let mut more = once();
    merge(
        &mut more,
        json!({ "timeout_ms": 30_000, "secret": "0123456789abcdef0123456789abcdef" }),
    );
    let endpoint = scene
        .endpoint(
            "authgear-sms",
            "/echo",
            json!({ "transform": script }),
            more.clone(),
        )
        .await;
    let given = json!({ "payload": { "phone": "+44123456789", "text": "hello" } });
    scene.outcome(&endpoint, given).await;
    assert_eq!(only(&scene, "/echo").json()["to"], "+44123456789");
    // What it cannot change is checked as ever, alone and in a batch.
    let bad = json!({
        "type": "a.b", "payload": {}, "recipient": { "phone_number": 7 },
        "endpoint_id": endpoint["id"],
    });
    let refused = scene.refused("/v1/notifications", bad.clone()).await;
    assert_eq!(
        refused
            .iter()
            .map(|(field, _)| field.as_str())
            .collect::<Vec<_>>(),
        ["recipient.phone_number"]
    );
    let batch = scene
        .api
        .post("/v1/notifications/batch", json!([bad]))
        .await;
    assert!(
        batch.to_string().contains("recipient.phone_number"),
        "{batch}"
    );
    // What it leaves wrong is its fault, and says so.
    let wrong = scene.outcome(&endpoint, json!({ "payload": {} })).await;
    assert_eq!(end(&wrong), ("failed", "render_error"), "{wrong}");
    assert!(
        wrong["last_error"]
            .as_str()
            .unwrap()
            .contains("after the endpoint's transform"),
        "{wrong}"
    );
    // Without a transform nothing changes.
    let plain = scene
        .endpoint("authgear-sms", "/echo", json!({}), more)
        .await;
    scene
        .refused(
            "/v1/notifications",
            json!({ "type": "a.b", "payload": {}, "endpoint_id": plain["id"] }),
        )
        .await;
}

/// As a script's, a transform's time-out is an attempt that is made again, and never a notification
/// that cannot be written.
#[tokio::test]
async fn one_that_does_not_end_is_tried_again() {
    let scene = Scene::start().await;
    let script = "export default () => { console.log(\"begun\"); while (true); };";
    let more = json!({ "timeout_ms": 1_000, "retry": { "max_retries": 1 } });
    let endpoint = scene
        .endpoint("standard", "/ok", json!({ "transform": script }), more)
        .await;
    let delivery = scene.outcome(&endpoint, json!({})).await;
    assert_eq!(
        end(&delivery),
        ("failed", "retries_exhausted"),
        "{delivery}"
    );
    assert_eq!(delivery["attempt_count"], 2, "{delivery}");
    for attempt in delivery["attempts"].as_array().unwrap() {
        assert_eq!(
            (&attempt["result"], &attempt["error"]["code"]),
            (&json!("timeout"), &json!("timeout")),
            "{attempt}"
        );
        assert_eq!(
            attempt["console"].as_str().unwrap().trim(),
            "begun",
            "{attempt}"
        );
    }
    let error = delivery["last_error"].as_str().unwrap();
    assert!(
        error.contains("settings.transform: the script did not end within 1000 ms"),
        "{error}"
    );
    assert!(scene.receiver.requests("/ok").is_empty());
}

#[tokio::test]
async fn a_transform_is_tried_before_it_is_saved() {
    let scene = Scene::start().await;
    let endpoint = scene.endpoint("standard", "/ok", json!({}), once()).await;
    let path = format!(
        "/v1/endpoints/{}/transform/try",
        endpoint["id"].as_str().unwrap()
    );
    let tried = async |script: &str| {
        let notification = json!({ "type": "order.paid", "payload": { "total": 12.5 } });
        let body = json!({ "transform": script, "notification": notification });
        scene.api.post(&path, body).await
    };
    let wrong = tried("export default (n) => {\n  return 1 +;\n}").await;
    let problem = &wrong["problem"];
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&json!(2), &json!(13)),
        "{wrong}"
    );
    assert!(wrong["render"].is_null());

    let right = r#"export default (n) => {
        console.log("total", n.payload.total);
        return { payload: { sum: n.payload.total * 2 }, headers: { "X-Auth-Key": "a-secret" } };
    }"#;
    let tried_right = tried(right).await;
    let render = &tried_right["render"];
    assert_eq!(render["payload"], json!({ "sum": 25 }), "{tried_right}");
    assert_eq!(
        render["console"].as_str().map(str::trim),
        Some("total 12.5")
    );
    let body = render["request"]["body"].as_str().unwrap();
    assert!(body.contains("\"sum\":25"), "{body}");
    let shown = render["request"].to_string();
    assert!(
        shown.contains("webhook-signature") && !shown.contains("a-secret"),
        "{shown}"
    );
    assert!(tried_right["problem"].is_null());

    for (script, outcome) in [
        ("export default () => ({ skip: true })", "cancelled"),
        (
            "export default () => { throw new Error(\"no\") }",
            "render_error",
        ),
        ("export default () => {}", "render_error"),
        (
            "export default () => ({ payload: 1, url: \"http://169.254.169.254/\" })",
            "blocked",
        ),
    ] {
        let tried = tried(script).await;
        let render = &tried["render"];
        assert!(render["request"].is_null(), "{script}: {tried}");
        assert_eq!(render["outcome"], outcome, "{script}: {tried}");
    }
    // Nothing went out, and nothing is saved.
    assert!(scene.receiver.requests("/ok").is_empty());
    let shown = scene
        .api
        .get(&format!(
            "/v1/endpoints/{}",
            endpoint["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(shown["settings"], json!({}), "{shown}");
    // What is rendered is what a delivery sends.
    let path = path.replace("/transform/try", "/render");
    let rendered = scene.api.post(&path, json!({})).await;
    assert_eq!(rendered["outcome"], "sent", "{rendered}");
    assert!(scene.receiver.requests("/ok").is_empty());
}
