//! `novu-push`: Novu's Push Webhook provider (`push-webhook`). One request for each device token,
//! signed with HMAC-SHA256 over the body.

use std::collections::HashSet;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use url::Url;

use super::{Layers, Names, answered, day_date, layers, read_url};
use crate::wire::merge::{Arrays, camel_members, lay_over};
use crate::wire::outcome::Outcome;
use crate::wire::{
    FieldProblem, Header, Recipients, RenderError, Rendered, Reply, Sample, Skip, Subject,
    Unwritten, Wire, WireInfo, settings, status,
};

#[derive(Debug)]
pub(in crate::wire) struct NovuPush;

/// Where its overrides are.
const NAMES: Names = Names {
    channel: "push",
    provider: "push-webhook",
    own: "novu-push",
    texts: &[],
};

/// The header with the signature, as Novu spells it.
const SIGNATURE: &str = "X-Novu-Signature";

/// The longest secret, in characters; our own bound, a column's usual width.
const MAX_SECRET: usize = 255;

/// Members of the merged body that say where the request goes and how it is signed: never sent.
const URL_MEMBER: &str = "webhookUrl";
const KEY_MEMBER: &str = "hmacSecretKey";

/// The settings of an endpoint: what is sent and how it is signed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Whether the endpoint must have a secret, as in Novu's code; without, one that has none is
    /// not signed.
    require_secret: bool,
    /// Whether the body has `messageId` and the payload `__nvMessageId`, as Novu sends them since
    /// 2026.
    message_id: bool,
    /// Whether the overrides `webhookUrl` and `hmacSecretKey` may send the request elsewhere and
    /// sign it with another key. Whoever enqueues can then aim the worker anywhere that egress
    /// allows.
    url_override: bool,
}

/// What it reads of a notification's payload.
#[derive(Debug, Deserialize, JsonSchema)]
struct Payload {
    /// The message's title; empty by default.
    title: Option<String>,
    /// The message's text; empty by default.
    content: Option<String>,
    /// The payload that the workflow was triggered with.
    payload: Option<Map<String, Value>>,
    /// What a digest step gathered, if the workflow has one.
    step: Option<Step>,
    /// What you call the message, for the setting `message_id`; by default the delivery's id.
    message_id: Option<String>,
}

/// What a digest gathered.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Step {
    /// Whether there was one.
    digest: bool,
    /// The events that the digest gathered; none by default.
    events: Vec<Value>,
    /// How many; by default as many as `events` has.
    total_count: Option<u64>,
}

/// What it reads of a notification's recipient.
#[derive(Debug, Deserialize, JsonSchema)]
struct Recipient {
    /// Each gets a request. Without any the delivery is skipped.
    #[serde(alias = "deviceTokens")]
    device_tokens: Option<Vec<String>>,
    /// The subscriber as Novu keeps it; goes into the payload.
    subscriber: Option<Map<String, Value>>,
    /// The workflow's step, for `overrides.steps`.
    step_id: Option<String>,
}

/// A notification, read. All its deliveries share payload and recipient.
struct Message {
    layers: Layers,
    payload: Arc<Payload>,
    recipient: Arc<Recipient>,
}

/// Where the tokens are.
const TOKENS: &str = "recipient.device_tokens";
/// Where they are, if they are there.
const OVERRIDDEN_TOKENS: &str = "overrides.push-webhook.deviceTokens";

/// A request's parts that the merged body decides on.
struct Built {
    body: Map<String, Value>,
    url: Option<Url>,
    key: Option<Secret>,
}

impl Message {
    fn read(notification: &Notification) -> Result<Self, RenderError> {
        let payload = settings::read_once("payload", Some(&notification.payload))?;
        let recipient: Arc<Recipient> =
            settings::read_once("recipient", notification.recipient.as_ref())?;
        let layers = layers(notification, &NAMES, recipient.step_id.as_deref())?;
        Ok(Self {
            layers,
            payload,
            recipient,
        })
    }

    /// The device tokens, each once, and the member that they are from. Not empty.
    fn tokens(&self) -> Result<Option<(&'static str, Vec<String>)>, RenderError> {
        let overridden = overridden_tokens(&self.layers.trigger)?;
        let (member, all) = match (&overridden, &self.recipient.device_tokens) {
            (Some(tokens), _) => (OVERRIDDEN_TOKENS, tokens),
            (None, Some(tokens)) => (TOKENS, tokens),
            (None, None) => return Ok(None),
        };
        let mut seen = HashSet::new();
        let mut tokens = Vec::with_capacity(all.len());
        for token in all {
            // The store keeps it with the delivery, and Postgres cannot hold that character.
            if token.contains('\0') {
                return Err(RenderError::new(
                    member,
                    "has a token with the character U+0000",
                ));
            }
            // Each token once: its delivery's id is made of it, so that a second one would be the
            // same delivery.
            if !token.is_empty() && seen.insert(token.as_str()) {
                tokens.push(token.clone());
            }
        }
        Ok(Some((member, tokens)).filter(|(_, tokens)| !tokens.is_empty()))
    }

