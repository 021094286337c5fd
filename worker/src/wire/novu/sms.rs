//! `novu-sms`: Novu's SMS Webhook provider (`generic-sms`). A static API key header, optionally a
//! token that is fetched before each message; the answer says what the provider calls the message.

mod form;

use http::Method;
use posthaste_shared::domain::attempt::AttemptError;
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::header::value_problem;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use self::form::{Settings, given};
use super::{Layers, Names, answered, answered_member, iso_date, layers, read_url, text};
use crate::wire::merge::{Arrays, camel_members, lay_over};
use crate::wire::outcome::Outcome;
use crate::wire::{
    FieldProblem, Grant, Header, Preflight, Reading, RenderError, Rendered, Reply, Sample, Skip,
    Subject, Unwritten, Wire, WireInfo, settings, status,
};

#[derive(Debug)]
pub(in crate::wire) struct NovuSms;

/// Where its overrides are.
const NAMES: Names = Names {
    channel: "sms",
    provider: "generic-sms",
    own: "novu-sms",
    texts: &["to", "content", "from"],
};

/// What an override says about the message itself rather than about the body.
const OWN_EFFECT: [&str; 3] = ["to", "content", "from"];

/// What it reads of a notification's payload.
#[derive(Debug, Deserialize, JsonSchema)]
struct Payload {
    /// The message's text. Required, unless an override has it.
    content: Option<String>,
    /// To whom; before the recipient's.
    phone: Option<String>,
    /// What you call the message; sent with `full_body`.
    id: Option<String>,
    /// Data of your own for the gateway; sent with `full_body`.
    #[serde(rename = "customData", alias = "custom_data")]
    custom_data: Option<Map<String, Value>>,
}

/// What it reads of a notification's recipient.
#[derive(Debug, Deserialize, JsonSchema)]
struct Recipient {
    /// The subscriber's phone number. Without any the delivery is skipped.
    phone: Option<String>,
    /// The same, by the name that all wire formats have.
    phone_number: Option<String>,
    /// The workflow's step, for `overrides.steps`.
    step_id: Option<String>,
}

struct Message {
    layers: Layers,
    payload: Payload,
    recipient: Recipient,
}

impl Message {
    fn read(notification: &Notification) -> Result<Self, RenderError> {
        let payload = settings::payload(notification)?;
        let recipient: Recipient = settings::recipient(notification)?;
        let layers = layers(notification, &NAMES, recipient.step_id.as_deref())?;
        Ok(Self {
            layers,
            payload,
            recipient,
        })
    }

    /// A member of the overrides: those of the provider lie over those of the channel.
    fn overridden(&self, name: &str) -> Option<&str> {
        let Layers {
            channel,
            trigger,
            provider,
            ..
        } = &self.layers;
        let layer = [provider, trigger, channel]
            .into_iter()
            // The first layer that has the member decides, even with null or an empty text: that is
            // how an override takes a value away.
            .find(|layer| layer.contains_key(name))?;
        text(layer, name)
    }

    fn content(&self) -> Result<&str, RenderError> {
        let content = self
            .overridden("content")
            .or(self.payload.content.as_deref());
        content.ok_or_else(|| RenderError::new("payload.content", "is missing: the message's text"))
    }

    fn phone(&self) -> Option<&str> {
        let own = [
            &self.payload.phone,
            &self.recipient.phone,
            &self.recipient.phone_number,
        ];
        self.overridden("to")
            .or_else(|| own.into_iter().find_map(given))
    }

    /// The members in the order of Novu's own code.
    fn body(&self, to: &str, settings: &Settings) -> Result<Map<String, Value>, RenderError> {
        let sender = self.overridden("from").or(given(&settings.from));
        let sender = sender
            .ok_or_else(|| RenderError::new("settings.from", "is missing: the default sender"))?;
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("to", to.into());
        if settings.full_body {
            put("from", sender.into());
        }
        put("content", self.content()?.into());
        if settings.full_body {
            if let Some(id) = &self.payload.id {
                put("id", id.as_str().into());
            }
            put("customData", self.custom_data().into());
        }
        put("sender", sender.into());
        // Last, so that an override can replace any member, as in Novu's code.
        lay_over(&mut body, self.known(), Arrays::Append);
        lay_over(&mut body, self.layers.body.clone(), Arrays::Append);
        Ok(body)
    }

    fn custom_data(&self) -> Map<String, Value> {
        let of_channel = self
            .layers
            .channel
            .get("customData")
            .and_then(Value::as_object);
        of_channel
            .or(self.payload.custom_data.as_ref())
            .cloned()
            .unwrap_or_default()
    }

    /// Members of the provider's overrides that are for the body.
    fn known(&self) -> Map<String, Value> {
        let mut known = self.layers.trigger.clone();
        lay_over(&mut known, self.layers.provider.clone(), Arrays::Replace);
        // Their values are in the body already, as `to`, `content` and `sender`; `from` would come
        // a second time.
        known.retain(|name, _| !OWN_EFFECT.contains(&name.as_str()));
        camel_members(known)
    }
}

