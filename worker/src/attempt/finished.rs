//! An attempt that was made, and what of its answer may be kept and shown.

use std::time::Duration;

use posthaste_shared::domain::attempt::{AttemptResult, Phases, STORED_BODY_BYTES};
use posthaste_shared::domain::round::RoundContent;
use posthaste_shared::domain::time::Timestamp;

use super::sign::SignedRequest;
use crate::send::BodyFault;
use crate::wire::Reply;
use crate::wire::outcome::Outcome;

/// How many bytes behind the stored part of an answer are searched for secrets. A secret that
/// begins in the stored part and ends behind it is recognised up to this length.
const MAX_SECRET: usize = 16 * 1024;

/// An attempt that was made.
#[derive(Debug)]
pub struct FinishedAttempt {
    /// The last request that went out, or the call of the script in its place; `None` where it did
    /// not come to one, because of the endpoint's transform.
    pub request: Option<SignedRequest>,
    /// The answer to the delivery's own request.
    pub reply: Option<Reply>,
    /// The status of the last answer.
    pub status_code: Option<u16>,
    /// The outcome, as the wire format reads the answer; without an answer, the failure.
    pub outcome: Outcome,
    /// The outcome in one word, for the attempt's row and the label `result` of the metrics.
    pub result: AttemptResult,
    /// How long the whole attempt took, scripts and the preflight included.
    pub duration: Duration,
    /// Where the time of the last exchange went.
    pub phases: Phases,
    /// The address that was called last.
    pub address: Option<String>,
    /// What a script wrote to its console.
    pub console: Option<String>,
    /// What the round's other attempts must keep to, where it is settled now.
    pub keep: Option<RoundContent>,
    /// The most requests a second that the receiver wants, where it said so.
    pub rate_per_second: Option<f64>,
    /// When it was over.
    pub over: Timestamp,
}

impl FinishedAttempt {
    /// The beginning of the answer's body as text, up to 4 KiB, without the secrets of the request.
    #[must_use]
    pub fn shown_body(&self) -> Option<String> {
        let reply = self.reply.as_ref()?;
        if let Some(shown) = reply.fault.as_ref().and_then(BodyFault::shown) {
            return Some(shown);
        }
        let body = &reply.body;
        if body.is_empty() {
            return None;
        }
        // More than is kept: a secret is recognised only as a whole.
        let text = String::from_utf8_lossy(&body[..body.len().min(STORED_BODY_BYTES + MAX_SECRET)]);
        Some(match &self.request {
            Some(request) => request.beginning_without_secrets(&text, STORED_BODY_BYTES),
            None => text[..text.floor_char_boundary(STORED_BODY_BYTES)].to_owned(),
        })
    }
}
