//! `cometchat-sms`: what CometChat sends to a custom SMS provider, one request a recipient. Proof
//! is HTTP Basic authentication; an endpoint that has a secret gets the Standard Webhooks headers
//! beside it.

mod recipients;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::recipients::{Recipient, To, everybody, to};
use super::{
    FieldProblem, Header, Recipients, RenderError, Rendered, Sample, Skip, Subject, Unwritten,
    Wire, WireInfo, settings, standard,
};

/// What `trigger` says of every one.
const TRIGGER: &str = "sms-notification-payload-generated";
/// What `webhook` says of every one.
const PROVIDER: &str = "custom";

#[derive(Debug)]
pub(super) struct CometchatSms;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Whether requests carry `Authorization: Basic …`.
    #[serde(rename = "useBasicAuth", alias = "use_basic_auth")]
    use_basic_auth: bool,
    /// The user's name, without a colon. Needed with `useBasicAuth`.
    #[serde(rename = "basicAuthUsername", alias = "basic_auth_username")]
    basic_auth_username: Option<String>,
    /// The password. Needed with `useBasicAuth`.
    #[serde(rename = "basicAuthPassword", alias = "basic_auth_password")]
    basic_auth_password: Option<String>,
    /// Whether recipients without a phone number (`phno`) are skipped. Otherwise they are sent
    /// without one, and the endpoint looks it up.
    #[serde(rename = "useStoredPhNo", alias = "use_stored_ph_no")]
    use_stored_ph_no: bool,
    /// The app's id, for notifications whose payload has no `appId`.
    #[serde(rename = "appId", alias = "app_id")]
    app_id: Option<String>,
    /// The app's region, for notifications whose payload has no `region`.
    region: Option<Region>,
    /// Whether a message's `messageObject` is sent, if the payload has one.
    include_message_object: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Region {
    Us,
    Eu,
    In,
}

