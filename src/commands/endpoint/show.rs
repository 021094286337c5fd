//! Endpoints and tests of them, printed.

use std::time::Duration;

use serde_json::Value;

use crate::failure::Failure;
use crate::output::{Output, fixed, short, text, time, wrapped};

/// One endpoint; with its secret where the answer hands it out.
pub(super) fn endpoint(output: Output, endpoint: &Value) -> Result<(), Failure> {
    if output.json {
        return Ok(output.document(endpoint)?);
    }
    let secret = text(endpoint, "secret");
    output.facts(&[
        ("endpoint", text(endpoint, "id")),
        ("uid", text(endpoint, "uid")),
        ("tenant", text(endpoint, "tenant")),
        ("url", text(endpoint, "url")),
        ("wire format", text(endpoint, "wire_format")),
        ("description", text(endpoint, "description")),
        ("types", list_of(endpoint, "types")),
        ("phone numbers", list_of(endpoint, "phone_numbers")),
        ("state", state(endpoint)),
        ("health", health(endpoint)),
        ("signs", signs(endpoint)),
        (
            "public keys",
            strings(endpoint.get("public_keys")).join("\n"),
        ),
        ("headers", pairs(endpoint, "headers")),
        ("settings", pairs(endpoint, "settings")),
        ("timeout", duration(endpoint.get("timeout_ms"))),
        ("retries", retries(endpoint)),
        ("max in flight", text(endpoint, "max_in_flight")),
        (
            "rate limit",
            Some(text(endpoint, "rate_limit_per_second"))
                .filter(|rate| !rate.is_empty())
                .map(|rate| format!("{rate}/s"))
                .unwrap_or_default(),
        ),
        ("created", time(endpoint, "created_at")),
        ("updated", time(endpoint, "updated_at")),
        ("secret", secret.clone()),
    ])?;
    if !secret.is_empty() {
        output.line("Keep the secret: it is shown this once.")?;
    }
    Ok(())
}

fn signs(endpoint: &Value) -> String {
    match (
        text(endpoint, "has_secret").as_str(),
        text(endpoint, "retiring_secrets").as_str(),
    ) {
        ("true", "" | "0") => "yes".to_owned(),
        ("true", "1") => "yes, with one retiring secret, too".to_owned(),
        ("true", count) => format!("yes, with {count} retiring secrets, too"),
        _ => "no".to_owned(),
    }
}

/// Endpoints, one a row.
pub(super) fn list(output: Output, endpoints: &[Value]) -> Result<(), Failure> {
    if output.json {
        return Ok(output.document(&serde_json::json!({ "items": endpoints }))?);
    }
    let row = |endpoint: &Value| {
        vec![
            text(endpoint, "id"),
            state(endpoint),
            text(endpoint, "url"),
            text(endpoint, "uid"),
            text(endpoint, "wire_format"),
            text(endpoint, "tenant"),
            Some(list_of(endpoint, "types"))
                .filter(|types| !types.is_empty())
                .unwrap_or_else(|| "all".to_owned()),
            text(endpoint, "description"),
        ]
    };
    Ok(output.table(
        &[
            fixed("id"),
            fixed("state"),
            wrapped("url"),
            fixed("uid"),
            fixed("wire format"),
            fixed("tenant"),
            wrapped("types"),
            wrapped("description"),
        ],
        endpoints.iter().map(row).collect(),
    )?)
}

/// The result of rotating a secret.
pub(super) fn rotated(output: Output, rotated: &Value) -> Result<(), Failure> {
    if output.json {
        return Ok(output.document(rotated)?);
    }
    output.facts(&[
        ("endpoint", text(rotated, "endpoint.id")),
        (
            "public keys",
            strings(rotated["endpoint"].get("public_keys")).join("\n"),
        ),
        ("secret", text(rotated, "secret")),
        (
            "old one signs until",
            time(rotated, "old_secret_retires_at"),
        ),
    ])?;
    Ok(output.line("Keep the secret: it is shown this once.")?)
}

/// Request, answer and verdict of a test.
pub(super) fn test_report(output: Output, report: &Value) -> Result<(), Failure> {
    if output.json {
        return Ok(output.document(report)?);
    }
    if report.get("request").is_some_and(Value::is_object) {
        output.line(format_args!(
            "> {} {}",
            text(report, "request.method"),
            text(report, "request.url")
        ))?;
        message(output, '>', report, "request")?;
    }
    if report.get("response").is_some_and(Value::is_object) {
        output.line(format_args!("< {}", text(report, "response.status")))?;
        message(output, '<', report, "response")?;
    }
    let took = report
        .get("duration_ms")
        .and_then(Value::as_f64)
        .map(|ms| format!("{ms:.1} ms"))
        .unwrap_or_default();
    output.facts(&[
        ("verdict", text(report, "verdict")),
        ("error", text(report, "error.text")),
        ("console", text(report, "console").trim_end().to_owned()),
        ("address", text(report, "resolved_address")),
        ("took", took),
    ])?;
    Ok(())
}

