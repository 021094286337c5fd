//! `push-webhook` against `novu-push`.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Both, assert_same, send};
use crate::interop::Scene;

const KEY: &str = "super-secret-key é";
const TEXT: &str = "Olá 你好 👋 <a> & \"b\" \u{2028}\n";

/// As Novu's worker calls the provider.
fn message(token: &str, overrides: &Value, payload: &Value, step: &Value) -> Value {
    json!({
        "target": [token], "title": TEXT, "content": TEXT, "overrides": overrides,
        "payload": payload,
        "subscriber": subscriber(), "step": step,
    })
}

fn subscriber() -> Value {
    json!({
        "_id": "65c0d71c0959a38e8857b131", "subscriberId": "s1", "data": {"is_developer": "true"},
        "channels": [],
    })
}

fn no_digest() -> Value {
    json!({"digest": false, "events": [], "total_count": 0})
}

fn given(send: Value) -> Value {
    json!({"provider": "push", "config": {"hmacSecretKey": KEY}, "send": send})
}

fn settings() -> Value {
    json!({"wire_format": "novu-push", "secret": KEY})
}

fn notification(token: &str, overrides: &Value, payload: &Value, step: &Value) -> Value {
    json!({
        "payload": {"title": TEXT, "content": TEXT, "payload": payload, "step": step},
        "recipient": {"device_tokens": [token], "subscriber": subscriber()}, "overrides": overrides,
    })
}

#[tokio::test]
async fn request_and_signature_are_the_provider_s() {
    let scene = Scene::start().await;
    let digest = json!({"digest": true, "events": [{"a": 1.5}, {}], "total_count": 2});
    let replaced =
        json!({"subscriber": "of the payload", "k": [null, {"é": "<>"}], "step": 1, "z": 1});
    let cases = [
        (json!({}), json!({}), no_digest()),
        (json!({}), json!({"custom_message": TEXT}), digest),
        (
            json!({"sound": "x", "data": {"a_b": [1]}}),
            replaced,
            no_digest(),
        ),
    ];
    for (overrides, payload, step) in cases {
        let given = given(message("t1", &overrides, &payload, &step));
        let ours = notification("t1", &json!({"push-webhook": overrides}), &payload, &step);
        let both = Both::send(&scene, given, settings(), ours).await;
        assert_same(&both.theirs, &both.ours);
        assert_eq!(both.ours.header("x-novu-signature").len(), 64);
        assert_eq!(
            (&both.result["id"], &both.delivery["provider_message_id"]),
            (&json!("push-1"), &json!("push-1"))
        );
    }
}

/// Novu's worker calls the provider once for each token.
#[tokio::test]
async fn each_token_gets_the_provider_s_request() {
    let scene = Scene::start().await;
    let path = scene.path("provider");
    let url = scene.receiver.url(&path);
    for token in ["t1", "t2"] {
        let mut given = given(message(token, &json!({}), &json!({}), &no_digest()));
        given["config"]["webhookUrl"] = json!(url);
        assert_eq!(send(given).await["result"]["id"], "push-1");
    }
    let endpoint = scene.api.endpoint(&url, settings()).await;
    let mut ours = notification("", &json!({}), &json!({}), &no_digest());
    ours["recipient"]["device_tokens"] = json!(["t1", "t2", "t1"]);
    let id = scene.api.enqueue_to(&endpoint, ours).await;
    assert_eq!(scene.api.finished(&id, 2).await.len(), 2);
    let requests = scene.receiver.requests(&path);
    assert_eq!(requests.len(), 4);
    let (theirs, ours) = requests.split_at(2);
    for request in ours {
        let target = request.json()["target"].clone();
        let same = theirs
            .iter()
            .find(|theirs| theirs.json()["target"] == target);
        assert_same(same.expect("the provider's for this token"), request);
    }
    assert_ne!(ours[0].json()["target"], ours[1].json()["target"]);
}

/// Merging comes before signing.
#[tokio::test]
async fn overrides_are_merged_as_novu_s_libraries_do() {
    let scene = Scene::start().await;
    let known = json!({
        "android_config": {"channel_id": ["a"]}, "payload": {"k_l": [2], "new": null},
        "target": ["t2"],
    });
    let body = json!({
        "snake_case": 1, "title": "another <é>",
        "payload": {"list": [3], "subscriber": {"_id": null}},
    });
    let payload = json!({"list": [1, 2], "kL": [1]});
    let given = {
        let mut given = given(message("t1", &json!({}), &payload, &no_digest()));
        (given["known"], given["body"]) = (known.clone(), body.clone());
        given
    };
    let mut overrides = known;
    overrides["_passthrough"] = json!({"body": body});
    let overrides = json!({"providers": {"push-webhook": overrides}});
    let ours = notification("t1", &overrides, &payload, &no_digest());
    let both = Both::send(&scene, given, settings(), ours).await;
    assert_same(&both.theirs, &both.ours);
    let sent = both.ours.json();
    assert_eq!(
        (&sent["target"], &sent["payload"]["list"]),
        (&json!(["t1", "t2"]), &json!([1, 2, 3]))
    );
    assert_eq!(sent["androidConfig"], json!({"channelId": ["a"]}));
}

/// Differs: the provider cannot do without a key; Novu's documentation lets one leave it out, and
/// so does this.
#[tokio::test]
async fn without_a_key_the_provider_fails_and_posthaste_does_not_sign() {
    let scene = Scene::start().await;
    let path = scene.path("provider");
    let url = scene.receiver.url(&path);
    let message = message("t1", &json!({}), &json!({}), &no_digest());
    let said =
        send(json!({"provider": "push", "config": {"webhookUrl": url}, "send": message})).await;
    assert_eq!(said, json!({"error": "TypeError"}));
    assert!(scene.receiver.requests(&path).is_empty());
    let endpoint = scene
        .api
        .endpoint(&url, json!({"wire_format": "novu-push", "secret": ""}))
        .await;
    let request = scene
        .deliver_to(
            &endpoint,
            &path,
            notification("t1", &json!({}), &json!({}), &no_digest()),
        )
        .await;
    assert!(request.headers.get("x-novu-signature").is_none());
    let strict = json!({
        "wire_format": "novu-push", "url": url, "secret": "", "settings": {"require_secret": true},
    });
    let (status, problem) = scene
        .api
        .call(Method::POST, "/v1/endpoints", Some(strict))
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
}

/// Differs: what JavaScript's objects and numbers change stays as it was enqueued; to a receiver in
/// JavaScript both mean the same.
#[tokio::test]
async fn numbers_and_order_stay_as_they_were_enqueued() {
    let scene = Scene::start().await;
    let payload = json!({"b": 12_345_678_901_234_567_890_u64, "2": 1.0, "1": "a"});
    let given = given(message("t1", &json!({}), &payload, &no_digest()));
    let ours = notification("t1", &json!({}), &payload, &no_digest());
    let both = Both::send(&scene, given, settings(), ours).await;
    let theirs = both.theirs.text();
    let ours = both.ours.text();
    assert!(
        theirs.contains(r#"{"1":"a","2":1,"b":12345678901234567000,"#),
        "{theirs}"
    );
    assert!(
        ours.contains(r#"{"b":12345678901234567890,"2":1.0,"1":"a","#),
        "{ours}"
    );
}
