//! `Idempotency-Key` on every POST: the request is done once, and answered the same however often
//! it comes. Notifications have a way of their own (`intake`), which makes them safe to send again
//! at the broker, too.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use posthaste_shared::store::StoreError;
use posthaste_shared::store::cipher::CipherError;
use posthaste_shared::store::idempotent_answers::{Claimed, OnceOnly};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::http::auth::caller_of;
use crate::http::callers::Caller;
use crate::http::notifications::idempotency_key;
use crate::http::problem::{Code, Problem, request_id};
use crate::http::request::extract::read;
use crate::http::state::Api;

/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// How long a request may be under way before whoever did it is taken for gone: longer than any
/// takes.
const CUT_OFF: Duration = Duration::from_secs(120);
/// How long a form waits for the answer to the same one, which is under way.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The largest body of an answer that is kept. Of a larger one only the head is: that is enough for
/// the request not to be done again.
const MAX_ANSWER: usize = 1024 * 1024;
/// What of an answer's head is kept.
const KEPT_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    headers: Vec<(String, String)>,
    /// `None`: it was too large.
    body: Option<String>,
}

/// Does a request with an `Idempotency-Key` once.
pub(super) async fn serve(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let own_way = request.uri().path().starts_with("/v1/notifications");
    // Decided by the head alone: most requests have no key, and their bodies are left unread.
    if request.method() != Method::POST
        || own_way
        || !request.headers().contains_key("idempotency-key")
    {
        return next.run(request).await;
    }
    once(&api, request, next)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn once(api: &Api, request: Request, next: Next) -> Result<Response, Problem> {
    let Some(name) = idempotency_key(request.headers())? else {
        return Ok(next.run(request).await);
    };
    // The key counts for one API key: callers that choose the same one must not see each other's
    // answers.
    let caller = caller_of(request.headers(), api).await?;
    let (mut parts, body) = request.into_parts();
    let body = read(
        Request::from_parts(parts.clone(), body),
        api,
        api.settings.max_body_bytes,
    )
    .await?;
    // Of the unpacked body: the same request may come compressed once and plain the next time.
    let fingerprint = fingerprint(&parts, &body);
    let request = OnceOnly {
        caller: caller.key().id.as_str().to_owned(),
        name,
        fingerprint,
    };
    // It is read and unpacked now.
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    // Claimed in the store and before it is done: the same request may come to another process at
    // this very moment.
    let now = api.clock.now();
    match api
        .store
        .claim_request(&request, now, now.before(CUT_OFF))
        .await?
    {
        Claimed::New => {
            let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
            keep(api, &request, answer).await
        }
        Claimed::Done(kept) => replay(&kept),
        Claimed::UnderWay => Err(Problem::new(
            Code::IdempotencyConflict,
            "a request with the same Idempotency-Key is still being processed; try again later",
        )),
        Claimed::Mismatch => Err(Problem::new(
            Code::IdempotencyConflict,
            "the Idempotency-Key was used before for another request: choose a new one",
        )),
        Claimed::Unreadable => Err(Problem::new(
            Code::IdempotencyConflict,
            "the request was done before the master key was changed, so its answer cannot be \
             read: choose a new Idempotency-Key",
        )),
    }
}

/// Does what a form of the web console asks for, once for each form that a page had, however often
/// it is sent: by a second click, or by the browser's Back and Forward. The others get the first
/// one's answer, with the header `idempotent-replayed`. `form` names the form and what it is sent
/// to; `content` is all that stands in it.
///
/// It is done to its end in a task of its own: with a second click, a browser gives up on the first
/// request, which must not be dropped half-way.
///
/// # Errors
/// The form was sent before with another content; it is still being done after 10 s; the store
/// failed.
pub async fn form(
    api: &Arc<Api>,
    caller: &Caller,
    form: &str,
    content: &[u8],
    work: impl Future<Output = Response> + Send + 'static,
) -> Result<Response, Problem> {
    let api = Arc::clone(api);
    let request = OnceOnly {
        caller: caller.key().id.as_str().to_owned(),
        // No Idempotency-Key has a space: those of the API and these never meet.
        name: format!("form {form}"),
        fingerprint: Sha256::digest(content).into(),
    };
    let task = async move { once_for_all(&api, &request, work).await };
    let task = tokio::spawn(request_id::carried(task).in_current_span());
    // It panicked, which is in the log.
    task.await.unwrap_or_else(|_| Err(Problem::internal()))
}

async fn once_for_all(
    api: &Api,
    request: &OnceOnly,
    work: impl Future<Output = Response>,
) -> Result<Response, Problem> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let now = api.clock.now();
        let claimed = api.store.claim_request(request, now, now.before(CUT_OFF));
        return match claimed.await {
            Ok(Claimed::New) => keep(api, request, work.await).await,
            Ok(Claimed::Done(kept)) => replay(&kept),
            // The first click is under way: its answer is this one's, too.
            Ok(Claimed::UnderWay) if Instant::now() < patience => {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            Ok(Claimed::UnderWay) => Err(Problem::new(
                Code::IdempotencyConflict,
                "this form was sent a moment ago and is still being worked on: look at what came \
                 of it before you send it again",
            )),
            Ok(Claimed::Mismatch) => Err(Problem::new(
                Code::IdempotencyConflict,
                "this form was sent before, with another content, and is used up: open its page \
                 again",
            )),
            Ok(Claimed::Unreadable) => Err(Problem::new(
                Code::IdempotencyConflict,
                "this form was sent before the master key was changed, and is used up: open its \
                 page again",
            )),
            // Answers are kept encrypted, so without a master key none can be. Not to be able to
            // act at all would be worse than a second click that does it again.
            Err(StoreError::Cipher(CipherError::NoKey)) => Ok(work.await),
            Err(error) => Err(error.into()),
        };
    }
}

