//! Tests of `events.rs`.

use posthaste_shared::domain::attempt::{Attempt, AttemptResult, Phases};
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, FailureReason};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::{DeliveryId, EndpointId, TenantId};
use posthaste_shared::domain::notification::{Origin, Priority};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;

use super::*;
use crate::wire;
use crate::wire::own_events::is_own_form;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn notification(id: &str, payload: &Value, recipient: Option<&Value>) -> Notification {
    let json = |value: &Value| RawJson::parse(value.to_string()).unwrap();
    Notification {
        id: NotificationId::parse(id).unwrap(),
        tenant: TenantId::parse("acme").unwrap(),
        kind: NotificationType::parse("sms.send").unwrap(),
        target: None,
        payload: json(payload),
        recipient: recipient.map(json),
        overrides: None,
        accepted_at: Timestamp::from_micros(0),
        deliver_at: None,
        expires_at: None,
        priority: Priority::High,
        origin: Origin::Producer,
        traceparent: None,
        hops: Hops::default(),
    }
}

fn event(about: &Notification, state: DeliveryState) -> Event {
    let endpoint_id = EndpointId::parse("ep_1").unwrap();
    let delivery = Delivery {
        id: DeliveryId::of(&about.id, &endpoint_id, None),
        notification_id: about.id.clone(),
        tenant: about.tenant.clone(),
        kind: about.kind.clone(),
        endpoint_id,
        wire_format: WireFormat::Raw,
        recipient: None,
        state,
        round: 1,
        attempt_count: 5,
        round_base: 0,
        created_at: about.accepted_at,
        expires_at: None,
        provider_message_id: None,
        provider_message_date: None,
        provider_error_code: None,
        last_error: Some("the endpoint answered 503".to_owned()),
        origin: Origin::Producer,
    };
    let attempt = Attempt {
        number: 5,
        round: 1,
        started_at: NOW,
        duration: std::time::Duration::ZERO,
        phases: Phases::default(),
        result: AttemptResult::ServerError,
        status_code: Some(503),
        error: None,
        response_body: None,
        resolved_address: None,
        request_headers: Vec::new(),
        worker: String::new(),
        console: None,
    };
    Event::of_outcome(&delivery, Some(&attempt)).unwrap()
}

const FAILED: DeliveryState = DeliveryState::Failed {
    at: NOW,
    reason: FailureReason::RetriesExhausted,
};
const EXPIRED: DeliveryState = DeliveryState::Expired { at: NOW };

fn made(about: &Notification, state: DeliveryState) -> (Notification, Value) {
    let event = event(about, state);
    let made = of(&event, &event.delivery().unwrap(), about).unwrap();
    assert_eq!(of(&event, &event.delivery().unwrap(), about).unwrap(), made);
    assert_eq!(made.id.as_str(), format!("evt_{}-httpsms", event.id));
    assert!(is_own_form(&made.kind) && made.origin == Origin::Event && made.accepted_at == NOW);
    assert_eq!(made.tenant, about.tenant);
    // The wire format takes it.
    let problems = wire::of(WireFormat::Httpsms).check_notification(&httpsms(), &made);
    assert_eq!(problems, []);
    let payload = serde_json::from_str(made.payload.as_str()).unwrap();
    (made, payload)
}

fn httpsms() -> Endpoint {
    wire::sms_fixture::endpoint(WireFormat::Httpsms, &json!({}), None)
}

#[test]
fn an_event_says_what_the_notification_said() {
    let id = "0b0123bb-ef2e-468f-908a-c026d51636aa";
    let payload = json!({ "message_id": id, "owner": "+1", "contact": "+2", "content": "hi",
        "user_id": "u",
        "request_id": "r", "sim": "SIM2", "encrypted": true, "secret": "x" });
    let (failed, data) = made(&notification("n-1", &payload, None), FAILED);
    assert_eq!(failed.kind.as_str(), "message.send.failed");
    let common = json!({ "owner": "+1", "contact": "+2", "content": "hi", "user_id": "u",
        "request_id": "r",
        "sim": "SIM2", "encrypted": true, "timestamp": "2026-01-01T00:00:00Z" });
    let with = |own: Value| {
        let mut all = common.as_object().unwrap().clone();
        all.extend(own.as_object().unwrap().clone());
        Value::Object(all)
    };
    assert_eq!(
        data,
        with(json!({ "id": id, "error_message": "the endpoint answered 503" }))
    );
    assert_eq!(failed.phone_number().as_deref(), Some("+1"));
    let (expired, data) = made(&notification("n-1", &payload, None), EXPIRED);
    assert_eq!(expired.kind.as_str(), "message.send.expired");
    assert_eq!(
        data,
        with(json!({ "message_id": id, "send_attempt_count": 5, "is_final": true }))
    );
}

#[test]
fn it_finds_the_members_of_other_wire_formats() {
    let words = |payload: Value, recipient: Option<Value>| {
        let (_, data) = made(&notification("n-1", &payload, recipient.as_ref()), FAILED);
        ["owner", "contact", "content"].map(|name| data[name].as_str().unwrap().to_owned())
    };
    let authgear = json!({ "to": "+2", "body": "code" });
    assert_eq!(words(authgear, None), ["", "+2", "code"]);
    let novu = json!({ "content": "hi", "from": "MyApp" });
    assert_eq!(
        words(novu.clone(), Some(json!({ "phone": "+3" }))),
        ["MyApp", "+3", "hi"]
    );
    assert_eq!(
        words(novu, Some(json!({ "phone": "+3", "phone_number": "+4" }))),
        ["MyApp", "+4", "hi"]
    );
    let cometchat = json!({ "smsContent": "new", "sender": { "uid": "a" } });
    assert_eq!(
        words(cometchat, Some(json!({ "uid": "b", "phno": "+5" }))),
        ["", "+5", "new"]
    );
    assert_eq!(
        words(
            json!({ "data": { "smsContent": "in" }, "sender": "+6" }),
            None
        ),
        ["+6", "", "in"]
    );
    for other in [
        json!("text"),
        json!(null),
        json!([1]),
        json!({ "owner": null, "content": "" }),
    ] {
        assert_eq!(words(other, None), ["", "", ""]);
    }
}

#[test]
fn the_messages_id_is_a_uuid() {
    let id = |payload: Value, id: &str| {
        let (_, data) = made(&notification(id, &payload, None), FAILED);
        data["id"].as_str().unwrap().to_owned()
    };
    let uuid = "0b0123bb-ef2e-468f-908a-c026d51636aa";
    assert_eq!(id(json!({}), uuid), uuid);
    assert_eq!(id(json!({ "id": uuid }), "n-1"), uuid);
    let derived = id(json!({}), "n-1");
    assert_eq!(derived, id(json!({}), "n-1"));
    assert_ne!(derived, id(json!({}), "n-2"));
    assert_eq!(
        id(json!({ "id": 7 }), "n-1"),
        id(json!({ "message_id": "7", "id": uuid }), "n-2")
    );
    assert_eq!((derived.len(), &derived[14..15]), (36, "4"));
}

#[test]
fn only_failed_and_expired_deliveries_are_told_of() {
    for kind in EventType::ALL {
        let told = matches!(kind, EventType::DeliveryFailed | EventType::DeliveryExpired);
        assert_eq!(kind_of(kind).is_some(), told, "{kind:?}");
        assert!(!is_own_form(&kind.notification_type()));
    }
}
