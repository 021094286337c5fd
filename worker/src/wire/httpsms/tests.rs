//! Tests of `httpsms`.

use posthaste_shared::domain::id::NotificationId;
use posthaste_shared::domain::wire_format::WireFormat;

use super::*;
use crate::wire::sms_fixture::{
    NOW, endpoint as endpoint_of, fields, notification, reply, subject, vectors,
};

fn endpoint(settings: &Value, secret: Option<&str>) -> Endpoint {
    endpoint_of(WireFormat::Httpsms, settings, secret)
}

fn received() -> Value {
    json!({ "message_id": "m-1", "owner": "+1", "contact": "+2", "content": "hi" })
}

fn body(endpoint: &Endpoint, notification: &Notification) -> String {
    let rendered = Httpsms
        .render(&subject(endpoint, notification, None))
        .unwrap();
    assert_eq!(rendered.content_type, "application/json");
    String::from_utf8(rendered.body.to_vec()).unwrap()
}

/// The claims of the token that a request carries, as JSON text.
fn claims(endpoint: &Endpoint, notification: &Notification) -> Option<String> {
    let of = subject(endpoint, notification, None);
    let headers = Httpsms
        .sign(&of, &Httpsms.render(&of).unwrap(), NOW)
        .unwrap();
    let header = headers.first()?;
    assert!(header.sensitive && header.name == "Authorization");
    let token = header
        .value
        .expose()
        .strip_prefix("Bearer ")
        .unwrap()
        .to_owned();
    let part = token.split('.').nth(1).unwrap();
    Some(String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
}

#[test]
fn the_token_is_that_of_the_vector() {
    let vector = vectors()["httpsms_jwt"].take();
    let key = vector["key"].as_str().unwrap();
    let mut payload = received();
    payload["user_id"] = "XtABz6zdeFMoBLoltz6SREDvRSh2".into();
    let notification = notification("message.phone.received", &json!({ "payload": payload }));
    for key in [key.to_owned(), format!("  {key}\n")] {
        let endpoint = endpoint(&json!({ "user_id": "another" }), Some(&key));
        assert_eq!(Httpsms.check(&endpoint), []);
        let of = subject(&endpoint, &notification, None);
        let headers = Httpsms
            .sign(&of, &Httpsms.render(&of).unwrap(), NOW)
            .unwrap();
        let expected = Header::secret(
            "Authorization",
            format!("Bearer {}", vector["token"].as_str().unwrap()),
        );
        assert_eq!(headers, [expected]);
        assert_eq!(
            claims(&endpoint, &notification).unwrap(),
            vector["claims"].as_str().unwrap()
        );
    }
}

#[test]
fn the_claims_follow_the_settings() {
    let notification = notification("message.phone.received", &json!({ "payload": received() }));
    let of = |settings: &Value| {
        let mut endpoint = endpoint(settings, Some("key"));
        endpoint.url = "https://example.com/a?b=1&c=2".parse().unwrap();
        claims(&endpoint, &notification).unwrap()
    };
    let times = r#""exp":1767226200,"nbf":1767225000,"iat":1767225600}"#;
    let url = r"https://example.com/a?b=1\u0026c=2";
    assert_eq!(
        of(&json!({})),
        format!(r#"{{"iss":"api.httpsms.com","sub":"","aud":["{url}"],{times}"#)
    );
    let mut bare = endpoint(&json!({}), Some("key"));
    bare.set_url(
        "https://example.com".parse().unwrap(),
        "https://example.com",
    );
    let token = claims(&bare, &notification).unwrap();
    assert!(
        token.contains(r#""aud":["https://example.com"]"#),
        "as it was written, without a slash: {token}"
    );
    let settings = json!({ "user_id": "u", "aud_string": true });
    assert_eq!(
        of(&settings),
        format!(r#"{{"iss":"api.httpsms.com","sub":"u","aud":"{url}",{times}"#)
    );
}

#[test]
fn without_a_key_there_is_no_token() {
    let notification = notification("message.phone.received", &json!({ "payload": received() }));
    for secret in [None, Some("  ")] {
        let endpoint = endpoint(&json!({}), secret);
        assert_eq!(Httpsms.check(&endpoint), []);
        assert_eq!(claims(&endpoint, &notification), None);
    }
    let mut rotated = endpoint(&json!({}), Some("old"));
    rotated.confidential.rotate(
        Secret::new("new"),
        NOW,
        NOW.after(std::time::Duration::from_secs(60)),
    );
    let of = subject(&rotated, &notification, None);
    let headers = Httpsms
        .sign(&of, &Httpsms.render(&of).unwrap(), NOW)
        .unwrap();
    let text = claims(&rotated, &notification).unwrap();
    assert_eq!(
        headers,
        [Header::secret(
            "Authorization",
            format!("Bearer {}", token("new", &text))
        )]
    );
}

#[test]
fn all_eight_bodies_are_those_of_the_vectors() {
    let vectors = vectors();
    let bodies = vectors["httpsms_bodies"].as_object().unwrap();
    assert_eq!(bodies.len(), 8);
    let endpoint = endpoint(&json!({}), None);
    for (kind, expected) in bodies {
        let expected = expected.as_str().unwrap();
        let event: Value = serde_json::from_str(expected).unwrap();
        let data: Map<String, Value> = event["data"]
            .as_object()
            .unwrap()
            .iter()
            .rev()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let own = json!({ "time": event["time"], "id": event["id"] });
        let notification = notification(
            kind,
            &json!({ "payload": data, "overrides": { "httpsms": own } }),
        );
        assert!(Httpsms.takes(&notification.kind));
        assert_eq!(Httpsms.check_notification(&endpoint, &notification), []);
        assert_eq!(body(&endpoint, &notification), expected, "{kind}");
        let rendered = Httpsms
            .render(&subject(&endpoint, &notification, None))
            .unwrap();
        assert_eq!(
            rendered.headers,
            [Header::open("X-Event-Type", kind.clone())]
        );
    }
}

#[test]
fn the_notification_gives_id_and_time() {
    let mut notification =
        notification("message.phone.received", &json!({ "payload": received() }));
    let event = |notification: &Notification| -> Value {
        serde_json::from_str(&body(
            &endpoint(&json!({ "user_id": "u" }), None),
            notification,
        ))
        .unwrap()
    };
    notification.id = NotificationId::parse("f4aed1d3-ab4f-42b9-b9dd-9fc7182f7197").unwrap();
    let sent = event(&notification);
    assert_eq!(sent["id"], "f4aed1d3-ab4f-42b9-b9dd-9fc7182f7197");
    assert_eq!(sent["time"], "2026-01-01T00:00:00Z");
    assert_eq!(sent["source"], "/v1/messages/receive");
    // All else becomes a UUID v4, of the first 16 bytes of its SHA-256.
    notification.id = NotificationId::parse("019b7a2e-0000-7000-8000-000000000000").unwrap();
    assert_eq!(
        event(&notification)["id"].as_str().unwrap().as_bytes()[14],
        b'4'
    );
    notification.id = NotificationId::parse("n-1").unwrap();
    assert_eq!(event(&notification)["id"], N_1);
}

/// The event id that belongs to the notification `n-1`.
const N_1: &str = "51aeea8f-fa05-4262-8d35-c87463465885";

#[test]
fn what_is_left_out_is_filled_in_and_what_is_unknown_goes_to_the_end() {
    let data = |kind: &str, payload: &Value| {
        let sent = body(
            &endpoint(&json!({ "user_id": "u" }), None),
            &notification(kind, &json!({ "payload": payload })),
        );
        sent[sent.find(r#""data":"#).unwrap() + 7..sent.len() - 1].to_owned()
    };
    let mut payload = received();
    payload["extra"] = json!({ "a": 1 });
    payload["sim"] = Value::Null;
    let expected = concat!(
        r#"{"message_id":"m-1","user_id":"u","owner":"+1","encrypted":false,"contact":"+2","#,
        r#""timestamp":"2026-01-01T00:00:00Z","content":"hi","sim":"DEFAULT","attachments":[],"#,
        r#""extra":{"a":1}}"#,
    );
    assert_eq!(data("message.phone.received", &payload), expected);
    let payload = json!({ "id": "m-1", "owner": "", "contact": "", "content": "" });
    let expected = concat!(
        r#"{"id":"m-1","error_message":"UNKNOWN ERROR","user_id":"u","owner":"","#,
        r#""request_id":null,"contact":"","timestamp":"2026-01-01T00:00:00Z","encrypted":false,"#,
        r#""content":"","sim":"DEFAULT"}"#,
    );
    assert_eq!(data("message.send.failed", &payload), expected);
}

#[test]
fn the_source_is_a_path_whatever_the_id() {
    let payload = json!({ "id": "a b/ü", "owner": "", "contact": "", "content": "" });
    let notification = notification("message.phone.sent", &json!({ "payload": payload }));
    let sent = body(&endpoint(&json!({}), None), &notification);
    assert!(
        sent.contains(r#""source":"/v1/messages/a%20b%2F%C3%BC/events""#),
        "{sent}"
    );
}

#[test]
fn escaping_can_be_turned_off() {
    let mut payload = received();
    payload["content"] = "a <b> & \u{2028}".into();
    let notification = notification("message.phone.received", &json!({ "payload": payload }));
    assert!(
        body(&endpoint(&json!({}), None), &notification).contains(r"a \u003cb\u003e \u0026 \u2028")
    );
    let plain = body(
        &endpoint(&json!({ "go_escape": false }), None),
        &notification,
    );
    assert!(plain.contains("a <b> & \u{2028}"), "{plain}");
}

#[test]
fn discord_gets_a_message_where_it_is_asked_for() {
    let mut to_discord = endpoint(&json!({ "discord": true }), Some("key"));
    let notification_of = |kind: &str| {
        let mut payload = received();
        payload["id"] = "m-1".into();
        notification(kind, &json!({ "payload": payload }))
    };
    let received = notification_of("message.phone.received");
    assert!(body(&to_discord, &received).contains("specversion"));
    to_discord.url = "https://discord.com/api/webhooks/1/x".parse().unwrap();
    let message: Value = serde_json::from_str(&body(&to_discord, &received)).unwrap();
    let values: Vec<&str> = message["embeds"][0]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["value"].as_str().unwrap())
        .collect();
    assert_eq!(values, ["+2", "+1", "hi", "m-1"]);
    assert_eq!(message["username"], "httpsms.com");
    assert!(claims(&to_discord, &received).is_some());
    assert!(body(&to_discord, &notification_of("message.phone.sent")).contains("specversion"));
    to_discord.confidential.settings.clear();
    assert!(body(&to_discord, &received).contains("specversion"));
}

#[test]
fn answers_are_read_by_their_status() {
    let said = |settings: &Value, status: u16| match Httpsms.classify(
        &endpoint(settings, None),
        &reply(status, ""),
        NOW,
    ) {
        Outcome::Accepted { .. } => "ok".to_owned(),
        Outcome::Refused { reason, .. } => reason.as_str().to_owned(),
        Outcome::Transient { kind, .. } => format!("{kind:?}"),
    };
    let table = [
        (200, "ok", "ok"),
        (204, "ok", "ok"),
        (302, "rejected", "ok"),
        (400, "rejected", "ServerError"),
        (404, "rejected", "ServerError"),
        (410, "gone", "ServerError"),
        (429, "TooManyRequests", "TooManyRequests"),
        (500, "ServerError", "ServerError"),
        (501, "ServerError", "ServerError"),
    ];
    for (status, usual, v2025) in table {
        assert_eq!(said(&json!({}), status), usual, "{status}");
        assert_eq!(
            said(&json!({ "retry": "v2025" }), status),
            v2025,
            "{status}"
        );
    }
}

#[test]
fn members_that_are_missing_or_wrong_are_named() {
    let endpoint = endpoint(&json!({}), None);
    let problems = |kind: &str, members: &Value| {
        let notification = notification(kind, members);
        let found = Httpsms.check_notification(&endpoint, &notification);
        let refused = Httpsms.render(&subject(&endpoint, &notification, None));
        assert_eq!(found.is_empty(), refused.is_ok());
        if let (Some(first), Err(Unwritten::Error(error))) = (found.first(), refused) {
            assert_eq!(first.field, error.member);
        }
        found
            .into_iter()
            .map(|problem| problem.field)
            .collect::<Vec<_>>()
    };
    let empty = json!({ "payload": {} });
    let message = [
        "payload.message_id",
        "payload.owner",
        "payload.contact",
        "payload.content",
    ];
    assert_eq!(problems("message.phone.received", &empty), message);
    assert_eq!(problems("message.phone.sent", &empty)[0], "payload.id");
    let expired = [
        "message_id",
        "owner",
        "send_attempt_count",
        "is_final",
        "contact",
        "content",
    ];
    assert_eq!(
        problems("message.send.expired", &empty),
        expired.map(|name| format!("payload.{name}"))
    );
    let heartbeat = [
        "phone_id",
        "last_heartbeat_timestamp",
        "monitor_id",
        "owner",
    ];
    assert_eq!(
        problems("phone.heartbeat.online", &empty),
        heartbeat.map(|name| format!("payload.{name}"))
    );
    assert_eq!(problems("message.sent", &empty), ["type"]);
    assert_eq!(
        problems("message.phone.received", &json!({ "payload": 1 })),
        ["payload"]
    );
    let with = |member: &str, value: Value| {
        let mut payload = received();
        payload[member] = value;
        problems("message.phone.received", &json!({ "payload": payload }))
    };
    assert_eq!(with("message_id", json!("")), ["payload.message_id"]);
    assert_eq!(with("content", json!(1)), ["payload.content"]);
    assert_eq!(
        with("attachments", json!(["a", 1])),
        ["payload.attachments[1]"]
    );
    assert_eq!(with("timestamp", json!("today")), ["payload.timestamp"]);
    let over = |own: Value| {
        problems(
            "message.phone.received",
            &json!({ "payload": received(), "overrides": { "httpsms": own } }),
        )
    };
    assert_eq!(over(json!({ "time": "today" })), ["overrides.httpsms.time"]);
    assert_eq!(over(json!({ "id": "" })), ["overrides.httpsms.id"]);
    assert_eq!(over(json!({ "source": 1 })), ["overrides.httpsms.source"]);
    assert_eq!(
        over(json!({ "id": "x", "source": "/s", "time": "2026-01-01T00:00:00.123456789Z" })),
        Vec::<String>::new()
    );
}

#[test]
fn says_what_is_wrong_with_an_endpoint() {
    let problems = |settings: &Value, secret: Option<&str>| {
        Httpsms
            .check(&endpoint(settings, secret))
            .into_iter()
            .map(|problem| problem.field)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        problems(&json!({ "retry": "v2024" }), Some(&"ü".repeat(256))),
        ["settings.retry", "secret"]
    );
    assert_eq!(
        problems(&json!({ "events": [] }), Some(&"ü".repeat(255))),
        ["settings.events"]
    );
    assert!(!Httpsms.takes(&NotificationType::parse("delivery.failed").unwrap()));
    assert_eq!(Httpsms.new_secret(&Map::new()).unwrap().expose().len(), 32);
}

#[test]
fn the_sample_passes() {
    let sample = Httpsms.sample();
    let secret = Httpsms.new_secret(&Map::new()).unwrap();
    let endpoint = endpoint(&sample.settings, Some(secret.expose()));
    assert_eq!(fields(&Httpsms.check(&endpoint)), Vec::<&str>::new());
    let notification = notification(sample.kind, &json!({ "payload": sample.payload }));
    assert_eq!(Httpsms.check_notification(&endpoint, &notification), []);
}
