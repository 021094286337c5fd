//! What the API answers when it cannot do what was asked: RFC 9457 `application/problem+json` with
//! a stable `code`. Our own faults are logged here, once, and shown without their inside.

pub(super) mod log_gate;
pub mod request_id;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use posthaste_shared::broker::BrokerError;
use posthaste_shared::domain::notification::InvalidDraft;
use posthaste_shared::error::chain;
use posthaste_shared::store::StoreError;
use posthaste_shared::store::cipher::CipherError;
use serde::{Deserialize, Serialize};

use self::log_gate::LogGate;

/// Seconds after which a client should try again when the broker or the store is away.
const RETRY_AFTER_SECONDS: u64 = 2;
/// Seconds after which a client should try again when its tenant is over a limit.
const RETRY_AFTER_LIMIT_SECONDS: u64 = 10;
/// While the broker or the store is away, every request fails alike: one line of log now and then
/// tells it.
static BROKER_AWAY: LogGate = LogGate::new();
static STORE_AWAY: LogGate = LogGate::new();
/// The media type of RFC 9457.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A problem as it goes over the wire (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Names the kind of problem: `urn:posthaste:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, in a few words.
    pub title: String,
    /// The HTTP status code of the answer, 400 to 599.
    pub status: u16,
    /// What is wrong with this request, in a sentence.
    pub detail: String,
    /// The kind of problem as a stable word for programs, such as `not_found`.
    pub code: String,
    /// The id of the request, as in the header `X-Request-Id` and in Posthaste's log. Not with the
    /// items of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The members that are wrong, where it is the members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// A member that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldProblem {
    /// Its path, such as `retry.jitter`; empty for the body as a whole.
    pub field: String,
    /// What is wrong with it and what it must be.
    pub problem: String,
}

impl FieldProblem {
    /// A problem of the member `field`; `problem` is the rest of the sentence.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $title:literal;)*) => {
        /// The kinds of problem. Their names are part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every kind of problem that the API answers with.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable name of this kind, as in `code`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// After how many seconds to try again, where that may help.
            const fn retry_after_seconds(self) -> Option<u64> {
                match self.status() {
                    StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER_SECONDS),
                    StatusCode::TOO_MANY_REQUESTS => Some(RETRY_AFTER_LIMIT_SECONDS),
                    _ => None,
                }
            }

            /// The kind of problem, in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    InvalidJson = "invalid_json", BAD_REQUEST, "The body is not valid JSON";
    /// The body is not what its `Content-Encoding` says.
    InvalidEncoding = "invalid_encoding", BAD_REQUEST, "The body's content encoding is wrong";
    /// A header cannot be used.
    InvalidHeader = "invalid_header", BAD_REQUEST, "A header cannot be used";
    /// The query string cannot be used.
    InvalidQuery = "invalid_query", UNPROCESSABLE_ENTITY, "The query cannot be used";
    /// The body is JSON, and says something that it may not.
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "The body is refused";
    /// The notification names an endpoint that the tenant does not have.
    UnknownEndpoint = "unknown_endpoint", UNPROCESSABLE_ENTITY, "There is no such endpoint";
    /// The URL may not be called.
    BlockedUrl = "blocked_url", UNPROCESSABLE_ENTITY, "The URL may not be called";
    /// There is no host of the URL's name.
    UnresolvableHost = "unresolvable_host", UNPROCESSABLE_ENTITY, "The host name does not resolve";
    /// Posthaste itself sent the request, and a circle of its deliveries would go on.
    TooManyHops = "too_many_hops", UNPROCESSABLE_ENTITY, "Posthaste calls itself in a circle";
    /// The tenant has as many endpoints as it may have.
    EndpointLimit = "endpoint_limit", UNPROCESSABLE_ENTITY, "The tenant has as many endpoints as \
        it may have";
    /// The tenant has as many pending deliveries as it may have.
    BacklogLimit = "backlog_limit", TOO_MANY_REQUESTS, "The tenant has as many pending deliveries \
        as it may have";
    /// Too many sign-ins to the console failed lately.
    TooManySignIns = "too_many_sign_ins", TOO_MANY_REQUESTS, "Too many sign-ins failed";
    /// The tenant has as many event streams open as it may have.
    StreamLimit = "stream_limit", TOO_MANY_REQUESTS, "The tenant has as many event streams open \
        as it may have";
    /// No key came with the request.
    MissingKey = "missing_key", UNAUTHORIZED, "An API key is needed";
    /// The key is unknown or revoked.
    InvalidKey = "invalid_key", UNAUTHORIZED, "The API key is not valid";
    /// The key may not do this.
    MissingScope = "missing_scope", FORBIDDEN, "The API key may not do this";
    /// The key is bound to another tenant.
    OtherTenant = "other_tenant", FORBIDDEN, "The API key is bound to another tenant";
    /// The thing is not there, or not for this key.
    NotFound = "not_found", NOT_FOUND, "It does not exist";
    /// No route of the API.
    UnknownRoute = "unknown_route", NOT_FOUND, "There is no such route";
    /// The route is there, but not for this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The route has no such method";
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    /// The key was used for another request.
    IdempotencyConflict = "idempotency_conflict", CONFLICT, "The key was used for another \
        request";
    /// Its state does not allow it, such as a delivery's or a replay's.
    WrongState = "wrong_state", CONFLICT, "Its state does not allow this";
    /// Others changed the same thing again and again meanwhile.
    EditConflict = "edit_conflict", CONFLICT, "Somebody else changed it at the same time";
    /// Another endpoint of the tenant has the uid.
    UidTaken = "uid_taken", CONFLICT, "The uid is taken";
    /// What is there is not what `If-Match` or `If-None-Match` asks for.
    PreconditionFailed = "precondition_failed", PRECONDITION_FAILED, "It is not in the state that \
        was asked for";
    /// The body, a batch or an item of it is over a limit.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The request is too large";
    /// Not JSON by its content type.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The content type is \
        not supported";
    /// Secrets are to be stored or read, and there is no master key.
    NoMasterKey = "no_master_key", INTERNAL_SERVER_ERROR, "No usable master key is configured";
    /// The master key is not the one that the stored secrets were encrypted with.
    WrongMasterKey = "wrong_master_key", INTERNAL_SERVER_ERROR, "The configured master key is the \
        wrong one";
    /// Posthaste itself is at fault; the cause is in its log.
    Internal = "internal", INTERNAL_SERVER_ERROR, "An internal error occurred";
    /// The broker or the store is away.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Temporarily unavailable";
}