/// The payload of a notification: the messages that the SMS reports, and its text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Payload {
    /// The messages that the SMS reports, at least one, the oldest first. Needed.
    messages: Option<Vec<Message>>,
    /// Who sent them, in a one-on-one conversation. Either this or `groupDetails` is needed.
    sender_details: Option<SenderDetails>,
    /// The group that they were sent to.
    group_details: Option<GroupDetails>,
    /// The SMS's text. Needed.
    sms_content: Option<String>,
    /// The app's id. Default: the endpoint's setting; one of the two is needed.
    app_id: Option<String>,
    /// The app's region. Default: the endpoint's setting; one of the two is needed.
    region: Option<Region>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Message {
    /// The user who sent the message.
    sender: Sender,
    /// The text, or what stands for it.
    message: String,
    /// `CometChat`'s own message object. Sent with the setting `include_message_object` only.
    #[serde(rename = "messageObject", skip_serializing_if = "Option::is_none")]
    message_object: Option<Map<String, Value>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Sender {
    uid: String,
    #[serde(skip_serializing_if = "nothing")]
    avatar: Option<String>,
    name: String,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct SenderDetails {
    uid: String,
    name: String,
    #[serde(skip_serializing_if = "nothing")]
    avatar: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct GroupDetails {
    guid: String,
    name: String,
    #[serde(skip_serializing_if = "nothing")]
    icon: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    trigger: &'static str,
    data: Data,
    app_id: String,
    region: Region,
    webhook: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    to: To,
    messages: Vec<Message>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_details: Option<SenderDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_details: Option<GroupDetails>,
    sms_content: String,
}

impl Wire for CometchatSms {
    fn info(&self) -> WireInfo {
        WireInfo {
            description: "What CometChat sends to a custom SMS provider, one request a recipient, \
                          with HTTP Basic \
                authentication.",
            signs: true,
            settings: settings::schema::<Settings>(),
            payload: settings::schema::<Payload>(),
            recipient: settings::schema::<Recipient>(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let mut problems = match settings::settings::<Settings>(endpoint) {
            Ok(settings) => settings.problems(),
            Err(error) => vec![error.into()],
        };
        for held in &endpoint.confidential.secrets {
            let problem = self.check_secret(&held.secret).err();
            problems.extend(problem.map(|problem| FieldProblem {
                field: "secret".into(),
                problem,
            }));
        }
        problems
    }

    fn check_notification(
        &self,
        endpoint: &Endpoint,
        notification: &Notification,
    ) -> Vec<FieldProblem> {
        // Settings that cannot be read are the endpoint's fault, and no notification should be
        // refused for them.
        let Ok(settings) = settings::settings::<Settings>(endpoint) else {
            return Vec::new();
        };
        let payload = match payload(notification) {
            Ok(payload) => payload.problems(&settings),
            Err(error) => vec![error],
        };
        let everybody = everybody(notification);
        let recipient = everybody
            .as_ref()
            .as_ref()
            .err()
            .cloned()
            .unwrap_or_default();
        payload
            .into_iter()
            .chain(recipient)
            .map(FieldProblem::from)
            .collect()
    }

    fn recipients(&self, notification: &Notification) -> Recipients {
        match everybody(notification).as_ref() {
            Ok(everybody) => Recipients::Several {
                member: "recipient.recipients",
                each: everybody.each.iter().map(|to| to.uid.clone()).collect(),
            },
            // What cannot be read fails when it is written, and says why.
            Err(_) => Recipients::One,
        }
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        let to = to(subject)?;
        // Skipped and not failed: that a user has no number is nothing that somebody has to look
        // into.
        if settings.use_stored_ph_no && to.phno.is_none() {
            let text = format!(
                "the recipient {:?} has no phno, and useStoredPhNo is on",
                to.uid
            );
            return Err(Unwritten::Skip(Skip {
                code: "no_stored_phone_number",
                text,
            }));
        }
        let payload = payload(subject.notification)?;
        let authorization = settings.authorization();
        let mut rendered = Rendered::json(settings::json_text(&payload.body(to, &settings)?)?);
        rendered
            .headers
            .extend(authorization.map(|value| Header::secret("Authorization", value)));
        Ok(rendered)
    }

    fn sign(
        &self,
        subject: &Subject<'_>,
        rendered: &Rendered,
        now: Timestamp,
    ) -> Result<Vec<Header>, RenderError> {
        // CometChat itself signs nothing. Only whoever brought a secret wants more than the
        // password.
        if subject.endpoint.confidential.secrets.is_empty() {
            return Ok(Vec::new());
        }
        standard::headers(subject, &rendered.body, now)
    }

    fn new_secret(&self, _settings: &Map<String, Value>) -> Option<Secret> {
        None
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        standard::Standard.check_secret(secret)
    }

    /// The example of CometChat's documentation.
    fn sample(&self) -> Sample {
        let avatar = "https://assets.cometchat.io/sampleapp/v2/users/cometchat-uid-4.webp";
        let payload = json!({
            "messages": [{
                "sender": { "uid": "cometchat-uid-4", "avatar": avatar, "name": "Susan Marie" },
                "message": "Are we meeting on this weekend?"
            }],
            "senderDetails": { "uid": "cometchat-uid-4", "name": "Susan Marie", "avatar": avatar },
            "smsContent":
                "You've received new messages from Susan Marie! Read them at \
                 https://your-website.com/chat.",
            "appId": "app123",
            "region": "us"
        });
        let recipient =
            json!({ "uid": "cometchat-uid-1", "phno": "+919299334134", "name": "Andrew Joseph" });
        let settings = json!({ "useBasicAuth": true, "basicAuthUsername": "cometchat",
            "basicAuthPassword": "password-1" });
        Sample {
            recipient: Some(recipient),
            settings,
            ..Sample::new("message.unread", payload)
        }
    }
}

impl Settings {
    fn problems(&self) -> Vec<FieldProblem> {
        let mut problems = Vec::new();
        let mut add = |field: &str, problem: &str| {
            problems.push(FieldProblem {
                field: format!("settings.{field}"),
                problem: problem.to_owned(),
            });
        };
        match self.basic_auth_username.as_deref() {
            None | Some("") if self.use_basic_auth => {
                add("basicAuthUsername", "is missing: useBasicAuth needs it")
            }
            // RFC 7617, section 2: the first colon ends the name, and the rest would be taken for
            // the password.
            Some(name) if name.contains(':') => {
                add("basicAuthUsername", "must not contain a colon")
            }
            Some(name) if name.chars().any(char::is_control) => {
                add("basicAuthUsername", "must not contain control characters");
            }
            _ => {}
        }
        match self.basic_auth_password.as_deref() {
            None | Some("") if self.use_basic_auth => {
                add("basicAuthPassword", "is missing: useBasicAuth needs it")
            }
            Some(password) if password.chars().any(char::is_control) => {
                add("basicAuthPassword", "must not contain control characters");
            }
            _ => {}
        }
        problems
    }

    /// Standard base64 with padding, over UTF-8 (RFC 7617).
    fn authorization(&self) -> Option<String> {
        let name = self
            .basic_auth_username
            .as_deref()
            .filter(|_| self.use_basic_auth)?;
        let password = self.basic_auth_password.as_deref()?;
        Some(format!(
            "Basic {}",
            STANDARD.encode(format!("{name}:{password}"))
        ))
    }
}

impl Payload {
    fn problems(&self, settings: &Settings) -> Vec<RenderError> {
        let mut problems = Vec::new();
        let mut add = |member: &str, problem: &str| {
            problems.push(RenderError::new(format!("payload.{member}"), problem))
        };
        match self.messages.as_deref() {
            None => add("messages", "is missing: the messages that the SMS reports"),
            Some([]) => add("messages", "is empty: there must be at least one"),
            Some(_) => {}
        }
        match (&self.sender_details, &self.group_details) {
            (None, None) => add(
                "senderDetails",
                "is missing: either it (one-on-one) or groupDetails (group) is needed",
            ),
            (Some(_), Some(_)) => add(
                "groupDetails",
                "must not stand beside senderDetails: give one of the two",
            ),
            _ => {}
        }
        if self.text().is_none() {
            add("smsContent", "is missing: the SMS's text");
        }
        if self.app_id(settings).is_none() {
            add(
                "appId",
                "is missing: neither the payload nor the endpoint's settings have it",
            );
        }
        if self.region.or(settings.region).is_none() {
            add(
                "region",
                "is missing: us, eu or in, in the payload or in the endpoint's settings",
            );
        }
        problems
    }

    fn text(&self) -> Option<&str> {
        self.sms_content.as_deref().filter(|text| !text.is_empty())
    }

    fn app_id(&self, settings: &Settings) -> Option<String> {
        let candidates = [&self.app_id, &settings.app_id];
        candidates
            .into_iter()
            .flatten()
            .find(|id| !id.is_empty())
            .cloned()
    }

    fn body(&self, to: To, settings: &Settings) -> Result<Body, RenderError> {
        if let Some(problem) = self.problems(settings).into_iter().next() {
            return Err(problem);
        }
        let missing = |member: &str| RenderError::new(format!("payload.{member}"), "is missing");
        let app_id = self.app_id(settings).ok_or_else(|| missing("appId"))?;
        let region = self
            .region
            .or(settings.region)
            .ok_or_else(|| missing("region"))?;
        let mut messages = self.messages.clone().unwrap_or_default();
        // Without the setting the receiver gets what CometChat's documentation shows, which has
        // none.
        if !settings.include_message_object {
            messages
                .iter_mut()
                .for_each(|message| message.message_object = None);
        }
        let data = Data {
            to,
            messages,
            sender_details: self.sender_details.clone(),
            group_details: self.group_details.clone(),
            sms_content: self.sms_content.clone().unwrap_or_default(),
        };
        Ok(Body {
            trigger: TRIGGER,
            data,
            app_id,
            region,
            webhook: PROVIDER,
        })
    }
}

/// The payload, read once for all deliveries of the notification.
fn payload(notification: &Notification) -> Result<Arc<Payload>, RenderError> {
    settings::read_once("payload", Some(&notification.payload))
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn nothing(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests;
