//! One attempt, between admission and the decision: transform, render, ask first, sign, send (or call the
//! script), read the answer. Deliveries and the test of an endpoint both go this way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use posthaste_shared::clock::Clock;
use posthaste_shared::domain::attempt::{AttemptError, AttemptResult, Phases, STORED_BODY_BYTES};
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::telemetry::trace::Span;

use crate::classify::{classify, result};
use crate::consent::{Consents, Held, Turn};
use crate::outcome::Outcome;
use crate::script::{Call, Engine, Returned, ScriptError};
use crate::send::{BodyFault, Exchange, Reading, Sender};
use crate::sign::{SignedRequest, ask_first, script_call, sign};
use crate::spans;
use crate::transform::{Transformed, transform};
use crate::wire::{self, Clearance, Preflight, RenderError, Rendered, Reply, Skip, Subject, Unwritten, settings};

/// Makes attempts.
pub struct Courier {
    sender: Sender,
    scripts: Engine,
    clock: Arc<dyn Clock>,
    consents: Consents,
}

/// What came of an attempt.
#[derive(Debug)]
pub enum Attempted {
    /// Nothing went out, and nothing should.
    Skipped(Skip),
    /// Nothing went out, for it cannot be written.
    Unwritable(RenderError),
    /// Nothing went out yet: the receiver wants no more than so many requests a second.
    TooSoon(f64),
    /// It was made.
    Made(Box<Trip>),
}

/// An attempt that was made.
#[derive(Debug)]
pub struct Trip {
    /// The last request that went out.
    pub request: SignedRequest,
    /// The answer to the delivery's own request.
    pub reply: Option<Reply>,
    /// The status of the last answer.
    pub status_code: Option<u16>,
    /// What happened.
    pub outcome: Outcome,
    /// The same in one word.
    pub result: AttemptResult,
    /// The whole attempt.
    pub duration: Duration,
    /// Where the time of the last exchange went.
    pub phases: Phases,
    /// The address that was called last.
    pub address: Option<String>,
    /// What a script wrote to its console.
    pub console: Option<String>,
    /// The most requests a second that the receiver wants, where it said so.
    pub rate_per_second: Option<f64>,
    /// When it was over.
    pub over: Timestamp,
}

/// One attempt under way.
struct Attempt<'a> {
    subject: &'a Subject<'a>,
    begun: Instant,
    span: &'a Span,
}

/// What was learnt from asking first.
enum Asked {
    Cleared(Clearance),
    Refused(Box<Trip>),
    TooSoon(f64),
}

/// Why no attempt was made.
enum Unmade {
    Unwritten(Unwritten),
    TooSoon(f64),
}

impl<T: Into<Unwritten>> From<T> for Unmade {
    fn from(why: T) -> Self {
        Self::Unwritten(why.into())
    }
}

impl Courier {
    /// With a client of its own kind.
    #[must_use]
    pub fn new(sender: Sender, clock: Arc<dyn Clock>) -> Self {
        Self { scripts: Engine::new(sender.clone()), sender, clock, consents: Consents::default() }
    }

    /// Makes an attempt that begins at `now`, all within the endpoint's timeout. The spans of its requests and
    /// scripts are beneath `span`.
    pub async fn attempt(&self, subject: &Subject<'_>, now: Timestamp, span: &Span) -> Attempted {
        let attempt = Attempt { subject, begun: Instant::now(), span };
        match self.make(&attempt, now).await {
            Ok(trip) => Attempted::Made(trip),
            Err(Unmade::Unwritten(Unwritten::Skip(skip))) => Attempted::Skipped(skip),
            Err(Unmade::Unwritten(Unwritten::Error(error))) => Attempted::Unwritable(error),
            Err(Unmade::TooSoon(rate)) => Attempted::TooSoon(rate),
        }
    }