/// An answer that says no.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Which kind of problem it is.
    pub code: Code,
    /// What is wrong this time. No secret, nothing of our inside.
    pub detail: String,
    /// The members that are wrong.
    pub errors: Vec<FieldProblem>,
}

impl Problem {
    /// A problem of kind `code`.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// A problem with one member.
    pub fn field(code: Code, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::fields(code, vec![FieldProblem::new(field, problem)])
    }

    /// A problem with members; its detail names them.
    #[must_use]
    pub fn fields(code: Code, errors: Vec<FieldProblem>) -> Self {
        let sentences: Vec<String> = errors.iter().map(FieldProblem::to_string).collect();
        Self {
            code,
            detail: sentences.join("; "),
            errors,
        }
    }

    /// There is no such `thing`, or it is not for this key: the two look the same.
    #[must_use]
    pub fn not_found(thing: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {thing}"))
    }

    /// Our fault, already logged.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            Code::Internal,
            "the fault is in Posthaste; its log has the cause",
        )
    }

    /// The broker did not confirm, for whatever reason: nothing is safe, and the client should try
    /// again.
    #[must_use]
    pub fn unconfirmed() -> Self {
        Self::new(Code::Unavailable, "the broker did not confirm; try again")
    }

    /// The store was found away a moment ago, and was not asked again.
    #[must_use]
    pub fn store_away() -> Self {
        Self::new(
            Code::Unavailable,
            "the store cannot be reached now; try again",
        )
    }

    /// What goes over the wire.
    #[must_use]
    pub fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("urn:posthaste:problem:{}", self.code.as_str()),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            detail: self.detail.clone(),
            code: self.code.as_str().to_owned(),
            request_id: None,
            errors: self.errors.clone(),
        }
    }
}

impl std::fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "{} {}", self.field, self.problem)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = ProblemBody {
            request_id: request_id::current(),
            ..self.body()
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        // Without it clients try again at once, all together, when the store comes back.
        if let Some(seconds) = self.code.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // A 415 for an encoding should name those that are taken (RFC 9110, section 12.5.3).
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("gzip, identity"),
            );
        }
        // A 401 must say how to authenticate (RFC 9110, section 15.5.2).
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            if let Some(held_back) = STORE_AWAY.pass() {
                tracing::warn!(error = %chain(&error), held_back, "the store is not available: a \
                    request was refused");
            }
            return Self::store_away();
        }
        // What is wrong with the key is the operator's to mend, and no secret: the client may know.
        if let StoreError::Cipher(key) = &error {
            tracing::error!(error = %key, "secrets cannot be encrypted or decrypted: a request \
                was refused");
            let code = match key {
                CipherError::NoKey | CipherError::ShortKey { .. } => Code::NoMasterKey,
                CipherError::WrongKey { .. } | CipherError::NotOfStore => Code::WrongMasterKey,
            };
            return Self::new(code, key.to_string());
        }
        tracing::error!(error = %chain(&error), "the store failed: a request was refused");
        Self::internal()
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        log_refusal(&error, 1);
        Self::unconfirmed()
    }
}

/// Logs why `count` messages or calls were refused, once for all.
pub(in crate::http) fn log_refusal(error: &BrokerError, count: usize) {
    match error {
        BrokerError::Unavailable(_) | BrokerError::Refused(_) => {
            if let Some(held_back) = BROKER_AWAY.pass() {
                tracing::warn!(error = %error, count, held_back, "the broker did not confirm: \
                    requests were refused");
            }
        }
        BrokerError::Unroutable { .. }
        | BrokerError::Configuration(_)
        | BrokerError::Topology(_) => {
            tracing::error!(error = %error, count, "the broker cannot take messages as it \
                is configured: requests were refused");
        }
    }
}

impl From<InvalidDraft> for Problem {
    fn from(invalid: InvalidDraft) -> Self {
        Self::field(Code::Invalid, invalid.field, invalid.problem)
    }
}
