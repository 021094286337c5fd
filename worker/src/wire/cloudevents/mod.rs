//! `cloudevents`: CloudEvents 1.0 over HTTP, structured or binary, with the abuse protection of its
//! webhook rules: the receiver is asked for consent first, where the endpoint's settings want that.

mod attributes;
mod consent;

use http::header::CACHE_CONTROL;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::header::value_problem;
use posthaste_shared::domain::notification::{Notification, Origin};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::attributes::{Overrides, percent_encoded};
use super::{
    FieldProblem, Grant, Header, Preflight, RenderError, Rendered, Reply, Sample, Subject,
    Unwritten, Wire, WireInfo, settings, standard, status,
};
use crate::wire::outcome::Outcome;

/// The media type of an event in structured mode.
const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";
/// The media type of the data.
const DATA: &str = "application/json";

#[derive(Debug)]
pub(super) struct Cloudevents;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Where the event's attributes stand.
    mode: Mode,
    /// The attribute `source`, a URI reference, where a notification's overrides name no other.
    source: String,
    /// Whether the receiver is asked for consent, by an OPTIONS request, before the first delivery
    /// and again every hour. Without its consent nothing is delivered.
    handshake: bool,
    /// The DNS name of the sending system, which the consent is for. Needed with the handshake.
    origin: Option<String>,
    /// The rate to ask consent for, in requests a minute. Default: none is asked for.
    #[schemars(range(min = 1))]
    request_rate: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// The body is one JSON object with the attributes and the data.
    #[default]
    Structured,
    /// The body is the data, the attributes are headers (ce-…).
    Binary,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Structured,
            source: "/posthaste".to_owned(),
            handshake: false,
            origin: None,
            request_rate: None,
        }
    }
}

/// An event in the JSON format, in the order in which it goes out.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(flatten)]
    attributes: &'a Map<String, Value>,
    data: &'a RawJson,
}

