//! An attempt: one HTTP request of a delivery, and its result.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// How much of a response's body is kept with the attempt.
pub const STORED_BODY_BYTES: usize = 4 * 1024;

/// One HTTP request of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// From 1, over all rounds of the delivery.
    pub number: u32,
    /// The delivery's round (from 1; a replay starts the next) that it belongs to.
    pub round: u32,
    /// When the attempt began, by the worker's clock.
    pub started_at: Timestamp,
    /// From the first look-up to the last byte, or to the failure.
    pub duration: Duration,
    /// Where the time went.
    pub phases: Phases,
    /// In one word; a label of the metrics.
    pub result: AttemptResult,
    /// The answer's status, if there was an answer.
    pub status_code: Option<u16>,
    /// What went wrong, if anything did.
    pub error: Option<AttemptError>,
    /// The beginning of the answer's body, up to [`STORED_BODY_BYTES`], as text.
    pub response_body: Option<String>,
    /// The address that was called.
    pub resolved_address: Option<String>,
    /// Request headers as sent, secrets redacted.
    pub request_headers: Vec<(String, String)>,
    /// The name of the worker that made the attempt.
    pub worker: String,
    /// What a script wrote to its console, up to [`STORED_BODY_BYTES`].
    pub console: Option<String>,
}

/// Milliseconds of each phase; `None` when it did not happen (a connection that was reused has no
/// `dns`, `connect` and `tls`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Phases {
    /// Milliseconds of name resolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<f64>,
    /// Milliseconds until the TCP connection was open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<f64>,
    /// Milliseconds of the TLS handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<f64>,
    /// Milliseconds from the request's first byte to the response's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
    /// Milliseconds in which the response's body arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<f64>,
}

/// The result of an attempt, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum AttemptResult {
    /// A status from 200 to 299.
    #[serde(rename = "2xx")]
    Success,
    /// A redirect, never followed.
    #[serde(rename = "3xx")]
    Redirect,
    /// A status from 400 to 499 (or an odd one under 200).
    #[serde(rename = "4xx")]
    ClientError,
    /// A status of 500 or more.
    #[serde(rename = "5xx")]
    ServerError,
    /// No complete answer in time.
    #[serde(rename = "timeout")]
    Timeout,
    /// DNS, connection or TLS failure.
    #[serde(rename = "network")]
    Network,
    /// The address is forbidden by the egress policy; nothing was sent.
    #[serde(rename = "blocked")]
    Blocked,
    /// A script ran in the place of a request, and came to an end by itself.
    #[serde(rename = "script")]
    Script,
}

impl AttemptResult {
    /// Every result that an attempt can have.
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::Redirect,
        Self::ClientError,
        Self::ServerError,
        Self::Timeout,
        Self::Network,
        Self::Blocked,
        Self::Script,
    ];

    /// The name in JSON, in the store and in metrics' labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Blocked => "blocked",
            Self::Script => "script",
        }
    }

    /// The result of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|result| result.as_str() == name)
    }

    /// The class of an HTTP status.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            // Without an upper bound: some load balancers send statuses above 599.
            500.. => Self::ServerError,
            _ => Self::ClientError,
        }
    }
}

/// What went wrong in an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptError {
    /// A stable word, such as `timeout`, `connection_refused`, `dns`, `tls`, `private_address`,
    /// `http_status`.
    pub code: String,
    /// A sentence for people.
    pub text: String,
}
