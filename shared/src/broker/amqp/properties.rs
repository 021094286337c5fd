//! A [`Message`] as AMQP properties and headers, and back. Reading takes what any client may have
//! sent: what is missing or makes no sense is left out.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::origin::OriginKeys;
use crate::broker::{DeadReason, Message};
use crate::domain::event::Event;
use crate::domain::hops::{self, Hops};
use crate::domain::message;
use crate::domain::notification::{Origin, Priority};
use crate::domain::time::Timestamp;

/// AMQP's delivery mode of messages that are stored on disk.
const PERSISTENT: u8 = 2;
/// Quorum queues of RabbitMQ 4 know two priorities: up to 4, and above.
const HIGH: u8 = 9;
const COUNT: &str = "x-delivery-count";
const DEATHS: &str = "x-death";
/// The last second of the year 9999. A larger `timestamp` is in other units or garbage.
const LAST_SECOND: u64 = 253_402_300_799;
/// A W3C `traceparent` has 55 characters; later versions may append.
const LONGEST_TRACEPARENT: usize = 256;

/// The properties of a message for the work queue.
pub(super) fn of_message(message: &Message, keys: &OriginKeys) -> BasicProperties {
    let mut headers = FieldTable::default();
    if let Some(at) = message.accepted_at {
        insert(&mut headers, message::ACCEPTED_AT, &at.to_string());
    }
    // The proof goes only with events. A message without the header is a producer's, which needs no
    // proof.
    if message.origin == Origin::Event {
        insert(&mut headers, message::ORIGIN, "event");
        insert(&mut headers, message::ORIGIN_PROOF, &keys.prove(message));
    }
    if let Some(traceparent) = &message.traceparent {
        insert(&mut headers, message::TRACEPARENT, traceparent);
    }
    if message.hops > Hops::default() {
        insert(&mut headers, hops::HEADER, &message.hops.to_string());
    }
    let mut properties = persistent("application/json").with_headers(headers);
    if let Some(id) = message
        .id
        .as_deref()
        // AMQP's short strings have up to 255 bytes. A longer id is left out here; it is in the
        // body as well.
        .and_then(|id| ShortString::try_new(id).ok())
    {
        properties = properties.with_message_id(id);
    }
    if let Some(seconds) = message
        .accepted_at
        .and_then(|at| u64::try_from(at.as_seconds()).ok())
    {
        properties = properties.with_timestamp(seconds);
    }
    match message.priority {
        Priority::High => properties.with_priority(HIGH),
        Priority::Normal => properties,
    }
}

/// The properties of an event.
pub(super) fn of_event(event: &Event) -> BasicProperties {
    let properties = persistent("application/cloudevents+json; charset=utf-8")
        .with_message_id(event.id.to_string().into());
    match u64::try_from(event.at.as_seconds()) {
        Ok(seconds) => properties.with_timestamp(seconds),
        Err(_) => properties,
    }
}

/// The properties of a dead letter: the message's own, and why it is dead.
pub(super) fn of_dead(
    message: &Message,
    keys: &OriginKeys,
    reason: DeadReason,
    detail: &str,
    at: Timestamp,
) -> BasicProperties {
    let properties = of_message(message, keys);
    let mut headers = properties.headers().clone().unwrap_or_default();
    insert(&mut headers, message::DEAD_REASON, reason.as_str());
    insert(&mut headers, message::DEAD_DETAIL, detail);
    insert(&mut headers, message::DIED_AT, &at.to_string());
    properties.with_headers(headers)
}

/// The properties of a dead letter that goes back to work: as they were before it died.
pub(super) fn revived(properties: &BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flatten() {
        // The delivery count goes too: carried on, it could have the message dead-lettered as
        // poison at once.
        let of_death = [
            message::DEAD_REASON,
            message::DEAD_DETAIL,
            message::DIED_AT,
            COUNT,
        ]
        .contains(&name.as_str())
            || ["x-death", "x-first-death-", "x-last-death-"]
                .iter()
                .any(|start| name.as_str().starts_with(start));
        if !of_death {
            headers.insert(name.clone(), value.clone());
        }
    }
    properties
        .clone()
        .with_headers(headers)
        .with_delivery_mode(PERSISTENT)
}

/// The message that came with these properties. That it is of an event counts only where one of the
/// keys proves it.
pub(super) fn read(properties: &BasicProperties, body: Vec<u8>, keys: &OriginKeys) -> Message {
    let mut message = read_unproved(properties, body);
    if message.origin == Origin::Event {
        let proofs = header(properties, message::ORIGIN_PROOF)
            .and_then(text)
            .unwrap_or_default();
        // Not refused: the message may be honest and come from before the key was changed. It only
        // loses what is reserved for Posthaste's own events.
        if !keys.is_proved(&message, &proofs) {
            message.origin = Origin::Producer;
        }
    }
    message
}

