//! `raw`: the payload's bytes as given, with the endpoint's static headers and no signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use serde::Deserialize;

use super::{FieldProblem, Header, RenderError, Rendered, Subject, Wire, WireInfo};

/// The wire format.
#[derive(Debug)]
pub(super) struct Raw;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    content_type: Option<String>,
    payload: PayloadEncoding,
    webhook_id: bool,
    traceparent: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { content_type: None, payload: PayloadEncoding::Json, webhook_id: true, traceparent: false }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PayloadEncoding {
    /// The payload's JSON text, as given.
    Json,
    /// The payload is a JSON string; its text is the body.
    Text,
    /// The payload is a JSON string in base64; its bytes are the body.
    Base64,
}

impl Wire for Raw {
    fn info(&self) -> WireInfo {
        WireInfo {
            format: WireFormat::Raw,
            description: "The payload's bytes as given, with the endpoint's static headers and no signature.",
            signs: false,
            settings_schema: serde_json::json!({
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "payload": {
                        "enum": ["json", "text", "base64"],
                        "default": "json",
                        "description": "json: the payload's JSON text as given; text: the payload is a string and its text is the body; base64: the payload is a string in base64 and its bytes are the body"
                    },
                    "content_type": {
                        "type": "string",
                        "description": "Content-Type; by default application/json, text/plain; charset=utf-8 or application/octet-stream, by payload"
                    },
                    "webhook_id": {
                        "type": "boolean",
                        "default": true,
                        "description": "whether the request carries webhook-id, the delivery's id, to dedupe by"
                    },
                    "traceparent": super::trace_schema()
                }
            }),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let settings = match super::settings::<Settings>(endpoint) {
            Ok(settings) => settings,
            Err(error) => return vec![error.into()],
        };
        let unusable = settings.content_type.is_some_and(|value| http::HeaderValue::from_str(&value).is_err());
        let problem = || FieldProblem { field: "settings.content_type".into(), problem: "is no header value".into() };
        unusable.then(problem).into_iter().collect()
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, RenderError> {
        let settings: Settings = super::settings(subject.endpoint)?;
        let payload = subject.notification.payload.as_str();
        let (body, default_type) = match settings.payload {
            PayloadEncoding::Json => (Bytes::copy_from_slice(payload.as_bytes()), "application/json"),
            PayloadEncoding::Text => (text(payload)?.into(), "text/plain; charset=utf-8"),
            PayloadEncoding::Base64 => {
                let bytes = STANDARD.decode(text(payload)?).map_err(|_| problem("must be a string in base64"))?;
                (bytes.into(), "application/octet-stream")
            }
        };
        let id = settings.webhook_id.then(|| Header::open("webhook-id", subject.delivery.to_string()));
        let content_type = settings.content_type.unwrap_or_else(|| default_type.to_owned());
        let trace = super::trace_header(settings.traceparent, subject.notification);
        Ok(Rendered { body, content_type, headers: id.into_iter().chain(trace).collect() })
    }

    fn sign(&self, _subject: &Subject<'_>, _rendered: &Rendered, _now: Timestamp) -> Result<Vec<Header>, RenderError> {
        Ok(Vec::new())
    }

    fn new_secret(&self) -> Option<Secret> {
        None
    }

    fn check_secret(&self, _secret: &Secret) -> Result<(), String> {
        Err("has no use: the wire format raw does not sign".to_owned())
    }

    fn sample(&self) -> (&'static str, serde_json::Value) {
        ("posthaste.test", serde_json::json!("A test from Posthaste"))
    }
}

fn text(payload: &str) -> Result<String, RenderError> {
    serde_json::from_str(payload).map_err(|_| problem("must be a string, as the endpoint's settings.payload asks"))
}

fn problem(problem: &str) -> RenderError {
    RenderError { member: "payload".to_owned(), problem: problem.to_owned() }
}
