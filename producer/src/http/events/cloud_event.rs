//! The shape of events, for the specifications: CloudEvents 1.0, structured JSON.

use posthaste_shared::domain::endpoint::DisabledReason;
use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::id::{EndpointId, EventId, TenantId};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::{AttemptView, DeliveryView};
use posthaste_shared::domain::wire_format::WireFormat;
use serde::{Deserialize, Serialize};

/// An event: CloudEvents 1.0, structured JSON.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CloudEvent {
    /// `1.0`.
    pub specversion: String,
    /// Stable: the same outcome has the same id however often it is published.
    pub id: EventId,
    /// `/posthaste`.
    pub source: String,
    /// What it tells of.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The id of the delivery or endpoint.
    pub subject: String,
    /// When it happened.
    pub time: Timestamp,
    /// `application/json`.
    pub datacontenttype: String,
    /// Whose.
    pub tenant: TenantId,
    /// The delivery with its last attempt, or the endpoint.
    pub data: CloudEventData,
}

/// What an event is about.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum CloudEventData {
    /// Of `delivery.*`.
    Delivery {
        /// The delivery.
        delivery: Box<DeliveryView>,
        /// Its last attempt, if one was made.
        last_attempt: Option<Box<AttemptView>>,
    },
    /// Of `endpoint.*`.
    Endpoint {
        /// The endpoint.
        endpoint: EventEndpoint,
    },
}

/// What an event shows of an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventEndpoint {
    /// Name.
    pub id: EndpointId,
    /// Where requests go.
    pub url: String,
    /// How requests look.
    pub wire_format: WireFormat,
    /// What its owner says of it.
    pub description: String,
    /// Whether it is called.
    pub enabled: bool,
    /// Why it is not.
    pub disabled_reason: Option<DisabledReason>,
}
