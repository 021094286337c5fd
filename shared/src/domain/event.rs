//! What Posthaste tells the outside about itself: CloudEvents 1.0, structured JSON.

use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::delivery::{Delivery, DeliveryState};
use super::endpoint::Endpoint;
use super::health::Unhealthy;
use super::hops::Hops;
use super::id::{EventId, NotificationId, NotificationType, TenantId};
use super::notification::{InvalidDraft, Notification, Origin, Priority};
use super::raw_json::RawJson;
use super::time::Timestamp;
use super::view::{AttemptView, DeliveryView};

/// Refuses a type that is one of Posthaste's own events' for whatever is none: its receivers go by
/// it.
///
/// # Errors
/// Which member, and why.
pub fn check_type(kind: &NotificationType, origin: Origin) -> Result<(), InvalidDraft> {
    match origin {
        Origin::Producer if EventType::parse(kind.as_str()).is_some() => Err(InvalidDraft {
            field: "type",
            problem: "is the type of Posthaste's own events: choose another",
        }),
        Origin::Producer | Origin::Event => Ok(()),
    }
}

/// The `source` of every event.
pub const SOURCE: &str = "/posthaste";

/// What an event reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum EventType {
    /// A delivery failed for good.
    #[serde(rename = "delivery.failed")]
    DeliveryFailed,
    /// A delivery's time ran out.
    #[serde(rename = "delivery.expired")]
    DeliveryExpired,
    /// A delivery was delivered (off by default).
    #[serde(rename = "delivery.succeeded")]
    DeliverySucceeded,
    /// An endpoint is not called any more.
    #[serde(rename = "endpoint.disabled")]
    EndpointDisabled,
    /// An endpoint is called again.
    #[serde(rename = "endpoint.enabled")]
    EndpointEnabled,
    /// An endpoint fails, and its circuit breaker opened.
    #[serde(rename = "endpoint.unhealthy")]
    EndpointUnhealthy,
    /// An endpoint that failed takes what is sent to it again.
    #[serde(rename = "endpoint.recovered")]
    EndpointRecovered,
}

impl EventType {
    /// Every type of event that Posthaste emits.
    pub const ALL: [Self; 7] = [
        Self::DeliveryFailed,
        Self::DeliveryExpired,
        Self::DeliverySucceeded,
        Self::EndpointDisabled,
        Self::EndpointEnabled,
        Self::EndpointUnhealthy,
        Self::EndpointRecovered,
    ];

    /// The CloudEvents `type`, also the routing key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeliveryFailed => "delivery.failed",
            Self::DeliveryExpired => "delivery.expired",
            Self::DeliverySucceeded => "delivery.succeeded",
            Self::EndpointDisabled => "endpoint.disabled",
            Self::EndpointEnabled => "endpoint.enabled",
            Self::EndpointUnhealthy => "endpoint.unhealthy",
            Self::EndpointRecovered => "endpoint.recovered",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// As the type of the notification that carries the event to endpoints.
    #[must_use]
    pub fn notification_type(self) -> NotificationType {
        #[expect(
            clippy::expect_used,
            reason = "each literal above fits the rule; the test below parses all of them"
        )]
        NotificationType::parse(self.as_str()).expect("event types are notification types")
    }
}

/// One event, as it stands in the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Stable: the same outcome has the same id however often it is published.
    pub id: EventId,
    /// What the event reports: its type.
    pub kind: EventType,
    /// The tenant that the event is about.
    pub tenant: TenantId,
    /// When the event happened.
    pub at: Timestamp,
    /// The CloudEvent as JSON.
    pub body: RawJson,
}

#[derive(Serialize)]
struct CloudEvent<'a, T> {
    specversion: &'static str,
    id: EventId,
    source: &'static str,
    #[serde(rename = "type")]
    kind: EventType,
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    tenant: &'a TenantId,
    data: T,
}

#[derive(Serialize)]
struct DeliveryData {
    delivery: DeliveryView,
    last_attempt: Option<AttemptView>,
}

#[derive(Serialize)]
struct EndpointData<'a> {
    endpoint: EndpointSummary<'a>,
}

#[derive(Serialize)]
struct HealthData<'a> {
    endpoint: EndpointSummary<'a>,
    since: Timestamp,
    failures: u32,
    last_error: &'a str,
    types: &'a [NotificationType],
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_percent: Option<u8>,
}

/// What an event shows of an endpoint: no header, no secret, no setting.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct EndpointSummary<'a> {
    /// The endpoint's id.
    pub id: &'a str,
    /// Its URL, as it is shown to everybody who may read endpoints.
    pub url: &'a str,
    /// The name of its wire format.
    pub wire_format: &'static str,
    /// What its owner wrote about it.
    pub description: &'a str,
    /// Whether it is called.
    pub enabled: bool,
    /// Why it is not called.
    pub disabled_reason: Option<&'static str>,
}

/// What happened to an endpoint's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthNews {
    /// It fails.
    Unhealthy {
        /// When it will be disabled if it goes on failing; `None` if it will not.
        disable_at: Option<Timestamp>,
    },
    /// It still fails, and part of the time after which it will be disabled is over.
    DisabledSoon {
        /// When it will be disabled if it goes on failing.
        disable_at: Timestamp,
        /// How much of the time is over.
        percent: u8,
    },
    /// It no longer fails.
    Recovered,
}

