//! What the answer says of the message.

use super::*;

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
