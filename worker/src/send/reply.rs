//! An answer, and how much of its body is read. The head alone decides for most wire formats: a
//! body that breaks off, hangs or never ends changes nothing for them. Where a wire format reads
//! the body, what is wrong with it has a name, so that half a body is never taken for a whole one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use posthaste_shared::domain::attempt::AttemptError;
use posthaste_shared::domain::retry::RetryOn;
use tokio::time::Instant;

use super::error::{SendError, explain, span_text};

/// How much of an answer's body is read where the status alone decides, and by a script's `fetch`.
/// It is more than is stored, so that the connection of most answers can be kept.
pub const READ_BODY_BYTES: usize = 64 * 1024;
/// How much of an answer's body is read by a wire format that looks into it.
pub const MEANT_BODY_BYTES: usize = 1024 * 1024;
/// How long a body is waited for that decides nothing.
const GRACE: Duration = Duration::from_millis(500);

/// The answer to a request, of which no more of the body is kept than was read.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status code, final: never a 1xx.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: HeaderMap,
    /// The body, or the beginning of it.
    pub body: Bytes,
    /// Why the body is not all there, or cannot be read.
    pub fault: Option<BodyFault>,
}

/// What an answer's body is for, which says how much of it is read and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// To be shown only: up to [`READ_BODY_BYTES`], and not waited for.
    Status,
    /// The wire format reads it: up to [`MEANT_BODY_BYTES`], until the exchange's deadline.
    Body,
    /// A script may read it: up to [`READ_BODY_BYTES`], until the exchange's deadline.
    Script,
}

/// Why an answer's body is not all there, or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyFault {
    /// The connection broke before the end of the body.
    BrokenOff {
        /// How many bytes had come.
        got: usize,
        /// What happened to the connection.
        error: AttemptError,
    },
    /// It did not end in time.
    Late {
        /// How many bytes had come.
        got: usize,
        /// For the whole exchange.
        limit: Duration,
    },
    /// There is more than is read.
    TooLarge {
        /// How much is read, in bytes.
        limit: usize,
    },
    /// It is compressed, though the request asked for it not to be.
    Encoded {
        /// The content coding in lower case, such as `gzip`; several are joined by `+`.
        coding: String,
        /// How many bytes came.
        got: usize,
    },
}

impl Reply {
    /// An answer that is all there.
    #[must_use]
    pub const fn whole(status: u16, headers: HeaderMap, body: Bytes) -> Self {
        Self {
            status,
            headers,
            body,
            fault: None,
        }
    }
}

impl BodyFault {
    /// In words, to be put behind the answer's status.
    #[must_use]
    pub fn error(&self) -> AttemptError {
        let (code, text) = match self {
            Self::BrokenOff { got, error } => (
                error.code.as_str(),
                format!("its body broke off after {got} bytes: {}", error.text),
            ),
            Self::Late { got, limit } => (
                "timeout",
                format!(
                    "its body did not end within {} ({got} bytes came)",
                    span_text(*limit)
                ),
            ),
            Self::TooLarge { limit } => (
                "answer_too_large",
                format!("its body has more than {limit} bytes, and no more are read"),
            ),
            Self::Encoded { .. } => (
                "answer_encoded",
                format!(
                    "its body is {}, though the request asked for `identity`",
                    self.shown().unwrap_or_default()
                ),
            ),
        };
        AttemptError {
            code: code.to_owned(),
            text,
        }
    }

    /// The kind that a policy may retry; `None` for what would be the same again.
    #[must_use]
    pub const fn retry_kind(&self) -> Option<RetryOn> {
        match self {
            Self::BrokenOff { .. } => Some(RetryOn::Network),
            Self::Late { .. } => Some(RetryOn::Timeout),
            Self::TooLarge { .. } | Self::Encoded { .. } => None,
        }
    }

    /// The same as if there had been no answer at all, where there might have been more of it.
    pub(super) fn as_failure(&self) -> Option<SendError> {
        match self {
            Self::BrokenOff { error, .. } => Some(SendError::Network(error.clone())),
            Self::Late { limit, .. } => Some(SendError::Timeout(format!(
                "the answer's body did not end within {}",
                span_text(*limit)
            ))),
            Self::TooLarge { .. } | Self::Encoded { .. } => None,
        }
    }

    /// What is shown in the body's place, where it would be unreadable.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        match self {
            Self::Encoded { coding, got } => Some(format!("{coding}-encoded, {got} bytes")),
            Self::BrokenOff { .. } | Self::Late { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// Reads the body for what it is wanted for. `limit` is what the whole exchange had, for the text.
pub(super) async fn read(
    response: Response<Incoming>,
    reading: Reading,
    deadline: Instant,
    limit: Duration,
) -> Reply {
    let (head, body) = response.into_parts();
    let coding = coding(&head.headers);
    // A compressed body cannot be read by the wire format, so waiting for the whole of it would be
    // for nothing.
    let reading = if coding.is_some() && reading == Reading::Body {
        Reading::Status
    } else {
        reading
    };
    let (bytes, end) = match reading {
        Reading::Status => {
            collect(
                body,
                READ_BODY_BYTES,
                deadline.min(Instant::now() + GRACE),
                limit,
            )
            .await
        }
        Reading::Body => collect(body, MEANT_BODY_BYTES, deadline, limit).await,
        Reading::Script => collect(body, READ_BODY_BYTES, deadline, limit).await,
    };
    let got = bytes.len();
    let fault = match coding {
        // An empty body is whole, whatever its header says of its coding.
        Some(coding) if got > 0 && reading != Reading::Script => {
            Some(BodyFault::Encoded { coding, got })
        }
        _ => end,
    };
    Reply {
        status: head.status.as_u16(),
        headers: head.headers,
        body: bytes,
        fault,
    }
}

/// The content codings of a body, where it has any.
fn coding(headers: &HeaderMap) -> Option<String> {
    let values = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let codings = values
        .flat_map(|value| value.split(','))
        .map(|coding| coding.trim().to_ascii_lowercase());
    // The name goes into a text for people: what is longer than any coding's name is cut.
    let codings: Vec<String> = codings
        .filter(|coding| !coding.is_empty() && coding != "identity")
        .map(|coding| coding.chars().take(32).collect())
        .take(4)
        .collect();
    (!codings.is_empty()).then(|| codings.join("+"))
}

/// Reads until the body's end or the first of the bounds. A body that is cut gives its connection
/// up.
async fn collect(
    mut body: Incoming,
    most: usize,
    until: Instant,
    limit: Duration,
) -> (Bytes, Option<BodyFault>) {
    let mut bytes = BytesMut::new();
    let fault = loop {
        let got = bytes.len();
        let frame = match tokio::time::timeout_at(until, body.frame()).await {
            // What has come is kept: it is shown to the operator.
            Err(_) => break Some(BodyFault::Late { got, limit }),
            Ok(None) => break None,
            Ok(Some(Err(error))) => {
                break Some(BodyFault::BrokenOff {
                    got,
                    error: explain(&error).error(),
                });
            }
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers, which nothing here reads.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        // Never negative: the loop ends as soon as there is more than `most`.
        let room = most - got;
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            break Some(BodyFault::TooLarge { limit: most });
        }
    };
    (bytes.freeze(), fault)
}
