use std::time::Duration;

use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_shared::egress::EgressPolicy;
use serde_json::json;

use super::*;
use crate::script::Compiler;
use crate::send::Sender;
use crate::wire::fixtures;

/// Runs a transform on a notification with this payload.
async fn transform(source: &str, payload: &str) -> Run {
    let engine = Engine::new(
        Sender::new(EgressPolicy::default()).unwrap(),
        Compiler::in_threads(),
    );
    let endpoint = fixtures::endpoint(WireFormat::Standard, json!({}));
    let notification = Notification {
        payload: RawJson::parse(payload.to_owned()).unwrap(),
        ..fixtures::notification("order", json!({}))
    };
    let subject = fixtures::subject(&endpoint, &notification);
    run(
        &engine,
        source,
        &subject,
        Instant::now() + Duration::from_secs(60),
    )
    .await
}

/// What becomes of the payload: `None` where it is kept.
async fn payload(expression: &str, given: &str) -> Option<String> {
    let run = transform(
        &format!("export default ({{ payload }}) => ({expression});"),
        given,
    )
    .await;
    run.result
        .unwrap_or_else(|why| panic!("{expression} {why:?}"))
        .payload
        .map(|payload| payload.as_str().to_owned())
}

/// Why the result of an expression cannot be used.
async fn problem(expression: &str) -> String {
    let run = transform(
        &format!("export default ({{ payload }}) => ({expression});"),
        r#"{"secret":1}"#,
    )
    .await;
    match run.result {
        Err(NotTransformed::Unusable(problem)) => problem,
        other => panic!("{expression} {other:?}"),
    }
}

