//! Tests of `cometchat_sms.rs`.

use posthaste_shared::domain::wire_format::WireFormat;

use super::super::sms_fixture::{
    NOW, endpoint as endpoint_of, fields, notification, subject, vectors,
};
use super::*;

/// The body that CometChat's documentation shows, one-on-one.
const ONE_ON_ONE: &str = concat!(
    r#"{"trigger":"sms-notification-payload-generated","data":{"to":{"uid":"cometchat-uid-1","#,
    r#""phno":"+919299334134","name":"Andrew Joseph"},"messages":[{"sender":{"#,
    r#""uid":"cometchat-uid-4","#,
    r#""avatar":"https://assets.cometchat.io/sampleapp/v2/users/cometchat-uid-4.webp","#,
    r#""name":"Susan Marie"},"message":"Are we meeting on this weekend?"}],"senderDetails":{"#,
    r#""uid":"cometchat-uid-4","name":"Susan Marie","#,
    r#""avatar":"https://assets.cometchat.io/sampleapp/v2/users/cometchat-uid-4.webp"},"#,
    r#""smsContent":"You've received new messages from Susan Marie! Read them at "#,
    r#"https://your-website.com/chat."},"appId":"app123","region":"us","webhook":"custom"}"#,
);

/// The one for a group.
const GROUP: &str = concat!(
    r#"{"trigger":"sms-notification-payload-generated","data":{"to":{"uid":"cometchat-uid-1","#,
    r#""phno":"+919299334134","name":"Andrew Joseph"},"messages":[{"sender":{"#,
    r#""uid":"cometchat-uid-5","#,
    r#""avatar":"https://assets.cometchat.io/sampleapp/v2/users/cometchat-uid-5.webp","#,
    r#""name":"John Paul"},"message":"Hello all! What's up?"},{"sender":{"uid":"cometchat-uid-4","#,
    r#""avatar":"https://assets.cometchat.io/sampleapp/v2/users/cometchat-uid-4.webp","#,
    r#""name":"Susan Marie"},"message":"📷 Has shared an image"}],"groupDetails":{"#,
    r#""guid":"cometchat-guid-1","name":"Hiking Group","#,
    r#""icon":"https://assets.cometchat.io/sampleapp/v2/groups/cometchat-guid-1.webp"},"#,
    r#""smsContent":"You've received new messages in Hiking Group! Read them at "#,
    r#"https://your-website.com."},"appId":"app123","region":"eu","webhook":"custom"}"#,
);

fn endpoint(settings: &Value) -> Endpoint {
    endpoint_of(WireFormat::CometchatSms, settings, None)
}

fn body(
    endpoint: &Endpoint,
    notification: &Notification,
    recipient: Option<&str>,
) -> Result<Rendered, Unwritten> {
    CometchatSms.render(&subject(endpoint, notification, recipient))
}

fn text(rendered: &Rendered) -> String {
    String::from_utf8(rendered.body.to_vec()).unwrap()
}

/// The members of a notification that makes such a body, each object's members the other way round.
fn members(body: &str) -> Value {
    let mut whole: Value = serde_json::from_str(body).unwrap();
    let mut payload = whole["data"].take();
    let recipient = payload.as_object_mut().unwrap().shift_remove("to").unwrap();
    payload["appId"] = whole["appId"].take();
    payload["region"] = whole["region"].take();
    backwards(&json!({ "payload": payload, "recipient": recipient }))
}

