use serde_json::json;

use super::fixture::notification;
use super::*;

const NAMES: Names = Names {
    channel: "sms",
    provider: "generic-sms",
    own: "novu-sms",
    texts: &["to"],
};

fn read(overrides: &Value, step: Option<&str>) -> Result<Layers, RenderError> {
    layers(
        &notification(&json!({}), &json!({}), overrides),
        &NAMES,
        step,
    )
}

#[test]
fn later_places_win_and_replace_arrays() {
    let provider = |value: Value| json!({"generic-sms": value});
    let overrides = json!({
        "sms": {"a": "channel"},
        "steps": {
            "first": {"providers": provider(json!({"list": [3],
            "_passthrough": {"body": {"x": {"c": 3}}}}))},
            "other": {"providers": provider(json!({"list": [4]}))},
        },
        "providers": provider(json!({
            "list": [1, 2], "kept": 1,
            "_passthrough": {"body": {"x": {"b": 2}}, "headers": {"X-A": "2", "X-B": null}},
        })),
        "novu-sms": {"t": 2},
        "generic-sms": {"t": 1, "u": 1,
        "_passthrough": {"body": {"x": {"a": 1}}, "headers": {"X-A": 1, "X-B": "1"}}},
    });
    let layers = read(&overrides, Some("first")).unwrap();
    assert_eq!(Value::Object(layers.channel), json!({"a": "channel"}));
    assert_eq!(Value::Object(layers.trigger), json!({"t": 2, "u": 1}));
    assert_eq!(
        Value::Object(layers.provider),
        json!({"list": [3], "kept": 1})
    );
    assert_eq!(
        Value::Object(layers.body),
        json!({"x": {"a": 1, "b": 2, "c": 3}})
    );
    assert_eq!(layers.headers, [Header::secret("X-A", "2")]);
    let without_step = read(&overrides, None).unwrap();
    assert_eq!(
        Value::Object(without_step.provider),
        json!({"list": [1, 2], "kept": 1})
    );
}

#[test]
fn what_is_wrong_is_named_where_it_stands() {
    for (overrides, member, problem) in [
        (json!({"sms": 1}), "overrides.sms", "must be an object"),
        (
            json!({"sms": {"to": 49}}),
            "overrides.sms.to",
            "must be a string",
        ),
        (
            json!({"generic-sms": []}),
            "overrides.generic-sms",
            "must be an object",
        ),
        (
            json!({"novu-sms": {"to": {}}}),
            "overrides.novu-sms.to",
            "must be a string",
        ),
        (
            json!({"providers": "x"}),
            "overrides.providers",
            "must be an object",
        ),
        (
            json!({"providers": {"generic-sms": {"_passthrough": {"body": []}}}}),
            "overrides.providers.generic-sms._passthrough.body",
            "must be an object",
        ),
        (
            json!({"generic-sms": {"_passthrough": {"headers": {"X-A": [1]}}}}),
            "overrides.generic-sms._passthrough.headers.X-A",
            "must be a string",
        ),
        (
            json!({"generic-sms": {"_passthrough": {"headers": {"webhook-id": "1"}}}}),
            "overrides.generic-sms._passthrough.headers.webhook-id",
            "is written by Posthaste itself and cannot be set",
        ),
        (
            json!({"generic-sms": {"_passthrough": {"headers": {"X-A": "a\r\nEvil: 1"}}}}),
            "overrides.generic-sms._passthrough.headers.X-A",
            "has a value with control characters",
        ),
        (
            json!({"steps": {"first": {"providers": {"generic-sms": {"to": 1}}}}}),
            "overrides.steps.first.providers.generic-sms.to",
            "must be a string",
        ),
    ] {
        let error = read(&overrides, Some("first")).unwrap_err();
        assert_eq!(
            (error.member.as_str(), error.problem.as_str()),
            (member, problem)
        );
    }
    let many: Map<String, Value> = (0..101).map(|n| (format!("X-{n}"), json!("1"))).collect();
    let error = read(
        &json!({"generic-sms": {"_passthrough": {"headers": many}}}),
        None,
    )
    .unwrap_err();
    assert_eq!(
        (error.member.as_str(), error.problem.as_str()),
        (
            "overrides.generic-sms._passthrough.headers",
            "must have at most 100 headers"
        )
    );
    assert!(
        read(
            &json!({"sms": null, "generic-sms": {"to": null, "_passthrough": {"query": 1}}}),
            None
        )
        .is_ok()
    );
}

