//! `GET /v1/wire-formats`: what endpoints can speak.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::http::auth::Reader;
use crate::http::state::Api;
use crate::http::wire_formats::WireFormatInfo;

/// Every wire format that endpoints can have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WireFormatsView {
    /// The wire formats, each with its schemas and an example.
    pub items: Vec<WireFormatInfo>,
}

/// List the wire formats
#[utoipa::path(
    get, path = "/v1/wire-formats", tag = "wire formats", operation_id = "list_wire_formats",
    responses((
        status = 200,
        description = "The wire formats with their settings as JSON Schema",
        body = WireFormatsView,
    ))
)]
pub(in crate::http) async fn list(State(api): State<Arc<Api>>, _: Reader) -> Json<WireFormatsView> {
    Json(WireFormatsView { items: all(&api) })
}

/// Every wire format, with its schemas and an example.
#[must_use]
pub fn all(api: &Api) -> Vec<WireFormatInfo> {
    api.wire_formats.catalogue()
}
