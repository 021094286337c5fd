use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::wire_format::WireFormat;

use super::super::fixture::{self, body, header, now, reply, signed};
use super::*;

const BODY: &str =
    r#"{"to":"+1234567890","content":"Your verification code is 123456","sender":"MyApp"}"#;

fn endpoint(more: Value) -> Endpoint {
    let mut settings = NovuSms.sample().settings;
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().cloned().unwrap());
    fixture::endpoint(WireFormat::NovuSms, settings)
}

fn with_token(more: Value) -> Endpoint {
    let mut endpoint = endpoint(
        json!({"authenticateByToken": true, "domain": "https://gw.example.com/auth",
            "authenticationTokenKey": "X-Auth-Token"}),
    );
    endpoint
        .confidential
        .settings
        .extend(more.as_object().cloned().unwrap());
    endpoint
}

fn otp(overrides: Value) -> Notification {
    let payload = json!({"content": "Your verification code is 123456"});
    fixture::notification(
        &payload,
        &json!({"phone": "+1234567890", "step_id": "first"}),
        &overrides,
    )
}

fn problems(endpoint: &Endpoint) -> Vec<String> {
    NovuSms
        .check(endpoint)
        .into_iter()
        .map(|problem| format!("{} {}", problem.field, problem.problem))
        .collect()
}

fn accepted(endpoint: &Endpoint, body: &str) -> (Option<String>, Option<String>) {
    match NovuSms.classify(endpoint, &reply(200, body), now()) {
        Outcome::Accepted {
            provider_message_id,
            provider_message_date,
        } => (provider_message_id, provider_message_date),
        other => panic!("{other:?}"),
    }
}

fn refusal(outcome: Outcome) -> (String, String) {
    match outcome {
        Outcome::Refused {
            reason: FailureReason::ProviderRejected,
            error,
            ..
        } => (error.code, error.text),
        other => panic!("{other:?}"),
    }
}

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

fn preflight(endpoint: &Endpoint) -> Option<Preflight> {
    let notification = otp(json!({}));
    let delivery =
        posthaste_shared::domain::id::DeliveryId::of(&notification.id, &endpoint.id, None);
    NovuSms
        .preflight(&Subject {
            delivery,
            recipient: None,
            notification: &notification,
            endpoint,
            trace: None,
        })
        .unwrap()
}

#[test]
fn the_token_is_asked_for_with_the_keys() {
    assert!(preflight(&endpoint(json!({}))).is_none());
    let endpoint =
        with_token(json!({"secretKeyRequestHeader": "X-SECRET-KEY", "secretKey": "s-1"}));
    let asked = preflight(&endpoint).unwrap();
    assert_eq!(
        (asked.method, asked.url.as_str(), asked.kept),
        (Method::POST, "https://gw.example.com/auth", false)
    );
    assert_eq!(
        asked.headers,
        [
            Header::secret("X-API-KEY", "key-123"),
            Header::secret("X-SECRET-KEY", "s-1")
        ]
    );
    let request = crate::attempt::sign::ask_first(preflight(&endpoint).unwrap()).unwrap();
    assert_eq!(header(&request, "content-length").as_deref(), Some("0"));
    let without_scheme = preflight(&with_token(json!({"domain": "auth.example.com"}))).unwrap();
    assert_eq!(without_scheme.url.as_str(), "https://auth.example.com/");
}

