//! The fields of an endpoint: what they ask for, what an endpoint has in them, and the members of
//! the API that they stand for.

use std::collections::BTreeSet;

use maud::{Markup, html};
use posthaste_producer::http::problem::{Code, FieldProblem, Problem};
use posthaste_producer::http::wire_formats::WireFormatInfo;
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::view::EndpointView;
use serde_json::{Map, Value, json};

use crate::parts::fields::{Field, Fields};
use crate::parts::frame::{ONCE, TOKEN};
use crate::parts::query::Query;
use crate::parts::settings;

/// The field with the version of the endpoint that the form shows.
pub(crate) const VERSION: &str = "version";

/// The fields that a new endpoint and an old one have.
pub(crate) fn common(format: &WireFormatInfo, fields: Fields<'_>) -> Markup {
    let field = |name, label, help| Field { name, label, help };
    html! {
        @if format.name.has_url() {
            (fields.line(field("url", "URL", "Where requests go: https://…"), "text"))
        }
        (fields.line(field("description", "Description", "What it is for."), "text"))
        fieldset {
            legend { "What it gets" }
            (fields.line(field("subscription.types", "Types",
                "Exact types, or prefixes such as order.*, with commas between them. Default: \
                 every type that a producer sends."), "text"))
            (fields.line(field("subscription.phone_numbers", "Phone numbers",
                "Only notifications for one of these, with commas between them. Default: any."),
                "text"))
        }
        fieldset {
            legend { "Settings of the wire format" }
            (settings::inputs(fields, &format.settings_schema))
        }
        fieldset {
            legend { "Limits" }
            (fields.line(field("timeout_ms", "Timeout in ms",
                "For one attempt as a whole, 1,000 to 60,000. Default 5,000."), "number"))
            (fields.line(field("max_in_flight", "Max in flight",
                "The most requests at once, over all workers, 1 to 10,000. Default 32."), "number"))
            (fields.line(field("rate_limit_per_second", "Rate limit",
                "The most requests a second, over all workers. Default: none."), "text"))
        }
        fieldset {
            legend { "Retries" }
            (fields.boxes(field("retry.on", "After", ""), &failures()))
            (fields.line(field("retry.max_retries", "Retries at most", "0 to 100. Default 4."),
                "number"))
            (fields.line(field("retry.initial_delay_ms", "First delay in ms",
                "1,000 or more. Default 1,000."), "number"))
            (fields.line(field("retry.multiplier", "Each next delay is so many times as long",
                "1 to 10. Default 2."), "text"))
            (fields.line(field("retry.max_delay_ms", "Longest delay in ms",
                "Up to 30 days. Default 3,600,000, which is an hour."), "number"))
            (fields.line(field("retry.jitter", "Added at random",
                "The greatest part of a delay, 0 to 1. Default 0.2."), "text"))
            (fields.line(field("retry.delays_ms", "Delays in ms, each by itself",
                "A list such as 1000, 60000, 3600000 in the place of the five above. Default: \
                 none."), "text"))
        }
        (fields.area(field("headers", "Headers",
            "Name: value, one on a line. They are in every request; a value that stays [redacted] \
             is not changed."), 4))
    }
}

/// What can be retried, as choices.
fn failures() -> Vec<(String, String)> {
    let word = |on: RetryOn| match serde_json::to_value(on) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    };
    RetryOn::ALL
        .into_iter()
        .map(|on| (word(on), word(on)))
        .collect()
}

/// With all that can be retried, as it is by default.
pub(crate) fn with_retries(values: Query) -> Query {
    failures()
        .into_iter()
        .fold(values, |values, (word, _)| values.and("retry.on", &word))
}

/// Somebody saved the endpoint meanwhile: what it has now, at each field where that is something
/// else.
pub(crate) fn overtaken(typed: &Query, now: &Query) -> Problem {
    let names: BTreeSet<&str> = now.names().chain(typed.names()).collect();
    let is_member = |name: &str| ![VERSION, TOKEN, ONCE].contains(&name);
    let errors = names
        .into_iter()
        .filter(|name| is_member(name))
        .filter_map(|name| {
            let own: Vec<&str> = typed.all(name).collect();
            let theirs: Vec<&str> = now.all(name).collect();
            let said = match theirs.as_slice() {
                _ if own == theirs => return None,
                [] => "is empty now".to_owned(),
                several => format!("is now: {}", several.join(", ")),
            };
            Some(FieldProblem::new(name, said))
        });
    Problem {
        errors: errors.collect(),
        ..Problem::new(
            Code::PreconditionFailed,
            "somebody saved this endpoint after you opened the form: each field that differs says \
             what is there now. Save again, and yours is kept",
        )
    }
}

