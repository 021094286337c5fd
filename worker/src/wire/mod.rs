//! Wire formats: how a notification becomes an HTTP request, and how the answer is read. One wire
//! format, one file or folder, one implementation of [`Wire`]. All of it is pure.

mod answer;
mod authgear;
mod cloudevents;
mod cometchat_sms;
#[cfg(test)]
pub(crate) mod fixtures;
mod httpsms;
mod merge;
mod novu;
pub mod outcome;
pub mod own_events;
mod raw;
mod recipients;
pub mod settings;
#[cfg(test)]
pub(crate) mod sms_fixture;
mod standard;
pub mod status;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::event::{Event, EventType};
use posthaste_shared::domain::id::{DeliveryId, NotificationType};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::trace_context::TraceContext;
use posthaste_shared::domain::view::DeliveryView;
use posthaste_shared::domain::wire_format::WireFormat;
use serde_json::{Map, Value};
use url::Url;

use outcome::Outcome;

pub use crate::send::{Reading, Reply};
pub use recipients::{Recipients, too_many_recipients};

/// What a wire format does. Implementations hold no state: what they need comes in.
pub trait Wire: Send + Sync {
    /// What `GET /v1/wire-formats` says of it.
    fn info(&self) -> WireInfo;

    /// Everything that is wrong with an endpoint's settings, secrets and headers for this wire
    /// format. The settings that all wire formats have are checked elsewhere.
    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem>;

    /// Whether notifications of this type can be written in it at all. Others do not match the
    /// subscription of its endpoints, whatever that says.
    fn takes(&self, _kind: &NotificationType) -> bool {
        true
    }

    /// The type under which its endpoints get an event of Posthaste's own in a form that the wire
    /// format has for it. `None` where it has none: they get the event as it is. See
    /// [`own_events`].
    fn event_type(&self, _event: EventType) -> Option<NotificationType> {
        None
    }

    /// The notification that carries `event`, about a delivery of `about`, in that form. Its id
    /// follows from the event's, so that creating it again delivers nothing twice.
    fn event(
        &self,
        _event: &Event,
        _delivery: &DeliveryView,
        _about: &Notification,
    ) -> Option<Notification> {
        None
    }

    /// What a notification that names this endpoint lacks, or has wrong: it is refused when it is
    /// enqueued.
    fn check_notification(
        &self,
        _endpoint: &Endpoint,
        _notification: &Notification,
    ) -> Vec<FieldProblem> {
        Vec::new()
    }

    /// The recipients that a notification to one endpoint makes a delivery for each of, each once.
    /// The same for all endpoints of the wire format, so that it is asked once for a notification.
    fn recipients(&self, _notification: &Notification) -> Recipients {
        Recipients::One
    }

    /// The request's body and headers, the same for every attempt.
    ///
    /// # Errors
    /// When the notification lacks what the wire format needs: the delivery fails with
    /// `render_error`, or is skipped.
    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten>;

    /// Headers that prove where the request comes from, created anew for each attempt.
    ///
    /// # Errors
    /// When the endpoint's secret cannot be used.
    fn sign(
        &self,
        subject: &Subject<'_>,
        rendered: &Rendered,
        now: Timestamp,
    ) -> Result<Vec<Header>, RenderError>;

    /// A request that goes out before the delivery's own, if there is one: for a token, for
    /// consent.
    ///
    /// # Errors
    /// When the endpoint's settings cannot be used.
    fn preflight(&self, _subject: &Subject<'_>) -> Result<Option<Preflight>, RenderError> {
        Ok(None)
    }

    /// The URLs among an endpoint's settings that are called, each with the setting's name.
    fn called_urls(&self, _endpoint: &Endpoint) -> Vec<(&'static str, Url)> {
        Vec::new()
    }

    /// What the answer to the preflight request gives.
    ///
    /// # Errors
    /// The outcome of the attempt, where the delivery's own request is not sent.
    fn grant(
        &self,
        _endpoint: &Endpoint,
        _reply: &Reply,
        _now: Timestamp,
    ) -> Result<Grant, Outcome> {
        Ok(Grant::default())
    }

