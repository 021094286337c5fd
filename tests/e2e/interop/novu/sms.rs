//! `generic-sms` against `novu-sms`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Both, assert_same, headers, send};
use crate::interop::Scene;
use crate::support::receiver::Received;

const TEXT: &str = "Your code is 420240. Olá 你好 👋 <a> & \"b\" \u{2028}\n";
const PHONE: &str = "+1234567890";

/// The integration's settings, which have the same names in both.
fn integration() -> Value {
    json!({
        "apiKeyRequestHeader": "X-API-KEY", "apiKey": "key-123", "from": "MyApp",
        "idPath": "data.id",
        "datePath": "data.date",
    })
}

fn with(mut base: Value, more: Value) -> Value {
    base.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    base
}

/// As Novu's worker calls the provider.
fn message(more: Value) -> Value {
    with(
        json!({
            "to": PHONE, "from": "MyApp", "content": TEXT, "id": "65c0d71c0959a38e8857b131",
            "customData": {},
        }),
        more,
    )
}

fn given(config: &Value, message: Value) -> Value {
    json!({"provider": "sms", "config": config, "send": message})
}

fn settings(config: &Value, more: Value) -> Value {
    json!({"wire_format": "novu-sms", "settings": with(config.clone(), more)})
}

fn notification(more: Value, overrides: Value) -> Value {
    let payload = with(
        json!({"content": TEXT, "id": "65c0d71c0959a38e8857b131"}),
        more,
    );
    json!({"payload": payload, "recipient": {"phone": PHONE}, "overrides": overrides})
}

fn full() -> Value {
    json!({"full_body": true})
}

#[tokio::test]
async fn the_full_body_is_the_provider_s() {
    let scene = Scene::start().await;
    let plain = integration();
    let secret = with(
        integration(),
        json!({"secretKeyRequestHeader": "X-Secret", "secretKey": "s3cr3t"}),
    );
    let half = with(integration(), json!({"secretKeyRequestHeader": "X-Secret"}));
    let data = json!({"customData": {"a_b": [1, "é", null], "C": {"d": true}}});
    let cases = [
        (&plain, json!({}), json!({}), json!({})),
        (&half, data.clone(), data, json!({})),
        (
            &plain,
            json!({"from": "Other"}),
            json!({}),
            json!({"sms": {"from": "Other"}}),
        ),
        (
            &plain,
            json!({"to": "+99", "content": "x"}),
            json!({}),
            json!({"generic-sms": {"to": "+99", "content": "x"}}),
        ),
    ];
    for (config, theirs, ours, overrides) in cases {
        let given = given(config, message(theirs));
        let both = Both::send(
            &scene,
            given,
            settings(config, full()),
            notification(ours, overrides),
        )
        .await;
        assert_same(&both.theirs, &both.ours);
        assert_eq!(both.ours.header("content-type"), "application/json");
        assert_eq!(
            both.result,
            json!({"id": "sms-1", "date": "2026-01-14T10:30:00.000Z"})
        );
        assert_eq!(both.result["id"], both.delivery["provider_message_id"]);
        assert_eq!(both.result["date"], both.delivery["provider_message_date"]);
    }
    let given = given(&secret, message(json!({})));
    let both = Both::send(
        &scene,
        given,
        settings(&secret, full()),
        notification(json!({}), json!({})),
    )
    .await;
    assert_same(&both.theirs, &both.ours);
    assert_eq!(
        (both.ours.header("x-api-key"), both.ours.header("x-secret")),
        ("key-123", "s3cr3t")
    );
}

/// Differs: Novu's documentation names three members, and those go out by default.
#[tokio::test]
async fn without_full_body_three_members_are_left_out() {
    let scene = Scene::start().await;
    let config = integration();
    let given = given(&config, message(json!({})));
    let both = Both::send(
        &scene,
        given,
        settings(&config, json!({})),
        notification(json!({}), json!({})),
    )
    .await;
    let mut theirs = both.theirs.json();
    for member in ["from", "id", "customData"] {
        assert!(
            theirs
                .as_object_mut()
                .unwrap()
                .shift_remove(member)
                .is_some(),
            "{member}"
        );
    }
    assert_eq!(both.ours.text(), theirs.to_string());
    assert_eq!(
        both.ours.json(),
        json!({"to": PHONE, "content": TEXT, "sender": "MyApp"})
    );
}

async fn by_token(scene: &Scene, more: Value) -> (Both, Vec<Received>) {
    let auth = scene.path("provider");
    let config = json!({
        "secretKeyRequestHeader": "X-Secret", "secretKey": "s3cr3t", "authenticateByToken": true,
        "domain": scene.receiver.url(&format!("{auth}?scope=sms")),
        "authenticationTokenKey": "X-Auth-Token",
    });
    let config = with(integration(), config);
    let given = given(&config, message(json!({})));
    let settings = settings(&config, with(full(), more));
    let both = Both::send(scene, given, settings, notification(json!({}), json!({}))).await;
    (both, scene.receiver.requests(&auth))
}

