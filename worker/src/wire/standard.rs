//! `standard`: Standard Webhooks 1.0. The body is an envelope of type, timestamp and data; the
//! signature is HMAC-SHA256 over `<id>.<timestamp>.<body>`, one for each live secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{FieldProblem, Header, RenderError, Rendered, Subject, Wire, WireInfo};

/// What every secret begins with.
const PREFIX: &str = "whsec_";
/// Length of a secret's bytes, by the Standard Webhooks specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The wire format.
#[derive(Debug)]
pub(super) struct Standard;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    body: BodyShape,
    traceparent: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BodyShape {
    /// `{"type", "timestamp", "data"}`
    #[default]
    Envelope,
    /// The payload alone, as given.
    Payload,
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: Timestamp,
    data: &'a RawJson,
}

impl Wire for Standard {
    fn info(&self) -> WireInfo {
        WireInfo {
            format: WireFormat::Standard,
            description: "Standard Webhooks: an envelope of type, timestamp and data, signed with HMAC-SHA256 (webhook-signature).",
            signs: true,
            settings_schema: serde_json::json!({
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "body": {
                        "enum": ["envelope", "payload"],
                        "default": "envelope",
                        "description": "envelope: {\"type\", \"timestamp\", \"data\"} as Standard Webhooks advises; payload: the payload alone, as given"
                    },
                    "traceparent": super::trace_schema()
                }
            }),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let mut problems = Vec::new();
        problems.extend(super::settings::<Settings>(endpoint).err().map(FieldProblem::from));
        if endpoint.confidential.secrets.is_empty() {
            problems.push(FieldProblem { field: "secret".into(), problem: "is needed to sign".into() });
        }
        for held in &endpoint.confidential.secrets {
            problems.extend(key(&held.secret).err().map(|problem| FieldProblem { field: "secret".into(), problem }));
        }
        problems
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, RenderError> {
        let notification = subject.notification;
        let settings: Settings = super::settings(subject.endpoint)?;
        let body = match settings.body {
            BodyShape::Payload => notification.payload.as_str().as_bytes().to_vec(),
            BodyShape::Envelope => {
                let envelope = Envelope {
                    kind: notification.kind.as_str(),
                    timestamp: notification.accepted_at,
                    data: &notification.payload,
                };
                serde_json::to_vec(&envelope)
                    .map_err(|error| RenderError { member: "payload".into(), problem: error.to_string() })?
            }
        };
        let headers = super::trace_header(settings.traceparent, notification).into_iter().collect();
        Ok(Rendered { body: body.into(), content_type: "application/json".into(), headers })
    }

    fn sign(&self, subject: &Subject<'_>, rendered: &Rendered, now: Timestamp) -> Result<Vec<Header>, RenderError> {
        let id = subject.delivery.to_string();
        let timestamp = now.as_seconds();
        let mut signatures = Vec::new();
        for secret in subject.endpoint.confidential.live_secrets(now) {
            let key = key(secret).map_err(|problem| RenderError { member: "secret".into(), problem })?;
            signatures.push(signature(&key, &id, timestamp, &rendered.body));
        }
        if signatures.is_empty() {
            return Err(RenderError { member: "secret".into(), problem: "is needed to sign".into() });
        }
        Ok(vec![
            Header::open("webhook-id", id),
            Header::open("webhook-timestamp", timestamp.to_string()),
            Header::open("webhook-signature", signatures.join(" ")),
        ])
    }

    fn new_secret(&self) -> Option<Secret> {
        Some(Secret::new(format!("{PREFIX}{}", STANDARD.encode(rand::random::<[u8; 32]>()))))
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        key(secret).map(|_| ())
    }

    fn sample(&self) -> (&'static str, serde_json::Value) {
        ("posthaste.test", serde_json::json!({"message": "A test from Posthaste"}))
    }
}

/// The key's bytes: what stands behind `whsec_`, in base64.
fn key(secret: &Secret) -> Result<Vec<u8>, String> {
    let rule = "must be whsec_ and the base64 of 24 to 64 random bytes";
    let encoded = secret.expose().strip_prefix(PREFIX).ok_or_else(|| rule.to_owned())?;
    let bytes = STANDARD.decode(encoded).map_err(|_| rule.to_owned())?;
    if SECRET_BYTES.contains(&bytes.len()) { Ok(bytes) } else { Err(rule.to_owned()) }
}

fn signature(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(id.as_bytes());
    mac.update(format!(".{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vector that the Standard Webhooks libraries of Python and JavaScript agree on.
    #[test]
    fn signs_as_the_libraries_do() {
        let body = r#"{"type":"message.phone.received","timestamp":"2026-01-01T00:00:00Z","data":{"content":"Olá"}}"#;
        let key = key(&Secret::new("whsec_cGVlci12ZXJpZnktc3RhbmRhcmQta2V5LTMyYnl0ZXM=")).unwrap();
        let made = signature(&key, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", 1_767_225_600, body.as_bytes());
        assert_eq!(made, "v1,wbPmoG7EhTLCB9am04JP3vmjmMX2MceV3qmpfLo8ais=");
    }

    #[test]
    fn refuses_secrets_that_are_none() {
        for text in ["", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%", "c2hvcnRzaG9ydHNob3J0c2hvcnRzaG9ydA=="] {
            assert!(Standard.check_secret(&Secret::new(text)).is_err(), "{text}");
        }
        assert!(Standard.check_secret(&Standard.new_secret().unwrap()).is_ok());
    }
}
