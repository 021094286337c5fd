//! An event's context attributes: from a notification, checked by the rules of `CloudEvents` 1.0.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use posthaste_shared::domain::event::SOURCE;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::super::FieldProblem;
use super::DATA;

/// The longest name of an extension, which the specification advises.
const MAX_NAME: usize = 20;
/// Names that extensions cannot have.
const CORE: [&str; 9] = [
    "specversion",
    "id",
    "source",
    "type",
    "datacontenttype",
    "dataschema",
    "subject",
    "time",
    "data",
];

/// What of a notification's overrides counts here.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Overrides {
    /// Attributes of the event.
    pub(super) cloudevents: Option<Attributes>,
}

/// Attributes that a notification brings along.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Attributes {
    /// Default: the notification's id.
    id: Option<String>,
    /// A URI reference. Default: the endpoint's `source`.
    source: Option<String>,
    /// What the event is about.
    subject: Option<String>,
    /// RFC 3339. Default: the time of acceptance.
    time: Option<String>,
    /// The URI of the data's schema.
    dataschema: Option<String>,
    /// Further attributes: names of lower-case letters and digits; strings, whole numbers and
    /// booleans.
    extensions: Map<String, Value>,
}

impl Attributes {
    /// What is wrong with them, by member.
    pub(super) fn problems(&self) -> Vec<FieldProblem> {
        let checks = [
            ("id", self.id.as_deref().and_then(text_problem)),
            (
                "source",
                self.source
                    .as_deref()
                    // A producer that could choose this source could forge the events of the
                    // operator's own installation.
                    .and_then(|source| source_problem(source).or_else(|| reserved(source))),
            ),
            ("subject", self.subject.as_deref().and_then(text_problem)),
            ("time", self.time.as_deref().and_then(time_problem)),
            (
                "dataschema",
                self.dataschema.as_deref().and_then(schema_problem),
            ),
        ];
        let mut found = Vec::new();
        for (name, problem) in checks {
            found.extend(problem.map(|problem| named(name, problem)));
        }
        for (name, value) in &self.extensions {
            let problem = name_problem(name).or_else(|| value_problem(value));
            found.extend(problem.map(|problem| named(&format!("extensions.{name}"), problem)));
        }
        found
    }

    /// Each that is there, as text.
    pub(super) fn texts(&self) -> Vec<(String, String)> {
        let core = [
            ("id", &self.id),
            ("source", &self.source),
            ("subject", &self.subject),
            ("dataschema", &self.dataschema),
        ];
        let core = core
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        core.chain(
            self.extensions
                .iter()
                .map(|(name, value)| (format!("extensions.{name}"), text(value))),
        )
        .collect()
    }
}

/// The attributes of a notification's event, in the order in which they go out.
pub(super) fn of(
    notification: &Notification,
    source: &str,
    given: Option<Attributes>,
) -> Map<String, Value> {
    let given = given.unwrap_or_default();
    let mut attributes = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        attributes.extend(value.map(|value| (name.to_owned(), Value::String(value))));
    };
    put("specversion", Some("1.0".to_owned()));
    put("id", given.id.or_else(|| Some(notification.id.to_string())));
    put("source", given.source.or_else(|| Some(source.to_owned())));
    put("type", Some(notification.kind.to_string()));
    put("subject", given.subject);
    put(
        "time",
        given
            .time
            .or_else(|| Some(notification.accepted_at.to_string())),
    );
    put("datacontenttype", Some(DATA.to_owned()));
    put("dataschema", given.dataschema);
    attributes.extend(given.extensions);
    attributes
}

/// An attribute's value as text: strings as they are, numbers and booleans as in JSON.
pub(super) fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// A value as a header has it: space, `"`, `%` and all that is not visible ASCII stands as `%` and
/// the hex of its UTF-8 (HTTP protocol binding, section 3.1.3.2).
pub(super) fn percent_encoded(text: &str) -> String {
    // What is not ASCII is always encoded.
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
    utf8_percent_encode(text, ENCODED).to_string()
}

/// What is wrong with a `source`, if anything is.
pub(super) fn source_problem(source: &str) -> Option<&'static str> {
    let fits = |c: char| {
        c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
    };
    (source.is_empty() || !source.chars().all(fits))
        .then_some("must be a URI reference, such as /orders")
}

/// A receiver tells Posthaste's own events by their source and type.
fn reserved(source: &str) -> Option<&'static str> {
    (source == SOURCE).then_some("is that of Posthaste's own events: choose another")
}

fn named(name: &str, problem: &str) -> FieldProblem {
    FieldProblem {
        field: format!("overrides.cloudevents.{name}"),
        problem: problem.to_owned(),
    }
}

fn text_problem(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("must not be empty");
    }
    text.chars()
        .any(char::is_control)
        .then_some("must have no control characters")
}

fn time_problem(time: &str) -> Option<&'static str> {
    Timestamp::parse(time)
        .is_err()
        .then_some("must be an RFC 3339 time, such as 2026-01-31T12:00:00Z")
}

fn schema_problem(schema: &str) -> Option<&'static str> {
    let whole = source_problem(schema).is_none() && Url::parse(schema).is_ok();
    (!whole).then_some("must be an absolute URI")
}

fn name_problem(name: &str) -> Option<&'static str> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
        return Some("must have a name of 1 to 20 lower-case letters and digits");
    }
    CORE.contains(&name)
        .then_some("is not an extension but an attribute of its own")
}

fn value_problem(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(text) => text_problem(text),
        Value::Bool(_) => None,
        Value::Number(number)
            if number
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()) =>
        {
            None
        }
        Value::Number(_) => Some("must be a whole number of 32 bits; write others as a string"),
        _ => Some("must be a string, a number or a boolean"),
    }
}