    async fn make(&self, attempt: &Attempt<'_>, now: Timestamp) -> Result<Box<Trip>, Unmade> {
        let transformed = self.transform(attempt).await?;
        let subject = &Subject { notification: &transformed.notification, ..*attempt.subject };
        let wire = wire::of(subject.endpoint.wire_format);
        let mut rendered = wire.render(subject)?;
        if let Some(source) = wire.script(subject.endpoint) {
            return Ok(self.call_script(attempt, source, rendered).await?);
        }
        rendered.url = transformed.url.or(rendered.url);
        let clearance = match wire.preflight(subject)? {
            None => Clearance::default(),
            Some(preflight) => match self.ask(attempt, preflight).await? {
                Asked::Cleared(clearance) => clearance,
                Asked::Refused(trip) => return Ok(trip),
                Asked::TooSoon(rate) => return Err(Unmade::TooSoon(rate)),
            },
        };
        let rate = clearance.rate_per_second;
        let added = transformed.headers.into_iter().chain(clearance.headers).collect();
        let span = spans::request(attempt.span, &Method::POST, None);
        let subject = &Subject { trace: span.recorded(), ..*subject };
        let request = match sign(subject, rendered, added, now) {
            Ok(request) => request,
            Err(error) => {
                span.discard();
                return Err(error.into());
            }
        };
        let exchange = self.exchange(attempt, &request, wire.reading(), span).await;
        let over = self.clock.now();
        let outcome = classify(subject.endpoint, &exchange.result, over);
        let outcome = outcome.reworded(|text| request.without_secrets(text));
        let trip = attempt.trip(request, exchange, outcome, over);
        Ok(Box::new(Trip { rate_per_second: rate, console: transformed.console, ..trip }))
    }

    /// What the endpoint's transform makes of the notification.
    async fn transform<'a>(&self, attempt: &Attempt<'a>) -> Result<Transformed<'a>, Unwritten> {
        if settings::transform(attempt.subject.endpoint).is_none() {
            return transform(&self.scripts, attempt.subject, attempt.deadline()).await;
        }
        let mut span = spans::script(attempt.span, "run transform");
        let transformed = transform(&self.scripts, attempt.subject, attempt.deadline()).await;
        if matches!(transformed, Err(Unwritten::Error(_))) {
            span.fail(FailureReason::RenderError.as_str());
        }
        transformed
    }

    /// The script in the place of the request. What it returns is read as an answer's body.
    async fn call_script(
        &self,
        attempt: &Attempt<'_>,
        source: &str,
        rendered: Rendered,
    ) -> Result<Box<Trip>, Unwritten> {
        let endpoint = attempt.subject.endpoint;
        let unusable = |problem| RenderError::new("settings.script", format!("cannot be run: {problem}"));
        let script = self.scripts.script(source).await.map_err(unusable)?;
        let request = script_call(rendered.body);
        let argument = String::from_utf8_lossy(request.body());
        let mut span = spans::script(attempt.span, "run script");
        let called = self.scripts.call(&script, &argument, Call { deadline: attempt.deadline(), network: true }).await;
        let over = self.clock.now();
        let (reply, result, outcome) = match called.result {
            Ok(returned) => {
                let body = match returned {
                    Returned::Json(json) => json.into(),
                    Returned::Nothing => Bytes::new(),
                };
                let reply = Reply::whole(200, http::HeaderMap::new(), body);
                let outcome = wire::of(endpoint.wire_format).classify(endpoint, &reply, over);
                (Some(reply), AttemptResult::Script, outcome)
            }
            Err(error) => {
                let (result, outcome) = script_failed(endpoint, error);
                if let Some(error) = outcome.error() {
                    span.fail(error.code.clone());
                }
                (None, result, outcome)
            }
        };
        drop(span);
        let console = Some(called.console).filter(|text| !text.is_empty());
        Ok(Box::new(Trip {
            request,
            reply,
            status_code: None,
            outcome,
            result,
            duration: attempt.begun.elapsed(),
            phases: Phases::default(),
            address: None,
            console,
            rate_per_second: None,
            over,
        }))
    }

    /// Asks first, unless what was granted before still holds.
    async fn ask(&self, attempt: &Attempt<'_>, preflight: Preflight) -> Result<Asked, RenderError> {
        let endpoint = attempt.subject.endpoint;
        if !preflight.kept {
            return self.ask_now(attempt, preflight).await;
        }
        let grant = self.consents.of(&endpoint.id);
        let mut grant = grant.lock().await;
        let mut held = match grant.take().filter(|held| held.holds(endpoint)) {
            Some(held) => held,
            None => match self.ask_now(attempt, preflight).await? {
                Asked::Cleared(clearance) => Held::new(endpoint, clearance),
                other => return Ok(other),
            },
        };
        let turn = held.turn();
        *grant = Some(held);
        drop(grant);
        match turn {
            Turn::At(turn, clearance) => {
                tokio::time::sleep_until(turn).await;
                Ok(Asked::Cleared(clearance))
            }
            Turn::Later(rate) => Ok(Asked::TooSoon(rate)),
        }
    }

    async fn ask_now(&self, attempt: &Attempt<'_>, preflight: Preflight) -> Result<Asked, RenderError> {
        let what = preflight.what;
        let endpoint = attempt.subject.endpoint;
        let span = spans::request(attempt.span, &preflight.method, Some(what));
        let request = match ask_first(preflight) {
            Ok(request) => request,
            Err(error) => {
                span.discard();
                return Err(error);
            }
        };
        let reading = wire::of(endpoint.wire_format).preflight_reading();
        let exchange = self.exchange(attempt, &request, reading, span).await;
        let over = self.clock.now();
        let refused = match &exchange.result {
            Ok(reply) => match wire::of(endpoint.wire_format).clear(endpoint, reply, over) {
                Ok(clearance) => return Ok(Asked::Cleared(clearance)),
                Err(outcome) => outcome,
            },
            Err(_) => classify(endpoint, &exchange.result, over).about(what),
        };
        // What it answered is not kept: it may have a token in it.
        let trip = attempt.trip(request, exchange, refused, over);
        Ok(Asked::Refused(Box::new(Trip { reply: None, ..trip })))
    }

    /// One exchange in what is left of the attempt's time.
    async fn exchange(&self, attempt: &Attempt<'_>, request: &SignedRequest, reading: Reading, span: Span) -> Exchange {
        let limit = attempt.subject.endpoint.timeout;
        let exchange = self.sender.exchange(request.outgoing(attempt.left(), limit, reading)).await;
        spans::answered(span, request, &exchange);
        exchange
    }
}

