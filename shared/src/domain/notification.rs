//! A notification: what a producer enqueues. [`NotificationDraft`] is what producers write (HTTP
//! body and AMQP message alike); [`Notification`] is what it becomes once checked and accepted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::hops::Hops;
use super::id::{EndpointId, NotificationId, NotificationType, TenantId};
use super::raw_json::RawJson;
use super::reading::Objects;
use super::time::Timestamp;

/// The most seconds of `delay_seconds` and `ttl_seconds`, some 7,900 years: what lies so far ahead
/// is still before the year 10,000, which RFC 3339 cannot write.
pub const MAX_AHEAD_SECONDS: u64 = 250_000_000_000;

/// A notification as a producer writes it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationDraft {
    /// Its id, 1 to 128 visible ASCII characters, but not `.` or `..`. What is enqueued again under
    /// a name that was delivered is not sent again; twice within moments past the API, both may go
    /// out, with one `webhook-id`. Default: a UUIDv7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<NotificationId>,
    /// Whose it is. Default: the key's tenant, else `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// What it reports, such as `message.phone.received`.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// The one endpoint that gets it. Default: every enabled endpoint of the tenant whose
    /// subscription matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<EndpointId>,
    /// Any JSON value, carried through untouched.
    pub payload: RawJson,
    /// What the wire formats need beside the payload, such as `phone_number`: an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub recipient: Option<RawJson>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<Timestamp>,
    /// Not before this number of seconds after acceptance; excludes `deliver_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 250_000_000_000_i64)]
    pub delay_seconds: Option<f64>,
    /// Never after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Never after this number of seconds after acceptance; excludes `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 250_000_000_000_i64)]
    pub ttl_seconds: Option<f64>,
    /// `high` goes before `normal` where the broker can order (embedded; RabbitMQ 4). Default
    /// `normal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Overrides for each wire format: an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub overrides: Option<RawJson>,
}

/// Whether a notification goes before others.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Delivered in turn: the default.
    #[default]
    Normal,
    /// Goes ahead of `normal` where the broker can order: the embedded queue, and RabbitMQ 4.
    High,
}

/// Where a notification comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// A producer, through the API or the broker.
    #[default]
    Producer,
    /// Posthaste itself: an event on its way to an endpoint that subscribes to events. Its failure
    /// emits no further event.
    Event,
}

/// A notification that was accepted: what a producer wants delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// The notification's id, unique in its tenant.
    pub id: NotificationId,
    /// The tenant that owns the notification.
    pub tenant: TenantId,
    /// What it reports: the type that subscriptions match.
    pub kind: NotificationType,
    /// The one endpoint that gets it; `None`: all that subscribe.
    pub target: Option<EndpointId>,
    /// The payload as it was enqueued: any JSON.
    pub payload: RawJson,
    /// JSON object, as given.
    pub recipient: Option<RawJson>,
    /// JSON object, as given.
    pub overrides: Option<RawJson>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The time before which no attempt is made; `None`: at once.
    pub deliver_at: Option<Timestamp>,
    /// The time after which no attempt is made; `None`: never expires.
    pub expires_at: Option<Timestamp>,
    /// Whether it goes first.
    pub priority: Priority,
    /// Whether a producer enqueued it, or Posthaste itself.
    pub origin: Origin,
    /// W3C trace context of the enqueuer.
    pub traceparent: Option<String>,
    /// How often Posthaste itself has sent what this came from.
    pub hops: Hops,
}

/// What the carrier of a draft (HTTP request, AMQP properties) adds to it.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The id for a draft without one.
    pub id: NotificationId,
    /// Tenant for a draft without one.
    pub tenant: TenantId,
    /// When it was accepted; relative times count from here.
    pub at: Timestamp,
    /// Where it comes from.
    pub origin: Origin,
    /// The W3C trace context of whoever enqueued it.
    pub traceparent: Option<String>,
    /// How often Posthaste itself has sent what this came from.
    pub hops: Hops,
}

/// Why a draft is refused: the member and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidDraft {
    /// The member of the JSON object that is refused.
    pub field: &'static str,
    /// What is wrong with it and what it must be.
    pub problem: &'static str,
}

