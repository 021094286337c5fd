//! An id for each request: in its answer, in the problem if the answer says no, and with each line
//! of the log that is about it. So somebody who was refused can name the line that says why.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use tower_http::request_id::{MakeRequestId, RequestId};
use tracing::Instrument as _;
use uuid::Uuid;

/// Where the id is, in requests and in answers.
pub(in crate::http) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client.
const MAX_LENGTH: usize = 128;

tokio::task_local! {
    /// The id of the request that this task handles.
    static CURRENT: String;
}

/// The id of the request that is being handled.
#[must_use]
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Does something in a task of its own for the request that is being handled, with its id.
pub(in crate::http) fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let id = current();
    async move {
        match id {
            Some(id) => CURRENT.scope(id, work).await,
            None => work.await,
        }
    }
}

/// Makes ids for requests that bring none: UUIDv7.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct NewId;

impl MakeRequestId for NewId {
    fn make_request_id<B>(&mut self, _request: &http::Request<B>) -> Option<RequestId> {
        HeaderValue::from_str(&Uuid::now_v7().to_string())
            .ok()
            .map(RequestId::new)
    }
}

/// Forgets an id of the client's that could not stand in a log or a header as it is.
pub(in crate::http) async fn refuse_odd(mut request: Request, next: Next) -> Response {
    let sane = |value: &HeaderValue| {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
        (1..=MAX_LENGTH).contains(&value.len()) && value.as_bytes().iter().all(allowed)
    };
    let mut named = request.headers().get_all(X_REQUEST_ID).iter();
    let keeps = matches!((named.next(), named.next()), (Some(id), None) if sane(id));
    if !keeps {
        request.headers_mut().remove(X_REQUEST_ID);
    }
    next.run(request).await
}

/// Handles a request with its id at hand for problems and for the log.
pub(in crate::http) async fn with_id(request: Request, next: Next) -> Response {
    let id = request
        .extensions()
        .get::<RequestId>()
        .and_then(|id| id.header_value().to_str().ok());
    let Some(id) = id.map(str::to_owned) else {
        return next.run(request).await;
    };
    // At level error, so that the id is on every line that a filter lets through.
    let span = tracing::error_span!("request", request.id = %id);
    CURRENT.scope(id, next.run(request)).instrument(span).await
}