fn read_unproved(properties: &BasicProperties, body: Vec<u8>) -> Message {
    Message {
        id: properties
            .message_id()
            .as_ref()
            .map(|id| id.as_str().to_owned())
            .filter(|id| !id.is_empty()),
        body: Bytes::from(body),
        accepted_at: accepted_at(properties),
        origin: match header(properties, message::ORIGIN)
            .and_then(text)
            .as_deref()
        {
            Some("event") => Origin::Event,
            _ => Origin::Producer,
        },
        traceparent: header(properties, message::TRACEPARENT)
            .and_then(text)
            .filter(|text| {
                // It is stored and sent on in a header, so that nothing may pass here that a header
                // cannot hold.
                text.len() <= LONGEST_TRACEPARENT && text.chars().all(|c| c.is_ascii_graphic())
            }),
        priority: match properties.priority() {
            Some(5..) => Priority::High,
            _ => Priority::Normal,
        },
        hops: header(properties, hops::HEADER).map_or_else(Hops::default, hops),
    }
}

/// How often the message was delivered before, as far as the broker says.
pub(super) fn delivery_count(properties: &BasicProperties) -> u32 {
    header(properties, COUNT)
        .and_then(integer)
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(0)
}

/// Why and when a message died.
pub(super) struct Death {
    pub(super) reason: DeadReason,
    pub(super) detail: String,
    pub(super) at: Option<Timestamp>,
}

/// Reads a dead letter's headers: Posthaste's own, else the broker's.
pub(super) fn death(properties: &BasicProperties) -> Death {
    let own = header(properties, message::DEAD_REASON).and_then(text);
    if let Some(reason) = own.as_deref().and_then(DeadReason::parse) {
        let detail = header(properties, message::DEAD_DETAIL)
            .and_then(text)
            .unwrap_or_default();
        return Death {
            reason,
            detail,
            at: header(properties, message::DIED_AT).and_then(time),
        };
    }
    let last = match header(properties, DEATHS) {
        // RabbitMQ puts the latest death first.
        Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice().first(),
        _ => None,
    };
    let Some(AMQPValue::FieldTable(last)) = last else {
        let detail = "no header says why it is here".to_owned();
        return Death {
            reason: DeadReason::DeliveryLimit,
            detail,
            at: None,
        };
    };
    let field = |name: &str| last.inner().get(name);
    let word = |name: &str| field(name).and_then(text).unwrap_or_else(|| "?".to_owned());
    Death {
        reason: DeadReason::DeliveryLimit,
        detail: format!(
            "the broker took it off queue {}: {}",
            word("queue"),
            word("reason")
        ),
        at: field("time").and_then(time),
    }
}

fn persistent(content_type: &str) -> BasicProperties {
    BasicProperties::default()
        .with_content_type(content_type.into())
        .with_delivery_mode(PERSISTENT)
}

fn accepted_at(properties: &BasicProperties) -> Option<Timestamp> {
    // Our own header first: `timestamp` has whole seconds only, and some clients fill it with
    // milliseconds.
    let own = header(properties, message::ACCEPTED_AT).and_then(time);
    own.or_else(|| properties.timestamp().and_then(seconds))
}

