//! Each form is done once: a second click, or Back and the same button, gets the first one's answer
//! and does nothing more. A page gives its forms an id; the store remembers which were used.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, header};
use posthaste_producer::http::operations;

use crate::entry::form::{Form, ONCE};
use crate::parts::frame::TOKEN;
use crate::parts::layout;
use crate::parts::query::Query;
use crate::state::Console;

/// The header of an answer that was given before.
const REPLAYED: &str = "idempotent-replayed";
/// The notice in the place of what was done the first time.
const ALREADY: &str = "already";

/// Does a form that was not used yet.
pub(crate) async fn serve(
    State(console): State<Arc<Console>>,
    request: Request,
    next: Next,
) -> Response {
    let uri = request.uri().clone();
    let (parts, body) = request.into_parts();
    let read = Request::from_parts(parts.clone(), body);
    // Whoever sent it and from where is looked at first: what is refused uses up no form.
    let form = match Form::from_request(read, &console).await {
        Ok(form) => form,
        Err(refused) => return refused,
    };
    let frame = form.visitor.frame.clone();
    let Some(id) = form.fields.get(ONCE) else {
        return layout::refused(&frame, "It has no id: reload the page and send it again.");
    };
    // A page may have several forms, each sent to its own path.
    let name = format!("{id} {}", uri.path());
    let content = format!(
        "{}\n{}",
        uri.query().unwrap_or_default(),
        form.fields.without(&[TOKEN, ONCE]).text()
    );
    let caller = form.visitor.caller.clone();
    let mut request = Request::from_parts(parts, Body::empty());
    request.extensions_mut().insert(form);
    let done = operations::once(
        &console.api,
        &caller,
        &name,
        content.as_bytes(),
        next.run(request),
    );
    match done.await {
        Ok(answer) => noted(answer),
        Err(problem) => layout::failed(Some(&frame), &problem),
    }
}

/// An answer that was given before says so on the page that it leads to.
fn noted(mut answer: Response) -> Response {
    if !answer.headers().contains_key(REPLAYED) {
        return answer;
    }
    let location = answer.headers().get(header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok()).map(|to| {
        let (path, query) = to.split_once('?').unwrap_or((to, ""));
        format!("{path}{}", Query::parse(query).with("notice", ALREADY))
    });
    if let Some(to) = location.and_then(|to| HeaderValue::try_from(to).ok()) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}
