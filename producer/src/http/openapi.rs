//! The OpenAPI document: made from the routes and their types, with what holds for all of them added.

use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Map, Value, json};

use super::problem::{Code, PROBLEM_JSON};
use super::routes::routes;

/// The OpenAPI 3.1 document of the HTTP API.
#[must_use]
pub fn openapi() -> Value {
    let (_, document) = routes().split_for_parts();
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["components"]["securitySchemes"] = json!({
        "key": { "type": "http", "scheme": "bearer", "description": "An API key, `ph_…`" }
    });
    document["components"]["responses"] = json!({ "Problem": problem_response() });
    if let Some(paths) = document["paths"].as_object_mut() {
        for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
            complete(operation);
        }
        add_operations(paths);
    }
    document
}

/// Adds to an operation what every one has: the key, and problems.
fn complete(operation: &mut Value) {
    operation["security"] = json!([{ "key": [] }]);
    let mut statuses = vec!["401", "403", "422", "500", "503"];
    if operation.get("requestBody").is_some() {
        statuses.extend(["400", "408", "413", "415"]);
    }
    let has_id = operation["parameters"].as_array().is_some_and(|all| all.iter().any(|one| one["in"] == "path"));
    if has_id {
        statuses.push("404");
    }
    if operation.get("requestBody").is_some() || has_id {
        statuses.push("409");
    }
    for status in statuses {
        operation["responses"][status] = json!({ "$ref": "#/components/responses/Problem" });
    }
}

fn problem_response() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "description": format!("A problem. Its `code` is one of: {}", codes.join(", ")),
        "content": { PROBLEM_JSON: { "schema": { "$ref": "#/components/schemas/Problem" } } }
    })
}

/// The routes that the program adds beside the API.
fn add_operations(paths: &mut Map<String, Value>) {
    let route = |id: &str, summary: &str, media: &str, also: Value| {
        let mut responses = Map::from_iter([(
            "200".to_owned(),
            json!({ "description": "Yes", "content": { media: { "schema": { "type": "string" } } } }),
        )]);
        if let Value::Object(also) = also {
            responses.extend(also);
        }
        json!({ "get": { "tags": ["operations"], "operationId": id, "summary": summary, "security": [], "responses": responses } })
    };
    let unready = json!({ "503": { "description": "No: the store or the broker cannot be reached" } });
    paths.insert("/healthz".to_owned(), route("healthz", "Whether the process is alive", "text/plain", Value::Null));
    let ready = "Whether notifications can be accepted durably: the store and the broker can be reached";
    paths.insert("/readyz".to_owned(), route("readyz", ready, "application/json", unready));
    paths.insert("/metrics".to_owned(), route("metrics", "Metrics for Prometheus", "text/plain", Value::Null));
    let own = json!({
        "tags": ["operations"], "operationId": "openapi", "summary": "This document", "security": [],
        "responses": { "200": { "description": "OpenAPI 3.1", "content": { "application/json": { "schema": { "type": "object" } } } } }
    });
    paths.insert("/openapi.json".to_owned(), json!({ "get": own }));
}

/// Serves the document.
pub(super) async fn serve() -> Response {
    static DOCUMENT: std::sync::OnceLock<bytes::Bytes> = std::sync::OnceLock::new();
    let document = DOCUMENT.get_or_init(|| serde_json::to_vec_pretty(&openapi()).unwrap_or_default().into());
    ([(header::CONTENT_TYPE, "application/json")], document.clone()).into_response()
}
