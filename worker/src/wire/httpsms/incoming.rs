//! The events of httpSMS: what each has in its data, in the order in which httpSMS's server writes
//! it.

use posthaste_shared::domain::id::NotificationType;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;
use uuid::Uuid;

use crate::wire::{RenderError, settings};

/// Where Discord takes messages.
const DISCORD: &str = "https://discord.com/api/webhooks/";
/// The longest value of a field of a Discord message, in characters: Discord refuses longer ones.
const DISCORD_CHARS: usize = 1_024;
/// The type that goes to Discord.
const RECEIVED: &str = "message.phone.received";

/// One type of event.
#[derive(Debug)]
pub(super) struct Kind {
    /// The event's type, such as `message.phone.received`.
    pub(super) name: &'static str,
    source: Source,
    members: &'static [(&'static str, Fill)],
}

/// The path of httpSMS's API whose call causes such events.
#[derive(Debug)]
enum Source {
    Path(&'static str),
    /// That of the message's own events.
    OfMessage,
}

/// What a member is where the payload has none.
#[derive(Debug, Clone, Copy)]
enum Fill {
    /// The event cannot do without it.
    Needed,
    /// That of the endpoint's settings.
    UserId,
    /// When the notification was accepted.
    AcceptedAt,
    Null,
    False,
    EmptyList,
    Text(&'static str),
}

use Fill::{AcceptedAt, EmptyList, False, Needed, Null, Text, UserId};

const SIM: (&str, Fill) = ("sim", Text("DEFAULT"));
const TIMESTAMP: (&str, Fill) = ("timestamp", AcceptedAt);
const USER_ID: (&str, Fill) = ("user_id", UserId);
const OWNER: (&str, Fill) = ("owner", Needed);
const CONTACT: (&str, Fill) = ("contact", Needed);
const CONTENT: (&str, Fill) = ("content", Needed);
const ENCRYPTED: (&str, Fill) = ("encrypted", False);
const REQUEST_ID: (&str, Fill) = ("request_id", Null);
const ID: (&str, Fill) = ("id", Needed);
const MESSAGE_ID: (&str, Fill) = ("message_id", Needed);
const HEARTBEAT: &[(&str, Fill)] = &[
    ("phone_id", Needed),
    USER_ID,
    ("last_heartbeat_timestamp", Needed),
    TIMESTAMP,
    ("monitor_id", Needed),
    OWNER,
];

const KINDS: [Kind; 8] = [
    Kind {
        name: RECEIVED,
        source: Source::Path("/v1/messages/receive"),
        members: &[
            MESSAGE_ID,
            USER_ID,
            OWNER,
            ENCRYPTED,
            CONTACT,
            TIMESTAMP,
            CONTENT,
            SIM,
            ("attachments", EmptyList),
        ],
    },
    Kind {
        name: "message.phone.sent",
        source: Source::OfMessage,
        members: &[
            ID, USER_ID, REQUEST_ID, OWNER, CONTACT, ENCRYPTED, TIMESTAMP, CONTENT, SIM,
        ],
    },
    Kind {
        name: "message.phone.delivered",
        source: Source::OfMessage,
        members: &[
            ID, OWNER, CONTACT, REQUEST_ID, USER_ID, ENCRYPTED, TIMESTAMP, CONTENT, SIM,
        ],
    },
    Kind {
        name: "message.send.failed",
        source: Source::OfMessage,
        members: &[
            ID,
            ("error_message", Text("UNKNOWN ERROR")),
            USER_ID,
            OWNER,
            REQUEST_ID,
            CONTACT,
            TIMESTAMP,
            ENCRYPTED,
            CONTENT,
            SIM,
        ],
    },
    Kind {
        name: "message.send.expired",
        source: Source::Path("/v1/messages/send"),
        members: &[
            MESSAGE_ID,
            OWNER,
            ("send_attempt_count", Needed),
            ("is_final", Needed),
            REQUEST_ID,
            CONTACT,
            ENCRYPTED,
            USER_ID,
            TIMESTAMP,
            CONTENT,
            SIM,
        ],
    },
    Kind {
        name: "message.call.missed",
        source: Source::Path("/v1/messages/calls/missed"),
        members: &[MESSAGE_ID, USER_ID, OWNER, CONTACT, TIMESTAMP, SIM],
    },
    Kind {
        name: "phone.heartbeat.offline",
        source: Source::Path("/v1/heartbeats"),
        members: HEARTBEAT,
    },
    Kind {
        name: "phone.heartbeat.online",
        source: Source::Path("/v1/heartbeats"),
        members: HEARTBEAT,
    },
];

/// The types of the members, whatever the event. What is written comes from the payload itself, so
/// that members which httpSMS does not know go out too.
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read for the types alone")]
pub(super) struct Data {
    /// The message: of received, expired and missed-call events, which need it. A UUID with
    /// httpSMS.
    message_id: Option<String>,
    /// The message: of sent, delivered and failed events, which need it. A UUID with httpSMS.
    id: Option<String>,
    /// The account's user. Default: the endpoint's setting, else empty.
    user_id: Option<String>,
    /// The account's own phone number. Needed.
    owner: Option<String>,
    /// The other side's phone number. Needed, except in heartbeats.
    contact: Option<String>,
    /// The SMS's text. Needed, except in missed calls and heartbeats.
    content: Option<String>,
    /// Which SIM. Default: `DEFAULT`.
    sim: Option<String>,
    /// What the sender of the SMS called it. Default: null.
    request_id: Option<String>,
    /// Whether the content is encrypted. Default: false.
    encrypted: Option<bool>,
    /// When it happened. Default: when the notification was accepted.
    #[schemars(with = "Option<String>")]
    timestamp: Option<Timestamp>,
    /// URLs of what came with the SMS. Default: none.
    attachments: Option<Vec<String>>,
    /// Why an SMS failed. Default: `UNKNOWN ERROR`.
    error_message: Option<String>,
    /// How often it was tried to send the SMS. Expired events need it.
    send_attempt_count: Option<u32>,
    /// Whether it was the last try. Expired events need it.
    is_final: Option<bool>,
    /// The phone. Heartbeats need it.
    phone_id: Option<String>,
    /// What watches the phone. Heartbeats need it.
    monitor_id: Option<String>,
    /// The heartbeat before. Heartbeats need it.
    #[schemars(with = "Option<String>")]
    last_heartbeat_timestamp: Option<Timestamp>,
}

impl Kind {
    /// The event of that type, if httpSMS has it.
    pub(super) fn of(kind: &NotificationType) -> Option<&'static Self> {
        const ALL: &[Kind] = &KINDS;
        ALL.iter().find(|known| known.name == kind.as_str())
    }

