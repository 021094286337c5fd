//! What Authgear's custom SMS gateway asks of a webhook and of a script alike: the object that they
//! get, and how their answer is read. The names, their order and the rules are those of Authgear's
//! own server.

pub(super) mod script;
pub(super) mod sms;

use posthaste_shared::domain::attempt::AttemptError;
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{FieldProblem, RenderError, Reply, Sample, answer, settings, status};
use crate::wire::outcome::Outcome;

/// The type of the sample, and the one that the documentation uses.
pub(super) const SAMPLE_KIND: &str = "sms.verification";
/// The most of a description that is kept, in characters: an error is a line, not a document.
const DESCRIPTION_CHARS: usize = 300;

/// A notification's payload: `CustomSMSGatewayPayload`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Payload {
    /// The phone number that the SMS goes to, in E.164. Default: that of the recipient.
    to: Option<String>,
    /// The SMS's text. Needed.
    body: Option<String>,
    /// The project's id. Default: the endpoint's setting `app_id`, else empty.
    app_id: Option<String>,
    /// The template's file name, such as `verification_sms.txt`.
    template_name: Option<String>,
    /// The text's language, BCP 47.
    language_tag: Option<String>,
    /// What the template was filled with.
    template_variables: Option<Variables>,
}

/// Those that Authgear knows, in its order, and then all others. What is empty or false is left
/// out.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Variables {
    #[serde(skip_serializing_if = "nothing")]
    app_name: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    code: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    email: Option<String>,
    #[serde(skip_serializing_if = "not")]
    has_password: Option<bool>,
    #[serde(skip_serializing_if = "nothing")]
    host: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    link: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    password: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    phone: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    state: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    ui_locales: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    url: Option<String>,
    #[serde(skip_serializing_if = "nothing")]
    x_state: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The recipient of a notification: the phone number that the SMS goes to.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Recipient {
    /// The phone number that the SMS goes to where the payload has no `to`, in E.164.
    phone_number: Option<String>,
    /// Another name for `phone_number`.
    phone: Option<String>,
}

#[derive(Serialize)]
struct Body {
    to: String,
    body: String,
    app_id: String,
    template_name: String,
    language_tag: String,
    template_variables: Variables,
}

/// The object as JSON text, not escaped as Go does.
///
/// # Errors
/// The first member that is missing or wrong.
pub(super) fn write(
    notification: &Notification,
    app_id: Option<&str>,
) -> Result<String, RenderError> {
    let payload: Payload = settings::payload(notification)?;
    let recipient: Recipient = settings::recipient(notification)?;
    let to = payload.to(&recipient);
    let body = payload.text();
    let (Some(to), Some(body)) = (to, body) else {
        return Err(payload.missing(&recipient).swap_remove(0));
    };
    settings::json_text(&Body {
        to: to.to_owned(),
        body: body.to_owned(),
        app_id: payload
            .app_id
            .or_else(|| app_id.map(str::to_owned))
            .unwrap_or_default(),
        template_name: payload.template_name.unwrap_or_default(),
        language_tag: payload.language_tag.unwrap_or_default(),
        template_variables: payload.template_variables.unwrap_or_default(),
    })
}

/// All that a notification lacks or has wrong.
pub(super) fn check_notification(notification: &Notification) -> Vec<FieldProblem> {
    match (
        settings::payload::<Payload>(notification),
        settings::recipient::<Recipient>(notification),
    ) {
        (Ok(payload), Ok(recipient)) => payload
            .missing(&recipient)
            .into_iter()
            .map(FieldProblem::from)
            .collect(),
        (payload, recipient) => [payload.err(), recipient.err()]
            .into_iter()
            .flatten()
            .map(FieldProblem::from)
            .collect(),
    }
}

impl Payload {
    fn to<'a>(&'a self, recipient: &'a Recipient) -> Option<&'a str> {
        let candidates = [&self.to, &recipient.phone_number, &recipient.phone];
        candidates
            .into_iter()
            .find_map(|number| number.as_deref().filter(|number| !number.is_empty()))
    }