#[test]
fn the_token_goes_beside_the_keys_or_in_their_place() {
    for (settings, key) in [
        (json!({}), Some("key-123")),
        (json!({"token_replaces_keys": true}), None),
    ] {
        let endpoint = with_token(settings);
        assert_eq!(preflight(&endpoint).unwrap().headers.len(), 1);
        let answer = reply(201, r#"{"data":{"X-Auth-Token":"tok-789"}}"#);
        let grant = NovuSms.grant(&endpoint, &answer, now()).unwrap();
        assert_eq!(grant.headers, [Header::secret("X-Auth-Token", "tok-789")]);
        let request = signed(&endpoint, &otp(json!({})), grant).unwrap();
        assert_eq!(header(&request, "x-auth-token").as_deref(), Some("tok-789"));
        assert_eq!(header(&request, "x-api-key").as_deref(), key);
        assert_eq!(request.body(), BODY);
    }
    let keys_stay = signed(
        &endpoint(json!({"token_replaces_keys": true})),
        &otp(json!({})),
        Grant::default(),
    );
    assert_eq!(
        header(&keys_stay.unwrap(), "x-api-key").as_deref(),
        Some("key-123")
    );
}

#[test]
fn without_a_token_nothing_is_sent() {
    let endpoint = with_token(json!({"authenticationTokenKey": "a.b"}));
    let clear = |status, body: &str| NovuSms.grant(&endpoint, &reply(status, body), now());
    for body in [
        "",
        "[]",
        "{}",
        r#"{"data":{}}"#,
        r#"{"data":{"a":{"b":"t"}}}"#,
        r#"{"data":{"a.b":""}}"#,
        r#"{"a.b":"t"}"#,
        r#"{"data":{"a.b":{}}}"#,
    ] {
        let (code, text) = refusal(clear(200, body).unwrap_err());
        assert_eq!(code, "missing_token", "{body}");
        assert_eq!(text, "the auth URL: its answer has no token at data.a.b");
    }
    assert_eq!(
        refusal(clear(200, r#"{"data":{"a.b":"t\n"}}"#).unwrap_err()).0,
        "invalid_token"
    );
    let literal = clear(200, r#"{"data":{"a.b":17}}"#).unwrap();
    assert_eq!(literal.headers, [Header::secret("a.b", "17")]);
    let Outcome::Transient {
        kind: RetryOn::ServerError,
        error,
        ..
    } = clear(503, "").unwrap_err()
    else {
        panic!()
    };
    assert_eq!(
        error.text,
        "the auth URL: the endpoint answered 503 Service Unavailable"
    );
    let gone = clear(410, "").unwrap_err();
    assert!(
        matches!(
            gone,
            Outcome::Refused {
                reason: FailureReason::Rejected,
                ..
            }
        ),
        "the endpoint is not gone: {gone:?}"
    );
    let Outcome::Refused {
        reason: FailureReason::Rejected,
        error,
        ..
    } = clear(401, "").unwrap_err()
    else {
        panic!()
    };
    assert_eq!(
        error.text,
        "the auth URL: the endpoint answered 401 Unauthorized"
    );
}

#[test]
fn the_answer_says_id_and_date() {
    let paths = endpoint(json!({"idPath": "message.id", "date_path": "message.date"}));
    let answer = r#"{"message":{"id":"msg_abc123","date":"2026-01-14T10:30:00.000Z"}}"#;
    let texts = |id: &str, date: &str| (Some(id.to_owned()), Some(date.to_owned()));
    assert_eq!(
        accepted(&paths, answer),
        texts("msg_abc123", "2026-01-14T10:30:00.000Z")
    );
    let moment = "2026-11-21T08:09:10.012Z";
    let default = endpoint(json!({}));
    assert_eq!(
        accepted(&default, r#"{"data":{"id":42}}"#),
        texts("42", moment)
    );
    assert_eq!(
        accepted(&default, r#"{"data":{"id":true,"date":null}}"#),
        texts("true", moment)
    );
    assert_eq!(
        accepted(&default, r#"{"data":{"id":"a","date":""}}"#),
        texts("a", moment)
    );
    assert_eq!(
        accepted(&default, r#"{"data":{"id":"a","date":1767225600}}"#),
        texts("a", "1767225600")
    );
    let indexed = endpoint(json!({"idPath": "results.1.id", "datePath": "results.date"}));
    assert_eq!(
        accepted(&indexed, r#"{"results":[{"id":"a"},{"id":"b"}]}"#),
        texts("b", moment)
    );
}

#[test]
fn a_missing_id_is_a_failure_unless_it_is_optional() {
    let optional = endpoint(json!({"id_optional": true}));
    for body in [
        "",
        "queued",
        "{}",
        r#"{"data":null}"#,
        r#"{"data":{"id":null}}"#,
        r#"{"data":{"id":""}}"#,
        r#"{"data":{"id":{}}}"#,
        r#"{"data":[]}"#,
        r#"[{"data":{"id":1}}]"#,
    ] {
        let (code, text) =
            refusal(NovuSms.classify(&endpoint(json!({})), &reply(202, body), now()));
        assert_eq!(
            (code.as_str(), text.as_str()),
            (
                "missing_id",
                "the endpoint answered 202 without an id at data.id"
            )
        );
        assert_eq!(
            accepted(&optional, body),
            (None, Some("2026-11-21T08:09:10.012Z".to_owned()))
        );
    }
}

#[test]
fn other_statuses_are_read_as_usual() {
    let id = r#"{"data":{"id":"a"}}"#;
    let outcome = |status| NovuSms.classify(&endpoint(json!({})), &reply(status, id), now());
    assert!(matches!(
        outcome(500),
        Outcome::Transient {
            kind: RetryOn::ServerError,
            ..
        }
    ));
    assert!(matches!(
        outcome(302),
        Outcome::Refused {
            reason: FailureReason::Rejected,
            ..
        }
    ));
    assert!(matches!(
        outcome(410),
        Outcome::Refused {
            reason: FailureReason::Gone,
            ..
        }
    ));
}

#[test]
fn all_missing_settings_are_named_at_once() {
    let nothing = fixture::endpoint(
        WireFormat::NovuSms,
        json!({"authenticateByToken": true, "apiKey": ""}),
    );
    assert_eq!(
        problems(&nothing),
        [
            "settings.apiKeyRequestHeader is missing: the name of the header with the API key",
            "settings.apiKey is missing: the value of that header",
            "settings.from is missing: the default sender",
            "settings.domain is missing: the URL that gives the token",
            "settings.authenticationTokenKey is missing: the token's member and header",
        ]
    );
    assert_eq!(problems(&endpoint(json!({}))), Vec::<String>::new());
    assert_eq!(problems(&with_token(json!({}))), Vec::<String>::new());
}

#[test]
fn wrong_settings_are_named() {
    for (settings, named) in [
        (
            json!({"apiKeyRequestHeader": "a b"}),
            "settings.apiKeyRequestHeader is not a header's name",
        ),
        (
            json!({"secretKeyRequestHeader": "Host"}),
            "settings.secretKeyRequestHeader is written by Posthaste itself",
        ),
        (
            json!({"authenticationTokenKey": "ä"}),
            "settings.authenticationTokenKey is not a header's name",
        ),
        (
            json!({"apiKey": "a\nb"}),
            "settings.apiKey has a value with control characters",
        ),
        (
            json!({"secretKey": " s"}),
            "settings.secretKey has a value that begins or ends with a space",
        ),
        (json!({"idPath": ""}), "settings.idPath must be a dot path"),
        (
            json!({"datePath": ""}),
            "settings.datePath must be a dot path",
        ),
        (
            json!({"domain": "ftp://example.com"}),
            "settings.domain must be a URL",
        ),
        (
            json!({"domain": "https://u:p@example.com"}),
            "settings.domain must have no user or password",
        ),
        (json!({"from": 7}), "settings.from must be a string"),
        (
            json!({"full_body": "yes"}),
            "settings.full_body must be true or false",
        ),
        (
            json!({"baseUrl": "https://example.com"}),
            "settings.baseUrl is not known",
        ),
    ] {
        let problems = problems(&endpoint(settings));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(named), "{problems:?}");
    }
}

#[test]
fn settings_have_a_spelling_with_underscores() {
    let settings = json!({
        "api_key_request_header": "X-API-KEY", "api_key": "key-123",
        "secret_key_request_header": "X-SECRET-KEY",
        "secret_key": "s", "from": "MyApp", "id_path": "id", "date_path": "date",
        "authenticate_by_token": true,
        "domain": "gw.example.com", "authentication_token_key": "X-Auth-Token",
    });
    let endpoint = fixture::endpoint(WireFormat::NovuSms, settings);
    assert_eq!(problems(&endpoint), Vec::<String>::new());
    assert_eq!(preflight(&endpoint).unwrap().headers.len(), 2);
    assert_eq!(
        accepted(&endpoint, r#"{"id":"a","date":"b"}"#),
        (Some("a".to_owned()), Some("b".to_owned()))
    );
}

#[test]
fn without_a_phone_it_is_skipped() {
    let payload = json!({"content": "c", "phone": ""});
    let notification = fixture::notification(&payload, &json!({}), &json!({"sms": {"to": null}}));
    match fixture::rendered(&endpoint(json!({})), &notification) {
        Err(Unwritten::Skip(skip)) => assert_eq!(skip.code, "no_subscriber_phone"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        NovuSms.check_notification(&endpoint(json!({})), &notification),
        []
    );
}

#[test]
fn what_a_notification_lacks_is_named() {
    for (payload, recipient, overrides, named) in [
        (
            json!({}),
            json!({"phone": "+1"}),
            json!({}),
            "payload.content",
        ),
        (
            json!({"content": 1}),
            json!({"phone": "+1"}),
            json!({}),
            "payload.content",
        ),
        (
            json!({"content": "c", "phone": 1}),
            json!({}),
            json!({}),
            "payload.phone",
        ),
        (
            json!({"content": "c", "customData": []}),
            json!({"phone": "+1"}),
            json!({}),
            "payload.customData",
        ),
        (json!("text"), json!({"phone": "+1"}), json!({}), "payload"),
        (
            json!({"content": "c"}),
            json!({"phone": 1}),
            json!({}),
            "recipient.phone",
        ),
        (
            json!({"content": "c"}),
            json!({"phone": "+1"}),
            json!({"sms": {"from": 1}}),
            "overrides.sms.from",
        ),
    ] {
        let notification = fixture::notification(&payload, &recipient, &overrides);
        let problems = NovuSms.check_notification(&endpoint(json!({})), &notification);
        assert_eq!(
            problems
                .iter()
                .map(|problem| problem.field.as_str())
                .collect::<Vec<_>>(),
            [named]
        );
        match fixture::rendered(&endpoint(json!({})), &notification) {
            Err(Unwritten::Error(error)) => assert_eq!(error.member, named),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_sample_suffices() {
    let sample = NovuSms.sample();
    let endpoint = fixture::endpoint(WireFormat::NovuSms, sample.settings);
    let notification =
        fixture::notification(&sample.payload, &sample.recipient.unwrap(), &json!({}));
    assert_eq!(problems(&endpoint), Vec::<String>::new());
    assert_eq!(NovuSms.check_notification(&endpoint, &notification), []);
    assert_eq!(body(&endpoint, &notification), BODY);
    assert!(
        NovuSms.new_secret(&Map::new()).is_none()
            && NovuSms.check_secret(&Secret::new("s")).is_err()
    );
}
