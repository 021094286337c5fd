use http::HeaderMap;
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::endpoint::SigningSecret;
use posthaste_shared::domain::wire_format::WireFormat;
use serde_json::json;

use super::super::fixtures;
use super::*;

const SECRET: &str = "whsec_cGVlci12ZXJpZnktc3RhbmRhcmQta2V5LTMyYnl0ZXM=";

fn endpoint(settings: Value) -> Endpoint {
    fixtures::endpoint(WireFormat::Cloudevents, settings)
}

fn notification(overrides: Value) -> Notification {
    let mut notification = fixtures::notification("order.paid", json!({"total": "12.50"}));
    notification.overrides =
        Some(RawJson::parse(json!({"cloudevents": overrides}).to_string()).unwrap());
    notification
}

fn rendered(settings: Value, notification: &Notification) -> Rendered {
    let endpoint = endpoint(settings);
    Cloudevents
        .render(&fixtures::subject(&endpoint, notification))
        .unwrap()
}

fn headers(rendered: &Rendered) -> Vec<(&str, &str)> {
    rendered
        .headers
        .iter()
        .map(|header| (header.name.as_str(), header.value.expose()))
        .collect()
}

fn reply(status: u16, headers: &[(&'static str, &str)]) -> Reply {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    Reply::whole(status, map, bytes::Bytes::new())
}

fn now() -> Timestamp {
    Timestamp::parse("2026-01-01T00:00:00Z").unwrap()
}

fn fields(problems: Vec<FieldProblem>) -> Vec<String> {
    problems.into_iter().map(|problem| problem.field).collect()
}

#[test]
fn structured_mode_is_one_object() {
    let plain = rendered(
        json!({}),
        &fixtures::notification("order.paid", json!({"total": "12.50"})),
    );
    assert_eq!(
        plain.content_type,
        "application/cloudevents+json; charset=utf-8"
    );
    assert_eq!(
        plain.body,
        concat!(
            r#"{"specversion":"1.0","id":"n-1","source":"/posthaste","type":"order.paid","#,
            r#""time":"2026-01-01T00:00:00Z","datacontenttype":"application/json","data":{"#,
            r#""total":"12.50"}}"#,
        )
    );
    assert!(plain.headers.is_empty());
    let given = notification(json!({
        "id": "A 1", "source": "https://shop.example.com/orders", "subject": "1001",
        "time": "2025-12-31T23:00:00+01:00",
        "dataschema": "https://example.com/order.json",
        "extensions": {"shard": 7, "urgent": true, "region": "Zürich"},
    }));
    assert_eq!(
        rendered(json!({"source": "/shop"}), &given).body,
        concat!(
            r#"{"specversion":"1.0","id":"A 1","source":"https://shop.example.com/orders","#,
            r#""type":"order.paid","subject":"1001","time":"2025-12-31T23:00:00+01:00","#,
            r#""datacontenttype":"application/json","#,
            r#""dataschema":"https://example.com/order.json","shard":7,"urgent":true,"#,
            r#""region":"Zürich","data":{"total":"12.50"}}"#,
        )
    );
}

#[test]
fn data_goes_out_as_it_was_given() {
    let mut given = fixtures::notification("a", json!(null));
    given.payload = RawJson::parse(r#"{ "b" : 1.0e2, "a":1 }"#.to_owned()).unwrap();
    let structured = rendered(json!({}), &given);
    assert!(
        structured
            .body
            .ends_with(br#","data":{ "b" : 1.0e2, "a":1 }}"#),
        "{:?}",
        structured.body
    );
    assert_eq!(
        rendered(json!({"mode": "binary"}), &given).body,
        r#"{ "b" : 1.0e2, "a":1 }"#
    );
}

#[test]
fn binary_mode_puts_attributes_into_headers() {
    let given = notification(json!({"subject": "Euro € 😀",
            "extensions": {"quoted": "a\"100%\"", "n": -1, "b": false}}));
    let binary = rendered(json!({"mode": "binary"}), &given);
    assert_eq!(
        (binary.content_type.as_str(), &binary.body[..]),
        ("application/json", &br#"{"total":"12.50"}"#[..])
    );
    let expected = [
        ("ce-specversion", "1.0"),
        ("ce-id", "n-1"),
        ("ce-source", "/posthaste"),
        ("ce-type", "order.paid"),
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("ce-time", "2026-01-01T00:00:00Z"),
        ("ce-quoted", "a%22100%25%22"),
        ("ce-n", "-1"),
        ("ce-b", "false"),
    ];
    assert_eq!(headers(&binary), expected);
}

#[test]
fn events_of_posthastes_own_go_out_as_they_are() {
    let json = concat!(
        r#"{"specversion":"1.0","id":"e-1","source":"/posthaste","type":"delivery.failed","#,
        r#""subject":"d-1","time":"2026-01-01T00:00:00Z","datacontenttype":"application/json","#,
        r#""tenant":"default","data":{"n":1.0}}"#,
    );
    let mut event = fixtures::notification("delivery.failed", json!(null));
    event.origin = Origin::Event;
    event.payload = RawJson::parse(json.to_owned()).unwrap();
    assert_eq!(rendered(json!({"source": "/other"}), &event).body, json);
    let binary = rendered(json!({"mode": "binary"}), &event);
    assert_eq!(
        (binary.content_type.as_str(), &binary.body[..]),
        ("application/json", &br#"{"n":1.0}"#[..])
    );
    assert!(
        headers(&binary).contains(&("ce-id", "e-1"))
            && headers(&binary).contains(&("ce-tenant", "default"))
    );
    assert!(
        headers(&binary)
            .iter()
            .all(|(name, _)| !["ce-data", "ce-datacontenttype"].contains(name))
    );
    // The same from a producer is a payload like any other.
    event.origin = Origin::Producer;
    assert!(
        rendered(json!({}), &event)
            .body
            .starts_with(br#"{"specversion":"1.0","id":"n-1","#)
    );
}

#[test]
fn attributes_are_checked_by_name() {
    let problems = |overrides: Value| {
        fields(Cloudevents.check_notification(&endpoint(json!({})), &notification(overrides)))
    };
    let wrong = json!({
        "id": "", "source": "a b", "subject": "a\nb", "time": "now", "dataschema": "/relative",
        "extensions": {"Upper": "a", "under_score": "a", "abcdefghijklmnopqrstu": "a", "id": "a",
        "": "a", "o": {}, "nil": null, "f": 1.5,
            "big": 2_147_483_648_u32, "empty": ""},
    });
    let named = [
        "id",
        "source",
        "subject",
        "time",
        "dataschema",
        "extensions.Upper",
        "extensions.under_score",
        "extensions.abcdefghijklmnopqrstu",
        "extensions.id",
        "extensions.",
        "extensions.o",
        "extensions.nil",
        "extensions.f",
        "extensions.big",
        "extensions.empty",
    ];
    assert_eq!(
        problems(wrong),
        named.map(|name| format!("overrides.cloudevents.{name}"))
    );
    let right = json!({"source": "urn:a:b",
        "extensions": {"abcdefghij0123456789": "a", "n": -2_147_483_648_i64, "t": true}});
    assert!(problems(right).is_empty());
    assert_eq!(
        problems(json!({"subject": 1})),
        ["overrides.cloudevents.subject"]
    );
    assert_eq!(problems(json!("x")), ["overrides.cloudevents"]);
    let long = json!({"subject": "ü".repeat(700)});
    assert!(problems(long.clone()).is_empty());
    let binary = endpoint(json!({"mode": "binary"}));
    let found = fields(Cloudevents.check_notification(&binary, &notification(long)));
    assert_eq!(found, ["overrides.cloudevents.subject"]);
}

/// What gets in past the check (over AMQP, by fan-out) is refused by the same rules.
#[test]
fn rendering_refuses_what_the_check_refuses() {
    let endpoint = endpoint(json!({}));
    let given = notification(json!({"extensions": {"Upper": 1}}));
    let refused = Cloudevents.render(&fixtures::subject(&endpoint, &given));
    let Err(Unwritten::Error(error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.member, "overrides.cloudevents.extensions.Upper");
}

#[test]
fn settings_are_checked_by_name() {
    let problems = |settings: Value| fields(Cloudevents.check(&endpoint(settings)));
    assert!(problems(json!({})).is_empty());
    assert!(
        problems(json!({"handshake": true, "origin": "events.example.com", "request_rate": 120}))
            .is_empty()
    );
    assert_eq!(problems(json!({"handshake": true})), ["settings.origin"]);
    for origin in [
        "",
        "https://a.example",
        "a..b",
        "-a.b",
        "a b",
        &"a".repeat(64),
    ] {
        assert_eq!(
            problems(json!({"origin": origin})),
            ["settings.origin"],
            "{origin}"
        );
    }
    assert_eq!(
        problems(json!({"source": "", "request_rate": 0})),
        ["settings.source", "settings.request_rate"]
    );
    assert_eq!(problems(json!({"mode": "batched"})), ["settings.mode"]);
    let mut taken = endpoint(json!({"mode": "binary"}));
    taken.confidential.headers = vec![("CE-Subject".to_owned(), Secret::new("a"))];
    taken.confidential.secrets = vec![SigningSecret {
        secret: Secret::new("whsec_"),
        created_at: now(),
        retires_at: None,
    }];
    assert_eq!(
        fields(Cloudevents.check(&taken)),
        ["headers.CE-Subject", "secret"]
    );
}

#[test]
fn consent_is_asked_for_where_the_settings_want_it() {
    let given = notification(json!({}));
    let asks = |settings: Value| {
        let endpoint = endpoint(settings);
        Cloudevents.preflight(&fixtures::subject(&endpoint, &given))
    };
    assert!(asks(json!({"origin": "a.example"})).unwrap().is_none());
    assert_eq!(
        asks(json!({"handshake": true})).unwrap_err().member,
        "settings.origin"
    );
    let question = asks(json!({"handshake": true, "origin": "a.example", "request_rate": 120}))
        .unwrap()
        .unwrap();
    let sent: Vec<(&str, &str)> = question
        .headers
        .iter()
        .map(|header| (header.name.as_str(), header.value.expose()))
        .collect();
    assert_eq!(
        sent,
        [
            ("WebHook-Request-Origin", "a.example"),
            ("WebHook-Request-Rate", "120")
        ]
    );
    assert_eq!(
        (
            question.method.as_str(),
            question.url.as_str(),
            question.kept
        ),
        ("OPTIONS", "https://example.com/hook", true)
    );
}

#[test]
fn consent_is_a_header_and_not_a_status() {
    let endpoint = endpoint(json!({"handshake": true, "origin": "a.example", "request_rate": 90}));
    let read = |status, headers: &[(&'static str, &str)]| {
        Cloudevents.grant(&endpoint, &reply(status, headers), now())
    };
    let rate = |headers: &[(&'static str, &str)]| read(200, headers).unwrap().rate_per_second;
    let origin = ("webhook-allowed-origin", "a.example");
    for status in [200, 204, 404, 405, 500] {
        for allowed in ["a.example", "A.Example", "*"] {
            let cleared = read(status, &[("webhook-allowed-origin", allowed)]).unwrap();
            assert_eq!(
                cleared.headers,
                [Header::open("WebHook-Request-Origin", "a.example")],
                "{status} {allowed}"
            );
            assert_eq!(cleared.lasts.as_secs(), 3600);
        }
    }
    assert_eq!(rate(&[origin, ("webhook-allowed-rate", "120")]), Some(2.0));
    assert_eq!(rate(&[origin, ("webhook-allowed-rate", "*")]), None);
    assert_eq!(rate(&[origin]), Some(1.5), "the rate that was asked for");
    assert_eq!(rate(&[origin, ("webhook-allowed-rate", "0")]), Some(1.5));
}

#[test]
fn without_consent_nothing_goes_out() {
    let endpoint = endpoint(json!({"handshake": true, "origin": "a.example"}));
    let read = |status, headers: &[(&'static str, &str)]| {
        Cloudevents
            .grant(&endpoint, &reply(status, headers), now())
            .unwrap_err()
    };
    let no_consent = |outcome: &Outcome| {
        let Outcome::Refused {
            reason: FailureReason::Rejected,
            error,
            ..
        } = outcome
        else {
            panic!("{outcome:?}")
        };
        assert_eq!(error.code, "no_consent");
        error.text.clone()
    };
    for status in [200, 204, 301, 404, 405, 410] {
        assert!(
            no_consent(&read(status, &[])).contains("has no WebHook-Allowed-Origin"),
            "{status}"
        );
    }
    for status in [200, 500] {
        let text = no_consent(&read(status, &[("webhook-allowed-origin", "b.example")]));
        assert!(text.contains("\"b.example\", not a.example"), "{text}");
    }
    for status in [429, 500, 503] {
        let outcome = read(status, &[("retry-after", "3")]);
        let Outcome::Transient {
            retry_after, error, ..
        } = outcome
        else {
            panic!("{outcome:?}")
        };
        assert_eq!(retry_after.unwrap().as_secs(), 3);
        assert!(
            error.text.starts_with("the request for consent: "),
            "{}",
            error.text
        );
    }
}

#[test]
fn answers_mean_what_their_status_says() {
    let read = |status| {
        Cloudevents.classify(
            &endpoint(json!({})),
            &reply(status, &[("retry-after", "7")]),
            now(),
        )
    };
    assert_eq!(read(202), Outcome::accepted());
    let Outcome::Refused {
        reason: FailureReason::Rejected,
        error,
        ..
    } = read(415)
    else {
        panic!()
    };
    assert!(error.text.contains("settings.mode"), "{}", error.text);
    assert!(matches!(
        read(410),
        Outcome::Refused {
            reason: FailureReason::Gone,
            ..
        }
    ));
    let Outcome::Transient { retry_after, .. } = read(429) else {
        panic!("429 is not transient")
    };
    assert_eq!(retry_after.map(|after| after.as_secs()), Some(7));
}

#[test]
fn a_token_in_the_url_is_kept_out_of_caches() {
    let mut with = endpoint(json!({}));
    with.url = "https://example.com/hook?a=1&access_token=abc"
        .parse()
        .unwrap();
    let given = fixtures::notification("a", json!(1));
    let render = |endpoint: &Endpoint| {
        Cloudevents
            .render(&fixtures::subject(endpoint, &given))
            .unwrap()
    };
    assert_eq!(headers(&render(&with)), [("cache-control", "no-store")]);
    with.url = "https://example.com/hook?no_access_token=abc"
        .parse()
        .unwrap();
    assert!(render(&with).headers.is_empty());
}

#[test]
fn a_secret_that_is_brought_along_signs() {
    let mut with = endpoint(json!({}));
    let given = fixtures::notification("a", json!(1));
    let sign = |endpoint: &Endpoint| {
        let subject = fixtures::subject(endpoint, &given);
        let rendered = Cloudevents.render(&subject).unwrap();
        Cloudevents.sign(&subject, &rendered, now()).unwrap()
    };
    assert!(sign(&with).is_empty());
    with.confidential.secrets = vec![SigningSecret {
        secret: Secret::new(SECRET),
        created_at: now(),
        retires_at: None,
    }];
    let names: Vec<String> = sign(&with).into_iter().map(|header| header.name).collect();
    assert_eq!(
        names,
        ["webhook-id", "webhook-timestamp", "webhook-signature"]
    );
    assert!(Cloudevents.new_secret(&Map::new()).is_none());
    assert!(Cloudevents.check_secret(&Secret::new(SECRET)).is_ok());
    assert!(Cloudevents.check_secret(&Secret::new("hello")).is_err());
}

#[test]
fn the_sample_passes_the_checks() {
    let sample = Cloudevents.sample();
    let endpoint = endpoint(sample.settings);
    assert!(Cloudevents.check(&endpoint).is_empty());
    let mut given = fixtures::notification(sample.kind, sample.payload);
    given.overrides = sample
        .overrides
        .map(|overrides| RawJson::parse(overrides.to_string()).unwrap());
    assert!(Cloudevents.check_notification(&endpoint, &given).is_empty());
}