fn backwards(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .rev()
            .map(|(name, value)| (name.clone(), backwards(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(values) => values.iter().map(backwards).collect(),
        other => other.clone(),
    }
}

fn several(uids: &[&str]) -> Recipients {
    let each = uids.iter().map(|uid| (*uid).to_owned()).collect();
    Recipients::Several {
        member: "recipient.recipients",
        each,
    }
}

#[test]
fn both_shapes_are_those_of_the_documentation() {
    let endpoint = endpoint(&json!({}));
    for expected in [ONE_ON_ONE, GROUP] {
        let notification = notification("sms", &members(expected));
        assert_eq!(
            CometchatSms.check_notification(&endpoint, &notification),
            []
        );
        assert_eq!(
            CometchatSms.recipients(&notification),
            several(&["cometchat-uid-1"])
        );
        assert_eq!(
            text(&body(&endpoint, &notification, Some("cometchat-uid-1")).unwrap()),
            expected
        );
    }
}

#[test]
fn basic_headers_are_those_of_the_vectors() {
    for vector in vectors()["cometchat_basic"].as_array().unwrap() {
        let settings = json!({
            "useBasicAuth": true, "basicAuthUsername": vector["user"],
            "basic_auth_password": vector["password"],
        });
        let endpoint = endpoint(&settings);
        assert_eq!(CometchatSms.check(&endpoint), []);
        let rendered = body(&endpoint, &notification("sms", &members(ONE_ON_ONE)), None).unwrap();
        let expected = Header::secret("Authorization", vector["header"].as_str().unwrap());
        assert_eq!(rendered.headers, [expected]);
    }
    let off = endpoint(&json!({ "basicAuthUsername": "a", "basicAuthPassword": "b" }));
    assert_eq!(
        body(&off, &notification("sms", &members(ONE_ON_ONE)), None)
            .unwrap()
            .headers,
        []
    );
}

#[test]
fn a_secret_adds_the_standard_webhooks_headers() {
    let vectors = vectors();
    let secret = vectors["standard_webhooks"]["secret"].as_str().unwrap();
    let signed = endpoint_of(WireFormat::CometchatSms, &json!({}), Some(secret));
    assert_eq!(CometchatSms.check(&signed), []);
    let notification = notification("sms", &members(ONE_ON_ONE));
    let of_signed = subject(&signed, &notification, None);
    let rendered = CometchatSms.render(&of_signed).unwrap();
    let headers = CometchatSms.sign(&of_signed, &rendered, NOW).unwrap();
    let names: Vec<&str> = headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(
        names,
        ["webhook-id", "webhook-timestamp", "webhook-signature"]
    );
    assert_eq!(
        headers,
        standard::headers(&of_signed, ONE_ON_ONE.as_bytes(), NOW).unwrap()
    );
    let unsigned = endpoint(&json!({}));
    assert_eq!(
        CometchatSms
            .sign(&subject(&unsigned, &notification, None), &rendered, NOW)
            .unwrap(),
        []
    );
    assert!(CometchatSms.new_secret(&Map::new()).is_none());
    let bad = endpoint_of(WireFormat::CometchatSms, &json!({}), Some("key"));
    assert_eq!(fields(&CometchatSms.check(&bad)), ["secret"]);
}

#[test]
fn each_recipient_gets_a_request_of_its_own() {
    let mut group = members(GROUP);
    group["recipient"] = json!({ "recipients": [
        { "uid": "a", "name": "A", "phno": "+1" }, { "uid": "b", "name": "B" },
        { "uid": "a", "name": "A again" }, { "name": "C", "uid": "c", "phno": "" },
        { "uid": "d", "name": "", "phno": null },
    ] });
    let notification = notification("sms", &group);
    assert_eq!(
        CometchatSms.check_notification(&endpoint(&json!({})), &notification),
        []
    );
    assert_eq!(
        CometchatSms.recipients(&notification),
        several(&["a", "b", "c", "d"])
    );
    let to = |uid: &str| {
        let sent = text(&body(&endpoint(&json!({})), &notification, Some(uid)).unwrap());
        let from = sent.find(r#""to":"#).unwrap();
        sent[from..sent.find(r#","messages""#).unwrap()].to_owned()
    };
    assert_eq!(to("a"), r#""to":{"uid":"a","phno":"+1","name":"A"}"#);
    assert_eq!(to("b"), r#""to":{"uid":"b","name":"B"}"#);
    assert_eq!(to("c"), r#""to":{"uid":"c","name":"C"}"#);
    assert_eq!(to("d"), r#""to":{"uid":"d","name":""}"#);
    let stored = endpoint(&json!({ "useStoredPhNo": true }));
    assert!(body(&stored, &notification, Some("a")).is_ok());
    for uid in ["b", "c", "d"] {
        let skipped = body(&stored, &notification, Some(uid));
        assert!(
            matches!(skipped, Err(Unwritten::Skip(skip)) if skip.code == "no_stored_phone_number"),
            "{uid}"
        );
    }
}

#[test]
fn the_message_object_goes_out_where_it_is_asked_for() {
    let mut one = members(ONE_ON_ONE);
    one["payload"]["messages"][0]["messageObject"] = json!({ "id": "9", "text": "hi" });
    one["payload"]["messages"][0]["metadata"] = json!({ "k": 1 });
    let notification = notification("sms", &one);
    let without = text(&body(&endpoint(&json!({})), &notification, None).unwrap());
    assert!(
        without.contains(r#""message":"Are we meeting on this weekend?","metadata":{"k":1}}]"#),
        "{without}"
    );
    let with = text(
        &body(
            &endpoint(&json!({ "include_message_object": true })),
            &notification,
            None,
        )
        .unwrap(),
    );
    assert!(
        with.contains(r#"weekend?","messageObject":{"id":"9","text":"hi"},"metadata":{"k":1}}]"#),
        "{with}"
    );
}

#[test]
fn members_that_are_missing_or_wrong_are_named() {
    let problems = |members: &Value, settings: &Value| {
        let notification = notification("sms", members);
        let endpoint = endpoint(settings);
        let found = CometchatSms.check_notification(&endpoint, &notification);
        if let Some(first) = found
            .iter()
            .find(|problem| problem.field.starts_with("payload"))
        {
            let refused = body(&endpoint, &notification, None);
            let of_recipient = found
                .iter()
                .find(|problem| problem.field.starts_with("recipient"));
            let expected = &of_recipient.unwrap_or(first).field;
            assert!(
                matches!(&refused, Err(Unwritten::Error(error)) if error.member == *expected),
                "{refused:?}"
            );
        }
        found
            .into_iter()
            .map(|problem| problem.field)
            .collect::<Vec<_>>()
    };
    let none = json!({});
    let all = [
        "payload.messages",
        "payload.senderDetails",
        "payload.smsContent",
        "payload.appId",
        "payload.region",
    ];
    let found = problems(&json!({ "payload": {} }), &none);
    assert_eq!(
        found,
        [all.as_slice(), &["recipient.uid", "recipient.name"]].concat()
    );
    let found = problems(
        &json!({ "payload": {}, "recipient": { "uid": "a" } }),
        &json!({ "appId": "x", "region": "in" }),
    );
    assert_eq!(found, [&all[..3], &["recipient.name"]].concat());
    let change = |pointer: &str, value: Value| {
        let mut members = members(ONE_ON_ONE);
        match members.pointer_mut(pointer) {
            Some(member) => *member = value,
            None => members["payload"][pointer.trim_start_matches("/payload/")] = value,
        }
        problems(&members, &none)
    };
    assert_eq!(change("/payload/messages", json!([])), ["payload.messages"]);
    assert_eq!(
        change("/payload/messages/0/sender", json!({ "uid": "a" })),
        ["payload.messages[0].sender.name"]
    );
    assert_eq!(
        change("/payload/messages/0/message", json!(1)),
        ["payload.messages[0].message"]
    );
    assert_eq!(
        change("/payload/groupDetails", json!({ "guid": "g", "name": "G" })),
        ["payload.groupDetails"]
    );
    assert_eq!(change("/payload/region", json!("asia")), ["payload.region"]);
    assert_eq!(
        change("/payload/smsContent", json!("")),
        ["payload.smsContent"]
    );
    assert_eq!(
        change("/recipient", json!({ "recipients": [] })),
        ["recipient.recipients"]
    );
    assert_eq!(
        change(
            "/recipient",
            json!({ "recipients": [{ "uid": "", "name": "A" }] })
        ),
        ["recipient.recipients[0].uid"]
    );
    assert_eq!(
        change("/recipient", json!({ "recipients": [{ "uid": "a" }] })),
        ["recipient.recipients[0].name"]
    );
    assert_eq!(
        change(
            "/recipient",
            json!({ "uid": "a", "name": "A", "recipients": [] })
        ),
        ["recipient.uid"]
    );
    assert_eq!(
        CometchatSms.recipients(&notification("sms", &json!({ "payload": {} }))),
        Recipients::One
    );
}

#[test]
fn says_what_is_wrong_with_an_endpoint() {
    let problems = |settings: &Value| {
        CometchatSms
            .check(&endpoint(settings))
            .into_iter()
            .map(|problem| problem.field)
            .collect::<Vec<_>>()
    };
    let both = ["settings.basicAuthUsername", "settings.basicAuthPassword"];
    assert_eq!(problems(&json!({ "useBasicAuth": true })), both);
    assert_eq!(
        problems(&json!({ "basicAuthUsername": "a:b", "basicAuthPassword": "a\nb" })),
        both
    );
    assert_eq!(problems(&json!({ "region": "US" })), ["settings.region"]);
    assert_eq!(
        problems(&json!({ "usebasicauth": true })),
        ["settings.usebasicauth"]
    );
    let snake = json!({ "use_basic_auth": true, "basic_auth_username": "a",
        "basic_auth_password": "b:c", "app_id": "x",
        "use_stored_ph_no": true });
    assert!(problems(&snake).is_empty());
}

#[test]
fn the_sample_passes() {
    let sample = CometchatSms.sample();
    let endpoint = endpoint(&sample.settings);
    let members = json!({ "payload": sample.payload, "recipient": sample.recipient });
    let notification = notification(sample.kind, &members);
    assert_eq!(CometchatSms.check(&endpoint), []);
    assert_eq!(
        CometchatSms.check_notification(&endpoint, &notification),
        []
    );
    assert_eq!(
        text(&body(&endpoint, &notification, None).unwrap()),
        ONE_ON_ONE
    );
}
