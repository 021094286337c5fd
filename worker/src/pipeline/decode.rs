//! From a message to a notification, or to the reason why it is not one. Pure.

use posthaste_shared::broker::{DeadReason, Incoming, Message};
use posthaste_shared::domain::event::check_type;
use posthaste_shared::domain::id::{NotificationId, TenantId, uuid_v7};
use posthaste_shared::domain::notification::{Acceptance, Notification, NotificationDraft};
use posthaste_shared::domain::reading::{self, Objects};
use posthaste_shared::domain::time::Timestamp;

/// Bounds on the messages that a worker takes; what exceeds one goes to the dead-letter queue.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest body, in bytes. Default 1 MiB.
    pub max_message_bytes: usize,
    /// How often a message may come back before it is taken for poison. Default 50.
    pub poison_after: u32,
    /// The most recipients that a notification may have. Default 1,000.
    pub max_recipients: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 1024 * 1024,
            poison_after: 50,
            max_recipients: 1000,
        }
    }
}

/// What a message is.
#[derive(Debug)]
pub enum Decoded {
    /// A notification with an id, ready to be routed.
    Work(Box<Notification>),
    /// A notification without an id. A redelivery of it could not be told from a second one, so it
    /// goes back to the queue as this message, which has an id, before anything is sent.
    WithoutId(Message),
    /// The message is not a notification: the reason for the dead-letter queue, and a sentence with
    /// what is wrong.
    Unreadable(DeadReason, String),
}

/// Reads a message that came in at `now`.
#[must_use]
pub fn decode(incoming: &Incoming, limits: Limits, now: Timestamp) -> Decoded {
    let message = &incoming.message;
    if incoming.delivery_count > limits.poison_after {
        let detail = format!(
            "it came back {} times without being finished",
            incoming.delivery_count
        );
        return Decoded::Unreadable(DeadReason::Poisonous, detail);
    }
    if message.body.len() > limits.max_message_bytes {
        let detail = format!(
            "it has {} bytes; the limit is {}",
            message.body.len(),
            limits.max_message_bytes
        );
        return Decoded::Unreadable(DeadReason::TooLarge, detail);
    }
    match read(message, now) {
        Ok(decoded) => decoded,
        Err(detail) => Decoded::Unreadable(DeadReason::Undecodable, detail),
    }
}

fn read(message: &Message, now: Timestamp) -> Result<Decoded, String> {
    let mut reader = serde_json::Deserializer::from_slice(&message.body);
    let draft: NotificationDraft =
        serde_path_to_error::deserialize(Objects(&mut reader)).map_err(|error| {
            let path = error.path().to_string();
            format!(
                "not a notification: {}",
                reading::sentence(&path, error.inner())
            )
        })?;
    reader
        .end()
        .map_err(|error| format!("not a notification: {error}"))?;
    let named = match (&draft.id, &message.id) {
        (Some(id), _) => Some(id.clone()),
        (None, Some(id)) => {
            Some(NotificationId::parse(id).map_err(|error| format!("message_id: {error}"))?)
        }
        (None, None) => None,
    };
    let Some(id) = named else {
        let name = uuid_v7(now).to_string();
        let accepted_at = message.accepted_at.or(Some(now));
        return Ok(Decoded::WithoutId(Message {
            id: Some(name),
            accepted_at,
            ..message.clone()
        }));
    };
    let acceptance = Acceptance {
        id,
        tenant: TenantId::default(),
        // A clock that is ahead must not date a delivery after its attempts.
        at: message.accepted_at.map_or(now, |at| at.min(now)),
        origin: message.origin,
        traceparent: message.traceparent.clone(),
        hops: message.hops,
    };
    check_type(&draft.kind, message.origin)
        .map_err(|error| format!("not a notification: {error}"))?;
    let of_properties = draft.id.is_none();
    let notification = draft.accept(acceptance).map_err(|error| {
        if of_properties && error.field == "id" {
            format!("message_id {}", error.problem)
        } else {
            format!("not a notification: {error}")
        }
    })?;
    Ok(Decoded::Work(Box::new(notification)))
}

