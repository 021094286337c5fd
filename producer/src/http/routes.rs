//! All routes of the API, each with its part of the OpenAPI document.

use std::sync::Arc;

use posthaste_shared::store::several::StatusCode;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::dead_letters::{self, redrives};
use crate::http::deliveries::{self, explain, replay};
use crate::http::endpoints::{self, actions, preview, put};
use crate::http::notifications::{self, audience, batch};
use crate::http::problem::{FieldProblem, ProblemBody};
use crate::http::state::Api;
use crate::http::{
    audit_list, console_links, events, keys, overview, stats, wire_format_list, workers,
};

/// What the document says of the API as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Posthaste",
        description = "A durable delivery queue for webhooks. Errors are RFC 9457 problems with a \
                       stable `code`. Lists are paged: send `next_cursor` as `cursor` for the \
                       next page.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ProblemBody, FieldProblem, StatusCode)),
    tags(
        (name = "notifications", description = "Enqueueing notifications and looking at them"),
        (name = "deliveries", description = "Looking at deliveries, sending them again, \
            cancelling them"),
        (name = "endpoints", description = "The webhooks that notifications are delivered to"),
        (name = "wire formats", description = "How notifications become requests"),
        (name = "events", description = "What Posthaste reports about deliveries and endpoints"),
        (name = "dead letters", description = "Messages that could not be read or handled"),
        (name = "keys", description = "API keys and their scopes"),
        (name = "operations", description = "Health and metrics, which need no key"),
    ),
)]
struct Whole;

/// All routes, with their part of the OpenAPI document.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Whole::openapi())
        .routes(routes!(notifications::enqueue, notifications::list::list))
        .routes(routes!(batch::enqueue_batch))
        .routes(routes!(audience::show))
        .routes(routes!(audience::list_types))
        .routes(routes!(notifications::show))
        .routes(routes!(explain::notification))
        .routes(routes!(overview::show))
        .routes(routes!(overview::failures))
        .routes(routes!(stats::show))
        .routes(routes!(stats::endpoints))
        .routes(routes!(workers::list))
        .routes(routes!(deliveries::list))
        .routes(routes!(replay::start))
        .routes(routes!(deliveries::show))
        .routes(routes!(explain::delivery))
        .routes(routes!(deliveries::retry))
        .routes(routes!(deliveries::cancel))
        .routes(routes!(replay::list))
        .routes(routes!(replay::show))
        .routes(routes!(replay::cancel))
        .routes(routes!(endpoints::create, endpoints::list))
        .routes(routes!(
            endpoints::show,
            put::put,
            endpoints::change,
            endpoints::delete
        ))
        .routes(routes!(actions::enable))
        .routes(routes!(actions::disable))
        .routes(routes!(actions::rotate_secret))
        .routes(routes!(actions::test))
        .routes(routes!(preview::render))
        .routes(routes!(preview::try_transform))
        .routes(routes!(events::list))
        .routes(routes!(events::follow))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::redrive))
        .routes(routes!(redrives::start, redrives::list))
        .routes(routes!(redrives::show))
        .routes(routes!(redrives::cancel))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(console_links::create))
        .routes(routes!(audit_list::list))
        .routes(routes!(wire_format_list::list))
}