    /// The members in the order of Novu's own code, with the overrides over them.
    fn build(
        &self,
        token: &str,
        delivery: &str,
        settings: &Settings,
    ) -> Result<Built, RenderError> {
        let id = settings.message_id.then(|| {
            self.payload
                .message_id
                .clone()
                .unwrap_or_else(|| delivery.to_owned())
        });
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("target", json!([token]));
        put(
            "title",
            self.payload.title.as_deref().unwrap_or_default().into(),
        );
        put(
            "content",
            self.payload.content.as_deref().unwrap_or_default().into(),
        );
        if let Some(id) = &id {
            put("messageId", id.as_str().into());
        }
        put("overrides", self.overrides().into());
        put("payload", self.trigger_payload(id).into());
        lay_over(
            &mut body,
            camel_members(self.layers.provider.clone()),
            Arrays::Append,
        );
        lay_over(&mut body, self.layers.body.clone(), Arrays::Append);
        // Taken out whether they count or not. The key must never go to the receiver in the body.
        let url = body.shift_remove(URL_MEMBER);
        let key = body.shift_remove(KEY_MEMBER);
        // Otherwise whoever may enqueue could aim the worker at any address, and sign with a key of
        // their own.
        if !settings.url_override {
            return Ok(Built {
                body,
                url: None,
                key: None,
            });
        }
        let url = match taken(URL_MEMBER, url)? {
            Some(url) => Some(
                read_url(&url)
                    .map_err(|problem| RenderError::new(overridden(URL_MEMBER), problem))?,
            ),
            None => None,
        };
        Ok(Built {
            body,
            url,
            key: taken(KEY_MEMBER, key)?.map(Secret::new),
        })
    }

    /// What the body shows of the overrides: those of the channel under those of the provider's
    /// older place.
    fn overrides(&self) -> Map<String, Value> {
        let mut shown = self.layers.channel.clone();
        shown.extend(self.layers.trigger.clone());
        shown
    }

    fn trigger_payload(&self, id: Option<String>) -> Map<String, Value> {
        let mut payload = self.payload.payload.clone().unwrap_or_default();
        payload.extend(id.map(|id| ("__nvMessageId".to_owned(), id.into())));
        let subscriber = self.recipient.subscriber.clone().unwrap_or_default();
        // Last: a trigger's payload with members of these names must not hide who it is for.
        payload.insert("subscriber".to_owned(), subscriber.into());
        payload.insert("step".to_owned(), self.step());
        payload
    }

    fn step(&self) -> Value {
        let none = Step::default();
        let step = self.payload.step.as_ref().unwrap_or(&none);
        let total = step.total_count.unwrap_or(step.events.len() as u64);
        json!({"digest": step.digest, "events": step.events, "total_count": total})
    }
}

fn overridden_tokens(members: &Map<String, Value>) -> Result<Option<Vec<String>>, RenderError> {
    let member = "deviceTokens";
    match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(tokens) => serde_json::from_value(tokens.clone())
            .map(Some)
            .map_err(|_| RenderError::new(OVERRIDDEN_TOKENS, "must be an array of strings")),
    }
}

fn overridden(member: &str) -> String {
    format!("overrides.providers.push-webhook.{member}")
}

fn taken(member: &str, value: Option<Value>) -> Result<Option<String>, RenderError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => Err(RenderError::new(overridden(member), "must be a string")),
    }
}

fn build(subject: &Subject<'_>, settings: &Settings) -> Result<(Built, Vec<Header>), Unwritten> {
    let message = Message::read(subject.notification)?;
    let Some(token) = subject.recipient else {
        message.tokens()?;
        let text = "the notification names no device token: recipient.device_tokens or an \
                    override `deviceTokens`";
        return Err(Unwritten::Skip(Skip {
            code: "no_device_token",
            text: text.to_owned(),
        }));
    };
    let built = message.build(token, &subject.delivery.to_string(), settings)?;
    Ok((built, message.layers.headers))
}

