//! The HTTP API, version 1. [`router`] is served by the binary; the handlers are one file for each
//! part of it.

mod audit_list;
mod auth;
mod callers;
mod circle;
mod console_links;
mod dead_letters;
mod deliveries;
mod directory;
mod endpoints;
mod events;
mod installation;
mod keys;
mod notifications;
mod once_only;
mod openapi;
mod overview;
pub mod problem;
mod request;
pub mod resolver;
mod router;
mod routes;
pub mod sign_in;
mod state;
mod stats;
mod tallies;
mod tenant_limits;
mod webhooks;
mod wire_format_list;
pub mod wire_formats;
mod workers;

pub use callers::Caller;
pub use callers::key_cache::{hash_key, new_key};
pub use openapi::openapi;
pub use router::{identified, router};
pub use state::{Api, ApiParts, ApiSettings};

/// What the API does, for whoever serves it in another form than JSON: the web console. Each takes
/// the caller and checks what this one may do, so nobody gets around the rules of the API.
pub mod operations {
    pub use super::audit_list::list_page as audit;
    pub use super::dead_letters::{look as dead_letters, move_back as redrive};
    pub use super::deliveries::operations as deliveries;
    pub use super::deliveries::replay as replays;
    pub use super::endpoints::operations as endpoints;
    pub use super::endpoints::preview::{render_for as render, try_for as try_transform};
    pub use super::events::{EventQuery, list_page as events};
    pub use super::keys::{add as create_key, end as revoke_key, list_all as keys};
    pub use super::notifications::audience::{find as audience, types};
    pub use super::notifications::list::{NotificationQuery, list_page as notifications};
    pub use super::notifications::{add as enqueue, find as notification};
    pub use super::once_only::form as once;
    pub use super::overview::{FailuresQuery, OverviewQuery, find as overview, group as failures};
    pub use super::problem::request_id::current as request_id;
    pub use super::request::extract::read_query;
    pub use super::request::json::parse as read_body;
    pub use super::stats::{
        EndpointStatsQuery, StatsQuery, by_endpoint as endpoint_stats, count as stats,
    };
    pub use super::wire_format_list::all as wire_formats;
    pub use super::workers::find as workers;
}

/// Bodies of requests and answers, for clients of the API.
pub mod body {
    pub use super::dead_letters::{DeadLettersView, RedriveRequest, RedriveView};
    pub use super::deliveries::explain::{DeliveryExplanation, NotificationExplanation};
    pub use super::deliveries::replay::ReplayPreview;
    pub use super::endpoints::actions::TestEndpointRequest;
    pub use super::endpoints::input::{
        CreatedEndpoint, EndpointDraft, EndpointPatch, RotateRequest, RotatedSecret,
    };
    pub use super::endpoints::preview::{RenderRequest, TriedTransform, TryTransformRequest};
    pub use super::events::cloud_event::{CloudEvent, CloudEventData, EventEndpoint};
    pub use super::installation::{InstallationView, Reachable};
    pub use super::keys::{CreatedKey, KeyDraft, KeysView};
    pub use super::notifications::audience::{AudienceEndpoint, AudienceView, TypesView};
    pub use super::notifications::batch::{BatchItem, BatchView};
    pub use super::notifications::intake::AcceptedView;
    pub use super::notifications::list::NotificationSummary;
    pub use super::overview::{FailuresView, OverviewView};
    pub use super::request::page::PageView;
    pub use super::sign_in::ConsoleLink;
    pub use super::tallies::{
        EndpointStats, EndpointStatsView, ShareView, StatsRow, StatsView, TallyView,
    };
    pub use super::wire_format_list::WireFormatsView;
    pub use super::workers::{WorkerView, WorkersView};
    pub use posthaste_shared::store::deliveries::DeliveryFilter;
    pub use posthaste_shared::store::replays::{Replay, ReplayState};
}