#[tokio::test]
async fn a_token_is_fetched_and_sent_as_the_provider_does() {
    let scene = Scene::start().await;
    let (both, asked) = by_token(&scene, json!({"token_replaces_keys": true})).await;
    assert_same(&both.theirs, &both.ours);
    assert_eq!(both.ours.header("x-auth-token"), "tok-789");
    let [theirs, ours] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(
        (&theirs.method, &theirs.target, &theirs.body),
        (&ours.method, &ours.target, &ours.body)
    );
    // Differs: axios names the type of a body that is not there.
    let mut headers_of_theirs = headers(theirs);
    assert_eq!(
        headers_of_theirs.remove("content-type").as_deref(),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(headers_of_theirs, headers(ours));

    // Differs: by default the API key headers go with the token, as Novu's documentation says and
    // its cloud does.
    let (both, _) = by_token(&scene, json!({})).await;
    assert_eq!(both.theirs.text(), both.ours.text());
    let names = |request: &Received| headers(request).into_keys().collect::<BTreeSet<_>>();
    let more: Vec<String> = names(&both.ours)
        .difference(&names(&both.theirs))
        .cloned()
        .collect();
    assert_eq!(more, ["x-api-key", "x-secret"]);
    assert!(names(&both.theirs).is_subset(&names(&both.ours)));
}

/// Overrides as `deepmerge` and `change-case` merge them.
#[tokio::test]
async fn overrides_are_merged_as_novu_s_libraries_do() {
    let scene = Scene::start().await;
    let config = integration();
    let base = json!({
        "customData": {
            "a": {"x": 1}, "list": [1, {"k": 1}], "gone": "v", "kept_name": "é", "list2": {"a": 1},
        },
    });
    let known = json!({
        "template_id": "otp",
        "HTTPServer": {"base_url": [{"a-1b": 1, "__x__": null}], "TemplateID": 2}, "iOSApp": false,
        "custom_data": {"list": [[2], "<&>"], "a": {"y_z": 2}, "list2": [1]}, "tags": ["k"],
        "sms.code": 1.5,
    });
    let body = json!({
        "templateId": "otp-template", "snake_case": {"stays_so": 1}, "tags": ["b", null],
        "sender": "Body",
        "customData": {"a": {"y": 2}, "list": [3], "gone": null, "new": {}}, "id": null,
    });
    let overrides = with(
        known.clone(),
        json!({"_passthrough": {"body": body.clone()}}),
    );
    let none = json!({});
    let cases = [
        (
            none.clone(),
            known.clone(),
            none.clone(),
            json!({"providers": {"generic-sms": known}}),
        ),
        (
            none.clone(),
            none.clone(),
            body.clone(),
            json!({"generic-sms": {"_passthrough": {"body": body.clone()}}}),
        ),
        (
            base.clone(),
            known.clone(),
            body.clone(),
            json!({"providers": {"generic-sms": overrides.clone()}}),
        ),
        (base, known, body, json!({"novu-sms": overrides})),
    ];
    for (base, known, body, overrides) in cases {
        let given = with(
            given(&config, message(base.clone())),
            json!({"known": known, "body": body}),
        );
        let both = Both::send(
            &scene,
            given,
            settings(&config, full()),
            notification(base, overrides),
        )
        .await;
        assert_same(&both.theirs, &both.ours);
        assert!(
            both.ours.text().contains("templateId"),
            "{}",
            both.ours.text()
        );
    }
}

/// Differs: this version of the provider takes an answer without an id for success, and keeps
/// numbers as such.
#[tokio::test]
async fn an_answer_without_an_id_is_a_failure_here() {
    let scene = Scene::start().await;
    let numbered = with(integration(), json!({"idPath": "data.number"}));
    let given_numbered = given(&numbered, message(json!({})));
    let both = Both::send(
        &scene,
        given_numbered,
        settings(&numbered, full()),
        notification(json!({}), json!({})),
    )
    .await;
    assert_eq!(
        (&both.result["id"], &both.delivery["provider_message_id"]),
        (&json!(42), &json!("42"))
    );

    let url = scene.receiver.url(&scene.path("provider"));
    let config = with(
        integration(),
        json!({"idPath": "data.nothing", "baseUrl": url}),
    );
    let said = send(given(&config, message(json!({})))).await;
    assert_eq!(said["result"], json!({"date": "2026-01-14T10:30:00.000Z"}));
    let ours = with(integration(), json!({"idPath": "data.nothing"}));
    for (optional, status, reason) in [
        (false, "failed", json!("provider_rejected")),
        (true, "delivered", Value::Null),
    ] {
        let settings = settings(&ours, json!({"id_optional": optional}));
        let endpoint = scene.api.endpoint(&url, settings).await;
        let id = scene
            .api
            .enqueue_to(&endpoint, notification(json!({}), json!({})))
            .await;
        let delivery = scene.api.finished(&id, 1).await.remove(0);
        assert_eq!(
            (&delivery["status"], &delivery["reason"]),
            (&json!(status), &reason),
            "{delivery}"
        );
    }
}