/// What the fields of an endpoint say.
pub(crate) fn texts(endpoint: &EndpointView) -> Query {
    let list = |items: Vec<String>| items.join(", ");
    let retry = &endpoint.retry;
    let rate = endpoint.rate_limit_per_second;
    let delays = retry
        .delays_ms
        .iter()
        .flatten()
        .map(u64::to_string)
        .collect();
    let types = endpoint
        .subscription
        .types
        .iter()
        .cloned()
        .map(String::from);
    let header = |(name, value): (&String, &Value)| {
        format!("{name}: {}", value.as_str().unwrap_or_default())
    };
    let headers: Vec<String> = endpoint.headers.iter().map(header).collect();
    let pairs = [
        ("url", endpoint.url.clone()),
        ("description", endpoint.description.clone()),
        ("subscription.types", list(types.collect())),
        (
            "subscription.phone_numbers",
            list(endpoint.subscription.phone_numbers.clone()),
        ),
        ("timeout_ms", endpoint.timeout_ms.to_string()),
        ("max_in_flight", endpoint.max_in_flight.to_string()),
        (
            "rate_limit_per_second",
            rate.map(|rate| rate.to_string()).unwrap_or_default(),
        ),
        ("retry.max_retries", retry.max_retries.to_string()),
        ("retry.initial_delay_ms", retry.initial_delay_ms.to_string()),
        ("retry.multiplier", retry.multiplier.to_string()),
        ("retry.max_delay_ms", retry.max_delay_ms.to_string()),
        ("retry.jitter", retry.jitter.to_string()),
        ("retry.delays_ms", list(delays)),
        ("headers", headers.join("\n")),
    ];
    let mut values = Query::default();
    for (name, text) in pairs.into_iter().filter(|(_, text)| !text.is_empty()) {
        values = values.with(name, &text);
    }
    for (name, text) in settings::texts(&endpoint.settings) {
        values = values.with(&name, &text);
    }
    for on in &retry.on {
        if let Ok(Value::String(word)) = serde_json::to_value(on) {
            values = values.and("retry.on", &word);
        }
    }
    values
}

/// The members that the fields stand for, as the API takes them; an empty field is null.
pub(crate) fn members(
    fields: &Query,
    format: &WireFormatInfo,
) -> Result<Map<String, Value>, Problem> {
    let text = |name: &str| fields.get(name).map_or(Value::Null, Value::from);
    let number = |name: &str| fields.get(name).map_or(Value::Null, settings::number);
    let words = |name: &str| -> Vec<&str> {
        let text = fields.get(name).unwrap_or_default();
        let parts = text.split([',', ' ', '\n', '\r']);
        parts.filter(|part| !part.is_empty()).collect()
    };
    let delays: Vec<Value> = words("retry.delays_ms")
        .into_iter()
        .map(settings::number)
        .collect();
    let mut retry = Map::new();
    for name in [
        "max_retries",
        "initial_delay_ms",
        "multiplier",
        "max_delay_ms",
        "jitter",
    ] {
        retry.insert(name.to_owned(), number(&format!("retry.{name}")));
    }
    retry.insert("on".to_owned(), fields.all("retry.on").collect());
    retry.insert(
        "delays_ms".to_owned(),
        if delays.is_empty() {
            Value::Null
        } else {
            delays.into()
        },
    );
    let members = json!({
        "url": text("url"),
        "description": text("description"),
        "subscription": {
            "types": words("subscription.types"),
            "phone_numbers": words("subscription.phone_numbers"),
        },
        "timeout_ms": number("timeout_ms"),
        "max_in_flight": number("max_in_flight"),
        "rate_limit_per_second": number("rate_limit_per_second"),
        "retry": retry,
    });
    let mut problems = Vec::new();
    let mut members = match members {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    match headers(fields.get("headers").unwrap_or_default()) {
        Ok(headers) => drop(members.insert("headers".to_owned(), headers.into())),
        Err(problem) => problems.push(problem),
    }
    match settings::read(fields, &format.settings_schema) {
        Ok(settings) => drop(members.insert("settings".to_owned(), settings.into())),
        Err(wrong) => problems.extend(wrong),
    }
    if problems.is_empty() {
        Ok(members)
    } else {
        Err(Problem::fields(Code::Invalid, problems))
    }
}

fn headers(text: &str) -> Result<Map<String, Value>, FieldProblem> {
    let mut headers = Map::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong =
            |why: &str| FieldProblem::new("headers", format!("has {why} in line {}", at + 1));
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("no colon"))?;
        let (name, value) = (name.trim().to_owned(), value.trim());
        if headers.insert(name, value.into()).is_some() {
            return Err(wrong("a name for the second time"));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_one_on_a_line() {
        let read = headers("Authorization: Bearer a:b\r\n\r\nX-A:1\n").unwrap();
        assert_eq!(
            Value::Object(read),
            json!({ "Authorization": "Bearer a:b", "X-A": "1" })
        );
        assert_eq!(
            headers("a: 1\nb").unwrap_err().problem,
            "has no colon in line 2"
        );
        assert!(headers("a: 1\na: 2").is_err());
    }

    #[test]
    fn whoever_was_overtaken_sees_what_is_there_now() {
        let typed = Query::parse("url=a&description=mine&version=1&form_token=x");
        let now = Query::parse("url=a&description=theirs&max_in_flight=7");
        let problem = overtaken(&typed, &now);
        let said: Vec<(&str, &str)> = problem
            .errors
            .iter()
            .map(|error| (error.field.as_str(), error.problem.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("description", "is now: theirs"),
                ("max_in_flight", "is now: 7")
            ]
        );
    }
}