fn fingerprint(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let mut hash = Sha256::new();
    hash.update(path.as_bytes());
    // Between the two, so that bytes cannot move from the path to the body unnoticed.
    hash.update([0]);
    hash.update(body);
    hash.finalize().into()
}

/// Keeps an answer that says yes, or leads to a page that does. After any other nothing was done,
/// and the request may come again.
async fn keep(api: &Api, request: &OnceOnly, answer: Response) -> Result<Response, Problem> {
    // Forgotten at once, or a request that was corrected would meet a conflict for two minutes.
    if !(answer.status().is_success() || answer.status().is_redirection()) {
        if let Err(error) = api.store.forget_request(request).await {
            tracing::warn!(%error, "a refused request could not be forgotten; its Idempotency-Key \
                                    is busy for 2 minutes");
        }
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    // Without a limit: a handler made it in memory, and whoever asked gets it however large it is.
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(|_| Problem::internal())?;
    let headers = KEPT_HEADERS.iter().filter_map(|name| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    let kept = Kept {
        status: parts.status.as_u16(),
        headers: headers.collect(),
        body: (body.len() <= MAX_ANSWER).then(|| String::from_utf8_lossy(&body).into_owned()),
    };
    let kept = serde_json::to_vec(&kept).unwrap_or_default();
    // The request is done, whatever becomes of this.
    if let Err(error) = api.store.keep_answer(request, &kept).await {
        tracing::warn!(%error, "an answer could not be kept; the same request again would be done \
                                again");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replay(kept: &[u8]) -> Result<Response, Problem> {
    let kept: Kept = serde_json::from_slice(kept).map_err(|_| Problem::internal())?;
    let status = StatusCode::from_u16(kept.status).map_err(|_| Problem::internal())?;
    let Some(body) = kept.body else {
        let detail = format!(
            "this request was executed before and answered {}; it is not executed again, and its \
             answer was too large (over {MAX_ANSWER} bytes) to be kept: choose a new \
             Idempotency-Key to execute it again",
            status.as_u16()
        );
        return Err(Problem::new(Code::IdempotencyConflict, detail));
    };
    let mut answer = (status, Bytes::from(body)).into_response();
    let headers = answer.headers_mut();
    // Bytes become an answer with a content type of their own; the kept one takes its place.
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in &kept.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    // So that a client can tell that nothing was done this time.
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(answer)
}