impl Event {
    /// The event of a delivery's outcome; `None` for a state that makes none (pending, cancelled).
    #[must_use]
    pub fn of_outcome(delivery: &Delivery, last_attempt: Option<&Attempt>) -> Option<Self> {
        let (kind, at) = match delivery.state {
            DeliveryState::Delivered { at } => (EventType::DeliverySucceeded, at),
            DeliveryState::Failed { at, .. } => (EventType::DeliveryFailed, at),
            DeliveryState::Expired { at } => (EventType::DeliveryExpired, at),
            // Cancelled by somebody who knows it, or skipped on purpose: neither is news.
            DeliveryState::Pending(_) | DeliveryState::Cancelled { .. } => return None,
        };
        let subject = delivery.id.to_string();
        // The round and not the time: two workers that record the same outcome make the same event.
        // A replay's outcome is another one.
        let id = EventId::of(&subject, &format!("{}\0{}", kind.as_str(), delivery.round));
        let data = DeliveryData {
            delivery: DeliveryView::from(delivery),
            last_attempt: last_attempt.map(AttemptView::from),
        };
        Some(Self::build(id, kind, &delivery.tenant, at, &subject, data))
    }

    /// The event of an endpoint that was enabled or disabled at `at`.
    #[must_use]
    pub fn of_endpoint(endpoint: &Endpoint, at: Timestamp) -> Self {
        use super::endpoint::EndpointStatus;
        let (kind, reason) = match endpoint.status {
            EndpointStatus::Enabled => (EventType::EndpointEnabled, None),
            EndpointStatus::Disabled(reason) => {
                (EventType::EndpointDisabled, Some(reason.as_str()))
            }
        };
        let subject = endpoint.id.as_str();
        // The time, since an endpoint has no rounds and may be disabled any number of times.
        let id = EventId::of(subject, &format!("{}\0{}", kind.as_str(), at.as_micros()));
        let data = EndpointData {
            endpoint: EndpointSummary {
                id: subject,
                url: endpoint.url.as_str(),
                wire_format: endpoint.wire_format.as_str(),
                description: &endpoint.description,
                enabled: endpoint.is_enabled(),
                disabled_reason: reason,
            },
        };
        Self::build(id, kind, &endpoint.tenant, at, subject, data)
    }

    /// The event of an endpoint that became `unhealthy` at `at`, or was until then.
    #[must_use]
    pub fn of_health(
        endpoint: EndpointSummary<'_>,
        tenant: &TenantId,
        unhealthy: &Unhealthy,
        news: HealthNews,
        at: Timestamp,
    ) -> Self {
        let (kind, disable_at, disable_percent) = match news {
            HealthNews::Unhealthy { disable_at } => {
                (EventType::EndpointUnhealthy, disable_at, None)
            }
            HealthNews::DisabledSoon {
                disable_at,
                percent,
            } => (
                EventType::EndpointUnhealthy,
                Some(disable_at),
                Some(percent),
            ),
            HealthNews::Recovered => (EventType::EndpointRecovered, None, None),
        };
        let subject = endpoint.id;
        let id = match news {
            // By what it says and not by its time: whichever worker finds it, and however often, it
            // is one event.
            HealthNews::DisabledSoon {
                disable_at,
                percent,
            } => EventId::of(
                subject,
                &format!("{}\0{}\0{percent}", kind.as_str(), disable_at.as_micros()),
            ),
            _ => EventId::of(subject, &format!("{}\0{}", kind.as_str(), at.as_micros())),
        };
        let data = HealthData {
            endpoint,
            since: unhealthy.since,
            failures: unhealthy.failures,
            last_error: &unhealthy.last_error,
            types: &unhealthy.types,
            disable_at,
            disable_percent,
        };
        Self::build(id, kind, tenant, at, subject, data)
    }

    /// A notification that carries news of this event to endpoints.
    #[must_use]
    pub fn notification(
        &self,
        id: NotificationId,
        kind: NotificationType,
        payload: RawJson,
    ) -> Notification {
        Notification {
            id,
            tenant: self.tenant.clone(),
            kind,
            target: None,
            payload,
            recipient: None,
            overrides: None,
            // When it happened and not when it is forwarded, so that what an endpoint gets is the
            // same each time it is published.
            accepted_at: self.at,
            deliver_at: None,
            expires_at: None,
            priority: Priority::Normal,
            origin: Origin::Event,
            traceparent: None,
            hops: Hops::default(),
        }
    }

    /// The delivery that it reports on, as it was then; `None` for an event of an endpoint.
    #[must_use]
    pub fn delivery(&self) -> Option<DeliveryView> {
        #[derive(Deserialize)]
        struct Body {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            delivery: DeliveryView,
        }
        // Out of the body, which is what is stored: the event may be read days later, when the
        // delivery was replayed or removed.
        serde_json::from_str::<Body>(self.body.as_str())
            .ok()
            .map(|body| body.data.delivery)
    }

    fn build<T: Serialize>(
        id: EventId,
        kind: EventType,
        tenant: &TenantId,
        at: Timestamp,
        subject: &str,
        data: T,
    ) -> Self {
        let cloud_event = CloudEvent {
            specversion: "1.0",
            id,
            source: SOURCE,
            kind,
            subject,
            time: at,
            datacontenttype: "application/json",
            tenant,
            data,
        };
        #[expect(
            clippy::expect_used,
            reason = "structs of texts, numbers and times always serialise"
        )]
        let body = RawJson::of(&cloud_event).expect("an event is JSON");
        Self {
            id,
            kind,
            tenant: tenant.clone(),
            at,
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_type_is_a_notification_type() {
        for kind in EventType::ALL {
            assert_eq!(kind.notification_type().as_str(), kind.as_str());
            assert_eq!(EventType::parse(kind.as_str()), Some(kind));
        }
    }
}
