//! The request: its body, its overrides and its headers.

use super::*;

#[test]
fn the_request_is_the_documented_one() {
    let request = signed(&endpoint(json!({})), &otp(json!({})), Grant::default()).unwrap();
    assert_eq!(request.body(), BODY);
    assert_eq!(request.body().len(), 82);
    assert_eq!(request.method(), Method::POST);
    assert_eq!(
        request.url().as_str(),
        "https://gw.example.com/sms?tenant=a"
    );
    assert_eq!(header(&request, "X-API-KEY").unwrap(), "key-123");
    assert_eq!(
        header(&request, "content-type").unwrap(),
        "application/json"
    );
    let shown: Vec<&str> = request
        .shown_headers()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(shown, ["content-type", "X-API-KEY", "webhook-id"]);
    assert!(!format!("{:?}", request.shown_headers()).contains("key-123"));
}

#[test]
fn the_full_body_is_that_of_novus_own_code() {
    let full = endpoint(json!({"full_body": true}));
    let payload =
        json!({"content": "Your verification code is 123456", "id": "65c0d71c0959a38e8857b131"});
    let notification =
        fixture::notification(&payload, &json!({"phone": "+1234567890"}), &json!({}));
    let expected = concat!(
        r#"{"to":"+1234567890","from":"MyApp","content":"Your verification code is 123456","#,
        r#""id":"65c0d71c0959a38e8857b131","customData":{},"sender":"MyApp"}"#,
    );
    assert_eq!(body(&full, &notification), expected);
    assert_eq!(expected.len(), 145);
    let without_id = concat!(
        r#"{"to":"+1234567890","from":"MyApp","content":"Your verification code is 123456","#,
        r#""customData":{},"sender":"MyApp"}"#,
    );
    assert_eq!(body(&full, &otp(json!({}))), without_id);
}