    /// The script that takes the place of the request: it is called with the rendered body, and
    /// what it returns is the answer's body.
    fn script<'a>(&self, _endpoint: &'a Endpoint) -> Option<&'a str> {
        None
    }

    /// What an answer's body is for. Where the status alone decides, a body that breaks off, hangs
    /// or is too large changes nothing, and is not waited for. A wire format that says
    /// [`Reading::Body`] must look at [`Reply::fault`] in `classify`.
    fn reading(&self) -> Reading {
        Reading::Status
    }

    /// The same for the answer to the preflight request, which `clear` reads.
    fn preflight_reading(&self) -> Reading {
        Reading::Status
    }

    /// What an answer means. The status alone decides unless the wire format says otherwise.
    fn classify(&self, _endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Outcome {
        status::classify(reply, now)
    }

    /// A new signing secret; `None` where nothing is signed, or only with a secret that somebody
    /// brings.
    fn new_secret(&self, settings: &Map<String, Value>) -> Option<Secret>;

    /// Whether a secret that somebody chose can be used.
    ///
    /// # Errors
    /// What it must look like.
    fn check_secret(&self, secret: &Secret) -> Result<(), String>;

    /// The sample that `endpoint test` sends and the documentation shows.
    fn sample(&self) -> Sample;
}

/// The implementation of a wire format.
#[must_use]
pub fn of(format: WireFormat) -> &'static dyn Wire {
    match format {
        WireFormat::Standard => &standard::Standard,
        WireFormat::Cloudevents => &cloudevents::Cloudevents,
        WireFormat::Httpsms => &httpsms::Httpsms,
        WireFormat::NovuSms => &novu::sms::NovuSms,
        WireFormat::NovuPush => &novu::push::NovuPush,
        WireFormat::AuthgearSms => &authgear::sms::AuthgearSms,
        WireFormat::AuthgearScript => &authgear::script::AuthgearScript,
        WireFormat::CometchatSms => &cometchat_sms::CometchatSms,
        WireFormat::Raw => &raw::Raw,
    }
}

/// Everything that is wrong with an endpoint's settings, secrets and headers for its wire format,
/// except what is in its [`scripts`]: those have to be compiled.
#[must_use]
pub fn check(endpoint: &Endpoint) -> Vec<FieldProblem> {
    let mut problems = settings::check_common(endpoint);
    problems.extend(of(endpoint.wire_format).check(endpoint));
    problems
}

/// The scripts in an endpoint's settings, each with the member that it is in.
#[must_use]
pub fn scripts(endpoint: &Endpoint) -> Vec<(&'static str, &str)> {
    let transform = settings::transform(endpoint).map(|source| ("settings.transform", source));
    let script = of(endpoint.wire_format)
        .script(endpoint)
        .map(|source| ("settings.script", source));
    transform.into_iter().chain(script).collect()
}

/// What a notification that names this endpoint lacks, or has wrong, as far as that is known before
/// it is sent. What the endpoint's transform has yet to write, the payload, is not looked at.
#[must_use]
pub fn check_notification(endpoint: &Endpoint, notification: &Notification) -> Vec<FieldProblem> {
    let wire = of(endpoint.wire_format);
    if settings::transform(endpoint).is_none() {
        return wire.check_notification(endpoint, notification);
    }
    // A payload that is right takes its place, so that what else is wrong is still found.
    let Ok(payload) = RawJson::of(&wire.sample().payload) else {
        return Vec::new();
    };
    let mut problems = wire.check_notification(
        endpoint,
        &Notification {
            payload,
            ..notification.clone()
        },
    );
    problems.retain(|problem| problem.field != "payload" && !problem.field.starts_with("payload."));
    problems
}

/// What is rendered and signed: one delivery of a notification to an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The delivery; its id is the `webhook-id`.
    pub delivery: DeliveryId,
    /// The one recipient it is for, where there are several.
    pub recipient: Option<&'a str>,
    /// The notification that is delivered, as the endpoint's transform left it.
    pub notification: &'a Notification,
    /// The endpoint that it is delivered to.
    pub endpoint: &'a Endpoint,
    /// The request's own place in a trace, where it is recorded; else the notification's goes with
    /// it.
    pub trace: Option<TraceContext>,
}

/// A request's body and headers, not yet signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The exact bytes that are signed and sent.
    pub body: Bytes,
    /// The `Content-Type` of the body.
    pub content_type: String,
    /// Headers of the wire format, beside content type, signature and the endpoint's static ones.
    pub headers: Vec<Header>,
    /// The URL that the request goes to. Default: the endpoint's URL.
    pub url: Option<Url>,
}