impl Wire for NovuPush {
    fn info(&self) -> WireInfo {
        WireInfo {
            description: "Novu's Push Webhook: a request for each device token, signed with \
                          HMAC-SHA256 (X-Novu-Signature).",
            signs: true,
            settings: settings::schema::<Settings>(),
            payload: settings::schema::<Payload>(),
            recipient: settings::schema::<Recipient>(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let settings = match settings::settings::<Settings>(endpoint) {
            Ok(settings) => settings,
            Err(error) => return vec![error.into()],
        };
        let secrets = &endpoint.confidential.secrets;
        let mut problems = Vec::new();
        if settings.require_secret && secrets.is_empty() {
            problems.push("is missing: the settings ask for one (require_secret)".to_owned());
        }
        problems.extend(
            secrets
                .iter()
                .filter_map(|held| self.check_secret(&held.secret).err()),
        );
        let problem = |problem| FieldProblem {
            field: "secret".to_owned(),
            problem,
        };
        problems.into_iter().map(problem).collect()
    }

    fn check_notification(
        &self,
        endpoint: &Endpoint,
        notification: &Notification,
    ) -> Vec<FieldProblem> {
        let built = settings::settings(endpoint).and_then(|settings: Settings| {
            let message = Message::read(notification)?;
            message.tokens()?;
            // Token and id change nothing about whether it can be built.
            message.build("", "", &settings)
        });
        built.err().map(FieldProblem::from).into_iter().collect()
    }

    fn recipients(&self, notification: &Notification) -> Recipients {
        match Message::read(notification).and_then(|message| message.tokens()) {
            Ok(Some((member, each))) => Recipients::Several { member, each },
            // What cannot be read fails when it is written, and says why.
            Ok(None) | Err(_) => Recipients::One,
        }
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        let (built, headers) = build(subject, &settings)?;
        Ok(Rendered {
            headers,
            url: built.url,
            ..Rendered::json(settings::json_text(&built.body)?)
        })
    }

    fn sign(
        &self,
        subject: &Subject<'_>,
        rendered: &Rendered,
        now: Timestamp,
    ) -> Result<Vec<Header>, RenderError> {
        // Novu lets an override replace even this header; the proof would go over it.
        if rendered
            .headers
            .iter()
            .any(|header| header.name.eq_ignore_ascii_case(SIGNATURE))
        {
            return Ok(Vec::new());
        }
        let settings: Settings = settings::settings(subject.endpoint)?;
        // The newest alone: there is one signature header, with one signature.
        let own = subject
            .endpoint
            .confidential
            .live_secrets(now)
            .next()
            .cloned();
        match overridden_key(subject, &settings)?.or(own) {
            Some(key) => Ok(vec![Header::open(
                SIGNATURE,
                signature(&key, &rendered.body),
            )]),
            None if settings.require_secret => Err(RenderError::new(
                "secret",
                "is missing: the settings ask for one (require_secret)",
            )),
            None => Ok(Vec::new()),
        }
    }

    fn classify(&self, _endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Outcome {
        match status::classify(reply, now) {
            Outcome::Accepted { .. } => Outcome::Accepted {
                provider_message_id: answered(&reply.body, "id"),
                provider_message_date: Some(day_date(now)),
            },
            failure => failure,
        }
    }

    fn new_secret(&self, _settings: &Map<String, Value>) -> Option<Secret> {
        Some(Secret::new(hex::encode(rand::random::<[u8; 32]>())))
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        let length = secret.expose().chars().count();
        if (1..=MAX_SECRET).contains(&length) {
            Ok(())
        } else {
            Err(format!("must have 1 to {MAX_SECRET} characters"))
        }
    }

    fn sample(&self) -> Sample {
        Sample {
            recipient: Some(json!({
                "device_tokens": ["subscriber-token-for-push-webhook-provider"],
                "subscriber": {"subscriberId": "push-webhook-demo-subscriber-id",
                "firstName": "Pawan", "lastName": "Jain"},
            })),
            ..Sample::new(
                "push.test",
                json!({
                    "title": "Push Webhook message title",
                    "content": "push Webhook content body",
                    "payload": {"custom_message": "This is custom message from payload."},
                }),
            )
        }
    }
}

/// The key that the overrides bring, where the settings let them.
fn overridden_key(
    subject: &Subject<'_>,
    settings: &Settings,
) -> Result<Option<Secret>, RenderError> {
    if !settings.url_override {
        return Ok(None);
    }
    match build(subject, settings) {
        Ok((built, _)) => Ok(built.key),
        Err(Unwritten::Error(error)) => Err(error),
        Err(Unwritten::Skip(_)) => Ok(None),
    }
}

fn signature(key: &Secret, body: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("any length");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests;
