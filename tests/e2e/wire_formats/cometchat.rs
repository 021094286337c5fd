//! CometChat's custom SMS provider: one request for each recipient.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Scene, body, end, once, shown};

const AVATAR: &str = "https://assets.cometchat.io/sampleapp/v2/users/cometchat-uid-4.webp";

fn payload(details: Value) -> Value {
    let sender = json!({ "uid": "cometchat-uid-4", "avatar": AVATAR, "name": "Susan Marie" });
    let mut payload = json!({
        "messages": [{ "sender": sender, "message": "Are we meeting on this \
            weekend?", "messageObject": { "id": 1 } }],
        "smsContent": "You've received new messages from Susan Marie! Read them at \
                       https://your-website.com/chat.",
        "appId": "app123", "region": "us" });
    super::merge(&mut payload, details);
    payload
}

fn one_on_one() -> Value {
    payload(json!({
        "senderDetails": { "uid": "cometchat-uid-4", "name": "Susan Marie", "avatar": AVATAR },
    }))
}

#[tokio::test]
async fn a_group_gets_a_request_for_each_member() {
    let scene = Scene::start().await;
    let endpoint = scene
        .endpoint("cometchat-sms", "/ok/all", json!({}), once())
        .await;
    let group = json!({ "guid": "g-1", "name": "Friends", "icon": "https://example.com/g.png" });
    let recipients = json!([
        { "uid": "u1", "name": "Ann", "phno": "+11" },
        { "uid": "u2", "name": "Ben" },
        { "uid": "u3", "name": "Cid", "phno": "+13" } ]);
    let notification = json!({ "payload": payload(json!({ "groupDetails": group })),
        "recipient": { "recipients": recipients } });
    let deliveries = scene.deliver(&endpoint, notification.clone(), 3).await;
    let told: BTreeMap<_, _> = deliveries
        .iter()
        .map(|one| (one["recipient"].as_str().unwrap(), end(one).0))
        .collect();
    assert_eq!(
        told,
        BTreeMap::from([
            ("u1", "delivered"),
            ("u2", "delivered"),
            ("u3", "delivered")
        ])
    );
    let requests = scene.receiver.requests("/ok/all");
    let ids: BTreeSet<_> = requests
        .iter()
        .map(|request| request.header("webhook-id"))
        .collect();
    assert_eq!((requests.len(), ids.len()), (3, 3));
    let mut to: Vec<_> = requests
        .iter()
        .map(|request| request.json()["data"]["to"].to_string())
        .collect();
    to.sort();
    let expected = [
        r#"{"uid":"u1","phno":"+11","name":"Ann"}"#,
        r#"{"uid":"u2","name":"Ben"}"#,
        r#"{"uid":"u3","phno":"+13","name":"Cid"}"#,
    ];
    assert_eq!(to, expected);
    for request in &requests {
        let data = &request.json()["data"];
        assert_eq!(
            (&data["groupDetails"], &data["senderDetails"]),
            (&group, &json!(null))
        );
        assert_eq!(
            data["messages"][0]["messageObject"],
            json!(null),
            "it goes out where the setting says so only"
        );
    }

    // Those without a stored number get none, where the settings want it so.
    let settings = json!({ "useStoredPhNo": true, "include_message_object": true });
    let endpoint = scene
        .endpoint("cometchat-sms", "/ok/stored", settings, once())
        .await;
    let deliveries = scene.deliver(&endpoint, notification, 3).await;
    for delivery in &deliveries {
        let expected = if delivery["recipient"] == "u2" {
            "cancelled"
        } else {
            "delivered"
        };
        assert_eq!(end(delivery), (expected, ""), "{delivery}");
        if expected == "cancelled" {
            assert!(
                delivery["last_error"]
                    .as_str()
                    .unwrap()
                    .contains("no_stored_phone_number"),
                "{delivery}"
            );
            assert_eq!(delivery["attempts"], json!([]));
        }
    }
    let requests = scene.receiver.requests("/ok/stored");
    let to: BTreeSet<_> = requests
        .iter()
        .map(|request| request.json()["data"]["to"]["uid"].to_string())
        .collect();
    assert_eq!(
        to,
        BTreeSet::from([r#""u1""#.to_owned(), r#""u3""#.to_owned()])
    );
    assert_eq!(
        requests[0].json()["data"]["messages"][0]["messageObject"],
        json!({ "id": 1 })
    );
}

#[tokio::test]
async fn basic_authentication_is_sent_and_never_shown() {
    let scene = Scene::start().await;
    let settings = json!({
        "useBasicAuth": true, "basicAuthUsername": "cometchat", "basicAuthPassword": "pa:ss word-1",
    });
    let endpoint = scene
        .endpoint("cometchat-sms", "/echo", settings, once())
        .await;
    let recipient =
        json!({ "uid": "cometchat-uid-1", "phno": "+919299334134", "name": "Andrew Joseph" });
    let notification = json!({ "payload": one_on_one(), "recipient": recipient });
    let delivery = scene.outcome(&endpoint, notification).await;
    assert_eq!(
        (end(&delivery), &delivery["recipient"]),
        (("delivered", ""), &json!("cometchat-uid-1")),
        "{delivery}"
    );
    let request = scene.receiver.requests("/echo").remove(0);
    assert_eq!(
        request.header("authorization"),
        "Basic Y29tZXRjaGF0OnBhOnNzIHdvcmQtMQ=="
    );
    assert!(
        request.headers.get("webhook-signature").is_none(),
        "it has no secret"
    );
    let sent = concat!(
        r#"{"trigger":"sms-notification-payload-generated","data":{"to":{"uid":"cometchat-uid-1","#,
        r#""phno":"+919299334134","name":"Andrew Joseph"},"#,
        r#""messages":[{"sender":{"uid":"cometchat-uid-4","#,
        r#""avatar":"https://assets.cometchat.io/sampleapp/v2/users/cometchat-uid-4.webp","#,
        r#""name":"Susan Marie"},"message":"Are we meeting on this weekend?"}],"#,
        r#""senderDetails":{"uid":"cometchat-uid-4","name":"Susan Marie","#,
        r#""avatar":"https://assets.cometchat.io/sampleapp/v2/users/cometchat-uid-4.webp"},"#,
        r#""smsContent":"You've received new messages from Susan Marie! "#,
        r#"Read them at https://your-website.com/chat."},"#,
        r#""appId":"app123","region":"us","webhook":"custom"}"#
    );
    assert_eq!(body(&request), sent);

    assert_eq!(shown(&delivery, "authorization"), "[redacted]");
    let id = endpoint["id"].as_str().unwrap();
    let told = format!(
        "{delivery}{}{}",
        scene.api.get(&format!("/v1/endpoints/{id}")).await,
        scene.up.log()
    );
    let tried = scene
        .api
        .post(&format!("/v1/endpoints/{id}/test"), json!({}))
        .await;
    assert_eq!(tried["outcome"], "delivered", "{tried}");
    for secret in ["Y29tZXRjaGF0", "pa:ss"] {
        assert!(
            !told.contains(secret) && !tried.to_string().contains(secret),
            "{secret} is shown: {told} {tried}"
        );
    }

    // With a secret that is brought along it is signed as well.
    let secret = "whsec_cGVlci12ZXJpZnktc3RhbmRhcmQta2V5LTMyYnl0ZXM=";
    let endpoint = scene
        .endpoint(
            "cometchat-sms",
            "/ok",
            json!({}),
            json!({ "secret": secret }),
        )
        .await;
    let recipient = json!({ "uid": "u", "name": "n" });
    let delivery = scene
        .outcome(
            &endpoint,
            json!({ "payload": one_on_one(), "recipient": recipient }),
        )
        .await;
    assert_eq!(end(&delivery).0, "delivered");
    crate::interop::verify_by_libraries(&scene.receiver.requests("/ok")[0], secret).await;
}