impl NotificationDraft {
    /// A draft with nothing but what every notification needs.
    #[must_use]
    pub fn new(kind: NotificationType, payload: RawJson) -> Self {
        Self {
            id: None,
            tenant: None,
            kind,
            endpoint_id: None,
            payload,
            recipient: None,
            deliver_at: None,
            delay_seconds: None,
            expires_at: None,
            ttl_seconds: None,
            priority: None,
            overrides: None,
        }
    }

    /// Checks what the members' own types do not say and turns relative times into absolute ones.
    ///
    /// # Errors
    /// The first member that is wrong.
    pub fn accept(self, acceptance: Acceptance) -> Result<Notification, InvalidDraft> {
        let at = acceptance.at;
        let deliver_at = absolute(
            (
                "deliver_at",
                "says the same as deliver_at, which was given too: give one of the two",
            ),
            self.deliver_at,
            "delay_seconds",
            self.delay_seconds,
            at,
        )?;
        let expires_at = absolute(
            (
                "expires_at",
                "says the same as expires_at, which was given too: give one of the two",
            ),
            self.expires_at,
            "ttl_seconds",
            self.ttl_seconds,
            at,
        )?;
        // It would be accepted only to expire unsent, which the producer would learn from an event,
        // if at all.
        if let (Some(deliver), Some(expires)) = (deliver_at, expires_at)
            && deliver >= expires
        {
            // In the words of whoever wrote it.
            let (field, problem) = match (self.ttl_seconds, self.delay_seconds) {
                (Some(_), Some(_)) => ("ttl_seconds", "must be more than delay_seconds"),
                (Some(_), None) => ("ttl_seconds", "must end later than deliver_at"),
                (None, Some(_)) => ("expires_at", "must be later than delay_seconds from now"),
                (None, None) => ("expires_at", "must be later than deliver_at"),
            };
            return Err(InvalidDraft { field, problem });
        }
        // Everybody takes these two out of a URL's path, however they are encoded: such an id could
        // be enqueued, and never looked at.
        let id = self.id.unwrap_or(acceptance.id);
        if matches!(id.as_str(), "." | "..") {
            return Err(InvalidDraft {
                field: "id",
                problem: "must not be \".\" or \"..\": no URL can name these",
            });
        }
        object("recipient", self.recipient.as_ref())?;
        object("overrides", self.overrides.as_ref())?;
        Ok(Notification {
            id,
            tenant: self.tenant.unwrap_or(acceptance.tenant),
            kind: self.kind,
            target: self.endpoint_id,
            payload: self.payload,
            recipient: self.recipient,
            overrides: self.overrides,
            accepted_at: at,
            // A time that has passed means at once. Kept, the wait in the queue would be counted
            // from before the notification was accepted.
            deliver_at: deliver_at.filter(|deliver| *deliver > at),
            expires_at,
            priority: self.priority.unwrap_or_default(),
            origin: acceptance.origin,
            traceparent: acceptance.traceparent,
            hops: acceptance.hops,
        })
    }
}

impl From<Notification> for NotificationDraft {
    /// The draft that says the same with absolute times: what goes over the broker.
    fn from(notification: Notification) -> Self {
        Self {
            id: Some(notification.id),
            tenant: Some(notification.tenant),
            kind: notification.kind,
            endpoint_id: notification.target,
            payload: notification.payload,
            recipient: notification.recipient,
            deliver_at: notification.deliver_at,
            delay_seconds: None,
            expires_at: notification.expires_at,
            ttl_seconds: None,
            // The default is left out, as are the other members without a value: the body is what
            // the producer wrote, made absolute.
            priority: Some(notification.priority).filter(|priority| *priority != Priority::Normal),
            overrides: notification.overrides,
        }
    }
}

