//! httpSMS's webhooks: the event, its token, and who gets which.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Scene, body, end, members, once};
use crate::support::receiver::Received;

const KEY: &str = "httpsms-signing-key-0123456789abcdef";

fn with_key(more: Value) -> Value {
    let mut members = json!({ "secret": KEY });
    super::merge(&mut members, more);
    members
}

fn received() -> Value {
    json!({ "type": "message.phone.received", "payload": {
        "message_id": "0b0123bb-ef2e-468f-908a-c026d51636aa",
        "user_id": "XtABz6zdeFMoBLoltz6SREDvRSh2",
        "owner": "+18005550199", "contact": "+18005550100", "timestamp": "2025-12-31T23:59:58.814Z",
        "content": "Tom & Jerry <3", "sim": "SIM1" },
        "overrides": { "httpsms": { "id": "f4aed1d3-ab4f-42b9-b9dd-9fc7182f7197",
            "time": "2026-01-01T00:00:00.524331882Z" } } })
}

/// The claims of a request's token, whose signature fits.
fn claims(request: &Received) -> Value {
    let token = request
        .header("authorization")
        .strip_prefix("Bearer ")
        .expect("a bearer token");
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap())
        .expect("a valid signature");
    serde_json::from_slice(
        &URL_SAFE_NO_PAD
            .decode(signed.split_once('.').unwrap().1)
            .unwrap(),
    )
    .unwrap()
}

#[tokio::test]
async fn a_retry_has_a_fresh_token_and_the_same_event() {
    let scene = Scene::start().await;
    scene.receiver.answers("/hook", &[(500, ""), (200, "")]);
    let endpoint = scene
        .endpoint("httpsms", "/hook?a=b", json!({}), with_key(json!({})))
        .await;
    let delivery = scene.outcome(&endpoint, received()).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("delivered", ""), &json!(2)),
        "{delivery}"
    );
    let results: Vec<_> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["result"].clone())
        .collect();
    assert_eq!(results, ["5xx", "2xx"]);

    let requests = scene.receiver.requests("/hook");
    assert_eq!(requests.len(), 2);
    let sent = concat!(
        r#"{"specversion":"1.0","id":"f4aed1d3-ab4f-42b9-b9dd-9fc7182f7197","#,
        r#""source":"/v1/messages/receive","type":"message.phone.received","#,
        r#""datacontenttype":"application/json","time":"2026-01-01T00:00:00.524331882Z","#,
        r#""data":{"message_id":"0b0123bb-ef2e-468f-908a-c026d51636aa","#,
        r#""user_id":"XtABz6zdeFMoBLoltz6SREDvRSh2","owner":"+18005550199","encrypted":false,"#,
        r#""contact":"+18005550100","timestamp":"2025-12-31T23:59:58.814Z","#,
        r#""content":"Tom \u0026 Jerry \u003c3","sim":"SIM1","attachments":[]}}"#
    );
    for request in &requests {
        assert_eq!(body(request), sent);
        assert_eq!(request.header("x-event-type"), "message.phone.received");
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("webhook-id"), delivery["id"]);
    }
    let tokens: Vec<_> = requests.iter().map(claims).collect();
    for token in &tokens {
        assert_eq!(
            (&token["iss"], &token["sub"]),
            (
                &json!("api.httpsms.com"),
                &json!("XtABz6zdeFMoBLoltz6SREDvRSh2")
            )
        );
        assert_eq!(token["aud"], json!([scene.receiver.url("/hook?a=b")]));
    }
    let made = |token: &Value| token["iat"].as_i64().unwrap();
    assert!(made(&tokens[1]) > made(&tokens[0]), "{tokens:?}");
    // Nobody is shown a token.
    assert_eq!(super::shown(&delivery, "authorization"), "[redacted]");
    assert!(!format!("{delivery}{}", scene.up.log()).contains("eyJ"));
}

#[tokio::test]
async fn what_the_endpoint_refuses_is_not_tried_again() {
    let scene = Scene::start().await;
    let endpoint = scene
        .endpoint("httpsms", "/status/404", json!({}), with_key(json!({})))
        .await;
    let delivery = scene.outcome(&endpoint, received()).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("failed", "rejected"), &json!(1)),
        "{delivery}"
    );
    assert_eq!(
        (
            &delivery["attempts"][0]["status_code"],
            super::error(&delivery, 0, "code")
        ),
        (&json!(404), "http_status")
    );
    assert_eq!(scene.receiver.requests("/status/404").len(), 1);
    // Without a key there is no token.
    let endpoint = scene
        .endpoint("httpsms", "/ok", json!({}), json!({ "secret": "" }))
        .await;
    assert_eq!(
        end(&scene.outcome(&endpoint, received()).await).0,
        "delivered"
    );
    assert!(
        scene.receiver.requests("/ok")[0]
            .headers
            .get("authorization")
            .is_none()
    );
}

#[tokio::test]
async fn only_its_eight_types_and_its_own_phones_get_there() {
    let scene = Scene::start().await;
    let mine = with_key(json!({ "subscription": { "phone_numbers": ["+18005550199"] } }));
    scene.endpoint("httpsms", "/ok/mine", json!({}), mine).await;
    scene
        .endpoint(
            "httpsms",
            "/ok/all",
            json!({}),
            with_key(json!({ "subscription": { "types": ["*"] } })),
        )
        .await;
    let other = with_key(json!({ "subscription": { "phone_numbers": ["+18005550177"] } }));
    scene
        .endpoint("httpsms", "/ok/other-phone", json!({}), other)
        .await;
    let types = json!({
        "subscription": { "types": ["message.phone.sent"], "phone_numbers": ["+18005550199"] },
    });
    scene
        .endpoint("httpsms", "/ok/other-type", json!({}), with_key(types))
        .await;
    scene
        .endpoint("raw", "/ok/witness", json!({}), json!({}))
        .await;

    let publish = async |notification: Value, count: usize| {
        let id = scene.api.post("/v1/notifications", notification).await["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let deliveries = scene.api.finished(&id, count).await;
        assert!(
            deliveries.len() == count && deliveries.iter().all(|one| one["status"] == "delivered"),
            "{deliveries:?}"
        );
    };
    publish(received(), 3).await;
    for kind in [
        "order.paid",
        "message.api.sent",
        "message.phone.received.again",
        "phone.updated",
    ] {
        let mut notification = received();
        notification["type"] = json!(kind);
        // The witness's: all are routed at once.
        publish(notification, 1).await;
    }
    let count = |path: &str| scene.receiver.requests(path).len();
    assert_eq!(
        (count("/ok/mine"), count("/ok/all"), count("/ok/witness")),
        (1, 1, 5)
    );
    assert_eq!((count("/ok/other-phone"), count("/ok/other-type")), (0, 0));
    let ids: Vec<_> = ["/ok/mine", "/ok/all"]
        .map(|path| scene.receiver.requests(path)[0].json()["id"].clone())
        .into();
    assert_eq!(ids[0], ids[1], "one event, one id");

    // Named as the endpoint it refuses them at once.
    let named = scene
        .endpoint("httpsms", "/ok/named", json!({}), with_key(once()))
        .await;
    let body = json!({ "type": "order.paid", "payload": {}, "endpoint_id": named["id"] });
    let (status, problem) = scene
        .api
        .call(reqwest::Method::POST, "/v1/notifications", Some(body))
        .await;
    assert_eq!(status.as_u16(), 422, "{problem}");
    let (field, text) = &members(&problem)[0];
    assert!(
        field == "type" && text.contains("phone.heartbeat.online"),
        "{problem}"
    );
}
