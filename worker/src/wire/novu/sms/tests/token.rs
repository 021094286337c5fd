//! The token that is asked for before the request.

use super::*;

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
