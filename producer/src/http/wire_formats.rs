//! What the API needs to know of wire formats. They live with the worker, which this crate does not
//! know: the binary puts the two together through [`WireFormats`].

use async_trait::async_trait;
use posthaste_shared::domain::attempt::{AttemptError, Phases};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::notification::{Notification, NotificationDraft};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::wire_format::WireFormat;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::http::problem::FieldProblem;

/// Knows the wire formats and can send with them.
#[async_trait]
pub trait WireFormats: Send + Sync + 'static {
    /// Every wire format, for `GET /v1/wire-formats`.
    fn catalogue(&self) -> Vec<WireFormatInfo>;

    /// Checks an endpoint's settings, and that its wire format has all that it needs. Scripts are
    /// left to [`WireFormats::check_scripts`].
    ///
    /// # Errors
    /// Every member that is wrong.
    fn check(&self, endpoint: &Endpoint) -> Result<(), Vec<FieldProblem>>;

    /// Compiles the scripts in an endpoint's settings that `before` does not have. Takes as long as
    /// that takes, and waits while others compile.
    ///
    /// # Errors
    /// What is wrong with a script; or that it cannot be found out now.
    async fn check_scripts(
        &self,
        before: Option<&Endpoint>,
        endpoint: &Endpoint,
    ) -> Result<(), Unchecked>;

    /// The URLs among an endpoint's settings that are called, each with the setting's name.
    fn called_urls(&self, _endpoint: &Endpoint) -> Vec<(String, Url)> {
        Vec::new()
    }

    /// Checks that a notification has what the endpoint that it names needs, if it names one, and
    /// no more recipients than it may have.
    ///
    /// # Errors
    /// Every member that is wrong.
    fn check_notification(
        &self,
        endpoint: Option<&Endpoint>,
        notification: &Notification,
    ) -> Result<(), Vec<FieldProblem>>;

    /// A new signing secret for an endpoint with these settings; `None` for a wire format that does
    /// not sign, or only with a secret that somebody brings.
    fn new_secret(&self, format: WireFormat, settings: &Map<String, Value>) -> Option<Secret>;

    /// Checks a secret that somebody brings along.
    ///
    /// # Errors
    /// What it must be.
    fn check_secret(&self, format: WireFormat, secret: &Secret) -> Result<(), String>;

    /// Sends a test notification to the endpoint now, once, and tells all about it. Nothing is
    /// recorded.
    async fn test(&self, endpoint: &Endpoint, notification: Option<Notification>) -> TestReport;

    /// The request that would be sent to the endpoint for a notification, else for the example of
    /// its wire format. Nothing is sent or recorded.
    async fn render(&self, endpoint: &Endpoint, notification: Option<Notification>)
    -> RenderReport;

    /// Compiles a transform for a tenant, within the limits of scripts.
    ///
    /// # Errors
    /// What is wrong with it, and where; or that it cannot be found out now.
    async fn compile(&self, tenant: &TenantId, source: &str) -> Result<(), Uncompiled>;
}

/// Why there is nothing that could run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uncompiled {
    /// The script is wrong.
    Refused(ScriptProblem),
    /// It could not be found out now; why, as a sentence.
    Busy(String),
}

/// What is wrong with a script, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScriptProblem {
    /// The line of the script as it was written, from 1; null where it is about the whole script.
    pub line: Option<u32>,
    /// The column in characters, from 1; null where it is about the whole script.
    pub column: Option<u32>,
    /// What is wrong, and what it must be.
    pub message: String,
}

/// What would be sent to an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RenderReport {
    /// The notification that it is for, as it would be enqueued: what was given, or the wire
    /// format's example.
    pub notification: NotificationDraft,
    /// The payload after the endpoint's transform; null where the endpoint has none, or it failed.
    pub payload: Option<RawJson>,
    /// The request as it would go out, secrets redacted; null if there would be none.
    pub request: Option<TestRequest>,
    /// Why there would be no request; null if there is one.
    pub error: Option<AttemptError>,
    /// What would happen in a word: `sent`, `cancelled`, `waits`, or the reason of a failure.
    pub outcome: String,
    /// Whether a request that asks first would go out before. What that grants, such as a token,
    /// is not in `request`.
    pub asks_first: bool,
    /// What the transform wrote to its console; left out if that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
}

/// Why an endpoint's scripts are not known to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unchecked {
    /// A script is wrong; each member that is, with the reason.
    Invalid(Vec<FieldProblem>),
    /// It could not be found out now; why, as a sentence.
    Busy(String),
}

/// The schema of a JSON Schema (2020-12): an object, or a boolean that lets everything or nothing
/// through.
fn json_schema() -> utoipa::openapi::schema::Object {
    use utoipa::openapi::schema::{SchemaType, Type};
    let kinds = SchemaType::from_iter([Type::Object, Type::Boolean]);
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(kinds)
        .build()
}

/// A wire format as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WireFormatInfo {
    /// The name of the wire format, as in an endpoint's `wire_format`.
    pub name: WireFormat,
    /// What the wire format is for, in a sentence.
    pub description: String,
    /// Whether its requests are signed.
    pub signs: bool,
    /// JSON Schema of an endpoint's `settings`.
    #[schema(value_type = Object)]
    pub settings_schema: Value,
    /// JSON Schema of a notification's `payload`; `true` where any will do.
    #[schema(schema_with = json_schema)]
    pub payload_schema: Value,
    /// JSON Schema of a notification's `recipient`; `true` where any will do.
    #[schema(schema_with = json_schema)]
    pub recipient_schema: Value,
    /// An example of `settings` that is enough for an endpoint.
    #[schema(value_type = Object)]
    pub example_settings: Value,
    /// A notification that it can be tried with: what `endpoint test` sends.
    #[schema(value_type = Object)]
    pub example: Value,
}

/// The result of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TestReport {
    /// The request that was sent, or would have been; null if none could be rendered.
    pub request: Option<TestRequest>,
    /// The answer of the endpoint; null if there was none.
    pub response: Option<TestResponse>,
    /// Why there is no answer; null if there is one.
    pub error: Option<AttemptError>,
    /// What Posthaste would do with a delivery after this attempt, in a sentence.
    pub verdict: String,
    /// The same in one word: `delivered`, `retry`, `waits`, or the reason of a failure.
    pub outcome: String,
    /// How long the attempt took, in milliseconds.
    pub duration_ms: f64,
    /// How long each phase of the attempt took, in milliseconds.
    pub phases_ms: Phases,
    /// The IP address and port that the request was sent to.
    pub resolved_address: Option<String>,
    /// What a script wrote to its console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
}

/// The request of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TestRequest {
    /// The HTTP method, such as `POST`.
    pub method: String,
    /// The URL that it was sent to, with secrets redacted.
    pub url: String,
    /// The headers, each an array of name and value; secrets are redacted.
    #[schema(value_type = Vec<Vec<String>>)]
    pub headers: Vec<(String, String)>,
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub body: String,
}

/// The answer of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TestResponse {
    /// The HTTP status code of the answer.
    pub status: u16,
    /// The headers, each an array of name and value.
    #[schema(value_type = Vec<Vec<String>>)]
    pub headers: Vec<(String, String)>,
    /// The beginning of the body, as text.
    pub body: String,
}
