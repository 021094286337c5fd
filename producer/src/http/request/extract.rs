//! What handlers take out of a request. Each says no with a problem, never with plain text.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Uri, header};
use posthaste_shared::domain::reading;
use serde::de::DeserializeOwned;

use crate::http::auth::still_works;
use crate::http::problem::{Code, Problem};
use crate::http::request::body_encoding;
use crate::http::state::Api;

/// A JSON body of up to `max_body_bytes`, not yet read as JSON.
pub(in crate::http) struct JsonBytes(pub(in crate::http) Bytes);

impl FromRequest<Arc<Api>> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        match media_type(request.headers()) {
            MediaType::Json | MediaType::None => {}
            MediaType::Ndjson | MediaType::Other => return Err(unsupported("application/json")),
        }
        read(request, api, api.settings.max_body_bytes)
            .await
            .map(Self)
    }
}

/// A batch of up to `max_batch_body_bytes`, and whether it says that it is NDJSON.
pub(in crate::http) struct BatchBytes {
    /// The body, unpacked if it was compressed.
    pub(in crate::http) body: Bytes,
    /// Whether its content type says that it is NDJSON.
    pub(in crate::http) ndjson: bool,
}

impl FromRequest<Arc<Api>> for BatchBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        let ndjson = match media_type(request.headers()) {
            MediaType::Json | MediaType::None => false,
            MediaType::Ndjson => true,
            MediaType::Other => {
                return Err(unsupported("application/json or application/x-ndjson"));
            }
        };
        let body = read(request, api, api.settings.max_batch_body_bytes).await?;
        Ok(Self { body, ndjson })
    }
}

enum MediaType {
    None,
    Json,
    Ndjson,
    Other,
}

fn media_type(headers: &HeaderMap) -> MediaType {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return MediaType::None;
    };
    let essence = value
        .to_str()
        .unwrap_or("")
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => MediaType::Json,
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines" => MediaType::Ndjson,
        other if other.starts_with("application/") && other.ends_with("+json") => MediaType::Json,
        _ => MediaType::Other,
    }
}

fn unsupported(wanted: &str) -> Problem {
    Problem::new(
        Code::UnsupportedMediaType,
        format!("the content type must be {wanted}"),
    )
}

/// Reads a body of up to `limit` bytes. Its key is looked at once more then: it may have been
/// revoked while the body arrived.
pub(in crate::http) async fn read(
    request: Request,
    api: &Api,
    limit: usize,
) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Code::TooLarge,
            format!("the body may have at most {limit} bytes"),
        )
    };
    // Before the body: what is encoded in another way need not be read.
    let encoding = body_encoding::of(request.headers())?;
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    // By its length alone: a client that waits for `100 Continue` need not send it.
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large());
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, limit);
    // A client that sends a byte now and then would hold its place for ever.
    let bytes = match tokio::time::timeout(api.settings.body_timeout, body).await {
        Ok(Ok(bytes)) => bytes,
        // With a length announced within the limit, what failed is the connection, and nobody reads
        // the answer.
        Ok(Err(_)) => return Err(too_large()),
        Err(_) => {
            let seconds = api.settings.body_timeout.as_secs();
            return Err(Problem::new(
                Code::RequestTimeout,
                format!("the body must arrive within {seconds} s"),
            ));
        }
    };
    still_works(&parts.headers, api).await?;
    encoding.decode(bytes, limit).await
}

/// The query string as `T`, unknown parameters refused by `T`.
pub(in crate::http) struct Params<T>(pub(in crate::http) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _api: &Arc<Api>) -> Result<Self, Problem> {
        read_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query string as `T`, unknown parameters refused by `T`.
///
/// # Errors
/// `invalid_query`, with the parameter that is wrong.
pub fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    // A parameter that comes several times has several values, as if they stood in one with
    // commas.
    let mut joined: Vec<(String, String)> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match joined.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => *values = format!("{values},{value}"),
            None => joined.push((name.into_owned(), value.into_owned())),
        }
    }
    let text = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(joined)
        .finish();
    let plain: Uri = format!("/?{text}")
        .parse()
        .map_err(|_| Problem::new(Code::InvalidQuery, "the query is too long"))?;
    let query: Result<Query<T>, QueryRejection> = Query::try_from_uri(&plain);
    query.map(|Query(params)| params).map_err(|rejection| {
        let text = rejection.body_text();
        let reason = text
            .strip_prefix("Failed to deserialize query string: ")
            .unwrap_or(&text);
        // serde puts the name of the parameter before the first colon, if it knows one.
        match reason.split_once(": ") {
            Some((name, rest)) if !name.contains(' ') => Problem::new(
                Code::InvalidQuery,
                format!("{name} {}", reading::problem(rest)),
            ),
            _ => Problem::new(Code::InvalidQuery, reason),
        }
    })
}

/// The `{id}` of the path. A text that cannot be an id is the id of nothing: 404.
pub(in crate::http) struct Id<T>(pub(in crate::http) T);

impl<T: FromStr> FromRequestParts<Arc<Api>> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let nothing = || Problem::not_found("id");
        let Path(text) = Path::<String>::from_request_parts(parts, api)
            .await
            .map_err(|_| nothing())?;
        // 404 and not 422: whether a text could be an id is nothing that a client should have to
        // know.
        text.parse().map(Self).map_err(|_| nothing())
    }
}
