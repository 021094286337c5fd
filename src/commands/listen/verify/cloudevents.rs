//! `CloudEvents` 1.0 over HTTP: whether a request is one. There is nothing secret in it.

use axum::http::HeaderMap;
use posthaste_shared::domain::time::Timestamp;
use serde_json::{Map, Value};

use super::Came;

/// The media type of structured mode.
const STRUCTURED: &str = "application/cloudevents+json";
/// What every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Whether a request says that it is an event.
pub(super) fn shows(headers: &HeaderMap) -> bool {
    media_type(headers).starts_with("application/cloudevents")
        || headers.contains_key("ce-specversion")
}

/// Its attributes are those of an event.
pub(super) fn check(came: &Came<'_>) -> Result<(), String> {
    // The media type first: a structured event shows itself by nothing else, one in binary mode
    // only by its headers.
    match media_type(came.headers).as_str() {
        STRUCTURED => structured(came.body),
        other if other.starts_with("application/cloudevents") => {
            Err(format!("Content-Type {other} is not {STRUCTURED}"))
        }
        _ if came.headers.contains_key("ce-specversion") => binary(came),
        _ => Err(format!(
            "it is not a CloudEvent: expected Content-Type {STRUCTURED}, or headers ce-…"
        )),
    }
}

fn structured(body: &[u8]) -> Result<(), String> {
    let event: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not a JSON object: {error}"))?;
    if event.contains_key("data") && event.contains_key("data_base64") {
        return Err("data and data_base64 exclude each other".to_owned());
    }
    let mut attributes = Vec::new();
    for (name, value) in event
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "data" | "data_base64"))
    {
        match value {
            Value::String(text) => attributes.push((name.clone(), text.clone())),
            // Extensions may be booleans and numbers; the required attributes are texts.
            Value::Null | Value::Bool(_) | Value::Number(_)
                if !REQUIRED.contains(&name.as_str()) => {}
            _ => return Err(format!("{name} must be a string")),
        }
        name_check(name)?;
    }
    check_attributes(&attributes)
}

fn binary(came: &Came<'_>) -> Result<(), String> {
    let mut attributes = Vec::new();
    for (name, value) in came.headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        name_check(name)?;
        let text = value
            .to_str()
            .map_err(|_| format!("ce-{name} is not percent-encoded"))?;
        attributes.push((name.to_owned(), text.to_owned()));
    }
    if attributes.iter().any(|(name, _)| name == "datacontenttype") {
        return Err("ce-datacontenttype must not be set: Content-Type takes its place".to_owned());
    }
    // In binary mode Content-Type is the datacontenttype: data without it cannot be read.
    if !came.body.is_empty() && media_type(came.headers).is_empty() {
        return Err("the data has no Content-Type".to_owned());
    }
    check_attributes(&attributes)
}

fn name_check(name: &str) -> Result<(), String> {
    let fits = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if fits {
        Ok(())
    } else {
        Err(format!(
            "the name of attribute {name:?} must have only lower-case letters and digits"
        ))
    }
}

fn check_attributes(attributes: &[(String, String)]) -> Result<(), String> {
    let value = |wanted: &str| {
        attributes
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    for name in REQUIRED {
        match value(name) {
            None => return Err(format!("the attribute {name} is missing")),
            Some("") => return Err(format!("the attribute {name} is empty")),
            Some(_) => {}
        }
    }
    if value("specversion") != Some("1.0") {
        return Err("specversion is not 1.0".to_owned());
    }
    match value("time") {
        // The time is optional, but not free in its form.
        Some(time) if Timestamp::parse(time).is_err() => {
            Err("time is not an RFC 3339 time".to_owned())
        }
        _ => Ok(()),
    }
}

/// Without parameters, in lower case.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}
