//! The HTTP API, version 1. [`router`] is served by the binary; the handlers are one file for each part of it.

mod audit;
mod auth;
mod batch;
mod body_encoding;
mod caller;
mod circle;
mod cloud_event;
mod dead_letters;
mod deliveries;
mod directory;
mod endpoint_actions;
mod endpoint_check;
mod endpoint_input;
mod endpoint_make;
mod endpoint_name;
mod endpoint_put;
mod endpoints;
mod events;
mod explain;
mod extract;
mod intake;
mod json;
mod key_cache;
mod keys;
mod log_gate;
mod notification_list;
mod notifications;
mod once_only;
mod openapi;
mod page;
pub mod problem;
mod redrives;
mod replay;
mod request_id;
pub mod resolver;
mod router;
mod routes;
mod state;
mod tenant_limits;
mod trace;
mod webhooks;
mod wire_format_list;
pub mod wire_formats;

pub use key_cache::{hash_key, new_key};
pub use openapi::openapi;
pub use router::router;
pub use state::{Api, ApiParts, ApiSettings};

/// Bodies of requests and answers, for clients of the API.
pub mod body {
    pub use super::batch::{BatchItem, BatchView};
    pub use super::cloud_event::{CloudEvent, CloudEventData, EventEndpoint};
    pub use super::dead_letters::{DeadLettersView, RedriveRequest, RedriveView};
    pub use super::endpoint_actions::{RotateRequest, RotatedSecret, TestEndpointRequest};
    pub use super::endpoint_input::{EndpointDraft, EndpointPatch};
    pub use super::endpoints::CreatedEndpoint;
    pub use super::explain::{DeliveryExplanation, NotificationExplanation};
    pub use super::intake::AcceptedView;
    pub use super::keys::{CreatedKey, KeyDraft, KeysView};
    pub use super::notification_list::NotificationSummary;
    pub use super::page::PageView;
    pub use super::replay::ReplayPreview;
    pub use super::wire_format_list::WireFormatsView;
}