fn message(output: Output, mark: char, report: &Value, which: &str) -> Result<(), Failure> {
    for header in report[which]["headers"].as_array().into_iter().flatten() {
        let part = |index: usize| {
            header
                .get(index)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        output.line(format_args!("{mark} {}: {}", part(0), part(1)))?;
    }
    output.line(format_args!("{mark}"))?;
    for line in text(&report[which], "body").lines() {
        output.line(format_args!("{mark} {line}"))?;
    }
    Ok(output.line("")?)
}

fn state(endpoint: &Value) -> String {
    match (
        endpoint.get("enabled").and_then(Value::as_bool),
        text(endpoint, "disabled_reason"),
    ) {
        (Some(false), reason) if !reason.is_empty() => format!("disabled ({reason})"),
        (Some(false), _) => "disabled".to_owned(),
        // In the list, too: whoever looks for the one that fails finds it there.
        _ if !text(endpoint, "health.unhealthy.since").is_empty() => "failing".to_owned(),
        _ if !text(endpoint, "health.paused_until").is_empty() => "paused".to_owned(),
        _ => "enabled".to_owned(),
    }
}

/// What keeps an enabled endpoint from being called.
fn health(endpoint: &Value) -> String {
    let mut sentences = Vec::new();
    let since = time(endpoint, "health.unhealthy.since");
    if !since.is_empty() {
        sentences.push(format!(
            "It has failed {} times in a row since {since}; the next request tries it at {}. The \
             last error: {}",
            text(endpoint, "health.unhealthy.failures"),
            time(endpoint, "health.unhealthy.open_until"),
            text(endpoint, "health.unhealthy.last_error"),
        ));
    }
    let until = time(endpoint, "health.paused_until");
    if !until.is_empty() {
        sentences.push(format!(
            "It asked for a pause until {until}, by Retry-After."
        ));
    }
    sentences.join("\n")
}

fn list_of(endpoint: &Value, name: &str) -> String {
    strings(endpoint["subscription"].get(name)).join(", ")
}

fn strings(array: Option<&Value>) -> Vec<&str> {
    array
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn pairs(endpoint: &Value, name: &str) -> String {
    let pairs = endpoint
        .get(name)
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    pairs
        .map(|(name, value)| {
            format!(
                "{name}: {}",
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            )
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// When failures are retried, in durations as `--delays` and `--timeout` take them.
fn retries(endpoint: &Value) -> String {
    let retry = &endpoint["retry"];
    if let Some(delays) = retry.get("delays_ms").and_then(Value::as_array) {
        let delays: Vec<String> = delays.iter().map(|delay| duration(Some(delay))).collect();
        return format!("after {}", delays.join(", "));
    }
    let retries = text(retry, "max_retries");
    if retries == "0" {
        return "none".to_owned();
    }
    let first = duration(retry.get("initial_delay_ms"));
    match retry.get("multiplier").and_then(Value::as_f64) {
        Some(factor) if factor > 1.0 => {
            format!("{retries}, the first after {first}, each delay {factor} times the one before")
        }
        _ => format!("{retries}, each after {first}"),
    }
}

fn duration(milliseconds: Option<&Value>) -> String {
    let number = milliseconds.and_then(Value::as_u64);
    number
        .map(|number| short(Duration::from_millis(number)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_shown_as_flags_take_them() {
        let said = |retry: Value| retries(&json!({ "retry": retry }));
        assert_eq!(
            said(json!({"max_retries": 4, "delays_ms": [1_000, 300_000, 1_500]})),
            "after 1s, 5m, 1500ms"
        );
        assert_eq!(
            said(json!({"max_retries": 4, "initial_delay_ms": 1_000, "multiplier": 2.0})),
            "4, the first after 1s, each delay 2 times the one before"
        );
        assert_eq!(
            said(json!({"max_retries": 2, "initial_delay_ms": 5_000, "multiplier": 1.0})),
            "2, each after 5s"
        );
        assert_eq!(
            said(json!({"max_retries": 0, "initial_delay_ms": 1_000})),
            "none"
        );
        assert_eq!(duration(Some(&json!(5_000))), "5s");
    }
}
