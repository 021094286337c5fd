//! Writing drafts in Rust: [`Draft`] takes plain texts and durations, and says what is wrong with
//! them once, at the end.

use std::time::Duration;

use posthaste_shared::domain::id::{
    EndpointId, InvalidId, NotificationId, NotificationType, TenantId,
};
use posthaste_shared::domain::notification::{NotificationDraft, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::time::Timestamp;
use serde::Serialize;

/// A notification being written. [`Draft::build`] gives the [`NotificationDraft`] that is enqueued.
#[derive(Debug, Clone)]
#[must_use]
pub struct Draft(Result<NotificationDraft, DraftError>);

/// Why a draft could not be built: its first mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// An id, a tenant or a type that breaks its rule.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// A value that cannot be written as JSON.
    #[error("{field} cannot be written as JSON: {problem}")]
    NotJson {
        /// The member of the notification, such as `payload`.
        field: &'static str,
        /// What serde reports about the value.
        problem: String,
    },
}

impl Draft {
    /// A notification of type `kind` (such as `order.paid`) with any JSON value as its payload.
    pub fn new<T: Serialize>(kind: &str, payload: &T) -> Self {
        let kind = NotificationType::parse(kind).map_err(DraftError::from);
        Self(kind.and_then(|kind| Ok(NotificationDraft::new(kind, json("payload", payload)?))))
    }

    /// The id of the notification: enqueueing the same id twice delivers once. Default: a UUIDv7.
    pub fn id(self, id: &str) -> Self {
        self.set(NotificationId::parse(id), |draft, id| draft.id = Some(id))
    }

    /// The tenant that owns the notification. Default: `default`.
    pub fn tenant(self, tenant: &str) -> Self {
        self.set(TenantId::parse(tenant), |draft, tenant| {
            draft.tenant = Some(tenant)
        })
    }

    /// The one endpoint that gets it. Default: every endpoint of the tenant that subscribes to its
    /// type.
    pub fn to(self, endpoint: &str) -> Self {
        self.set(EndpointId::parse(endpoint), |draft, endpoint| {
            draft.endpoint_id = Some(endpoint)
        })
    }

    /// What wire formats need beside the payload, such as `phone_number`: something that serialises
    /// as an object.
    pub fn recipient<T: Serialize>(self, recipient: &T) -> Self {
        self.set(json("recipient", recipient), |draft, recipient| {
            draft.recipient = Some(recipient)
        })
    }

    /// Overrides for each wire format: something that serialises as an object.
    pub fn overrides<T: Serialize>(self, overrides: &T) -> Self {
        self.set(json("overrides", overrides), |draft, overrides| {
            draft.overrides = Some(overrides)
        })
    }

    /// Deliver it no earlier than at this time. Default: at once.
    pub fn deliver_at(self, at: Timestamp) -> Self {
        self.set(given(at), |draft, at| draft.deliver_at = Some(at))
    }

    /// Deliver it no earlier than this long after it was accepted. Default: at once.
    pub fn deliver_in(self, delay: Duration) -> Self {
        self.set(given(delay), |draft, delay| {
            draft.delay_seconds = Some(delay.as_secs_f64())
        })
    }

    /// Give up and let it expire at this time. Default: never.
    pub fn expires_at(self, at: Timestamp) -> Self {
        self.set(given(at), |draft, at| draft.expires_at = Some(at))
    }

    /// Give up and let it expire this long after it was accepted. Default: never.
    pub fn expires_in(self, time_to_live: Duration) -> Self {
        self.set(given(time_to_live), |draft, ttl| {
            draft.ttl_seconds = Some(ttl.as_secs_f64())
        })
    }

    /// Deliver it before notifications of normal priority, where the broker supports priorities.
    pub fn high_priority(self) -> Self {
        self.set(given(Priority::High), |draft, priority| {
            draft.priority = Some(priority)
        })
    }

    /// The finished draft. Times and objects are checked when it is enqueued.
    ///
    /// # Errors
    /// The first mistake.
    pub fn build(self) -> Result<NotificationDraft, DraftError> {
        self.0
    }

    fn set<T, E: Into<DraftError>>(
        self,
        value: Result<T, E>,
        assign: impl FnOnce(&mut NotificationDraft, T),
    ) -> Self {
        Self(self.0.and_then(|mut draft| {
            assign(&mut draft, value.map_err(Into::into)?);
            Ok(draft)
        }))
    }
}

/// A value that needs no check here.
const fn given<T>(value: T) -> Result<T, DraftError> {
    Ok(value)
}

fn json<T: Serialize>(field: &'static str, value: &T) -> Result<RawJson, DraftError> {
    RawJson::of(value).map_err(|error| DraftError::NotJson {
        field,
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_what_was_said_and_names_the_first_mistake() {
        let draft = Draft::new("order.paid", &1042)
            .id("order-1042")
            .tenant("acme")
            .to("ep_1")
            .deliver_in(Duration::from_millis(1500))
            .high_priority()
            .build()
            .unwrap();
        let text = serde_json::to_string(&draft).unwrap();
        let expected = concat!(
            r#"{"id":"order-1042","tenant":"acme","type":"order.paid","endpoint_id":"ep_1","#,
            r#""payload":1042,"delay_seconds":1.5,"priority":"high"}"#,
        );
        assert_eq!(text, expected);
        let mistake = Draft::new("order.paid", &1)
            .id("a b")
            .tenant("also wrong")
            .build()
            .unwrap_err();
        assert_eq!(
            mistake.to_string(),
            "id must be 1 to 128 visible ASCII characters"
        );
    }
}
