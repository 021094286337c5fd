//! Why an exchange ended without an answer, found by the types in the client's chain of causes.

use std::error::Error;
use std::io;
use std::time::Duration;

use posthaste_shared::domain::attempt::AttemptError;
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::egress::Refusal;
use posthaste_shared::tls;

use super::MAX_HEAD_BYTES;
use super::MAX_HEADERS;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The egress policy forbids the address; nothing was sent.
    #[error("{0}")]
    Blocked(Refusal),
    /// A step of the exchange took too long; the text says which, and how long it was given.
    #[error("{0}")]
    Timeout(String),
    /// DNS, connection or TLS failure, or an answer that is not HTTP.
    #[error("{}", .0.text)]
    Network(AttemptError),
}

impl SendError {
    /// The failure as a stable code and a sentence, for the attempt's row.
    #[must_use]
    pub fn error(&self) -> AttemptError {
        match self {
            Self::Blocked(refusal) => AttemptError {
                code: refusal.code().to_owned(),
                text: refusal.to_string(),
            },
            Self::Timeout(text) => AttemptError {
                code: "timeout".to_owned(),
                text: text.clone(),
            },
            Self::Network(error) => error.clone(),
        }
    }

    /// The kind that a policy may retry; `None` for what is final.
    #[must_use]
    pub const fn retry_kind(&self) -> Option<RetryOn> {
        match self {
            Self::Blocked(_) => None,
            Self::Timeout(_) => Some(RetryOn::Timeout),
            Self::Network(_) => Some(RetryOn::Network),
        }
    }

    pub(super) fn network(code: &str, text: impl Into<String>) -> Self {
        Self::Network(AttemptError {
            code: code.to_owned(),
            text: text.into(),
        })
    }

    /// What the egress policy, or looking up the name, said.
    pub(super) fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unresolvable { .. } => Self::network(refusal.code(), refusal.to_string()),
            // A name that cannot be resolved may be resolved later, and is retried as a failure of
            // the network; a forbidden address stays forbidden.
            _ => Self::Blocked(refusal),
        }
    }

    pub(super) fn io(error: &io::Error) -> Self {
        Self::network(io_code(error.kind()), error.to_string())
    }
}

/// Such as `5 s` or `250 ms`.
pub(super) fn span_text(span: Duration) -> String {
    let millis = span.as_millis();
    if millis > 0 && millis.is_multiple_of(1000) {
        format!("{} s", millis / 1000)
    } else {
        format!("{millis} ms")
    }
}

/// Finds out what is behind an error of the client.
pub(super) fn explain(error: &(dyn Error + 'static)) -> SendError {
    let mut code = "protocol";
    let mut text = error.to_string();
    for cause in causes(error) {
        // What the connector said comes back wrapped by the client.
        if let Some(own) = cause.downcast_ref::<SendError>() {
            return own.clone();
        }
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return SendError::network("tls", format!("TLS: {}", tls::words(error)));
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            // An error of the system, which nothing lies beneath.
            if io.get_ref().is_none() {
                return SendError::io(io);
            }
            // What it carries says more, but may be of a type that nobody else knows.
            if io.kind() == io::ErrorKind::UnexpectedEof {
                code = io_code(io.kind());
            }
        }
        if let Some(explained) = cause.downcast_ref::<hyper::Error>().and_then(of_http) {
            return explained;
        }
        // The innermost cause says most; the outer ones only where it happened.
        text = cause.to_string();
    }
    SendError::network(code, text)
}

fn of_http(error: &hyper::Error) -> Option<SendError> {
    if error.is_parse_too_large() {
        let text = format!(
            "the answer's head is too large: {} KiB and {MAX_HEADERS} headers are read",
            MAX_HEAD_BYTES / 1024
        );
        return Some(SendError::network("answer_head_too_large", text));
    }
    if error.is_incomplete_message() {
        return Some(SendError::network(
            "connection_closed",
            "the connection was closed before an answer came",
        ));
    }
    if error.is_canceled() {
        return Some(SendError::network(
            "connection_closed",
            "the connection was closed before the request was sent",
        ));
    }
    None
}

/// An error and what caused it, outermost first; errors of IO show what they carry.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| beneath(*cause))
}

fn beneath<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

pub(super) const fn io_code(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "connection_refused",
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => "connection_reset",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::UnexpectedEof => "connection_closed",
        _ => "network",
    }
}
