//! `raw`: the payload's bytes as given, with the endpoint's static headers and no signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    FieldProblem, Header, RenderError, Rendered, Sample, Subject, Unwritten, Wire, WireInfo,
    settings,
};

#[derive(Debug)]
pub(super) struct Raw;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Content-Type; by default application/json, text/plain; charset=utf-8 or
    /// application/octet-stream, by `payload`.
    content_type: Option<String>,
    /// What of the payload is the body.
    payload: PayloadEncoding,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PayloadEncoding {
    /// The payload's JSON text, as given.
    #[default]
    Json,
    /// The payload is a string; its text is the body.
    Text,
    /// The payload is a string in base64; its bytes are the body.
    Base64,
}

impl Wire for Raw {
    fn info(&self) -> WireInfo {
        WireInfo {
            description: "The payload's bytes as given, with the endpoint's static headers and no \
                          signature.",
            signs: false,
            settings: settings::schema::<Settings>(),
            payload: settings::any(),
            recipient: settings::any(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let settings = match settings::settings::<Settings>(endpoint) {
            Ok(settings) => settings,
            Err(error) => return vec![error.into()],
        };
        let unusable = settings
            .content_type
            // Refused here, when the endpoint is saved. Otherwise each of its deliveries would
            // fail.
            .is_some_and(|value| http::HeaderValue::from_str(&value).is_err());
        let problem = || FieldProblem {
            field: "settings.content_type".into(),
            problem: "is not a header value".into(),
        };
        unusable.then(problem).into_iter().collect()
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        let payload = subject.notification.payload.as_str();
        let (body, default_type) = match settings.payload {
            // Copied from the text as it was enqueued and not written anew, which could change
            // spaces, escapes and the spelling of numbers.
            PayloadEncoding::Json => (
                Bytes::copy_from_slice(payload.as_bytes()),
                "application/json",
            ),
            PayloadEncoding::Text => (text(payload)?.into(), "text/plain; charset=utf-8"),
            PayloadEncoding::Base64 => {
                let bytes = STANDARD
                    .decode(text(payload)?)
                    .map_err(|_| problem("must be a string in base64"))?;
                (bytes.into(), "application/octet-stream")
            }
        };
        let content_type = settings
            .content_type
            .unwrap_or_else(|| default_type.to_owned());
        Ok(Rendered {
            content_type,
            ..Rendered::json(body)
        })
    }

    fn sign(
        &self,
        _subject: &Subject<'_>,
        _rendered: &Rendered,
        _now: Timestamp,
    ) -> Result<Vec<Header>, RenderError> {
        Ok(Vec::new())
    }

    fn new_secret(&self, _settings: &Map<String, Value>) -> Option<Secret> {
        None
    }

    fn check_secret(&self, _secret: &Secret) -> Result<(), String> {
        Err("has no use: the wire format raw does not sign".to_owned())
    }

    fn sample(&self) -> Sample {
        Sample::new("posthaste.test", serde_json::json!("A test from Posthaste"))
    }
}

fn text(payload: &str) -> Result<String, RenderError> {
    serde_json::from_str(payload)
        .map_err(|_| problem("must be a string, as the endpoint's settings.payload asks"))
}

fn problem(problem: &str) -> RenderError {
    RenderError::new("payload", problem)
}