impl Wire for NovuSms {
    fn info(&self) -> WireInfo {
        WireInfo {
            description: "Novu's SMS Webhook: to, content and sender with an API key header, \
                          optionally a fetched token.",
            signs: false,
            settings: settings::schema::<Settings>(),
            payload: settings::schema::<Payload>(),
            recipient: settings::schema::<Recipient>(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        match settings::settings::<Settings>(endpoint) {
            Ok(settings) => settings.problems(),
            Err(error) => vec![error.into()],
        }
    }

    fn check_notification(
        &self,
        _endpoint: &Endpoint,
        notification: &Notification,
    ) -> Vec<FieldProblem> {
        let read = Message::read(notification).and_then(|message| message.content().map(|_| ()));
        read.err().map(FieldProblem::from).into_iter().collect()
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        let message = Message::read(subject.notification)?;
        let Some(to) = message.phone() else {
            let text = "the notification names no phone number: payload.phone, recipient.phone or \
                        an override `to`";
            return Err(Unwritten::Skip(Skip {
                code: "no_subscriber_phone",
                text: text.to_owned(),
            }));
        };
        let mut rendered = Rendered::json(settings::json_text(&message.body(to, &settings)?)?);
        // By default both go out: Novu's cloud keeps the keys beside the token, and only its
        // self-hosted version drops them.
        if !(settings.authenticate_by_token && settings.token_replaces_keys) {
            rendered.headers = settings.key_headers();
        }
        rendered.headers.extend(message.layers.headers);
        Ok(rendered)
    }

    fn sign(
        &self,
        _subject: &Subject<'_>,
        _rendered: &Rendered,
        _now: Timestamp,
    ) -> Result<Vec<Header>, RenderError> {
        Ok(Vec::new())
    }

    fn preflight(&self, subject: &Subject<'_>) -> Result<Option<Preflight>, RenderError> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        if !settings.authenticate_by_token {
            return Ok(None);
        }
        let problem = |problem| RenderError::new("settings.domain", problem);
        let url = given(&settings.domain)
            .ok_or_else(|| problem("is missing: the URL that gives the token"))?;
        let url = read_url(url).map_err(problem)?;
        let headers = settings.key_headers();
        Ok(Some(Preflight {
            what: "the auth URL",
            method: Method::POST,
            url,
            headers,
            // Novu fetches a token before each message, and nothing in the answer says how long one
            // holds.
            kept: false,
        }))
    }

    fn called_urls(&self, endpoint: &Endpoint) -> Vec<(&'static str, Url)> {
        let Ok(settings) = settings::settings::<Settings>(endpoint) else {
            return Vec::new();
        };
        // Without the token it is not called, and whoever turned it off may leave the old URL in
        // the form.
        let domain = given(&settings.domain).filter(|_| settings.authenticate_by_token);
        domain
            .and_then(|domain| read_url(domain).ok())
            .map(|url| ("settings.domain", url))
            .into_iter()
            .collect()
    }

    fn grant(&self, endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Result<Grant, Outcome> {
        let mut outcome = status::classify(reply, now);
        if let Outcome::Refused { reason, .. } = &mut outcome {
            // It is the auth URL that is gone, not the endpoint.
            *reason = FailureReason::Rejected;
        }
        // The status first: an error page has no token either, and that it is missing would hide
        // the 503.
        if outcome.error().is_some() {
            return Err(outcome.about("the auth URL"));
        }
        let settings = settings::settings::<Settings>(endpoint).unwrap_or_default();
        let key = given(&settings.authentication_token_key).unwrap_or_default();
        if let Some(fault) = &reply.fault {
            return Err(status::unread(reply, fault, now).about("the auth URL"));
        }
        match answered_member(&reply.body, "data", key) {
            None => Err(refused(
                "missing_token",
                format!("the auth URL: its answer has no token at data.{key}"),
            )),
            Some(token) if value_problem(&token).is_some() => Err(refused(
                "invalid_token",
                format!("the auth URL: the token at data.{key} cannot be in a header"),
            )),
            Some(token) => Ok(Grant {
                headers: vec![Header::secret(key, token)],
                ..Grant::default()
            }),
        }
    }

    fn reading(&self) -> Reading {
        Reading::Body
    }

    fn preflight_reading(&self) -> Reading {
        Reading::Body
    }

    fn classify(&self, endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Outcome {
        let outcome = status::classify(reply, now);
        if outcome.error().is_some() {
            return outcome;
        }
        let settings = settings::settings::<Settings>(endpoint).unwrap_or_default();
        // Where no id is needed the status decides, and a body that broke off changes nothing.
        if let Some(fault) = reply.fault.as_ref().filter(|_| !settings.id_optional) {
            return status::unread(reply, fault, now);
        }
        let id = answered(&reply.body, &settings.id_path);
        if id.is_none() && !settings.id_optional {
            let text = format!(
                "the endpoint answered {} without an id at {}",
                reply.status, settings.id_path
            );
            // Refused and not retried: the gateway has taken the message, and a second try could
            // send a second SMS.
            return refused("missing_id", text);
        }
        let date = answered(&reply.body, &settings.date_path).unwrap_or_else(|| iso_date(now));
        Outcome::Accepted {
            provider_message_id: id,
            provider_message_date: Some(date),
        }
    }

    fn new_secret(&self, _settings: &Map<String, Value>) -> Option<Secret> {
        None
    }

    fn check_secret(&self, _secret: &Secret) -> Result<(), String> {
        Err("has no use: the wire format novu-sms does not sign; the keys are settings".to_owned())
    }

    fn sample(&self) -> Sample {
        Sample {
            recipient: Some(json!({"phone": "+1234567890"})),
            settings: json!({"apiKeyRequestHeader": "X-API-KEY", "apiKey": "key-123",
                "from": "MyApp"}),
            ..Sample::new(
                "sms.otp",
                json!({"content": "Your verification code is 123456"}),
            )
        }
    }
}

fn refused(code: &str, text: String) -> Outcome {
    let error = AttemptError {
        code: code.to_owned(),
        text,
    };
    Outcome::Refused {
        reason: FailureReason::ProviderRejected,
        error,
        provider_error_code: None,
    }
}

#[cfg(test)]
mod tests;
