//! Reading what is JSON on the outside into types of our own: an endpoint's settings, a
//! notification's members. The types are the schema: what the API shows is derived from them, and
//! errors name the member.

use std::sync::Arc;

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::hops::{self, Hops};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::reading::{self, Objects};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FieldProblem, Header, RenderError, Subject};

/// The settings that every wire format has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Common {
    /// Whether every request carries `webhook-id`, the delivery's id, the same in each attempt, to
    /// dedupe by.
    webhook_id: bool,
    /// Whether every request carries a W3C trace context, `traceparent`: its own span's where
    /// Posthaste traces it, else the enqueuer's.
    traceparent: bool,
    /// A script, JavaScript or TypeScript, whose default export is a function of the notification
    /// that returns what to send of it: `{ payload, headers?, url? }`, with `keep_payload: true` in
    /// the place of the payload to send the notification's own, or `{ skip: true }`.
    transform: Option<String>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            webhook_id: true,
            traceparent: false,
            transform: None,
        }
    }
}

/// The names of the settings that all wire formats have.
const COMMON: [&str; 3] = ["webhook_id", "traceparent", "transform"];

/// Reads a wire format's settings into its own type; those that all have are left out.
///
/// # Errors
/// The member and what is wrong with it.
pub fn settings<T: DeserializeOwned>(endpoint: &Endpoint) -> Result<T, RenderError> {
    let own = |name: &str| !COMMON.contains(&name);
    read_settings(&endpoint.confidential.settings, own).map_err(|mut error: RenderError| {
        // serde knows the names of the wire format alone.
        if error.member.matches('.').count() == 1 && error.problem.starts_with("is not known") {
            let [first, second, last] = COMMON;
            error.problem.push_str(&format!(
                "; every wire format also has `{first}`, `{second}` and `{last}`"
            ));
        }
        error
    })
}

fn read_settings<T: DeserializeOwned>(
    settings: &Map<String, Value>,
    wanted: impl Fn(&str) -> bool,
) -> Result<T, RenderError> {
    let members = settings
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.as_str(), value));
    let reader: MapDeserializer<'_, _, serde_json::Error> = MapDeserializer::new(members);
    serde_path_to_error::deserialize(Objects(reader)).map_err(|error| refused("settings", &error))
}

/// What is wrong with the settings that all wire formats have.
pub(super) fn check_common(endpoint: &Endpoint) -> Vec<FieldProblem> {
    common(endpoint)
        .err()
        .map(FieldProblem::from)
        .into_iter()
        .collect()
}

fn common(endpoint: &Endpoint) -> Result<Common, RenderError> {
    read_settings(&endpoint.confidential.settings, |name| {
        COMMON.contains(&name)
    })
}

/// The headers that every request has, whatever its wire format.
///
/// # Errors
/// When the settings cannot be read.
pub(crate) fn common_headers(subject: &Subject<'_>) -> Result<Vec<Header>, RenderError> {
    let common = common(subject.endpoint)?;
    let mut headers = Vec::new();
    // What Posthaste sends for the first time is known by its `User-Agent`.
    let hops = subject.notification.hops;
    if hops > Hops::default() {
        headers.push(Header::open(hops::HEADER, hops.next().to_string()));
    }
    if common.webhook_id {
        headers.push(Header::open("webhook-id", subject.delivery.to_string()));
    }
    if common.traceparent {
        // Its own span first, so that the receiver's spans hang beneath the attempt and not beside
        // it.
        let own = subject.trace.map(|context| context.to_string());
        let context = own.or_else(|| subject.notification.traceparent.clone());
        headers.extend(context.map(|context| Header::open("traceparent", context)));
    }
    Ok(headers)
}

/// The endpoint's script that changes notifications before they are rendered, if it has one.
#[must_use]
pub fn transform(endpoint: &Endpoint) -> Option<&str> {
    endpoint.confidential.settings.get("transform")?.as_str()
}

/// JSON Schema of a wire format's settings with those that all have.
#[must_use]
pub fn with_common(mut settings: Value) -> Value {
    if let (Some(all), Value::Object(common)) = (
        settings.get_mut("properties"),
        &schema::<Common>()["properties"],
    ) {
        for (name, schema) in common {
            // After the wire format's own, which are what somebody looks for in its description.
            all[name] = schema.clone();
        }
    }
    settings
}

