//! What is refused in settings and notifications, and what is skipped.

use super::*;

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