#[cfg(test)]
mod tests {
    use posthaste_shared::broker::Tag;

    use super::*;

    #[test]
    fn ids_that_no_url_can_name_are_refused_wherever_they_stand() {
        let body = |id: &str| format!(r#"{{{id}"type":"a.b","payload":{{}}}}"#);
        for (body, id, named) in [
            (body(""), Some("."), "message_id must not be"),
            (body(""), Some(".."), "message_id must not be"),
            (body(r#""id":".","#), None, "id must not be"),
            (body(r#""id":"..","#), Some("n"), "id must not be"),
        ] {
            let Decoded::Unreadable(DeadReason::Undecodable, detail) = decoded(&body, id) else {
                panic!("{body}")
            };
            assert!(detail.contains(named), "{detail}");
        }
    }

    #[test]
    fn types_of_posthastes_own_events_are_its_own() {
        let body = r#"{"type":"delivery.failed","payload":{}}"#;
        let Decoded::Unreadable(DeadReason::Undecodable, detail) = decoded(body, Some("n")) else {
            panic!()
        };
        assert!(
            detail.contains("type is the type of Posthaste's own events"),
            "{detail}"
        );
        assert!(matches!(
            decoded(
                r#"{"type":"delivery.failed.at.sea","payload":{}}"#,
                Some("n")
            ),
            Decoded::Work(_)
        ));
    }

    fn decoded(body: &str, id: Option<&str>) -> Decoded {
        let message = Message {
            id: id.map(str::to_owned),
            body: body.to_owned().into(),
            ..Message::default()
        };
        let incoming = Incoming {
            message,
            tag: Tag {
                epoch: 1,
                number: 1,
            },
            delivery_count: 0,
        };
        decode(
            &incoming,
            Limits {
                max_message_bytes: 200,
                ..Limits::default()
            },
            Timestamp::from_micros(1),
        )
    }

    fn reason(body: &str) -> (DeadReason, String) {
        match decoded(body, Some("n-1")) {
            Decoded::Unreadable(reason, detail) => (reason, detail),
            other => panic!("{body} was read: {other:?}"),
        }
    }

    #[test]
    fn the_bodys_own_name_comes_first() {
        let name = |body, id| match decoded(body, id) {
            Decoded::Work(notification) => notification.id.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(name(r#"{"id":"a","type":"t","payload":1}"#, Some("b")), "a");
        assert_eq!(name(r#"{"type":"t","payload":1}"#, Some("b")), "b");
    }

    #[test]
    fn a_message_without_a_name_gets_one() {
        let Decoded::WithoutId(message) = decoded(r#"{"type":"t","payload":1}"#, None) else {
            panic!("it has no name")
        };
        assert!(message.id.is_some() && message.accepted_at.is_some());
    }

    #[test]
    fn garbage_is_told_apart() {
        assert!(reason("hello").1.contains("expected value"));
        assert!(
            reason(r#"{"type":5,"payload":1}"#)
                .1
                .contains("type must be a string, not 5")
        );
        assert!(
            reason(r#"{"type":"t","payload":1,"ttl":1}"#)
                .1
                .contains("ttl is not known: expected")
        );
        assert!(reason(r#"{"type":"t"}"#).1.contains("payload is missing"));
        assert!(
            reason(r#"{"type":"t","payload":1,"ttl_seconds":-1}"#)
                .1
                .contains("ttl_seconds must be")
        );
        assert!(
            reason(r#"{"type":"t","payload":1} x"#)
                .1
                .contains("trailing characters")
        );
        assert_eq!(
            reason(&format!("{{\"type\":\"{}\"}}", "x".repeat(300))).0,
            DeadReason::TooLarge
        );
    }
}
