//! One attempt while it is under way: what is sent, when it began, and how it turns into a
//! [`FinishedAttempt`].

use std::time::Duration;

use posthaste_shared::domain::attempt::{AttemptResult, Phases};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::telemetry::trace::Span;
use tokio::time::Instant;
use url::Url;

use super::classify::result;
use super::finished::FinishedAttempt;
use super::sign::SignedRequest;
use crate::send::Exchange;
use crate::wire::Subject;
use crate::wire::outcome::Outcome;

/// One attempt under way.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// What is delivered, as the endpoint's transform left it, once that has run.
    pub(super) subject: &'a Subject<'a>,
    /// The URL that the endpoint has in the store.
    pub(super) own_url: &'a Url,
    pub(super) begun: Instant,
    pub(super) span: &'a Span,
}

impl Attempt<'_> {
    /// An attempt whose transform ran and from which nothing went out.
    pub(super) fn unsent(
        &self,
        (result, outcome): (AttemptResult, Outcome),
        console: Option<String>,
        over: Timestamp,
    ) -> Box<FinishedAttempt> {
        Box::new(FinishedAttempt {
            request: None,
            reply: None,
            status_code: None,
            outcome,
            result,
            duration: self.begun.elapsed(),
            phases: Phases::default(),
            address: None,
            console,
            keep: None,
            rate_per_second: None,
            over,
        })
    }

    pub(super) fn deadline(&self) -> Instant {
        // From the same beginning as `left`: scripts and requests share one timeout.
        self.begun + self.subject.endpoint.timeout
    }

    pub(super) fn left(&self) -> Duration {
        self.subject
            .endpoint
            .timeout
            .saturating_sub(self.begun.elapsed())
    }

    pub(super) fn finished(
        &self,
        request: SignedRequest,
        exchange: Exchange,
        outcome: Outcome,
        over: Timestamp,
    ) -> FinishedAttempt {
        FinishedAttempt {
            request: Some(request),
            status_code: exchange.result.as_ref().ok().map(|reply| reply.status),
            outcome,
            result: result(&exchange.result),
            reply: exchange.result.ok(),
            duration: self.begun.elapsed(),
            phases: exchange.phases,
            address: exchange.address,
            console: None,
            // What the round keeps is set by the caller, who knows whether a transform ran.
            keep: None,
            rate_per_second: None,
            over,
        }
    }
}
