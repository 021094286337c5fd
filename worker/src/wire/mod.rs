//! Wire formats: how a notification becomes an HTTP request, and how the answer is read. One wire
//! format, one file, one implementation of [`Wire`]. All of it is pure.

mod raw;
mod standard;
pub mod status;

use bytes::Bytes;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::DeliveryId;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;

use crate::outcome::Outcome;

/// What a wire format does. Implementations hold no state: what they need comes in.
pub trait Wire: Send + Sync {
    /// What `GET /v1/wire-formats` says of it.
    fn info(&self) -> WireInfo;

    /// Everything that is wrong with an endpoint's settings, secrets and headers for this wire format.
    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem>;

    /// The recipients that a notification to one endpoint makes a delivery for each of; one `None` where
    /// a notification is one request.
    fn recipients(&self, _notification: &Notification) -> Vec<Option<String>> {
        vec![None]
    }

    /// The request's body and headers, the same for every attempt.
    ///
    /// # Errors
    /// When the notification lacks what the wire format needs: the delivery fails with `render_error`.
    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, RenderError>;

    /// Headers that prove where the request comes from, made anew for each attempt.
    ///
    /// # Errors
    /// When the endpoint's secret cannot be used.
    fn sign(&self, subject: &Subject<'_>, rendered: &Rendered, now: Timestamp) -> Result<Vec<Header>, RenderError>;

    /// What an answer means. The status alone decides unless the wire format says otherwise.
    fn classify(&self, _endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Outcome {
        status::classify(reply, now)
    }

    /// A new signing secret; `None` where nothing is signed.
    fn new_secret(&self) -> Option<Secret>;

    /// Whether a secret that somebody chose can be used.
    ///
    /// # Errors
    /// What it must look like.
    fn check_secret(&self, secret: &Secret) -> Result<(), String>;

    /// Type and payload of the sample that `endpoint test` sends.
    fn sample(&self) -> (&'static str, serde_json::Value);
}

/// The implementation of a wire format.
#[must_use]
pub fn of(format: WireFormat) -> &'static dyn Wire {
    match format {
        WireFormat::Standard => &standard::Standard,
        WireFormat::Raw => &raw::Raw,
    }
}

/// What is rendered and signed: one delivery of a notification to an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The delivery; its id is the `webhook-id`.
    pub delivery: DeliveryId,
    /// The one recipient it is for, where there are several.
    pub recipient: Option<&'a str>,
    /// What is delivered.
    pub notification: &'a Notification,
    /// Where to.
    pub endpoint: &'a Endpoint,
}

/// A request's body and headers, not yet signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The exact bytes that are signed and sent.
    pub body: Bytes,
    /// Of the body.
    pub content_type: String,
    /// Headers of the wire format, beside content type, signature and the endpoint's static ones.
    pub headers: Vec<Header>,
}

/// One header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// As it goes out.
    pub name: String,
    /// As it goes out.
    pub value: Secret,
    /// Whether the value must not be kept or shown.
    pub sensitive: bool,
}

impl Header {
    /// A header whose value may be shown.
    #[must_use]
    pub fn open(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: Secret::new(value), sensitive: false }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: http::HeaderMap,
    /// The body, up to 64 KiB of it.
    pub body: Bytes,
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

/// One thing that is wrong with an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The member, such as `settings.body`.
    pub field: String,
    /// What is wrong and what it must be.
    pub problem: String,
}

/// What is told about a wire format.
#[derive(Debug, Clone)]
pub struct WireInfo {
    /// Which.
    pub format: WireFormat,
    /// In a sentence or two.
    pub description: &'static str,
    /// Whether endpoints of it have a signing secret.
    pub signs: bool,
    /// JSON Schema of an endpoint's `settings`.
    pub settings_schema: serde_json::Value,
}

/// Reads a wire format's settings into its own type.
///
/// # Errors
/// The member and what is wrong with it.
fn settings<T: serde::de::DeserializeOwned>(endpoint: &Endpoint) -> Result<T, RenderError> {
    let value = serde_json::Value::Object(endpoint.confidential.settings.clone());
    serde_json::from_value(value)
        .map_err(|error| RenderError { member: "settings".to_owned(), problem: format!("is refused: {error}") })
}

/// The enqueuer's trace context as a header, where the endpoint's setting asks for it.
fn trace_header(asked: bool, notification: &Notification) -> Option<Header> {
    let context = notification.traceparent.as_ref().filter(|_| asked)?;
    Some(Header::open("traceparent", context.clone()))
}

/// JSON Schema of the setting `traceparent`.
fn trace_schema() -> serde_json::Value {
    serde_json::json!({
        "type": "boolean",
        "default": false,
        "description": "whether the request carries the enqueuer's W3C trace context, traceparent"
    })
}

impl From<RenderError> for FieldProblem {
    fn from(error: RenderError) -> Self {
        Self { field: error.member, problem: error.problem }
    }
}