    fn text(&self) -> Option<&str> {
        self.body.as_deref().filter(|text| !text.is_empty())
    }

    fn missing(&self, recipient: &Recipient) -> Vec<RenderError> {
        let mut missing = Vec::new();
        if self.to(recipient).is_none() {
            let problem =
                "is missing: the phone number that the SMS goes to (or recipient.phone_number)";
            missing.push(RenderError::new("payload.to", problem));
        }
        if self.text().is_none() {
            missing.push(RenderError::new(
                "payload.body",
                "is missing: the SMS's text",
            ));
        }
        missing
    }
}

/// The answer's members. Others are of no interest.
#[derive(Debug, Default)]
struct Answer {
    code: Option<String>,
    description: Option<String>,
    /// The code in `info`.
    info: Option<String>,
    provider_error_code: Option<String>,
}

/// What a webhook's answer means: `code` alone decides where the body is the JSON object that
/// Authgear asks for (or null), else the status.
pub(super) fn classify(reply: &Reply, now: Timestamp) -> Outcome {
    // The body decides here, so one that broke off must not count as one that has no code.
    if let Some(fault) = &reply.fault {
        return status::unread(reply, fault, now);
    }
    match Answer::read(&reply.body) {
        None => status::classify(reply, now),
        Some(answer) => answer.meaning(reply, now),
    }
}

/// What a script's return value means: as a webhook's answer, but null stands for nothing returned,
/// which is success. Errors say what the script returned.
pub(super) fn classify_returned(reply: &Reply, now: Timestamp) -> Outcome {
    // The engine writes null for `undefined`: a script that returns nothing has thrown nothing.
    if reply.body.trim_ascii() == b"null" {
        return Outcome::accepted();
    }
    let mut outcome = classify(reply, now);
    if let Outcome::Refused { error, .. } | Outcome::Transient { error, .. } = &mut outcome {
        error.text = match error.code.as_str() {
            "unexpected" => {
                let returned = short(&String::from_utf8_lossy(&reply.body), RETURNED_CHARS);
                format!(
                    "the script returned {returned}, without a code that is known: {{ code: \
                     \"ok\" }} is success"
                )
            }
            _ => error
                .text
                .replacen("the gateway answered", "the script returned", 1),
        };
    }
    outcome
}

/// How much is shown of what a script returned.
const RETURNED_CHARS: usize = 200;

impl Answer {
    /// `None` when the body is not what Authgear asks for. Names match without regard to case, as
    /// in Go.
    fn read(body: &[u8]) -> Option<Self> {
        let text = answer::text(body);
        if text.trim() == "null" {
            return Some(Self::default());
        }
        let mut answer = Self::default();
        for (name, raw) in answer::members(&text)? {
            // Go's decoder matches names without regard to case, so Authgear accepts `Code` as
            // well.
            let name = name.to_ascii_lowercase();
            // What is of no interest may be of any depth and size.
            if !matches!(
                name.as_str(),
                "code" | "description" | "info" | "provider_error_code"
            ) {
                continue;
            }
            match (name.as_str(), Part::read(raw)) {
                // Null leaves a Go field as it is, so an earlier value of the same name still
                // counts.
                ("code" | "description" | "info", Part::Scalar(Value::Null)) => {}
                ("code", Part::Scalar(Value::String(text))) => answer.code = Some(text),
                ("description", Part::Scalar(Value::String(text))) => {
                    answer.description = Some(text)
                }
                (
                    "info",
                    Part::Members {
                        provider_error_code,
                    },
                ) => answer.info = provider_error_code,
                // A member of the wrong type makes Go's decoder refuse the object, and Authgear
                // then goes by the status.
                ("code" | "description" | "info", _) => return None,
                (_, Part::Scalar(value)) => answer.provider_error_code = provider_code(&value),
                (_, _) => answer.provider_error_code = None,
            }
        }
        Some(answer)
    }