#[tokio::test]
async fn a_payload_is_sent_as_it_was_returned_and_null_is_one() {
    for (expression, sent) in [
        ("{ payload: null }", "null"),
        ("{ payload: false }", "false"),
        ("{ payload: 0 }", "0"),
        ("{ payload: '' }", r#""""#),
        ("{ payload: [] }", "[]"),
        (
            "{ payload: { ...payload, secret: undefined, b: [1, null] } }",
            r#"{"b":[1,null]}"#,
        ),
        (
            "{ payload: { at: new Date(0), of: new URL('https://a.example/') } }",
            r#"{"at":"1970-01-01T00:00:00.000Z","of":"https://a.example/"}"#,
        ),
        (
            "{ payload: new (class Order { total = 12.5; #hidden = 1 })() }",
            r#"{"total":12.5}"#,
        ),
        (
            "{ payload: { toJSON: () => ({ shown: 1 }) } }",
            r#"{"shown":1}"#,
        ),
        ("{ payload: '\\ud800\u{e9}\"' }", "\"\\ud800\u{e9}\\\"\""),
        (
            "{ payload: Object.assign(Object.create(null), { 'a b': 1e21, n: -0 }) }",
            r#"{"a b":1e+21,"n":0}"#,
        ),
    ] {
        assert_eq!(
            payload(expression, r#"{"secret":1}"#).await.as_deref(),
            Some(sent),
            "{expression}"
        );
    }
    assert_eq!(
        payload("{ keep_payload: true, headers: { a: 'b' } }", "1").await,
        None
    );
}

#[tokio::test]
async fn without_a_payload_nothing_is_sent_unless_the_transform_keeps_it() {
    for expression in [
        "{}",
        "{ headers: { a: 'b' } }",
        "{ url: 'https://a.example' }",
        "{ keep_payload: false }",
        "{ skip: false }",
    ] {
        let problem = problem(expression).await;
        assert!(
            problem.contains("no payload") && problem.contains("keep_payload: true"),
            "{expression} {problem}"
        );
    }
    assert!(
        problem("{ payload: 1, keep_payload: true }")
            .await
            .contains("one of the two")
    );
}

#[tokio::test]
async fn what_json_would_lose_in_silence_is_refused_by_its_place() {
    for (expression, told) in [
        ("undefined", "it returned nothing"),
        ("null", "what it returned is null"),
        ("[{ payload }]", "what it returned is of type Array"),
        ("'payload'", "what it returned is of type string"),
        (
            "new Map([['payload', 1]])",
            "what it returned is of type Map",
        ),
        ("{ payload: undefined }", "payload is undefined"),
        ("{ payload: () => 1 }", "payload is of type function"),
        (
            "{ payload: { a: { b: Symbol('x') } } }",
            "payload.a.b is of type symbol",
        ),
        (
            "{ payload: { a: { b: () => 1 } } }",
            "payload.a.b is of type function",
        ),
        ("{ payload: [0, undefined] }", "payload[1] is undefined"),
        ("{ payload: [0, , 2] }", "payload[1] is a hole"),
        ("{ payload: new Array(4294967295) }", "payload[0] is a hole"),
        ("{ payload: { n: NaN } }", "payload.n is NaN"),
        ("{ payload: { n: 1 / 0 } }", "payload.n is Infinity"),
        ("{ payload: { n: 1n } }", "payload.n is of type bigint"),
        (
            "{ payload: { m: new Map([[1, 2]]) } }",
            "payload.m is of type Map",
        ),
        ("{ payload: new Set([1]) }", "payload is of type Set"),
        (
            "{ payload: new Uint8Array(2) }",
            "payload is of type Uint8Array",
        ),
        (
            "{ payload: new ArrayBuffer(2) }",
            "payload is of type ArrayBuffer",
        ),
        (
            "{ payload: Promise.resolve(1) }",
            "payload is of type Promise",
        ),
        ("{ payload: new Error('x') }", "payload is of type Error"),
        ("{ payload: /x/ }", "payload is of type RegExp"),
        (
            "{ payload: new URLSearchParams('a=b') }",
            "payload is of type URLSearchParams",
        ),
        (
            "{ payload: { at: new Date(NaN) } }",
            "payload.at is an invalid Date",
        ),
        (
            "(() => { const a = []; a.push(a); return { payload: { a } }; })()",
            "contains itself",
        ),
        ("{ payload, skip: undefined }", "skip is undefined"),
        ("{ payload, skip: 'yes' }", "skip must be"),
        ("{ payload, skip: 1 }", "skip must be"),
        ("{ payload, skip: null }", "skip must be"),
        (
            "{ payload, keep_payload: undefined }",
            "keep_payload is undefined",
        ),
        ("{ keep_payload: 'true' }", "keep_payload must be"),
        ("{ payload, body: 1 }", "body is not known"),
        ("{ payload, body: undefined }", "body is undefined"),
        ("{ id: 'x', payload }", "id is not known"),
        ("{ payload, headers: undefined }", "headers is undefined"),
        ("{ payload, headers: null }", "headers must be"),
        (
            "{ payload, headers: { 'x-a': undefined } }",
            "headers.x-a is undefined",
        ),
        (
            "{ payload, headers: { 'x-a': null } }",
            "headers.x-a must be",
        ),
        ("{ payload, headers: { 'x-a': 5 } }", "headers.x-a must be"),
        (
            "{ payload, headers: { 'x-a': '1', 'X-A': '2' } }",
            "there twice",
        ),
        (
            "{ payload, headers: new Headers({ a: 'b' }) }",
            "headers is of type Headers",
        ),
        ("{ payload, headers: [['a', 'b']] }", "headers must be"),
        (
            "{ payload, headers: { 'webhook-id': 'x' } }",
            "written by Posthaste",
        ),
        ("{ payload, url: undefined }", "url is undefined"),
        ("{ payload, url: null }", "url must be"),
        ("{ payload, url: '' }", "the url that it returned"),
        ("{ payload, url: '/relative' }", "the url that it returned"),
        ("{ payload, url: 7 }", "url must be"),
    ] {
        let problem = problem(expression).await;
        assert!(problem.contains(told), "{expression} {problem}");
    }
    assert!(
        problem("{ payload: undefined }")
            .await
            .contains("keep_payload: true"),
        "it says what to do"
    );
}

#[tokio::test]
async fn what_it_skips_needs_no_payload() {
    for expression in ["{ skip: true }", "{ skip: true, payload: undefined }"] {
        let run = transform(&format!("export default () => ({expression});"), "1").await;
        assert!(
            matches!(run.result, Err(NotTransformed::Skip(_))),
            "{expression} {run:?}"
        );
    }
}

#[tokio::test]
async fn a_script_that_spoils_the_built_ins_gains_nothing() {
    let spoilt = "Object.keys = () => ['skip'];
        Object.prototype.toString = () => '[object Object]';
        Array.isArray = () => true; JSON.stringify = () => '{}';
        String.prototype.slice = () => 'Object';
        export default () => ({ payload: { m: new Map() } });";
    let run = transform(spoilt, "1").await;
    assert!(
        matches!(
            run.result,
            Err(NotTransformed::Unusable(_) | NotTransformed::Script(_))
        ),
        "{run:?}"
    );
}

#[tokio::test]
async fn the_console_of_one_that_fails_is_kept() {
    for source in [
        "export default () => { console.log('here'); throw new Error('no'); };",
        "export default () => { console.log('here'); return {}; };",
        "export default () => { console.log('here'); return { skip: true }; };",
        "export default () => { console.log('here'); };",
    ] {
        let run = transform(source, "1").await;
        assert!(run.result.is_err(), "{source}");
        assert_eq!(run.console.as_deref(), Some("here\n"), "{source}");
    }
}