impl Trip {
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
        let cut = &body[..body.len().min(STORED_BODY_BYTES)];
        Some(self.request.without_secrets(&String::from_utf8_lossy(cut)))
    }
}

/// What a script that did not return means: as for a request, a time-out and a failure of the network may
/// be tried again; all else is the script's own fault.
fn script_failed(endpoint: &Endpoint, error: ScriptError) -> (AttemptResult, Outcome) {
    let refused = |reason, code: &str, text| {
        let error = AttemptError { code: code.to_owned(), text };
        Outcome::Refused { reason, error, provider_error_code: None }
    };
    match error {
        ScriptError::TimedOut => {
            let text = format!("the script did not end within {} ms", endpoint.timeout.as_millis());
            let error = AttemptError { code: "timeout".to_owned(), text };
            let kind = RetryOn::Timeout;
            let outcome = Outcome::Transient { kind, error, retry_after: None, provider_error_code: None };
            (AttemptResult::Timeout, outcome)
        }
        ScriptError::Fetch { error, text } => {
            let word = error.error().code;
            let outcome = match error.retry_kind() {
                None => refused(FailureReason::Blocked, &word, text),
                Some(kind) => {
                    let error = AttemptError { code: word, text };
                    Outcome::Transient { kind, error, retry_after: None, provider_error_code: None }
                }
            };
            (result(&Err(error)), outcome)
        }
        ScriptError::OutOfMemory => (
            AttemptResult::Script,
            refused(FailureReason::Rejected, "script_memory", ScriptError::OutOfMemory.to_string()),
        ),
        ScriptError::Threw { text } => (AttemptResult::Script, refused(FailureReason::Rejected, "script_threw", text)),
        ScriptError::Unusable { text } => {
            (AttemptResult::Script, refused(FailureReason::Rejected, "script_unusable", text))
        }
    }
}

impl Attempt<'_> {
    fn deadline(&self) -> tokio::time::Instant {
        (self.begun + self.subject.endpoint.timeout).into()
    }

    fn left(&self) -> Duration {
        self.subject.endpoint.timeout.saturating_sub(self.begun.elapsed())
    }

    fn trip(&self, request: SignedRequest, exchange: Exchange, outcome: Outcome, over: Timestamp) -> Trip {
        Trip {
            request,
            status_code: exchange.result.as_ref().ok().map(|reply| reply.status),
            outcome,
            result: result(&exchange.result),
            reply: exchange.result.ok(),
            duration: self.begun.elapsed(),
            phases: exchange.phases,
            address: exchange.address,
            console: None,
            rate_per_second: None,
            over,
        }
    }
}
