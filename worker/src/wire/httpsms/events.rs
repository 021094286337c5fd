//! httpSMS's events `message.send.failed` and `message.send.expired`, of Posthaste's own deliveries
//! that failed or expired. Pure: which of them are wanted, and what they say.

use posthaste_shared::domain::event::{Event, EventType};
use posthaste_shared::domain::id::{NotificationId, NotificationType};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::view::DeliveryView;
use serde_json::{Map, Value, json};

use super::incoming::message_id_of;

/// The type under which httpSMS endpoints get such an event, if they get it at all.
pub(super) fn kind_of(event: EventType) -> Option<NotificationType> {
    let name = match event {
        EventType::DeliveryFailed => "message.send.failed",
        EventType::DeliveryExpired => "message.send.expired",
        EventType::DeliverySucceeded
        | EventType::EndpointDisabled
        | EventType::EndpointEnabled
        | EventType::EndpointUnhealthy
        | EventType::EndpointRecovered => return None,
    };
    NotificationType::parse(name).ok()
}

/// The notification that tells httpSMS endpoints that `delivery`, of `about`, failed or expired.
/// Its id follows from the event's, so that making it again delivers nothing twice.
pub(super) fn of(
    event: &Event,
    delivery: &DeliveryView,
    about: &Notification,
) -> Option<Notification> {
    let kind = kind_of(event.kind)?;
    let members = Members::of(about);
    // The id that the producer knows the SMS by, wherever its wire format has it; the
    // notification's own is the last resort.
    let message_id = members
        .payload(&["message_id", "id"])
        .unwrap_or_else(|| about.id.to_string());
    let mut data = members.common();
    let (id_member, own) = match event.kind {
        EventType::DeliveryExpired => {
            let own = json!({ "send_attempt_count": delivery.attempt_count, "is_final": true });
            ("message_id", own)
        }
        _ => (
            // Failed and expired events name the message by different members, as httpSMS's server
            // does.
            "id",
            json!({ "error_message": delivery.last_error.as_deref().unwrap_or("UNKNOWN ERROR") }),
        ),
    };
    data.insert(id_member.to_owned(), message_id_of(&message_id).into());
    data.insert("timestamp".to_owned(), event.at.to_string().into());
    if let Value::Object(own) = own {
        data.extend(own);
    }
    // Apart from the id under which the event itself goes to other endpoints: one id stands for one
    // notification.
    let id = NotificationId::parse(&format!("evt_{}-httpsms", event.id)).ok()?;
    Some(event.notification(id, kind, RawJson::of(&data).ok()?))
}

/// What a notification of any wire format says of its message.
struct Members {
    payload: Value,
    recipient: Value,
}

impl Members {
    fn of(notification: &Notification) -> Self {
        let read = |json: &RawJson| serde_json::from_str(json.as_str()).unwrap_or_default();
        Self {
            payload: read(&notification.payload),
            recipient: notification
                .recipient
                .as_ref()
                .map(read)
                .unwrap_or_default(),
        }
    }

    /// The members that both events have.
    fn common(&self) -> Map<String, Value> {
        let contact = self.payload(&["contact", "to"]);
        let contact =
            contact.or_else(|| first(&self.recipient, &["phone_number", "phone", "phno"]));
        let content = self.payload(&["content", "body", "smsContent"]);
        let content = content.or_else(|| first(&self.payload["data"], &["smsContent"]));
        let mut common = Map::new();
        common.insert(
            "owner".to_owned(),
            self.payload(&["owner", "from", "sender"])
                .unwrap_or_default()
                .into(),
        );
        common.insert("contact".to_owned(), contact.unwrap_or_default().into());
        common.insert("content".to_owned(), content.unwrap_or_default().into());
        for name in ["user_id", "request_id", "sim"] {
            common.extend(
                self.payload(&[name])
                    .map(|text| (name.to_owned(), text.into())),
            );
        }
        common.extend(
            self.payload["encrypted"]
                .as_bool()
                .map(|flag| ("encrypted".to_owned(), flag.into())),
        );
        common
    }

    fn payload(&self, names: &[&str]) -> Option<String> {
        first(&self.payload, names)
    }
}

/// The first of these members that has a text, or a number, which stands for its text.
fn first(object: &Value, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match object.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
