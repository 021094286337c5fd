//! `httpsms`: the webhooks of httpSMS. The body is a CloudEvent sent as plain JSON, the event's
//! type goes into `X-Event-Type`, and a JWT (HS256) proves the sender. It signs time and URL, not
//! the body.

mod events;
mod incoming;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::event::{Event, EventType};
use posthaste_shared::domain::id::NotificationType;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::DeliveryView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::{
    FieldProblem, Header, RenderError, Rendered, Reply, Sample, Subject, Unwritten, Wire, WireInfo,
    settings, status,
};
use crate::wire::outcome::Outcome;
use incoming::{self as event, Kind};

/// Who httpSMS says that it is.
const ISSUER: &str = "api.httpsms.com";
/// How long a token holds before and after its making, in seconds: httpSMS's own.
const TOKEN_SECONDS: i64 = 600;
/// The longest signing key, in characters: httpSMS's own limit.
const MAX_KEY_CHARS: usize = 255;

#[derive(Debug)]
pub(super) struct Httpsms;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The account's user id, for events whose payload has no `user_id`; also the token's `sub`.
    user_id: Option<String>,
    /// Whether `message.phone.received` to a URL of `https://discord.com/api/webhooks/` goes out as
    /// a Discord message.
    discord: bool,
    /// How answers are read. Left out: 2xx is success, and what the endpoint's `retry` names is
    /// tried again.
    retry: Option<Answers>,
    /// Whether the token's `aud` is a text, as before October 2025, instead of a list of one.
    aud_string: bool,
    /// Whether `<`, `>`, `&`, U+2028 and U+2029 are escaped in the body, as httpSMS's own server
    /// does.
    go_escape: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Answers {
    /// As httpSMS since October 2025: all below 400 is success, all else may be tried again.
    V2025,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user_id: None,
            discord: false,
            retry: None,
            aud_string: false,
            go_escape: true,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct Overrides {
    httpsms: Option<Envelope>,
}

/// What an enqueuer may say of the CloudEvent.
#[derive(Debug, Default, Deserialize)]
struct Envelope {
    id: Option<String>,
    source: Option<String>,
    time: Option<String>,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'a str,
    datacontenttype: &'static str,
    time: String,
    data: Map<String, Value>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    sub: String,
    aud: Audience<'a>,
    exp: i64,
    nbf: i64,
    iat: i64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    List([&'a str; 1]),
    One(&'a str),
}

impl Wire for Httpsms {
    fn info(&self) -> WireInfo {
        WireInfo {
            description: "The webhooks of httpSMS: a CloudEvent as plain JSON, X-Event-Type, and \
                          a JWT (HS256) as \
                bearer token. For its eight event types only.",
            signs: true,
            settings: settings::schema::<Settings>(),
            payload: settings::schema::<event::Data>(),
            recipient: settings::any(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let problem = settings::settings::<Settings>(endpoint)
            .err()
            .map(FieldProblem::from);
        let secrets = endpoint
            .confidential
            .secrets
            .iter()
            .filter_map(|held| self.check_secret(&held.secret).err());
        let secrets = secrets.map(|problem| FieldProblem {
            field: "secret".into(),
            problem,
        });
        problem.into_iter().chain(secrets).collect()
    }

    fn takes(&self, kind: &NotificationType) -> bool {
        Kind::of(kind).is_some()
    }

    fn event_type(&self, event: EventType) -> Option<NotificationType> {
        events::kind_of(event)
    }

    fn event(
        &self,
        event: &Event,
        delivery: &DeliveryView,
        about: &Notification,
    ) -> Option<Notification> {
        events::of(event, delivery, about)
    }

    fn check_notification(
        &self,
        _endpoint: &Endpoint,
        notification: &Notification,
    ) -> Vec<FieldProblem> {
        let Some(kind) = Kind::of(&notification.kind) else {
            return vec![no_such_type().into()];
        };
        let problems = kind
            .problems(notification)
            .into_iter()
            .chain(envelope(notification).err());
        problems.map(FieldProblem::from).collect()
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten> {
        let notification = subject.notification;
        let settings: Settings = settings::settings(subject.endpoint)?;
        let kind = Kind::of(&notification.kind).ok_or_else(no_such_type)?;
        let data = kind.data(
            notification,
            settings.user_id.as_deref().unwrap_or_default(),
        )?;
        // Discord refuses a CloudEvent with 400. httpSMS looks at the URL alone; here the settings
        // have to ask for it, too, so that no endpoint changes its body by a change of its URL.
        let json = if settings.discord && kind.goes_to_discord(&subject.endpoint.url) {
            settings::json_text(&event::discord_message(&data))?
        } else {
            let envelope = envelope(notification)?;
            settings::json_text(&CloudEvent {
                specversion: "1.0",
                id: envelope
                    .id
                    .unwrap_or_else(|| event::id_of(notification.id.as_str())),
                source: envelope.source.unwrap_or_else(|| kind.source(&data)),
                kind: kind.name,
                datacontenttype: "application/json",
                time: envelope
                    .time
                    .unwrap_or_else(|| notification.accepted_at.to_string()),
                data,
            })?
        };
        let mut rendered = Rendered::json(if settings.go_escape {
            settings::go_escaped(&json)
        } else {
            json
        });
        rendered
            .headers
            .push(Header::open("X-Event-Type", kind.name));
        Ok(rendered)
    }

    fn sign(
        &self,
        subject: &Subject<'_>,
        _rendered: &Rendered,
        now: Timestamp,
    ) -> Result<Vec<Header>, RenderError> {
        // The newest alone: a request has one `Authorization`, and httpSMS's receivers know one
        // key.
        let Some(secret) = subject.endpoint.confidential.live_secrets(now).next() else {
            return Ok(Vec::new());
        };
        let key = secret.expose().trim();
        if key.is_empty() {
            return Ok(Vec::new());
        }
        let settings: Settings = settings::settings(subject.endpoint)?;
        // As it was written and not as it is called: receivers compare `aud` with the URL that they
        // gave, and a parsed URL has a slash more after a bare host.
        let url = subject.endpoint.written_url();
        let claims = Claims {
            iss: ISSUER,
            sub: event::user_id(subject.notification)
                .or(settings.user_id)
                .unwrap_or_default(),
            aud: if settings.aud_string {
                Audience::One(url)
            } else {
                Audience::List([url])
            },
            exp: now.as_seconds() + TOKEN_SECONDS,
            // Valid from before it was made, for receivers whose clocks are slow.
            nbf: now.as_seconds() - TOKEN_SECONDS,
            iat: now.as_seconds(),
        };
        // The claims are escaped whatever `go_escape` says, which is about the body: httpSMS's
        // tokens come from Go's encoder. Decoded they are the same.
        let token = token(key, &settings::go_escaped(&settings::json_text(&claims)?));
        Ok(vec![Header::secret(
            "Authorization",
            format!("Bearer {token}"),
        )])
    }

    fn classify(&self, endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Outcome {
        let outcome = status::classify(reply, now);
        let answers = settings::settings::<Settings>(endpoint)
            .ok()
            .and_then(|settings| settings.retry);
        match (answers, outcome) {
            (Some(Answers::V2025), _) if reply.status < 400 => Outcome::accepted(),
            // Retry policies have no name for the other statuses: they count as 5xx.
            (
                Some(Answers::V2025),
                Outcome::Refused {
                    error,
                    provider_error_code,
                    ..
                },
            ) => Outcome::Transient {
                kind: RetryOn::ServerError,
                error,
                retry_after: status::retry_after(reply, now),
                provider_error_code,
            },
            (_, outcome) => outcome,
        }
    }

    fn new_secret(&self, _settings: &Map<String, Value>) -> Option<Secret> {
        // 24 bytes are 32 characters in base64, without padding.
        Some(Secret::new(
            URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>()),
        ))
    }

    /// A blank one stands for none, as with httpSMS.
    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        // Trimmed as where it signs, so that a key with a line break at its end is not refused for
        // one character.
        if secret.expose().trim().chars().count() <= MAX_KEY_CHARS {
            return Ok(());
        }
        Err("must be 255 characters or fewer".to_owned())
    }

    fn sample(&self) -> Sample {
        let payload = json!({
            "message_id": "0b0123bb-ef2e-468f-908a-c026d51636aa",
            "user_id": "XtABz6zdeFMoBLoltz6SREDvRSh2",
            "owner": "+18005550199",
            "contact": "+18005550100",
            "content": "A test from Posthaste",
            "sim": "SIM1"
        });
        Sample::new("message.phone.received", payload)
    }
}

fn no_such_type() -> RenderError {
    RenderError::new(
        "type",
        format!(
            "must be one of httpSMS's event types: {}",
            event::names().join(", ")
        ),
    )
}

/// What the overrides say of the CloudEvent.
fn envelope(notification: &Notification) -> Result<Envelope, RenderError> {
    let envelope = settings::overrides::<Overrides>(notification)?
        .httpsms
        .unwrap_or_default();
    let problem = |member: &str, problem: &str| {
        Err(RenderError::new(
            format!("overrides.httpsms.{member}"),
            problem,
        ))
    };
    // CloudEvents forbids empty ones, and an SDK on the other side refuses the whole event.
    if envelope.id.as_deref() == Some("") {
        return problem("id", "must not be empty");
    }
    if envelope.source.as_deref() == Some("") {
        return problem("source", "must not be empty");
    }
    if envelope
        .time
        .as_deref()
        .is_some_and(|time| Timestamp::parse(time).is_err())
    {
        return problem(
            "time",
            "must be a time in RFC 3339, such as 2026-01-01T00:00:00Z",
        );
    }
    Ok(envelope)
}

/// A JWT over the claims' JSON text.
fn token(key: &str, claims: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any length");
    mac.update(signed.as_bytes());
    format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    )
}

#[cfg(test)]
mod tests;
