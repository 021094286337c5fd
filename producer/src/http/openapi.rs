//! The OpenAPI document: made from the routes and their types, with what holds for all of them
//! added.

use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Map, Value, json};

use crate::http::problem::{Code, PROBLEM_JSON};
use crate::http::routes::routes;
use crate::http::webhooks::webhooks;

/// The OpenAPI 3.1 document of the HTTP API.
#[must_use]
pub fn openapi() -> Value {
    let (_, document) = routes().split_for_parts();
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["components"]["securitySchemes"] = json!({
        "key": { "type": "http", "scheme": "bearer", "description": "An API key, `ph_…`" }
    });
    document["components"]["headers"] = json!({ "RequestId": request_id_header() });
    document["servers"] = json!([
        { "url": "/", "description": "The server that this document came from" },
        { "url": "http://127.0.0.1:8080", "description": "`posthaste up` and `posthaste api` \
            where nothing else is set" }
    ]);
    document["webhooks"] = webhooks();
    document["components"]["responses"] = json!({ "Problem": problem_response() });
    if let Some(paths) = document["paths"].as_object_mut() {
        for (method, operation) in paths
            .values_mut()
            .filter_map(Value::as_object_mut)
            .flatten()
        {
            complete(operation);
            if method == "post" {
                add_idempotency_key(operation);
            }
        }
        add_operations(paths);
    }
    document
}

/// Adds to every POST that has not its own the header that makes it safe to send again.
fn add_idempotency_key(operation: &mut Value) {
    if operation["parameters"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["name"] == "Idempotency-Key"))
    {
        return;
    }
    let header = json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "1 to 255 visible ASCII characters. The same request with the same key is \
                        done once, and \
                        answered the same again, with the header `Idempotent-Replayed: true`.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" }
    });
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(header),
        None => operation["parameters"] = json!([header]),
    }
    for status in ["400", "408", "409", "413"] {
        operation["responses"][status] = json!({ "$ref": "#/components/responses/Problem" });
    }
}

/// Adds to an operation what every one has: the key, and problems.
fn complete(operation: &mut Value) {
    operation["security"] = json!([{ "key": [] }]);
    let mut statuses = vec!["401", "403", "422", "500", "503"];
    if operation.get("requestBody").is_some() {
        statuses.extend(["400", "408", "413", "415"]);
    }
    let has_id = operation["parameters"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["in"] == "path"));
    if has_id {
        statuses.push("404");
    }
    if operation.get("requestBody").is_some() || has_id {
        statuses.push("409");
    }
    let limited = ["enqueue", "enqueue_batch", "stream_events"].map(Value::from);
    if limited.contains(&operation["operationId"]) {
        statuses.push("429");
    }
    let guarded = |one: &Value| one["name"] == "If-Match";
    if operation["parameters"]
        .as_array()
        .is_some_and(|all| all.iter().any(guarded))
    {
        statuses.extend(["400", "412"]);
    }
    for status in statuses {
        operation["responses"][status] = json!({ "$ref": "#/components/responses/Problem" });
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        for response in responses
            .values_mut()
            .filter(|response| response.get("$ref").is_none())
        {
            response["headers"]["X-Request-Id"] =
                json!({ "$ref": "#/components/headers/RequestId" });
        }
    }
}

fn request_id_header() -> Value {
    let described = "The id of the request, as in problems and in Posthaste's log: the client's \
                     own where it sent one \
                     of 1 to 128 letters, digits and `-_.:+/=@`, else a new one";
    json!({ "description": described, "schema": { "type": "string" } })
}

fn problem_response() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "headers": { "X-Request-Id": { "$ref": "#/components/headers/RequestId" } },
        "description": format!("A problem. Its `code` is one of: {}", codes.join(", ")),
        "content": { PROBLEM_JSON: { "schema": { "$ref": "#/components/schemas/Problem" } } }
    })
}

/// The routes that the program adds beside the API.
fn add_operations(paths: &mut Map<String, Value>) {
    let mut route = |path: &str, summary: &str, responses: Value| {
        let id = path.trim_start_matches('/').trim_end_matches(".json");
        let operation = json!({
            "tags": ["operations"], "operationId": id, "summary": summary, "security": [],
            "responses": responses
        });
        paths.insert(path.to_owned(), json!({ "get": operation }));
    };
    let text = |description: &str| {
        let content = json!({ "text/plain": { "schema": { "type": "string" } } });
        json!({ "200": { "description": description, "content": content } })
    };
    let readiness = |description: &str| {
        let content = json!({ "application/json": { "schema": readiness() } });
        json!({ "description": description, "content": content })
    };
    route(
        "/healthz",
        "Whether the process is alive",
        text("The process is alive"),
    );
    let ready =
        "Whether notifications can be accepted durably: the store and the broker can be reached";
    let answers = json!({
        "200": readiness("Both can be reached"),
        "503": readiness("At least one of them cannot be reached"),
    });
    route("/readyz", ready, answers);
    route(
        "/metrics",
        "Metrics in the format of Prometheus",
        text("The metrics of this process"),
    );
    let any = json!({ "application/json": { "schema": { "type": "object" } } });
    route(
        "/openapi.json",
        "This document, as JSON",
        json!({ "200": { "description": "The OpenAPI 3.1 document", "content": any } }),
    );
}

/// The schema of what `/readyz` answers.
fn readiness() -> Value {
    let states = ["ok", "unreachable"];
    let part = |what: &str| json!({ "type": "string", "enum": states, "description": what });
    json!({
        "type": "object",
        "required": ["ready", "store", "broker"],
        "properties": {
            "ready": { "type": "boolean", "description": "Whether both can be reached." },
            "store": part("Whether the store can be reached."),
            "broker": part("Whether the broker can be reached.")
        }
    })
}

/// Answers `GET /openapi.json`; the document is built once.
pub(super) async fn serve() -> Response {
    static DOCUMENT: std::sync::OnceLock<bytes::Bytes> = std::sync::OnceLock::new();
    let document = DOCUMENT.get_or_init(|| {
        serde_json::to_vec_pretty(&openapi())
            .unwrap_or_default()
            .into()
    });
    (
        [(header::CONTENT_TYPE, "application/json")],
        document.clone(),
    )
        .into_response()
}
