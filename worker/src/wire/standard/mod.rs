//! `standard`: Standard Webhooks 1.0. The body is an envelope of type, timestamp and data. Each
//! live secret signs `<id>.<timestamp>.<body>`: with HMAC-SHA256 or, if it is a pair of keys, with
//! ed25519.

mod key;

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::key::Key;
use super::{
    FieldProblem, Header, RenderError, Rendered, Sample, Subject, Unwritten, Wire, WireInfo,
    settings,
};

#[derive(Debug)]
pub(super) struct Standard;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// What the body is.
    body: BodyShape,
    /// Which kind of secret is created where none is given: for HMAC-SHA256 (v1) or for ed25519
    /// (v1a). Secrets that are there sign as their own kind says.
    signature: SignatureKind,
    /// What the names of the three headers begin with: webhook-id, webhook-timestamp and
    /// webhook-signature, or svix-id, svix-timestamp and svix-signature.
    header_prefix: Prefix,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum BodyShape {
    /// `{"type", "timestamp", "data"}`, as Standard Webhooks advises.
    #[default]
    Envelope,
    /// The payload alone, as given.
    Payload,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SignatureKind {
    /// HMAC-SHA256: sender and receiver share a secret (whsec_).
    #[default]
    V1,
    /// ed25519: the sender has a secret key (whsk_), the receiver its public key (whpk_).
    V1a,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Prefix {
    /// As in the Standard Webhooks specification.
    #[default]
    Webhook,
    /// As Svix's own libraries have it.
    Svix,
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
            description: "Standard Webhooks: an envelope of type, timestamp and data, signed with \
                          HMAC-SHA256 or ed25519 (webhook-signature).",
            signs: true,
            settings: settings::schema::<Settings>(),
            payload: settings::any(),
            recipient: settings::any(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let mut problems = Vec::new();
        problems.extend(
            settings::settings::<Settings>(endpoint)
                .err()
                .map(FieldProblem::from),
        );
        if endpoint.confidential.secrets.is_empty() {
            problems.push(unsigned().into());
        }
        problems.extend(check_secrets(endpoint));
        problems
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten> {
        let notification = subject.notification;
        let settings: Settings = settings::settings(subject.endpoint)?;
        let body = match settings.body {
            BodyShape::Payload => notification.payload.as_str().to_owned(),
            BodyShape::Envelope => settings::json_text(&Envelope {
                kind: notification.kind.as_str(),
                // The time of the event and not of the attempt: all attempts have the same body.
                // The attempt's time is in the header that is signed.
                timestamp: notification.accepted_at,
                data: &notification.payload,
            })?,
        };
        Ok(Rendered::json(body))
    }

    fn sign(
        &self,
        subject: &Subject<'_>,
        rendered: &Rendered,
        now: Timestamp,
    ) -> Result<Vec<Header>, RenderError> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        let headers = signed(subject, &rendered.body, now, settings.header_prefix)?;
        // `check` refuses an endpoint without a secret. Should one get here all the same, an
        // unsigned request must not go out: it would teach the receiver to accept such.
        if headers.is_empty() {
            Err(unsigned())
        } else {
            Ok(headers)
        }
    }

    fn new_secret(&self, settings: &Map<String, Value>) -> Option<Secret> {
        let asymmetric = settings.get("signature").is_some_and(|kind| kind == "v1a");
        Some(if asymmetric {
            key::new_asymmetric()
        } else {
            key::new_symmetric()
        })
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        check_secret(secret)
    }

    fn sample(&self) -> Sample {
        Sample::new(
            "posthaste.test",
            serde_json::json!({"message": "A test from Posthaste"}),
        )
    }
}

/// The three headers of Standard Webhooks, `webhook-id`, `webhook-timestamp` and
/// `webhook-signature`, with a signature for each live secret, the newest first; none where the
/// endpoint has no secret. For wire formats that sign this way beside their own.
///
/// # Errors
/// When a secret is not one of Standard Webhooks.
pub(super) fn headers(
    subject: &Subject<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<Vec<Header>, RenderError> {
    signed(subject, body, now, Prefix::Webhook)
}

/// Whether a secret can sign.
///
/// # Errors
/// What it must be.
pub(super) fn check_secret(secret: &Secret) -> Result<(), String> {
    Key::read(secret).map(|_| ())
}

/// What is wrong with an endpoint's secrets.
pub(super) fn check_secrets(endpoint: &Endpoint) -> impl Iterator<Item = FieldProblem> + '_ {
    let wrong = endpoint
        .confidential
        .secrets
        .iter()
        .filter_map(|held| check_secret(&held.secret).err());
    wrong.map(|problem| FieldProblem {
        field: "secret".into(),
        problem,
    })
}

fn signed(
    subject: &Subject<'_>,
    body: &[u8],
    now: Timestamp,
    prefix: Prefix,
) -> Result<Vec<Header>, RenderError> {
    let id = subject.delivery.to_string();
    let timestamp = now.as_seconds();
    let sign = |secret: &Secret| Key::read(secret).map(|key| key.sign(&id, timestamp, body));
    let signatures: Vec<String> = subject
        .endpoint
        .confidential
        .live_secrets(now)
        // One for each live secret: during a rotation, receivers with the old and with the new
        // secret both find theirs.
        .map(sign)
        .collect::<Result<_, _>>()
        .map_err(|problem| RenderError::new("secret", problem))?;
    if signatures.is_empty() {
        return Ok(Vec::new());
    }
    let prefix = match prefix {
        Prefix::Webhook => "webhook",
        Prefix::Svix => "svix",
    };
    Ok(vec![
        Header::open(&format!("{prefix}-id"), id),
        Header::open(&format!("{prefix}-timestamp"), timestamp.to_string()),
        // Separated by spaces, as the specification has it: a base64 text has none.
        Header::open(&format!("{prefix}-signature"), signatures.join(" ")),
    ])
}

fn unsigned() -> RenderError {
    RenderError::new("secret", "is needed to sign")
}

#[cfg(test)]
mod tests;