fn insert(headers: &mut FieldTable, name: &str, value: &str) {
    headers.insert(name.into(), AMQPValue::LongString(value.into()));
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn text(value: &AMQPValue) -> Option<String> {
    let bytes = match value {
        AMQPValue::LongString(text) => text.as_bytes(),
        AMQPValue::ShortString(text) => text.as_str().as_bytes(),
        AMQPValue::ByteArray(bytes) => bytes.as_slice(),
        _ => return None,
    };
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn time(value: &AMQPValue) -> Option<Timestamp> {
    match value {
        AMQPValue::Timestamp(time) => seconds(*time),
        _ => Timestamp::parse(&text(value)?).ok(),
    }
}

fn seconds(seconds: u64) -> Option<Timestamp> {
    let seconds = i64::try_from(seconds)
        .ok()
        .filter(|_| seconds <= LAST_SECOND)?;
    Some(Timestamp::from_micros(seconds * 1_000_000))
}

/// As a text or as a number: a bridge may copy the header either way.
fn hops(value: &AMQPValue) -> Hops {
    match (text(value), integer(value)) {
        (Some(text), _) => Hops::parse(&text),
        (None, Some(number)) => Hops::new(u32::try_from(number.max(0)).unwrap_or(u32::MAX)),
        (None, None) => Hops::default(),
    }
}

fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(n) => Some(n.into()),
        AMQPValue::ShortShortUInt(n) => Some(n.into()),
        AMQPValue::ShortInt(n) => Some(n.into()),
        AMQPValue::ShortUInt(n) => Some(n.into()),
        AMQPValue::LongInt(n) => Some(n.into()),
        AMQPValue::LongUInt(n) => Some(n.into()),
        AMQPValue::LongLongInt(n) => Some(n),
        AMQPValue::Timestamp(n) => i64::try_from(n).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;

    fn message() -> Message {
        Message {
            id: Some("order-1".to_owned()),
            body: Bytes::from_static(b"{}"),
            accepted_at: Some(Timestamp::parse("2026-01-31T12:00:00.123456Z").unwrap()),
            origin: Origin::Event,
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            priority: Priority::High,
            hops: Hops::new(3),
        }
    }

    fn keys(one: &str) -> OriginKeys {
        OriginKeys::of(&[Secret::new(one.repeat(32))])
    }

    #[test]
    fn only_who_has_a_key_speaks_for_posthaste() {
        let both = OriginKeys::of(&["b", "a"].map(|key| Secret::new(key.repeat(32))));
        let origin = |properties: &BasicProperties, body: &[u8], keys: &OriginKeys| {
            read(properties, body.to_vec(), keys).origin
        };
        let proved = of_message(&message(), &keys("a"));
        assert_eq!(origin(&proved, b"{}", &keys("a")), Origin::Event);
        assert_eq!(origin(&proved, b"{}", &both), Origin::Event);
        assert_eq!(
            origin(&of_message(&message(), &both), b"{}", &keys("a")),
            Origin::Event,
            "while the key is changed"
        );
        assert_eq!(
            origin(&proved, b"{} ", &keys("a")),
            Origin::Producer,
            "the proof is of another body"
        );
        assert_eq!(origin(&proved, b"{}", &keys("c")), Origin::Producer);
        assert_eq!(
            origin(&proved, b"{}", &OriginKeys::default()),
            Origin::Producer
        );
        let forged = with_header(message::ORIGIN, AMQPValue::LongString("event".into()));
        assert_eq!(origin(&forged, b"{}", &keys("a")), Origin::Producer);
        assert_eq!(
            origin(
                &of_message(&message(), &OriginKeys::default()),
                b"{}",
                &keys("a")
            ),
            Origin::Producer
        );
    }

    fn with_header(name: &str, value: AMQPValue) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert(name.into(), value);
        BasicProperties::default().with_headers(headers)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let sent = message();
        let read = read(&of_message(&sent, &keys("a")), b"{}".to_vec(), &keys("a"));
        assert_eq!(format!("{read:?}"), format!("{sent:?}"));
    }

    #[test]
    fn a_dead_letter_keeps_the_message_and_can_be_revived() {
        let at = Timestamp::parse("2026-01-31T12:00:05Z").unwrap();
        let dead = of_dead(
            &message(),
            &keys("a"),
            DeadReason::Undecodable,
            "line 1",
            at,
        );
        let death = death(&dead);
        assert_eq!(
            (death.reason, death.detail.as_str(), death.at),
            (DeadReason::Undecodable, "line 1", Some(at))
        );
        assert_eq!(revived(&dead), of_message(&message(), &keys("a")));
    }

    #[test]
    fn foreign_headers_are_read_as_far_as_they_make_sense() {
        let nothing = read(&BasicProperties::default(), b"x".to_vec(), &keys("a"));
        assert!(
            nothing.id.is_none() && nothing.accepted_at.is_none() && nothing.traceparent.is_none()
        );

        let garbage = with_header(message::ACCEPTED_AT, AMQPValue::Boolean(true))
            .with_timestamp(1_767_225_600);
        assert_eq!(
            read(&garbage, vec![], &keys("a")).accepted_at,
            Some(Timestamp::parse("2026-01-01T00:00:00Z").unwrap())
        );
        let milliseconds = BasicProperties::default().with_timestamp(1_767_225_600_000);
        assert_eq!(read(&milliseconds, vec![], &keys("a")).accepted_at, None);

        let bytes = with_header(
            message::TRACEPARENT,
            AMQPValue::ByteArray(b"00-ab".to_vec().into()),
        );
        assert_eq!(
            read(&bytes, vec![], &keys("a")).traceparent.as_deref(),
            Some("00-ab")
        );
        let broken = with_header(
            message::TRACEPARENT,
            AMQPValue::LongString(b"a\r\nb".to_vec().into()),
        );
        assert_eq!(read(&broken, vec![], &keys("a")).traceparent, None);
    }

    #[test]
    fn the_delivery_count_is_read_in_every_width() {
        for value in [
            AMQPValue::ShortShortUInt(7),
            AMQPValue::LongInt(7),
            AMQPValue::LongLongInt(7),
        ] {
            assert_eq!(delivery_count(&with_header(COUNT, value)), 7);
        }
        assert_eq!(
            delivery_count(&with_header(COUNT, AMQPValue::LongLongInt(-1))),
            0
        );
        assert_eq!(delivery_count(&BasicProperties::default()), 0);
    }
}
