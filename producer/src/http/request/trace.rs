//! The spans of the API: one for each request, and one beneath it for what is published.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::trace_context::TraceContext;
use posthaste_shared::telemetry::trace::{Kind, Span, Tracer, names};

use crate::enqueue::valid_traceparent;
use crate::http::state::Api;

/// The header that trace contexts travel in.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longer than any path of the API with ids in it.
const MAX_PATH_CHARS: usize = 256;

/// Gives a request its span. What handles it finds the span's context in place of the client's, as
/// if the client had sent that. Only put around the routes where tracing is on.
pub(in crate::http) async fn serve(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let parent = traceparent(request.headers()).and_then(TraceContext::parse);
    let method = known(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let name = route
        .as_ref()
        // By the route's template: names with ids in them would be as many as requests.
        .map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let mut span = api.tracer.span(Kind::Server, name, parent);
    if let Some(context) = span
        .context()
        .and_then(|context| HeaderValue::from_str(&context.to_string()).ok())
    {
        // In the header, so that the handlers are the same whether requests are traced or not.
        request.headers_mut().insert(TRACEPARENT, context);
    }
    if span.recorded().is_some() {
        span.set(names::HTTP_REQUEST_METHOD, method);
        span.set(names::URL_SCHEME, "http");
        // Of what is no route of ours nothing is kept: it may be anything.
        if route.is_some() {
            span.set(
                names::URL_PATH,
                request
                    .uri()
                    .path()
                    .chars()
                    .take(MAX_PATH_CHARS)
                    .collect::<String>(),
            );
        }
        span.set_some(names::HTTP_ROUTE, route);
    }
    let response = next.run(request).await;
    span.set(
        names::HTTP_RESPONSE_STATUS_CODE,
        i64::from(response.status().as_u16()),
    );
    // What is the client's fault is no error of the server's (semantic conventions for HTTP).
    if response.status().is_server_error() {
        span.fail(response.status().as_str().to_owned());
    }
    response
}

/// Begins the span of publishing, beneath that of the request; its context goes with the
/// notifications.
pub(in crate::http) fn publish(
    tracer: &Tracer,
    parent: Option<&str>,
    notifications: &mut [Notification],
) -> Span {
    let (Some(messaging), [first, ..]) = (tracer.messaging(), &*notifications) else {
        return Span::none();
    };
    let parent = parent.and_then(TraceContext::parse);
    let mut span = tracer.span(
        Kind::Producer,
        format!("send {}", messaging.exchange),
        parent,
    );
    if span.recorded().is_some() {
        span.set(names::MESSAGING_SYSTEM, messaging.system);
        span.set(names::MESSAGING_OPERATION_TYPE, "send");
        span.set(names::MESSAGING_OPERATION_NAME, "send");
        let destination = format!("{}:{}", messaging.exchange, messaging.routing_key);
        span.set(names::MESSAGING_DESTINATION_NAME, destination);
        if messaging.system == "rabbitmq" {
            span.set(names::MESSAGING_ROUTING_KEY, messaging.routing_key);
        }
        // A batch has one span. It cannot name a thousand ids, so it says how many there are.
        if notifications.len() == 1 {
            span.set(names::MESSAGING_MESSAGE_ID, first.id.as_str().to_owned());
            span.set(names::NOTIFICATION_ID, first.id.as_str().to_owned());
            span.set(names::NOTIFICATION_TYPE, first.kind.as_str().to_owned());
            span.set(names::TENANT, first.tenant.as_str().to_owned());
        } else {
            let count = i64::try_from(notifications.len()).unwrap_or(i64::MAX);
            span.set(names::MESSAGING_BATCH_MESSAGE_COUNT, count);
        }
    }
    if let Some(context) = span.context() {
        for notification in notifications {
            notification.traceparent = Some(context.to_string());
        }
    }
    span
}

/// Methods that everybody knows; any other is `_OTHER`, as the conventions ask.
const fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// The client's trace context.
pub(in crate::http) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("traceparent")
        .and_then(|value| valid_traceparent(value.to_str().ok()?))
}