/// JSON Schema of a type.
#[must_use]
pub fn schema<T: JsonSchema>() -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    if let Value::Object(members) = &mut schema {
        // `$schema` belongs at the root of a document, and this one is shown inside of others. The
        // title is the name of a Rust type. `shift_remove` keeps the order of the others.
        members.shift_remove("$schema");
        members.shift_remove("title");
        // schemars leaves `properties` out where there are none. Readers, and `with_common`, rely
        // on it.
        if members.get("type").is_some_and(|kind| kind == "object") {
            members
                .entry("properties")
                .or_insert_with(|| Value::Object(Map::new()));
        }
    }
    schema
}

/// JSON Schema that lets everything through.
#[must_use]
pub fn any() -> Value {
    serde_json::json!(true)
}

/// Reads a notification's payload.
///
/// # Errors
/// The member, such as `payload.content`, and what is wrong with it.
pub fn payload<T: DeserializeOwned>(notification: &Notification) -> Result<T, RenderError> {
    read("payload", &notification.payload)
}

/// Reads a notification's recipient; one that is left out is an empty object.
///
/// # Errors
/// The member, such as `recipient.phone`, and what is wrong with it.
pub fn recipient<T: DeserializeOwned>(notification: &Notification) -> Result<T, RenderError> {
    read_or_empty("recipient", notification.recipient.as_ref())
}

/// Reads a notification's overrides; those that are left out are an empty object.
///
/// # Errors
/// The member, such as `overrides.httpsms`, and what is wrong with it.
pub fn overrides<T: DeserializeOwned>(notification: &Notification) -> Result<T, RenderError> {
    read_or_empty("overrides", notification.overrides.as_ref())
}

fn read_or_empty<T: DeserializeOwned>(
    member: &str,
    json: Option<&RawJson>,
) -> Result<T, RenderError> {
    match json {
        Some(json) => read(member, json),
        // Read from `{}` and not from `Default`: whether a member must be there is for serde to
        // say, in the same words as for a recipient that is there and lacks it.
        None => serde_json::from_str("{}")
            .map_err(|error| RenderError::new(member, format!("is refused: {error}"))),
    }
}

/// [`payload`], [`recipient`] or [`overrides`], read once for all deliveries of a notification. For
/// wire formats that make several: each would read all of it anew.
///
/// # Errors
/// As of the others.
pub fn read_once<T>(member: &'static str, json: Option<&RawJson>) -> Result<Arc<T>, RenderError>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    match json {
        None => read_or_empty(member, None).map(Arc::new),
        Some(json) => {
            let reading = json.read_once(|_| read::<T>(member, json).map(Arc::new));
            reading.as_ref().clone()
        }
    }
}

/// Reads JSON; errors name the member below `member`.
///
/// # Errors
/// The member and what is wrong with it.
pub fn read<T: DeserializeOwned>(member: &str, json: &RawJson) -> Result<T, RenderError> {
    let mut reader = serde_json::Deserializer::from_str(json.as_str());
    serde_path_to_error::deserialize(Objects(&mut reader)).map_err(|error| refused(member, &error))
}

/// `serde_json` says where in the text; that is of no use to somebody who sent it in something
/// larger.
fn refused(member: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> RenderError {
    // The inner error: the outer one begins with the path, which is put before it below in the
    // spelling of the API.
    let message = error.inner().to_string();
    let path = match reading::member(&error.path().to_string(), &message).as_str() {
        "" => member.to_owned(),
        inner => format!("{member}.{inner}"),
    };
    RenderError::new(path, reading::problem(&message))
}

/// JSON text as JavaScript's `JSON.stringify` writes it: compact, nothing escaped that need not be.
///
/// # Errors
/// When the value cannot be written.
pub fn json_text<T: Serialize>(value: &T) -> Result<String, RenderError> {
    serde_json::to_string(value)
        .map_err(|error| RenderError::new("payload", format!("cannot be written: {error}")))
}

/// JSON text as Go's `encoding/json` writes it: `<`, `>`, `&`, U+2028 and U+2029 escaped. They
/// stand in texts only, so the whole may be searched.
#[must_use]
pub fn go_escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}
