//! Tests of `authgear.rs`.

use std::time::Duration;

use posthaste_shared::domain::wire_format::WireFormat;
use serde_json::json;

use super::*;
use crate::wire::sms_fixture::{NOW, endpoint, fields, notification, reply, subject};
use crate::wire::{Unwritten, Wire as _};

/// The outcome in a word or two, as the tests below write it.
fn said(outcome: &Outcome) -> String {
    let code = |code: &Option<String>| {
        code.as_ref()
            .map_or(String::new(), |code| format!(" {code}"))
    };
    match outcome {
        Outcome::Accepted { .. } => "ok".to_owned(),
        Outcome::Refused {
            reason,
            error,
            provider_error_code,
        } => {
            format!(
                "{} {}{}",
                reason.as_str(),
                error.code,
                code(provider_error_code)
            )
        }
        Outcome::Transient {
            kind,
            error,
            provider_error_code,
            ..
        } => {
            format!("{kind:?} {}{}", error.code, code(provider_error_code))
        }
    }
}

fn webhook(status: u16, body: &str) -> String {
    said(&classify(&reply(status, body), NOW))
}

fn script(returned: &str) -> String {
    said(&classify_returned(&reply(200, returned), NOW))
}

#[test]
fn answers_mean_what_authgear_takes_them_for() {
    let table = [
        (200, "", "ok"),
        (200, "queued", "ok"),
        (200, "[]", "ok"),
        (200, r#"{"code":1}"#, "ok"),
        (200, r#"{"code":"ok""#, "ok"),
        (204, "", "ok"),
        (200, r#""ok""#, "ok"),
        (200, r#"{"code":"delivery_rejected","description":1}"#, "ok"),
        (200, r#"{"code":"delivery_rejected","info":[]}"#, "ok"),
        (200, "{}", "rejected unexpected"),
        (200, "null", "rejected unexpected"),
        (200, r#"{"code":null}"#, "rejected unexpected"),
        (200, r#"{"code":"unknown_error"}"#, "rejected unexpected"),
        (200, r#"{"code":"OK"}"#, "rejected unexpected"),
        (503, "{}", "ServerError unexpected"),
        (429, r#"{"code":"what"}"#, "TooManyRequests unexpected"),
        (404, "null", "rejected unexpected"),
        (500, r#"{"code":"ok"}"#, "ok"),
        (302, r#"{"CODE":"ok"}"#, "ok"),
        (200, r#" {"Code":"ok","more":[1]} "#, "ok"),
        (
            200,
            r#"{"code":"rate_limited","provider_error_code":"20429"}"#,
            "TooManyRequests rate_limited 20429",
        ),
        (200, r#"{"code":"timeout"}"#, "Timeout timeout"),
        (
            200,
            r#"{"code":"invalid_phone_number"}"#,
            "provider_rejected invalid_phone_number",
        ),
        (
            200,
            r#"{"code":"authentication_failed"}"#,
            "provider_rejected authentication_failed",
        ),
        (
            200,
            r#"{"code":"delivery_rejected","info":{"provider_error_code":"30003"}}"#,
            "provider_rejected delivery_rejected 30003",
        ),
        (
            200,
            concat!(
                r#"{"code":"delivery_rejected","provider_error_code":"1","info":{"#,
                r#""provider_error_code":"2"}}"#,
            ),
            "provider_rejected delivery_rejected 1",
        ),
        (
            503,
            r#"{"code":"delivery_rejected","provider_error_code":7}"#,
            "provider_rejected delivery_rejected 7",
        ),
        (
            200,
            r#"{"code":"unsupported_request"}"#,
            "provider_rejected unsupported_request",
        ),
        (302, "", "rejected http_status"),
        (404, "not here", "rejected http_status"),
        (500, "oh", "ServerError http_status"),
        (410, "", "gone http_status"),
    ];
    for (status, body, expected) in table {
        assert_eq!(webhook(status, body), expected, "{status} {body}");
    }
}

#[test]
fn a_script_that_returns_nothing_succeeds() {
    for returned in [
        "",
        "null",
        "\"sent\"",
        "7",
        "[]",
        r#"{"code":1}"#,
        r#"{"code":"ok"}"#,
    ] {
        assert_eq!(script(returned), "ok", "{returned}");
    }
    assert_eq!(script("{}"), "rejected unexpected");
    let text = |returned: &str| {
        classify_returned(&reply(200, returned), NOW)
            .error()
            .unwrap()
            .text
            .clone()
    };
    assert_eq!(
        text("{}"),
        r#"the script returned {}, without a code that is known: { code: "ok" } is success"#
    );
    assert_eq!(
        text(r#"{"code":"rate_limited"}"#),
        "the script returned rate_limited"
    );
    assert_eq!(
        script(r#"{"code":"rate_limited"}"#),
        "TooManyRequests rate_limited"
    );
    assert_eq!(
        script(r#"{"code":"delivery_rejected"}"#),
        "provider_rejected delivery_rejected"
    );
}

#[test]
fn the_text_has_the_description_and_retry_after_is_heeded() {
    let mut answer = reply(
        200,
        r#"{"code":"rate_limited","description":" slow down "}"#,
    );
    answer.headers.insert("retry-after", "7".parse().unwrap());
    let Outcome::Transient {
        error, retry_after, ..
    } = classify(&answer, NOW)
    else {
        panic!("not transient")
    };
    assert_eq!(error.text, "the gateway answered rate_limited: slow down");
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    let long = json!({ "code": "delivery_rejected", "description": "é".repeat(1000) }).to_string();
    let text = classify(&reply(200, &long), NOW)
        .error()
        .unwrap()
        .text
        .clone();
    assert_eq!(
        text.chars().filter(|c| *c == 'é').count(),
        DESCRIPTION_CHARS
    );
    let text = classify(&reply(404, "{}"), NOW)
        .error()
        .unwrap()
        .text
        .clone();
    assert_eq!(text, "the gateway answered 404 with no code");
    let text = classify(&reply(200, r#"{"code":"eh"}"#), NOW)
        .error()
        .unwrap()
        .text
        .clone();
    assert_eq!(text, "the gateway answered 200 with the code \"eh\"");
}

#[test]
fn members_that_are_missing_or_wrong_are_named() {
    let problems = |members: Value| check_notification(&notification("sms", &members));
    let found = problems(json!({ "payload": {} }));
    assert_eq!(fields(&found), ["payload.to", "payload.body"]);
    let found =
        problems(json!({ "payload": { "to": "", "body": null }, "recipient": { "phone": "" } }));
    assert_eq!(fields(&found), ["payload.to", "payload.body"]);
    let found = problems(json!({ "payload": { "to": 1 }, "recipient": { "phone": 2 } }));
    assert_eq!(fields(&found), ["payload.to", "recipient.phone"]);
    let found = problems(json!({ "payload": { "to": "+1", "body": "b",
            "template_variables": { "code": 420_240 } } }));
    assert_eq!(fields(&found), ["payload.template_variables.code"]);
    assert!(found[0].problem.contains("must be a string"), "{found:?}");
    assert_eq!(fields(&problems(json!({ "payload": [] }))), ["payload"]);
    assert!(
        problems(json!({ "payload": { "body": "b" }, "recipient": { "phone_number": "+1" } }))
            .is_empty()
    );
}

#[test]
fn what_got_in_without_its_members_cannot_be_rendered() {
    let endpoint = endpoint(WireFormat::AuthgearSms, &json!({}), Some("key"));
    let notification = notification("sms", &json!({ "payload": { "to": "+1" } }));
    let refused = super::sms::AuthgearSms.render(&subject(&endpoint, &notification, None));
    assert!(matches!(refused, Err(Unwritten::Error(error)) if error.member == "payload.body"));
}