impl Wire for Cloudevents {
    fn info(&self) -> WireInfo {
        WireInfo {
            description: "CloudEvents 1.0 over HTTP, structured or binary, with consent asked for \
                          first where that is wanted.",
            signs: true,
            settings: settings::schema::<Settings>(),
            payload: settings::any(),
            recipient: settings::any(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let mut problems: Vec<FieldProblem> = match settings::settings::<Settings>(endpoint) {
            Ok(settings) => check_settings(&settings, endpoint),
            Err(error) => vec![error.into()],
        };
        problems.extend(standard::check_secrets(endpoint));
        problems
    }

    fn check_notification(
        &self,
        endpoint: &Endpoint,
        notification: &Notification,
    ) -> Vec<FieldProblem> {
        let Ok(settings) = settings::settings::<Settings>(endpoint) else {
            return Vec::new();
        };
        match settings::overrides::<Overrides>(notification) {
            Ok(overrides) => problems(&overrides, &settings),
            Err(error) => vec![error.into()],
        }
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        let notification = subject.notification;
        // They are CloudEvents already: wrapped again, an event would have two ids and two sources.
        let rendered = if notification.origin == Origin::Event {
            own_event(&settings, notification)?
        } else {
            let overrides: Overrides = settings::overrides(notification)?;
            // Checked again: a notification that came over AMQP, or whose endpoint has changed its
            // mode since, was not checked against these settings.
            if let Some(problem) = problems(&overrides, &settings).into_iter().next() {
                return Err(RenderError::new(problem.field, problem.problem).into());
            }
            let attributes = attributes::of(notification, &settings.source, overrides.cloudevents);
            written(settings.mode, &attributes, &notification.payload)?
        };
        Ok(not_stored(subject.endpoint, rendered))
    }

    fn sign(
        &self,
        subject: &Subject<'_>,
        rendered: &Rendered,
        now: Timestamp,
    ) -> Result<Vec<Header>, RenderError> {
        standard::headers(subject, &rendered.body, now)
    }

    fn preflight(&self, subject: &Subject<'_>) -> Result<Option<Preflight>, RenderError> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        if !settings.handshake {
            return Ok(None);
        }
        let origin = settings.origin.ok_or_else(no_origin)?;
        Ok(Some(consent::question(
            &subject.endpoint.url,
            &origin,
            settings.request_rate,
        )))
    }

    fn grant(&self, endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Result<Grant, Outcome> {
        // Settings that cannot be read failed at `preflight`, before there was an answer to read.
        let settings = settings::settings::<Settings>(endpoint).unwrap_or_default();
        consent::read(
            settings.origin.as_deref().unwrap_or_default(),
            settings.request_rate,
            reply,
            now,
        )
    }

    fn classify(&self, _endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Outcome {
        let mut outcome = status::classify(reply, now);
        // Nothing in a 415 says so, and the mode is the one thing about the content type that can
        // be set.
        if let (415, Outcome::Refused { error, .. }) = (reply.status, &mut outcome) {
            error.text.push_str("; it may take the other settings.mode");
        }
        outcome
    }

    fn new_secret(&self, _settings: &Map<String, Value>) -> Option<Secret> {
        None
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        standard::check_secret(secret)
    }

    fn sample(&self) -> Sample {
        Sample {
            overrides: Some(json!({"cloudevents": {"subject": "test"}})),
            ..Sample::new(
                "posthaste.test",
                json!({"message": "A test from Posthaste"}),
            )
        }
    }
}

fn check_settings(settings: &Settings, endpoint: &Endpoint) -> Vec<FieldProblem> {
    let field = |field: &str, problem: &str| FieldProblem {
        field: field.to_owned(),
        problem: problem.to_owned(),
    };
    let mut found = Vec::new();
    found.extend(
        attributes::source_problem(&settings.source)
            .map(|problem| field("settings.source", problem)),
    );
    match &settings.origin {
        None if settings.handshake => found.push(no_origin().into()),
        Some(origin) if !consent::is_dns_name(origin) => {
            found.push(field(
                "settings.origin",
                "must be a DNS name, such as events.example.com",
            ));
        }
        _ => {}
    }
    if settings.request_rate == Some(0) {
        found.push(field(
            "settings.request_rate",
            "must be 1 or more requests a minute",
        ));
    }
    let names = endpoint.confidential.headers.iter().map(|(name, _)| name);
    // A static header would stand beside the attribute's, and receivers differ in which of the two
    // counts.
    let taken = names.filter(|name| {
        settings.mode == Mode::Binary && name.to_ascii_lowercase().starts_with("ce-")
    });
    let refused = "is an attribute of the event in binary mode: give it in overrides.cloudevents";
    found.extend(taken.map(|name| field(&format!("headers.{name}"), refused)));
    found
}

fn no_origin() -> RenderError {
    RenderError::new(
        "settings.origin",
        "is missing: the DNS name of the sending system, which the handshake needs",
    )
}

/// What is wrong with a notification's overrides, in this mode.
fn problems(overrides: &Overrides, settings: &Settings) -> Vec<FieldProblem> {
    let Some(given) = &overrides.cloudevents else {
        return Vec::new();
    };
    let mut found = given.problems();
    if found.is_empty() && settings.mode == Mode::Binary {
        let too_long = |(name, value): (String, String)| {
            value_problem(&percent_encoded(&value)).map(|problem| FieldProblem {
                field: format!("overrides.cloudevents.{name}"),
                problem: format!("{problem}, which in binary mode is a header's"),
            })
        };
        found.extend(given.texts().into_iter().filter_map(too_long));
    }
    found
}

/// The event in its mode.
fn written(
    mode: Mode,
    attributes: &Map<String, Value>,
    data: &RawJson,
) -> Result<Rendered, RenderError> {
    match mode {
        Mode::Structured => {
            let body = settings::json_text(&Event { attributes, data })?;
            Ok(Rendered {
                content_type: STRUCTURED.to_owned(),
                ..Rendered::json(body)
            })
        }
        Mode::Binary => {
            let mut rendered = Rendered::json(data.as_str().to_owned());
            for (name, value) in attributes {
                let text = attributes::text(value);
                // In binary mode this attribute is the `Content-Type` (HTTP protocol binding,
                // section 3.1.1); as `ce-datacontenttype` it would be ignored.
                if name == "datacontenttype" {
                    rendered.content_type = text;
                } else {
                    rendered
                        .headers
                        .push(Header::open(&format!("ce-{name}"), percent_encoded(&text)));
                }
            }
            Ok(rendered)
        }
    }
}

/// An event of Posthaste's own, which is a `CloudEvent` as it is.
fn own_event(settings: &Settings, event: &Notification) -> Result<Rendered, RenderError> {
    #[derive(Deserialize)]
    struct Data {
        data: RawJson,
    }
    if settings.mode == Mode::Structured {
        let body = event.payload.as_str().to_owned();
        return Ok(Rendered {
            content_type: STRUCTURED.to_owned(),
            ..Rendered::json(body)
        });
    }
    let mut attributes: Map<String, Value> = settings::payload(event)?;
    attributes.shift_remove("data");
    let Data { data } = settings::payload(event)?;
    written(Mode::Binary, &attributes, &data)
}

/// A token in the URL must not get into caches (`CloudEvents` webhook rules, section 3.2).
fn not_stored(endpoint: &Endpoint, mut rendered: Rendered) -> Rendered {
    if endpoint
        .url
        .query_pairs()
        // RFC 6750, section 2.3, asks for it: a cache would otherwise keep a URL that has a
        // credential in it.
        .any(|(name, _)| name == "access_token")
    {
        rendered
            .headers
            .push(Header::open(CACHE_CONTROL.as_str(), "no-store"));
    }
    rendered
}

#[cfg(test)]
mod tests;
