//! httpSMS endpoints are told of Posthaste's own deliveries that failed or expired, as httpSMS
//! tells of its messages; nobody else is.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::receiver::Received;
use crate::support::{Api, Backend, Place, Process, Receiver};

const KEY: &str = "httpsms-signing-key-0123456789abcdef";
const MESSAGE: &str = "0b0123bb-ef2e-468f-908a-c026d51636aa";

async fn httpsms(api: &Api, url: &str, phone_number: &str) -> Value {
    let types = ["message.send.failed", "message.send.expired"];
    let subscription = json!({ "types": types, "phone_numbers": [phone_number] });
    let more = json!({ "wire_format": "httpsms", "secret": KEY, "subscription": subscription,
        "settings": { "user_id": "user-1" }, "retry": { "max_retries": 0 } });
    api.endpoint(url, more).await
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
    let (header, claims) = signed.split_once('.').unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.decode(header).unwrap(),
        br#"{"alg":"HS256","typ":"JWT"}"#
    );
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// A request of that event type, checked but for its data, which is returned.
fn data(requests: &[Received], kind: &str, url: &str) -> Value {
    let mine: Vec<_> = requests
        .iter()
        .filter(|request| request.header("x-event-type") == kind)
        .collect();
    assert_eq!(mine.len(), 1, "{kind}");
    let request = mine[0];
    assert_eq!(request.header("content-type"), "application/json");
    let claims = claims(request);
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!("api.httpsms.com"), &json!("user-1"))
    );
    assert_eq!(claims["aud"], json!([url]));
    let times = ["nbf", "iat", "exp"].map(|name| claims[name].as_i64().expect("a time"));
    assert_eq!((times[1] - times[0], times[2] - times[1]), (600, 600));
    let event = request.json();
    assert_eq!(
        (&event["specversion"], &event["type"]),
        (&json!("1.0"), &json!(kind))
    );
    assert_eq!(event["id"].as_str().expect("an id").len(), 36);
    event["data"].clone()
}

/// The one event of a delivery that ended, and the endpoints that were told of it as httpSMS does.
async fn told(api: &Api, kind: &str, delivery: &Value) -> BTreeSet<String> {
    let events = api.events(kind, delivery["id"].as_str().unwrap()).await;
    assert_eq!(events.len(), 1, "{kind}");
    let notification = format!("evt_{}-httpsms", events[0]["id"].as_str().unwrap());
    let deliveries = api.finished(&notification, 2).await;
    deliveries
        .iter()
        .map(|delivery| delivery["endpoint_id"].as_str().unwrap().to_owned())
        .collect()
}

async fn failures_and_expiries_are_told_of(backend: Backend) {
    let place = Place::new(backend).await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let receiver = Receiver::start().await;
    let url = receiver.url("/hook");
    let hook = httpsms(&api, &url, "+18005550199").await;
    let broken = httpsms(&api, &receiver.url("/status/500"), "+18005550199").await;
    httpsms(&api, &receiver.url("/other-phone"), "+18005550177").await;
    let everything = json!({ "subscription": { "types": ["message.*", "*"] } });
    api.endpoint(&receiver.url("/standard"), everything).await;
    let raw = |more: Value| {
        let mut endpoint = json!({ "wire_format": "raw", "secret": "" });
        endpoint
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        endpoint
    };
    let failing = api
        .endpoint(&receiver.url("/status/400"), raw(json!({})))
        .await;
    let waiting = api
        .endpoint(&receiver.url("/never"), raw(json!({ "enabled": false })))
        .await;

    let sms = json!({ "message_id": MESSAGE, "owner": "+18005550199", "contact": "+18005550100",
        "content": "Tom & Jerry <3", "request_id": "order-42" });
    let failed = api
        .enqueue_to(&failing, json!({ "type": "sms.send", "payload": sms }))
        .await;
    let other = json!({ "id": 7, "from": "+18005550199", "to": "+18005550100", "body": "late" });
    let expired = api
        .enqueue_to(
            &waiting,
            json!({ "type": "sms.send", "payload": other, "ttl_seconds": 1 }),
        )
        .await;
    let failed = api.finished(&failed, 1).await.remove(0);
    let expired = api.finished(&expired, 1).await.remove(0);

    let expected = BTreeSet::from(
        [&hook, &broken].map(|endpoint| endpoint["id"].as_str().unwrap().to_owned()),
    );
    assert_eq!(told(&api, "delivery.failed", &failed).await, expected);
    assert_eq!(told(&api, "delivery.expired", &expired).await, expected);

    let requests = receiver.wait_for("/hook", 2).await;
    let of_failed = data(&requests, "message.send.failed", &url);
    let whole = json!({ "id": MESSAGE, "error_message": failed["last_error"], "user_id": "user-1",
        "owner": "+18005550199", "request_id": "order-42", "contact": "+18005550100",
        "timestamp": failed["finished_at"], "encrypted": false, "content": "Tom & Jerry \
            <3", "sim": "DEFAULT" });
    assert_eq!(of_failed.to_string(), whole.to_string());
    let of_expired = data(&requests, "message.send.expired", &url);
    let whole = json!({
        "message_id": of_expired["message_id"], "owner": "+18005550199", "send_attempt_count": 0,
        "is_final": true, "request_id": null, "contact": "+18005550100", "encrypted": false,
        "user_id": "user-1", "timestamp": expired["finished_at"], "content": "late",
        "sim": "DEFAULT",
    });
    assert_eq!(of_expired.to_string(), whole.to_string());
    assert_eq!(of_expired["message_id"].as_str().expect("an id").len(), 36);

    // What could not be told is not told of: it makes no event of its own.
    let untold = api
        .all_deliveries(&format!("&endpoint_id={}", broken["id"].as_str().unwrap()))
        .await;
    assert_eq!(untold.len(), 2);
    for delivery in untold {
        assert_eq!(delivery["status"], "failed", "{delivery}");
        assert!(
            api.events("delivery.failed", delivery["id"].as_str().unwrap())
                .await
                .is_empty()
        );
    }
    assert_eq!(receiver.requests("/hook").len(), 2);
    assert!(
        receiver.requests("/standard").is_empty() && receiver.requests("/other-phone").is_empty()
    );
}

#[tokio::test]
async fn in_one_process() {
    failures_and_expiries_are_told_of(Backend::EmbeddedSqlite).await;
}

#[tokio::test]
async fn with_servers() {
    failures_and_expiries_are_told_of(Backend::RabbitPostgres).await;
}