impl Notification {
    /// The first member in which `other`, of the same id, asks for something else; `None` when both
    /// ask for the same. What counts is what is delivered and to whom, the JSON as it was written.
    /// Times and priority do not: a producer that enqueues again counts them from then, and spaces
    /// of time have no beginning.
    #[must_use]
    pub fn differs_in(&self, other: &Self) -> Option<&'static str> {
        let members = [
            ("type", self.kind == other.kind),
            ("endpoint_id", self.target == other.target),
            ("payload", self.payload == other.payload),
            ("recipient", self.recipient == other.recipient),
            ("overrides", self.overrides == other.overrides),
        ];
        members
            .into_iter()
            .find_map(|(member, same)| (!same).then_some(member))
    }

    /// Whether it may no longer be sent at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// The phone number that subscriptions filter by: `recipient.phone_number`, else `owner` in the
    /// payload (where httpSMS's events have it).
    #[must_use]
    pub fn phone_number(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Recipient {
            phone_number: Option<String>,
        }
        #[derive(Deserialize)]
        struct Owner {
            owner: Option<String>,
        }
        let recipient = self
            .recipient
            .as_ref()
            .and_then(|raw| serde_json::from_str::<Recipient>(raw.as_str()).ok());
        recipient
            // The recipient first: a producer sets it for this; `owner` is there by chance of a
            // payload's shape.
            .and_then(|recipient| recipient.phone_number)
            .or_else(|| {
                let owner = serde_json::from_str::<Owner>(self.payload.as_str()).ok()?;
                owner.owner
            })
    }
}

fn absolute(
    (at_field, both): (&'static str, &'static str),
    at: Option<Timestamp>,
    seconds_field: &'static str,
    seconds: Option<f64>,
    accepted: Timestamp,
) -> Result<Option<Timestamp>, InvalidDraft> {
    let time = match (at, seconds) {
        (Some(_), Some(_)) => {
            return Err(InvalidDraft {
                field: seconds_field,
                problem: both,
            });
        }
        (Some(at), None) => at,
        // Bounds first: `from_secs_f64` panics on what is negative, infinite or no number.
        (None, Some(seconds)) if (0.0..=MAX_AHEAD_SECONDS as f64).contains(&seconds) => {
            accepted.after(Duration::from_secs_f64(seconds))
        }
        (None, Some(_)) => {
            return Err(InvalidDraft {
                field: seconds_field,
                problem: "must be 0 to 250000000000",
            });
        }
        (None, None) => return Ok(None),
    };
    if time > Timestamp::MAX {
        return Err(InvalidDraft {
            field: at_field,
            problem: "must be before the year 10000",
        });
    }
    Ok(Some(time))
}