    /// All that the payload lacks or has wrong.
    pub(super) fn problems(&self, notification: &Notification) -> Vec<RenderError> {
        // Read twice, once for the types and once for the members: `Data` has only those that
        // httpSMS knows, and what is written has all others, too.
        if let Err(error) = settings::payload::<Data>(notification) {
            return vec![error];
        }
        match settings::payload::<Map<String, Value>>(notification) {
            Ok(payload) => self.missing(&payload),
            Err(error) => vec![error],
        }
    }

    fn missing(&self, payload: &Map<String, Value>) -> Vec<RenderError> {
        let lacks = |(name, fill): &&(&str, Fill)| {
            matches!(fill, Needed)
                && payload
                    .get(*name)
                    // An empty text is content, if a strange one. An empty id is not an id: it
                    // would make the `source` of two messages the same.
                    .is_none_or(|value| value.is_null() || value == "" && is_id(name))
        };
        let problem = |(name, _): &(&str, Fill)| {
            RenderError::new(
                format!("payload.{name}"),
                format!("is missing: {} events have it", self.name),
            )
        };
        self.members.iter().filter(lacks).map(problem).collect()
    }

    /// The event's data: httpSMS's members in its order, what is left out filled in, others at the
    /// end.
    ///
    /// # Errors
    /// The first member that is missing or wrong.
    pub(super) fn data(
        &self,
        notification: &Notification,
        user_id: &str,
    ) -> Result<Map<String, Value>, RenderError> {
        if let Some(problem) = self.problems(notification).into_iter().next() {
            return Err(problem);
        }
        let mut payload: Map<String, Value> = settings::payload(notification)?;
        let mut data = Map::new();
        for (name, fill) in self.members {
            // Null counts as left out, since many producers write it for what they do not know.
            // Taken out, so that what is left at the end are the members httpSMS does not know.
            let given = payload.shift_remove(*name).filter(|value| !value.is_null());
            data.insert(
                (*name).to_owned(),
                given.unwrap_or_else(|| fill.value(notification, user_id)),
            );
        }
        data.extend(payload);
        Ok(data)
    }