#[test]
fn headers_are_kept_secret_but_for_those_that_are_harmless() {
    let overrides = json!({"generic-sms": {"_passthrough": {"headers": {"X-Pin": "k",
        "Accept-Language": true}}}});
    let headers = read(&overrides, None).unwrap().headers;
    assert_eq!(
        headers,
        [
            Header::secret("X-Pin", "k"),
            Header::open("Accept-Language", "true")
        ]
    );
}

#[test]
fn scalars_become_texts_as_in_javascript() {
    for (value, text) in [
        (json!("a"), Some("a")),
        (json!(""), Some("")),
        (json!(42), Some("42")),
        (json!(42.0), Some("42")),
        (json!(-1.5), Some("-1.5")),
        (json!(0), Some("0")),
        (json!(9_007_199_254_740_993_u64), Some("9007199254740993")),
        (json!(false), Some("false")),
        (json!(null), None),
        (json!([1]), None),
        (json!({}), None),
    ] {
        assert_eq!(scalar_text(&value).as_deref(), text, "{value}");
    }
}

#[test]
fn dates_are_written_as_javascript_writes_them() {
    for (time, iso, day) in [
        (
            "2026-11-21T08:09:10.012345Z",
            "2026-11-21T08:09:10.012Z",
            "Sat Nov 21 2026",
        ),
        (
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000Z",
            "Thu Jan 01 2026",
        ),
        (
            "2024-02-29T23:59:59.999999Z",
            "2024-02-29T23:59:59.999Z",
            "Thu Feb 29 2024",
        ),
        (
            "2026-12-31T23:30:00-01:00",
            "2027-01-01T00:30:00.000Z",
            "Fri Jan 01 2027",
        ),
        (
            "1970-01-01T00:00:00.9Z",
            "1970-01-01T00:00:00.900Z",
            "Thu Jan 01 1970",
        ),
        (
            "1969-12-31T23:59:59.5Z",
            "1969-12-31T23:59:59.500Z",
            "Wed Dec 31 1969",
        ),
    ] {
        let time = Timestamp::parse(time).unwrap();
        assert_eq!(
            (iso_date(time).as_str(), day_date(time).as_str()),
            (iso, day)
        );
    }
}

#[test]
fn urls_are_https_unless_they_say_otherwise() {
    assert_eq!(
        read_url(" auth.example.com/token ").unwrap().as_str(),
        "https://auth.example.com/token"
    );
    assert_eq!(
        read_url("http://127.0.0.1:1/").unwrap().as_str(),
        "http://127.0.0.1:1/"
    );
    for text in [
        "",
        "ftp://example.com",
        "https://",
        "https://user:secret@example.com",
        "https://user@example.com",
    ] {
        assert!(read_url(text).is_err(), "{text}");
    }
}

#[test]
fn an_answer_that_is_not_json_has_no_members() {
    for body in ["", "queued", "[1]", "null", "\"id\"", "{"] {
        assert_eq!(answered(body.as_bytes(), "id"), None, "{body}");
    }
    assert_eq!(answered(b"{\"id\":1}", "id").as_deref(), Some("1"));
    assert_eq!(
        answered(b"\xef\xbb\xbf[{\"id\":\"\xff\"}]", "0.id").as_deref(),
        Some("\u{fffd}")
    );
    // A dot in the name of a token's member has no meaning.
    assert_eq!(
        answered_member(b"{\"data\":{\"a.b\":\"t\"}}", "data", "a.b").as_deref(),
        Some("t")
    );
}