    fn meaning(self, reply: &Reply, now: Timestamp) -> Outcome {
        let kind = match self.code.as_deref() {
            Some("ok") => return Outcome::accepted(),
            Some("rate_limited") => RetryOn::TooManyRequests,
            Some("timeout") => RetryOn::Timeout,
            Some(
                code @ ("invalid_phone_number"
                | "authentication_failed"
                | "delivery_rejected"
                | "unsupported_request"),
            ) => {
                let error = self.error(code, format!("the gateway answered {code}"));
                return self.refused(FailureReason::ProviderRejected, error);
            }
            other => {
                let what = other.map_or("no code".to_owned(), |code| {
                    format!("the code {:?}", short(code, 64))
                });
                let error = self.error(
                    "unexpected",
                    format!("the gateway answered {} with {what}", reply.status),
                );
                // A code that is not known says nothing about another try, so the status decides
                // that. Success it is not, even with 200.
                return match RetryOn::of_status(reply.status) {
                    Some(kind) => self.transient(kind, error, reply, now),
                    None => self.refused(FailureReason::Rejected, error),
                };
            }
        };
        let code = self.code.as_deref().unwrap_or_default();
        let error = self.error(code, format!("the gateway answered {code}"));
        self.transient(kind, error, reply, now)
    }

    fn error(&self, code: &str, text: String) -> AttemptError {
        let text = match self
            .description
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            Some(description) => format!("{text}: {}", short(description, DESCRIPTION_CHARS)),
            None => text,
        };
        AttemptError {
            code: code.to_owned(),
            text,
        }
    }

    fn refused(&self, reason: FailureReason, error: AttemptError) -> Outcome {
        Outcome::Refused {
            reason,
            error,
            provider_error_code: self.provider_error_code(),
        }
    }

    fn transient(
        &self,
        kind: RetryOn,
        error: AttemptError,
        reply: &Reply,
        now: Timestamp,
    ) -> Outcome {
        let retry_after = status::retry_after(reply, now);
        Outcome::Transient {
            kind,
            error,
            retry_after,
            provider_error_code: self.provider_error_code(),
        }
    }

    /// At the top, where the documentation has it, or in `info`, where newer senders have it.
    fn provider_error_code(&self) -> Option<String> {
        self.provider_error_code
            .clone()
            .or_else(|| self.info.clone())
    }
}

/// A member's value, as far as it is read.
enum Part {
    Scalar(Value),
    Members { provider_error_code: Option<String> },
    Other,
}

impl Part {
    fn read(raw: &RawValue) -> Self {
        let scalar = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).ok();
        match raw.get().as_bytes().first() {
            Some(b'{') => {
                let members = answer::members(raw.get()).unwrap_or_default();
                let code = members
                    .into_iter()
                    .rev()
                    .find(|(name, _)| name == "provider_error_code");
                Self::Members {
                    provider_error_code: code.and_then(|(_, raw)| provider_code(&scalar(raw)?)),
                }
            }
            Some(b'[') | None => Self::Other,
            Some(_) => scalar(raw).map_or(Self::Other, Self::Scalar),
        }
    }
}

/// A string by the rules; many gateways' codes are numbers, so these are taken too.
fn provider_code(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(short(text, 64)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn short(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn nothing(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn not(flag: &Option<bool>) -> bool {
    *flag != Some(true)
}

/// The example of Authgear's documentation.
pub(super) fn sample(settings: Value) -> Sample {
    let payload = serde_json::json!({
        "to": "+44123456789",
        "body": "420240 is your french verification code.\n\nDon't share it with anyone.\n",
        "app_id": "demo-enterprise",
        "template_name": "verification_sms.txt",
        "language_tag": "en",
        "template_variables": {
            "app_name": "french",
            "client_id": "tester",
            "code": "420240",
            "host": "your-app.example.com",
            "phone": "+447549293826",
            "state": "eyK1b2hjjnI6IkdaI1qwwe5KVlMySEU7Ghhjsjs"
        }
    });
    Sample {
        settings,
        ..Sample::new(SAMPLE_KIND, payload)
    }
}

#[cfg(test)]
mod tests;
