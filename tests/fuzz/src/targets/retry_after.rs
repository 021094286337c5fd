//! `Retry-After`, against what RFC 9110 says of it and another reader of its dates.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_worker::send::Reply;
use posthaste_worker::wire;
use posthaste_worker::wire::outcome::Outcome;
use serde_json::Map;

use super::Target;
use super::fixture::{endpoint, now};

pub(super) const TARGET: Target = Target {
    name: "retry_after",
    about: "Retry-After: seconds and dates as RFC 9110 has them, nothing else",
    run,
    tokens: &[
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Thu, 01 Jan 2026 00:00:05 GMT",
        "GMT",
        "120",
    ],
};

fn run(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else {
        return;
    };
    let text = value.to_str().unwrap_or_default().trim().to_owned();
    let headers: HeaderMap = [(http::header::RETRY_AFTER, value)].into_iter().collect();
    let endpoint = endpoint(WireFormat::Raw, Map::new());
    let reply = Reply::whole(503, headers, bytes::Bytes::new());
    let outcome = wire::of(WireFormat::Raw).classify(&endpoint, &reply, now());
    let Outcome::Transient { retry_after, .. } = outcome else {
        panic!("a 503 is transient, not {outcome:?}");
    };
    // delay-seconds = 1*DIGIT: any number of them, and nothing before or after.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let expected = if digits {
        Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
    } else {
        let micros = u64::try_from(now().as_micros()).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        httpdate::parse_http_date(&text)
            .ok()
            .map(|date| date.duration_since(now).unwrap_or_default())
    };
    assert_eq!(retry_after, expected, "{text:?}");
}
