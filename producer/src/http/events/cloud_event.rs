//! The shape of events, for the specifications: CloudEvents 1.0, structured JSON.

use posthaste_shared::domain::endpoint::DisabledReason;
use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::id::{EndpointId, EventId, NotificationType, TenantId};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::{AttemptView, DeliveryView};
use posthaste_shared::domain::wire_format::WireFormat;
use serde::{Deserialize, Serialize};

/// An event: CloudEvents 1.0, structured JSON.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CloudEvent {
    /// The version of CloudEvents: always `1.0`.
    pub specversion: String,
    /// The id of the event. It is stable: publishing the same event again repeats it.
    pub id: EventId,
    /// Where the event comes from: always `/posthaste`.
    pub source: String,
    /// What happened, such as `delivery.failed`.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The id of the delivery or endpoint that the event is about.
    pub subject: String,
    /// When the event happened (RFC 3339).
    pub time: Timestamp,
    /// The media type of `data`: always `application/json`.
    pub datacontenttype: String,
    /// The tenant that owns the delivery or the endpoint.
    pub tenant: TenantId,
    /// The delivery with its last attempt, or the endpoint.
    pub data: CloudEventData,
}

/// What an event is about.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum CloudEventData {
    /// The data of events `delivery.*`.
    Delivery {
        /// The delivery as it was then.
        delivery: Box<DeliveryView>,
        /// The last attempt of the delivery; null if there was none.
        last_attempt: Option<Box<AttemptView>>,
    },
    /// The data of events `endpoint.*`.
    Endpoint {
        /// The endpoint as it was then.
        endpoint: EventEndpoint,
        /// When it became unhealthy. Of `endpoint.unhealthy` and `endpoint.recovered` alone, as
        /// what follows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
        /// How many attempts in a row failed, as far as a worker counted them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failures: Option<u32>,
        /// Why the last attempt failed, at most 500 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
        /// Types of the notifications that it did not take, at most 10.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        types: Option<Vec<NotificationType>>,
        /// When the endpoint will be disabled if all attempts fail until then. Of
        /// `endpoint.unhealthy` alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disable_at: Option<Timestamp>,
        /// How much of the time until `disable_at` is over, in percent: 50, 70 or 90. Of an
        /// `endpoint.unhealthy` that warns of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disable_percent: Option<u8>,
    },
}

/// What an event shows of an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventEndpoint {
    /// The id of the endpoint, `ep_…`.
    pub id: EndpointId,
    /// The URL that requests go to.
    pub url: String,
    /// The wire format of its requests.
    pub wire_format: WireFormat,
    /// What the endpoint is for, as its owner wrote it.
    pub description: String,
    /// Whether the endpoint is called.
    pub enabled: bool,
    /// Why the endpoint is disabled; null while it is enabled.
    pub disabled_reason: Option<DisabledReason>,
}