/// Checks a member that we look into, other than the payload: of a name that is there twice nobody
/// could say which is meant.
fn object(field: &'static str, value: Option<&RawJson>) -> Result<(), InvalidDraft> {
    let Some(raw) = value else { return Ok(()) };
    // The first character is enough, as the text was parsed: only an object begins with a brace.
    if !raw.as_str().trim_start().starts_with('{') {
        let problem = "must be an object";
        return Err(InvalidDraft { field, problem });
    }
    let mut reader = serde_json::Deserializer::from_str(raw.as_str());
    // A key that is no text of Unicode can be there, as the text was not decoded; nobody asks for
    // it.
    match BTreeMap::<String, IgnoredAny>::deserialize(Objects(&mut reader)) {
        Err(error) if error.to_string().starts_with("duplicate field") => {
            let problem = "must have each name once";
            Err(InvalidDraft { field, problem })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acceptance() -> Acceptance {
        Acceptance {
            id: NotificationId::parse("n-1").unwrap(),
            tenant: TenantId::default(),
            at: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            origin: Origin::Producer,
            traceparent: None,
            hops: Hops::default(),
        }
    }

    fn draft(json: &str) -> NotificationDraft {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn relative_times_count_from_acceptance() {
        let accepted = draft(r#"{"type":"a","payload":{},"delay_seconds":5,"ttl_seconds":7.5}"#)
            .accept(acceptance())
            .unwrap();
        assert_eq!(
            accepted.deliver_at.unwrap().to_string(),
            "2026-01-01T00:00:05Z"
        );
        assert_eq!(
            accepted.expires_at.unwrap().to_string(),
            "2026-01-01T00:00:07.5Z"
        );
    }

    #[test]
    fn what_is_looked_into_has_each_name_once() {
        for (member, value, field) in [
            (
                "recipient",
                r#"{"phone_number":"1","phone_number":"2"}"#,
                Some("recipient"),
            ),
            ("recipient", r#"{"a":1,"\u0061":2}"#, Some("recipient")),
            (
                "overrides",
                r#"{"body":{},"headers":{},"body":{}}"#,
                Some("overrides"),
            ),
            ("recipient", r#"{"phone_number":"1","\ud800":[{}]}"#, None),
            ("payload", r#"{"a":1,"a":2}"#, None),
        ] {
            let rest = if member == "payload" {
                ""
            } else {
                r#","payload":{}"#
            };
            let json = format!(r#"{{"type":"a","{member}":{value}{rest}}}"#);
            let refused = draft(&json).accept(acceptance()).err();
            assert_eq!(refused.map(|refused| refused.field), field, "{json}");
        }
    }

    #[test]
    fn the_payload_is_kept_as_it_was_written() {
        let json = r#"{"type":"a","payload":{ "b" : 1.0e2 }}"#;
        let accepted = draft(json).accept(acceptance()).unwrap();
        let again = serde_json::to_string(&NotificationDraft::from(accepted)).unwrap();
        assert!(again.contains(r#""payload":{ "b" : 1.0e2 }"#), "{again}");
    }

    #[test]
    fn another_body_is_told_from_the_same_one_enqueued_again() {
        let first = draft(r#"{"type":"a","payload":1,"ttl_seconds":5}"#)
            .accept(acceptance())
            .unwrap();
        let later = Acceptance {
            at: acceptance().at.after(Duration::from_secs(9)),
            ..acceptance()
        };
        let differs = |json: &str| {
            draft(json)
                .accept(later.clone())
                .unwrap()
                .differs_in(&first)
        };
        assert_eq!(
            differs(r#"{"payload":1,"type":"a","ttl_seconds":5,"priority":"high"}"#),
            None
        );
        assert_eq!(differs(r#"{"type":"b","payload":1}"#), Some("type"));
        assert_eq!(differs(r#"{"type":"a","payload":2}"#), Some("payload"));
        assert_eq!(
            differs(r#"{"type":"a","payload":1,"endpoint_id":"ep_1"}"#),
            Some("endpoint_id")
        );
        assert_eq!(
            differs(r#"{"type":"a","payload":1,"recipient":{}}"#),
            Some("recipient")
        );
        assert_eq!(
            differs(r#"{"type":"a","payload":1,"overrides":{}}"#),
            Some("overrides")
        );
    }

    #[test]
    fn says_which_member_is_wrong() {
        let field = |json: &str| draft(json).accept(acceptance()).unwrap_err().field;
        assert_eq!(
            field(r#"{"type":"a","payload":1,"ttl_seconds":-1}"#),
            "ttl_seconds"
        );
        assert_eq!(
            field(r#"{"type":"a","payload":1,"delay_seconds":9,"ttl_seconds":3}"#),
            "ttl_seconds"
        );
        assert_eq!(
            field(r#"{"type":"a","payload":1,"recipient":[]}"#),
            "recipient"
        );
        assert_eq!(
            field(r#"{"type":"a","payload":1,"ttl_seconds":1e300}"#),
            "ttl_seconds"
        );
        assert_eq!(field(r#"{"id":".","type":"a","payload":1}"#), "id");
        assert_eq!(field(r#"{"id":"..","type":"a","payload":1}"#), "id");
        assert!(
            draft(r#"{"id":"...","type":"a","payload":1}"#)
                .accept(acceptance())
                .is_ok()
        );
        let far = r#"{"type":"a","payload":1,
            "deliver_at":"9999-12-31T23:59:58Z","expires_at":"9999-12-31T23:59:59Z"}"#;
        let far = draft(far).accept(acceptance()).unwrap();
        assert_eq!(far.expires_at.unwrap().to_string(), "9999-12-31T23:59:59Z");
        assert!(
            draft(r#"{"type":"a","payload":1,"delay_seconds":2.5e11}"#)
                .accept(acceptance())
                .is_ok()
        );
        assert_eq!(
            field(
                r#"{"type":"a","payload":1,"expires_at":"2026-01-01T00:00:00Z","ttl_seconds":3}"#
            ),
            "ttl_seconds"
        );
        let unknown =
            serde_json::from_str::<NotificationDraft>(r#"{"type":"a","payload":1,"ttl":3}"#)
                .unwrap_err();
        assert!(
            unknown.to_string().contains("unknown field `ttl`"),
            "{unknown}"
        );
    }
}
