//! The HTTP API, version 1. [`router`] is served by the binary; the handlers are one file for each
//! part of it.

mod auth;
mod callers;
mod circle;
mod dead_letters;
mod deliveries;
mod directory;
mod endpoints;
mod events;
mod keys;
mod notifications;
mod once_only;
mod openapi;
pub mod problem;
mod request;
pub mod resolver;
mod router;
mod routes;
mod state;
mod tenant_limits;
mod webhooks;
mod wire_format_list;
pub mod wire_formats;

pub use callers::key_cache::{hash_key, new_key};
pub use openapi::openapi;
pub use router::router;
pub use state::{Api, ApiParts, ApiSettings};

/// Bodies of requests and answers, for clients of the API.
pub mod body {
    pub use super::dead_letters::{DeadLettersView, RedriveRequest, RedriveView};
    pub use super::deliveries::explain::{DeliveryExplanation, NotificationExplanation};
    pub use super::deliveries::replay::ReplayPreview;
    pub use super::endpoints::actions::{RotateRequest, RotatedSecret, TestEndpointRequest};
    pub use super::endpoints::input::{CreatedEndpoint, EndpointDraft, EndpointPatch};
    pub use super::events::cloud_event::{CloudEvent, CloudEventData, EventEndpoint};
    pub use super::keys::{CreatedKey, KeyDraft, KeysView};
    pub use super::notifications::batch::{BatchItem, BatchView};
    pub use super::notifications::intake::AcceptedView;
    pub use super::notifications::list::NotificationSummary;
    pub use super::request::page::PageView;
    pub use super::wire_format_list::WireFormatsView;
}
