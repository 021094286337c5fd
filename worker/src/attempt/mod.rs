//! One attempt, between admission and the decision: transform, render, ask first, sign, send (or
//! call the script), read the answer. Deliveries and the test of an endpoint both go this way.

mod ask;
mod by_script;
pub mod classify;
mod failure;
mod finished;
pub(crate) mod pace;
mod preflight;
pub mod preview;
mod redact;
pub mod sign;
mod spans;
mod transform;
mod under_way;

use std::sync::Arc;

use http::Method;
use posthaste_shared::clock::Clock;
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::round::{RoundContent, Transformed};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::telemetry::trace::Span;
use tokio::time::Instant;

use self::ask::Preflighted;
use self::classify::classify;
use self::failure::{render_failed, transform_failed};
pub use self::finished::FinishedAttempt;
use self::preflight::Grants;
use self::sign::{SignedRequest, sign};
use self::transform::NotTransformed;
use self::under_way::Attempt;
use crate::script::{Compiler, Engine, Uncompiled};
use crate::send::{Exchange, Reading, Sender};
use crate::wire::{
    self, FieldProblem, Grant, Header, RenderError, Rendered, Skip, Subject, Unwritten, settings,
};

/// Makes attempts: holds the HTTP client, the script engine and the grants of preflights. One for
/// each worker.
pub struct Attempter {
    sender: Sender,
    scripts: Engine,
    clock: Arc<dyn Clock>,
    grants: Grants,
}

/// The result of an attempt.
#[derive(Debug)]
pub enum AttemptEnd {
    /// Nothing went out, and nothing should.
    Skipped {
        /// The rule by which the notification is skipped, for the delivery's `last_error`.
        skip: Skip,
        /// What the endpoint's transform wrote to its console.
        console: Option<String>,
    },
    /// Nothing went out: the notification cannot be written in the wire format.
    Unwritable(RenderError),
    /// Nothing went out yet: the receiver wants no more than this number of requests a second.
    TooSoon(f64),
    /// Nothing went out yet: the endpoint's script could not be run now.
    Busy,
    /// An attempt was made, successful or not.
    Finished(Box<FinishedAttempt>),
}

/// What the endpoint's transform adds to the request.
#[derive(Default)]
struct Added {
    headers: Vec<Header>,
    url: ChosenBy,
}

impl Added {
    fn is_nothing(&self) -> bool {
        self.headers.is_empty() && self.url == ChosenBy::Endpoint
    }
}

/// Who says where the request goes.
#[derive(Default, PartialEq, Eq)]
enum ChosenBy {
    /// The endpoint, unless the wire format takes another URL from the notification.
    #[default]
    Endpoint,
    /// The transform, whatever else is said.
    Transform,
}

/// Why no attempt was made.
enum NotMade {
    Unwritten(Unwritten),
    Skipped { skip: Skip, console: Option<String> },
    TooSoon(f64),
    Busy,
}

impl<T: Into<Unwritten>> From<T> for NotMade {
    fn from(why: T) -> Self {
        Self::Unwritten(why.into())
    }
}

impl Attempter {
    /// An attempter that sends by `sender`, scripts included, and compiles scripts by `compiler`.
    #[must_use]
    pub fn new(sender: Sender, clock: Arc<dyn Clock>, compiler: Compiler) -> Self {
        Self {
            scripts: Engine::new(sender.clone(), compiler),
            sender,
            clock,
            grants: Grants::default(),
        }
    }

    /// Makes an attempt that begins at `now`, all within the endpoint's timeout. The spans of its
    /// requests and scripts are beneath `span`. What an earlier attempt of the round settled is
    /// `kept`.
    pub async fn attempt(
        &self,
        subject: &Subject<'_>,
        kept: Option<&RoundContent>,
        now: Timestamp,
        span: &Span,
    ) -> AttemptEnd {
        let attempt = Attempt {
            subject,
            own_url: &subject.endpoint.url,
            begun: Instant::now(),
            span,
        };
        match self.make(&attempt, kept, now).await {
            Ok(finished) => AttemptEnd::Finished(finished),
            Err(NotMade::Unwritten(Unwritten::Skip(skip))) => AttemptEnd::Skipped {
                skip,
                console: None,
            },
            Err(NotMade::Skipped { skip, console }) => AttemptEnd::Skipped { skip, console },
            Err(NotMade::Unwritten(Unwritten::Error(error))) => AttemptEnd::Unwritable(error),
            Err(NotMade::TooSoon(rate)) => AttemptEnd::TooSoon(rate),
            Err(NotMade::Busy) => AttemptEnd::Busy,
        }
    }