    /// The `source` of the CloudEvent, made from the members of the payload.
    pub(super) fn source(&self, data: &Map<String, Value>) -> String {
        match self.source {
            Source::Path(path) => path.to_owned(),
            Source::OfMessage => {
                let id = data.get("id").and_then(Value::as_str).unwrap_or_default();
                // The id is any text here, and a slash or a space in it would make another path. A
                // form writes a space as `+`, a path as `%20`.
                let escaped: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
                format!("/v1/messages/{}/events", escaped.replace('+', "%20"))
            }
        }
    }

    /// Whether httpSMS sends it to such a URL as a Discord message.
    pub(super) fn goes_to_discord(&self, url: &Url) -> bool {
        self.name == RECEIVED && url.as_str().starts_with(DISCORD)
    }
}

impl Fill {
    fn value(self, notification: &Notification, user_id: &str) -> Value {
        match self {
            Needed | Null => Value::Null,
            UserId => user_id.into(),
            AcceptedAt => notification.accepted_at.to_string().into(),
            False => false.into(),
            EmptyList => json!([]),
            Text(text) => text.into(),
        }
    }
}

fn is_id(name: &str) -> bool {
    name == "id" || name.ends_with("_id")
}

/// The names of all types.
pub(super) fn names() -> [&'static str; 8] {
    KINDS.map(|kind| kind.name)
}

/// The user that the payload names.
pub(super) fn user_id(notification: &Notification) -> Option<String> {
    #[derive(Deserialize)]
    struct User {
        user_id: Option<String>,
    }
    settings::payload::<User>(notification).ok()?.user_id
}

/// The CloudEvent's `id`: the notification's where that is a UUID v4, else one made of it, the same
/// for every endpoint and attempt.
pub(super) fn id_of(notification_id: &str) -> String {
    match uuid(notification_id) {
        // Version 4 alone, since httpSMS's are and receivers may check: ours are of version 7, and
        // go the other way.
        Some(id) if id.get_version_num() == 4 => id.to_string(),
        _ => derived(notification_id),
    }
}

/// A message's id as httpSMS has them: the text where it is a UUID, else a UUID made of it.
pub(crate) fn message_id_of(text: &str) -> String {
    uuid(text).map_or_else(|| derived(text), |id| id.to_string())
}

/// In the one spelling that httpSMS uses: 36 characters with hyphens.
fn uuid(text: &str) -> Option<Uuid> {
    // `parse_str` also takes 32 digits, braces and `urn:uuid:`.
    Uuid::parse_str(text).ok().filter(|_| text.len() == 36)
}

/// In the shape of a UUID v4, of the text's SHA-256.
fn derived(text: &str) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(text.as_bytes())[..16]);
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// The message that httpSMS sends to Discord.
pub(super) fn discord_message(data: &Map<String, Value>) -> Value {
    let field = |name: &str, member: &str, inline: bool| {
        let text: String = data
            .get(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .chars()
            // Characters and not bytes: Discord counts so, and a cut in the middle of one would not
            // be text.
            .take(DISCORD_CHARS)
            .collect();
        json!({ "name": name, "value": text, "inline": inline })
    };
    json!({
        "avatar_url": "https://httpsms.com/avatar.png",
        "username": "httpsms.com",
        "content": "New message received",
        "embeds": [{ "fields": [
            field("From:", "contact", true),
            field("To:", "owner", true),
            field("Content:", "content", false),
            field("MessageID:", "message_id", false),
        ] }]
    })
}
