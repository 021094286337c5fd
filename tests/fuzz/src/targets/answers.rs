//! What endpoints answer, as each wire format reads it.

use http::{HeaderMap, HeaderName, HeaderValue};
use posthaste_worker::send::Reply;
use posthaste_worker::wire;
use posthaste_worker::wire::outcome::Outcome;
use serde_json::{Map, Value};

use super::fixture::{endpoint, now, wire_format};
use super::{Target, parts};

pub(super) const TARGET: Target = Target {
    name: "answers",
    about: "an endpoint's answer: read without a panic, and what is kept of it is short",
    run,
    tokens: &[
        "retry-after: ",
        "content-type: application/json",
        "\"id\"",
        "\"data\"",
        "\"message\"",
        "\"code\"",
        "\"error\"",
        "id.0.x",
        "\"idPath\"",
        "\"datePath\"",
        "webhook-allowed-rate: ",
        "webhook-allowed-origin: *",
        "\"access_token\"",
        "\"expires_in\"",
    ],
};

/// More than a provider's id or a sentence about an error needs.
const LONGEST: usize = 128 * 1024;

fn run(input: &[u8]) {
    let [head, settings, headers, body] = parts(input);
    let Ok(Value::Object(settings)) = serde_json::from_slice::<Value>(settings)
        .or_else(|_| Ok::<_, ()>(Value::Object(Map::new())))
    else {
        return;
    };
    let endpoint = endpoint(wire_format(head), settings);
    let status = head
        .get(1..4)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .filter(|status| (200..=999).contains(status))
        .unwrap_or(200);
    let reply = Reply::whole(status, read(headers), bytes::Bytes::copy_from_slice(body));
    let wire = wire::of(endpoint.wire_format);
    let outcome = wire.classify(&endpoint, &reply, now());
    for text in texts(&outcome) {
        assert!(text.len() <= LONGEST, "{} bytes are kept", text.len());
    }
    if let Err(outcome) = wire.grant(&endpoint, &reply, now()) {
        assert!(!texts(&outcome).is_empty(), "refused without a reason");
    }
}

fn texts(outcome: &Outcome) -> Vec<&str> {
    match outcome {
        Outcome::Accepted {
            provider_message_id,
            provider_message_date,
        } => provider_message_id
            .iter()
            .chain(provider_message_date)
            .map(String::as_str)
            .collect(),
        Outcome::Refused {
            error,
            provider_error_code,
            ..
        }
        | Outcome::Transient {
            error,
            provider_error_code,
            ..
        } => {
            let mut texts = vec![error.code.as_str(), error.text.as_str()];
            texts.extend(provider_error_code.as_deref());
            texts
        }
    }
}

fn read(lines: &[u8]) -> HeaderMap {
    lines
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
            Some((name, value))
        })
        .collect()
}