impl Rendered {
    /// JSON, with no headers of the wire format's own.
    #[must_use]
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            content_type: "application/json".to_owned(),
            headers: Vec::new(),
            url: None,
        }
    }
}

/// One header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The header's name, as it goes out.
    pub name: String,
    /// The header's value, as it goes out.
    pub value: Secret,
    /// Whether the value must not be kept or shown.
    pub sensitive: bool,
}

impl Header {
    /// A header whose value may be shown.
    #[must_use]
    pub fn open(name: &str, value: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: Secret::new(value),
            sensitive: false,
        }
    }

    /// A header whose value may not be kept or shown.
    #[must_use]
    pub fn secret(name: &str, value: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: Secret::new(value),
            sensitive: true,
        }
    }
}

/// A request that goes out before the delivery's own. It has no body and is bound by the same rules
/// and the same deadline.
#[derive(Debug, Clone)]
pub struct Preflight {
    /// What it is for, in an error's text, such as `the auth URL`.
    pub what: &'static str,
    /// The HTTP method, such as `POST`.
    pub method: Method,
    /// The URL that the request goes to, bound by the egress policy like any other.
    pub url: Url,
    /// What goes with it, beside `Content-Length`.
    pub headers: Vec<Header>,
    /// Whether its answer is kept for later deliveries, or asked for anew before each.
    pub kept: bool,
}

/// What the answer to a [`Preflight`] gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// Headers for the delivery's own request.
    pub headers: Vec<Header>,
    /// How long the grant holds, where it is kept for later deliveries.
    pub lasts: Duration,
    /// The most requests a second that the receiver wants, where it said so.
    pub rate_per_second: Option<f64>,
}

/// Why there is no request for a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwritten {
    /// It cannot be written: the delivery fails.
    Error(RenderError),
    /// It is not for this endpoint, or names nobody to send to: the delivery is cancelled.
    Skip(Skip),
}

/// Why a delivery is skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("skipped ({code}): {text}")]
pub struct Skip {
    /// A stable word, such as `no_subscriber_phone`.
    pub code: &'static str,
    /// A sentence for people.
    pub text: String,
}

/// Why a notification cannot be written in a wire format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{member} {problem}")]
pub struct RenderError {
    /// The member of the notification, the endpoint or its settings.
    pub member: String,
    /// What is wrong and what it must be.
    pub problem: String,
}

impl RenderError {
    /// An error whose text is `member` followed by `problem`.
    #[must_use]
    pub fn new(member: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            member: member.into(),
            problem: problem.into(),
        }
    }
}

impl From<RenderError> for Unwritten {
    fn from(error: RenderError) -> Self {
        Self::Error(error)
    }
}

/// One thing that is wrong with an endpoint or a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The member, such as `settings.body` or `recipient.phone`.
    pub field: String,
    /// What is wrong and what it must be.
    pub problem: String,
}

impl From<RenderError> for FieldProblem {
    fn from(error: RenderError) -> Self {
        Self {
            field: error.member,
            problem: error.problem,
        }
    }
}

/// The description of a wire format, as the API and the command line show it.
#[derive(Debug, Clone)]
pub struct WireInfo {
    /// What the wire format sends and to whom, in a sentence or two.
    pub description: &'static str,
    /// Whether endpoints of it can have a signing secret.
    pub signs: bool,
    /// JSON Schema of an endpoint's `settings`, without those that all wire formats have.
    pub settings: Value,
    /// JSON Schema of a notification's `payload`.
    pub payload: Value,
    /// JSON Schema of a notification's `recipient`.
    pub recipient: Value,
}

/// A notification that shows what a wire format needs.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The notification's type, such as `message.phone.received`.
    pub kind: &'static str,
    /// The notification's payload, valid for the wire format.
    pub payload: Value,
    /// The notification's recipient, an object, where the wire format needs one.
    pub recipient: Option<Value>,
    /// The notification's overrides, an object by wire format.
    pub overrides: Option<Value>,
    /// Settings that suffice for an endpoint that takes it.
    pub settings: Value,
}

impl Sample {
    /// A sample with a payload and neither recipient, overrides nor settings.
    #[must_use]
    pub fn new(kind: &'static str, payload: Value) -> Self {
        Self {
            kind,
            payload,
            recipient: None,
            overrides: None,
            settings: Value::Object(Map::new()),
        }
    }
}