#[test]
fn custom_data_comes_from_the_payload_or_the_channel_and_is_merged() {
    let full = endpoint(json!({"full_body": true}));
    let payload =
        json!({"content": "c", "customData": {"a": {"x": 1}, "list": [1, 2], "gone": "v"}});
    let overrides = json!({"providers": {"generic-sms": {
        "_passthrough": {"body": {"customData": {"a": {"y": 2}, "list": [3], "gone": null}}}
    }}});
    let notification = fixture::notification(&payload, &json!({"phone": "+1"}), &overrides);
    let merged = r#""customData":{"a":{"x":1,"y":2},"list":[1,2,3],"gone":null},"sender":"MyApp"}"#;
    assert!(body(&full, &notification).ends_with(merged));
    let of_channel = fixture::notification(
        &payload,
        &json!({"phone": "+1"}),
        &json!({"sms": {"customData": {"b": 1}}}),
    );
    assert!(body(&full, &of_channel).ends_with(r#""customData":{"b":1},"sender":"MyApp"}"#));
}

#[test]
fn to_content_and_sender_are_found_in_their_order() {
    let found = |payload: Value, recipient: Value, overrides: Value| {
        body(
            &endpoint(json!({})),
            &fixture::notification(&payload, &recipient, &overrides),
        )
    };
    let all = json!({"phone": "+2", "phone_number": "+1"});
    let expected = |to: &str, content: &str, sender: &str| {
        format!(r#"{{"to":"{to}","content":"{content}","sender":"{sender}"}}"#)
    };
    assert_eq!(
        found(
            json!({"content": "c"}),
            json!({"phone_number": "+1"}),
            json!({})
        ),
        expected("+1", "c", "MyApp")
    );
    assert_eq!(
        found(json!({"content": "c"}), all.clone(), json!({})),
        expected("+2", "c", "MyApp")
    );
    let payload = json!({"content": "c", "phone": "+3"});
    assert_eq!(
        found(payload.clone(), all.clone(), json!({})),
        expected("+3", "c", "MyApp")
    );
    let channel = json!({"to": "+4", "content": "d", "from": "A"});
    assert_eq!(
        found(payload.clone(), all.clone(), json!({"sms": channel})),
        expected("+4", "d", "A")
    );
    let both = json!({"sms": channel, "generic-sms": {"to": "+5", "content": null, "from": ""}});
    assert_eq!(
        found(payload.clone(), all.clone(), both),
        expected("+5", "c", "MyApp")
    );
    let both = json!({"generic-sms": {"to": "+5"},
        "steps": {"s": {"providers": {"generic-sms": {"to": "+6"}}}}});
    assert_eq!(
        found(payload, json!({"step_id": "s"}), both),
        expected("+6", "c", "MyApp")
    );
    assert_eq!(
        found(
            json!({}),
            json!({}),
            json!({"sms": {"to": "+7", "content": ""}, "generic-sms": {"content": "e"}})
        ),
        expected("+7", "e", "MyApp")
    );
}

#[test]
fn overrides_are_merged_into_the_body() {
    let merged = |overrides: Value| body(&endpoint(json!({})), &otp(overrides));
    let body = json!({"templateId": "otp-template"});
    let passthrough = json!({"providers": {"generic-sms": {"_passthrough": {"body": body}}}});
    assert_eq!(
        merged(passthrough),
        BODY.replace('}', r#","templateId":"otp-template"}"#)
    );
    let known = json!({"generic-sms": {"template_id": "t", "deep_er": [{"inner_name": 1}],
        "from": "Other"}});
    let expected = BODY
        .replace("MyApp", "Other")
        .replace('}', r#","templateId":"t","deepEr":[{"innerName":1}]}"#);
    assert_eq!(merged(known), expected);
    let written = json!({"generic-sms": {"list": [1],
        "_passthrough": {"body": {"list": [2], "as_it_is": 1, "sender": null}}}});
    let expected = BODY
        .replace("\"MyApp\"", "null")
        .replace('}', r#","list":[1,2],"as_it_is":1}"#);
    assert_eq!(merged(written), expected);
    let channel = json!({"sms": {"template_id": "t", "integrationIdentifier": "i"}});
    assert_eq!(merged(channel), BODY);
}

#[test]
fn javascript_does_not_escape() {
    let payload = json!({"content": "Olá 👋 <b> & \u{2028}\"\\\n"});
    let notification = fixture::notification(&payload, &json!({"phone": "+1"}), &json!({}));
    let expected =
        "{\"to\":\"+1\",\"content\":\"Olá 👋 <b> & \u{2028}\\\"\\\\\\n\",\"sender\":\"MyApp\"}";
    assert_eq!(body(&endpoint(json!({})), &notification), expected);
}

#[test]
fn passthrough_headers_lie_over_the_keys_and_under_the_token() {
    let overrides = json!({"providers": {"generic-sms": {"_passthrough": {
        "headers": {"x-api-key": "other", "X-Auth-Token": "forged", "X-Trace": 7}, "query": {"a": 1}
    }}}});
    let without = signed(
        &endpoint(json!({})),
        &otp(overrides.clone()),
        Grant::default(),
    )
    .unwrap();
    assert_eq!(header(&without, "x-api-key").unwrap(), "other");
    assert_eq!(header(&without, "x-trace").unwrap(), "7");
    assert_eq!(without.url().query(), Some("tenant=a"));
    let endpoint = with_token(json!({}));
    let answer = reply(200, r#"{"data":{"X-Auth-Token":"tok-789"}}"#);
    let grant = NovuSms.grant(&endpoint, &answer, now()).unwrap();
    let request = signed(&endpoint, &otp(overrides), grant).unwrap();
    assert_eq!(header(&request, "x-auth-token").unwrap(), "tok-789");
    assert_eq!(header(&request, "x-api-key").unwrap(), "other");
}

#[test]
fn a_second_key_goes_out_when_name_and_value_are_there() {
    let second = |settings: Value| {
        let request = signed(&endpoint(settings), &otp(json!({})), Grant::default()).unwrap();
        header(&request, "X-SECRET-KEY")
    };
    let both = json!({"secretKeyRequestHeader": "X-SECRET-KEY", "secretKey": "s-1"});
    assert_eq!(second(both).as_deref(), Some("s-1"));
    assert_eq!(
        second(json!({"secretKeyRequestHeader": "X-SECRET-KEY", "secretKey": ""})),
        None
    );
    assert_eq!(
        second(json!({"secretKeyRequestHeader": "X-SECRET-KEY"})),
        None
    );
}