    /// What is wrong with the endpoint's scripts, except those that `before` has already.
    ///
    /// # Errors
    /// When it cannot be found out now; why, as a sentence.
    pub async fn check_scripts(
        &self,
        before: Option<&Endpoint>,
        endpoint: &Endpoint,
    ) -> Result<Vec<FieldProblem>, &'static str> {
        let known = before.map(wire::scripts).unwrap_or_default();
        let mut problems = Vec::new();
        for (field, source) in wire::scripts(endpoint) {
            // It was accepted before: changing another setting of the endpoint must not fail
            // because of it.
            if known.iter().any(|(_, before)| *before == source) {
                continue;
            }
            match self
                .scripts
                .compiler()
                .compile(&endpoint.tenant, source)
                .await
            {
                Ok(_) => {}
                Err(Uncompiled::Refused(problem)) => {
                    problems.push(FieldProblem {
                        field: field.into(),
                        problem: format!("is refused: {problem}"),
                    });
                }
                Err(Uncompiled::Busy(why)) => return Err(why),
            }
        }
        Ok(problems)
    }

    /// The first attempt of a round runs the endpoint's transform as it is then; the others send
    /// what it gave, so that all have the same bytes under the same id, however the transform is
    /// changed meanwhile.
    async fn make(
        &self,
        attempt: &Attempt<'_>,
        kept: Option<&RoundContent>,
        now: Timestamp,
    ) -> Result<Box<FinishedAttempt>, NotMade> {
        match (kept, settings::transform(attempt.subject.endpoint)) {
            (Some(RoundContent::Untransformed), _) => {
                self.send(attempt, Added::default(), now).await
            }
            (Some(RoundContent::Transformed(transformed)), _) => self
                .send_transformed(attempt, transformed, now)
                .await
                .or_else(|why| self.unsent_after(attempt, why, None)),
            (None, Some(source)) => self.transform_and_send(attempt, source, now).await,
            (None, None) => {
                // That there was no transform is kept as well: one that is added between two
                // attempts must not change what the second sends under the same id.
                let finished = self.send(attempt, Added::default(), now).await?;
                Ok(Box::new(FinishedAttempt {
                    keep: Some(RoundContent::Untransformed),
                    ..*finished
                }))
            }
        }
    }

    async fn transform_and_send(
        &self,
        attempt: &Attempt<'_>,
        source: &str,
        now: Timestamp,
    ) -> Result<Box<FinishedAttempt>, NotMade> {
        let run = self.run_transform(attempt, source).await;
        let console = run.console;
        // A failure of the script is recorded as an attempt, with the console; only what says
        // nothing about the script (skipped, busy) leaves no attempt.
        let failure = match run.result {
            Ok(transformed) => match self.send_transformed(attempt, &transformed, now).await {
                Ok(finished) => {
                    let console = joined(console, finished.console);
                    return Ok(Box::new(FinishedAttempt {
                        console,
                        keep: Some(RoundContent::Transformed(transformed)),
                        ..*finished
                    }));
                }
                Err(why) => return self.unsent_after(attempt, why, console),
            },
            Err(NotTransformed::Skip(skip)) => return Err(NotMade::Skipped { skip, console }),
            Err(NotTransformed::Busy) => return Err(NotMade::Busy),
            Err(NotTransformed::Script(error)) => transform_failed(attempt.subject.endpoint, error),
            Err(NotTransformed::Unusable(problem)) => render_failed(&transform::refused(&problem)),
        };
        Ok(attempt.unsent(failure, console, self.clock.now()))
    }

    /// Nothing was sent of what a transform gave. A failure is still recorded as an attempt,
    /// because what the transform wrote to its console helps its author most then.
    fn unsent_after(
        &self,
        attempt: &Attempt<'_>,
        why: NotMade,
        console: Option<String>,
    ) -> Result<Box<FinishedAttempt>, NotMade> {
        match why {
            NotMade::Unwritten(Unwritten::Error(mut error)) => {
                error.problem.push_str(", after the endpoint's transform");
                Ok(attempt.unsent(render_failed(&error), console, self.clock.now()))
            }
            NotMade::Unwritten(Unwritten::Skip(skip)) => Err(NotMade::Skipped { skip, console }),
            other => Err(other),
        }
    }

    /// Sends the notification as the endpoint's transform returned it. The URL that it chose takes
    /// the place of the endpoint's own before anything is asked, rendered or signed.
    async fn send_transformed(
        &self,
        attempt: &Attempt<'_>,
        transformed: &Transformed,
        now: Timestamp,
    ) -> Result<Box<FinishedAttempt>, NotMade> {
        let notification = transform::notification(transformed, attempt.subject.notification);
        let endpoint = transform::endpoint(transformed, attempt.subject.endpoint)?;
        let subject = &Subject {
            notification: &notification,
            endpoint: &endpoint,
            ..*attempt.subject
        };
        let url = if transformed.url.is_some() {
            ChosenBy::Transform
        } else {
            ChosenBy::Endpoint
        };
        self.send(
            &Attempt {
                subject,
                ..*attempt
            },
            Added {
                headers: transform::headers(transformed),
                url,
            },
            now,
        )
        .await
    }

    async fn send(
        &self,
        attempt: &Attempt<'_>,
        added: Added,
        now: Timestamp,
    ) -> Result<Box<FinishedAttempt>, NotMade> {
        let subject = attempt.subject;
        let wire = wire::of(subject.endpoint.wire_format);
        let rendered = render(subject, &added)?;
        if let Some(source) = wire.script(subject.endpoint) {
            return self.call_script(attempt, source, rendered).await;
        }
        // Before signing: a grant may bring headers, such as a token.
        let grant = match wire.preflight(subject)? {
            None => Grant::default(),
            Some(preflight) => match self.ask(attempt, preflight).await? {
                Preflighted::Granted(grant) => grant,
                Preflighted::Refused(finished) => return Ok(finished),
                Preflighted::TooSoon(rate) => return Err(NotMade::TooSoon(rate)),
            },
        };
        let rate = grant.rate_per_second;
        // The grant's headers come last and so replace the transform's, which could otherwise stand
        // in for a token.
        let added = added.headers.into_iter().chain(grant.headers).collect();
        let span = spans::request(attempt.span, &Method::POST, None);
        let subject = &Subject {
            trace: span.recorded(),
            ..*subject
        };
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
        // Error texts quote the answer, and some endpoints echo what they were sent.
        let outcome = outcome.reworded(|text| request.without_secrets(text));
        // A 410 from a URL that the notification or the transform chose must not disable the
        // endpoint.
        let outcome = if request.url() == attempt.own_url {
            outcome
        } else {
            outcome.of_another_url()
        };
        let finished = attempt.finished(request, exchange, outcome, over);
        Ok(Box::new(FinishedAttempt {
            rate_per_second: rate,
            ..finished
        }))
    }

    /// Runs the endpoint's transform.
    async fn run_transform(&self, attempt: &Attempt<'_>, source: &str) -> transform::Run {
        let mut span = spans::script(attempt.span, "run transform");
        let run = transform::run(&self.scripts, source, attempt.subject, attempt.deadline()).await;
        if matches!(
            run.result,
            Err(NotTransformed::Script(_) | NotTransformed::Unusable(_))
        ) {
            span.fail(FailureReason::RenderError.as_str());
        }
        run
    }

    /// One exchange in what is left of the attempt's time.
    async fn exchange(
        &self,
        attempt: &Attempt<'_>,
        request: &SignedRequest,
        reading: Reading,
        span: Span,
    ) -> Exchange {
        // The request gets what transform and preflight left of the timeout; the text of a time-out
        // names the whole.
        let limit = attempt.subject.endpoint.timeout;
        let exchange = self
            .sender
            .exchange(request.outgoing(attempt.left(), limit, reading))
            .await;
        spans::answered(span, request, &exchange);
        exchange
    }
}

/// The subject in its wire format, with what the transform adds.
fn render(subject: &Subject<'_>, added: &Added) -> Result<Rendered, Unwritten> {
    let wire = wire::of(subject.endpoint.wire_format);
    let mut rendered = wire.render(subject)?;
    // A script in place of a request is called with the rendered body. No request goes out that
    // headers or another URL could be for.
    if wire.script(subject.endpoint).is_some() && !added.is_nothing() {
        let problem = "headers or a url, which have no use here: the endpoint has a script in \
                       place of a request";
        return Err(transform::refused(&format!("it returned {problem}")).into());
    }
    // The transform's URL stands in the endpoint already. A URL that the wire format took from the
    // notification would hide it.
    if added.url == ChosenBy::Transform {
        rendered.url = None;
    }
    Ok(rendered)
}

/// What two scripts of one attempt wrote, the transform first.
fn joined(first: Option<String>, second: Option<String>) -> Option<String> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first + &second),
        (first, second) => first.or(second),
    }
}
