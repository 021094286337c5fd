//! What would be sent for a notification, without sending anything: the transform runs, the
//! notification is rendered and signed, and that is all. For whoever writes a transform or asks
//! what an endpoint would get.

use std::time::Duration;

use posthaste_shared::domain::attempt::AttemptError;
use posthaste_shared::domain::delivery::{FailureReason, Hold};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::round::Transformed;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::telemetry::trace::Span;
use tokio::time::Instant;

use super::sign::{SignedRequest, script_call, sign};
use super::transform::{self, NotTransformed};
use super::under_way::Attempt;
use super::{Added, Attempter, ChosenBy, render};
use crate::script::{ScriptError, Uncompiled};
use crate::wire::{self, RenderError, Skip, Subject, Unwritten, settings};

/// How long somebody waits for a script to be compiled, its turn included.
const COMPILED_WITHIN: Duration = Duration::from_secs(25);

/// What would be sent.
#[derive(Debug)]
pub struct Preview {
    /// The payload after the endpoint's transform; `None` where none ran or it did not return.
    pub payload: Option<RawJson>,
    /// The request, or why there would be none.
    pub request: Result<SignedRequest, NotSent>,
    /// Whether a request that asks first goes out before this one. What it grants, such as a token,
    /// is not in the request here.
    pub asks_first: bool,
    /// What the transform wrote to its console.
    pub console: Option<String>,
}

/// Why nothing would be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSent {
    /// What would happen to the delivery, in a word: `cancelled`, `blocked`, `render_error`,
    /// `timeout` or `waits`.
    pub outcome: &'static str,
    /// Why, with a stable code.
    pub error: AttemptError,
}

impl NotSent {
    fn new(outcome: &'static str, code: &str, text: String) -> Self {
        Self {
            outcome,
            error: AttemptError {
                code: code.to_owned(),
                text,
            },
        }
    }

    fn skipped(skip: Skip) -> Self {
        Self::new("cancelled", skip.code, skip.text)
    }

    fn unwritable(error: &RenderError) -> Self {
        let reason = FailureReason::RenderError.as_str();
        Self::new(reason, reason, error.to_string())
    }

    fn busy() -> Self {
        let text = "as many scripts run or are being compiled as may: try again later";
        Self::new("waits", Hold::Scripts.as_str(), text.to_owned())
    }
}

impl From<Unwritten> for NotSent {
    fn from(why: Unwritten) -> Self {
        match why {
            Unwritten::Error(error) => Self::unwritable(&error),
            Unwritten::Skip(skip) => Self::skipped(skip),
        }
    }
}

impl From<RenderError> for NotSent {
    fn from(error: RenderError) -> Self {
        Self::unwritable(&error)
    }
}

impl Attempter {
    /// Compiles a transform, in its turn and within the bounds of scripts.
    ///
    /// # Errors
    /// What is wrong with it and where; or that it cannot be found out now.
    pub async fn compile(&self, tenant: &TenantId, source: &str) -> Result<(), Uncompiled> {
        // By the engine, which keeps what it compiled: the run that follows finds it there.
        let until = Instant::now() + COMPILED_WITHIN;
        self.scripts.script(tenant, source, until).await.map(drop)
    }

    /// What would be sent for the subject. The endpoint's transform runs, within its limits; no
    /// request goes out, not even one that asks first. Names are not looked up, so where one leads
    /// to an address that may not be called, this is not seen.
    pub async fn preview(&self, subject: &Subject<'_>, now: Timestamp) -> Preview {
        let mut preview = self.transformed(subject, now).await;
        preview.request = preview.request.and_then(|request| self.allowed(request));
        preview
    }

    /// The request, unless its URL may not be called.
    fn allowed(&self, request: SignedRequest) -> Result<SignedRequest, NotSent> {
        if request.calls_script() {
            return Ok(request);
        }
        match self.sender.allows(request.url()) {
            Ok(()) => Ok(request),
            Err(refused) => {
                let error = refused.error();
                let outcome = FailureReason::Blocked.as_str();
                Err(NotSent::new(outcome, &error.code, error.text))
            }
        }
    }

    async fn transformed(&self, subject: &Subject<'_>, now: Timestamp) -> Preview {
        let span = Span::none();
        let attempt = Attempt {
            subject,
            own_url: &subject.endpoint.url,
            begun: Instant::now(),
            span: &span,
        };
        let Some(source) = settings::transform(subject.endpoint) else {
            return unsent(subject, Added::default(), now);
        };
        let run = self.run_transform(&attempt, source).await;
        let console = run.console;
        let transformed = match run.result {
            Ok(transformed) => transformed,
            Err(why) => {
                return Preview {
                    payload: None,
                    request: Err(not_transformed(subject.endpoint, why)),
                    asks_first: false,
                    console,
                };
            }
        };
        Preview {
            console,
            ..of_transformed(subject, &transformed, now)
        }
    }
}

fn of_transformed(subject: &Subject<'_>, transformed: &Transformed, now: Timestamp) -> Preview {
    let notification = transform::notification(transformed, subject.notification);
    let payload = Some(notification.payload.clone());
    let endpoint = match transform::endpoint(transformed, subject.endpoint) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            return Preview {
                payload,
                request: Err(error.into()),
                asks_first: false,
                console: None,
            };
        }
    };
    let subject = &Subject {
        notification: &notification,
        endpoint: &endpoint,
        ..*subject
    };
    let url = if transformed.url.is_some() {
        ChosenBy::Transform
    } else {
        ChosenBy::Endpoint
    };
    let added = Added {
        headers: transform::headers(transformed),
        url,
    };
    Preview {
        payload,
        ..unsent(subject, added, now)
    }
}

fn unsent(subject: &Subject<'_>, added: Added, now: Timestamp) -> Preview {
    let asks_first = wire::of(subject.endpoint.wire_format).preflight(subject);
    Preview {
        payload: None,
        request: written(subject, added, now),
        asks_first: matches!(asks_first, Ok(Some(_))),
        console: None,
    }
}

fn written(subject: &Subject<'_>, added: Added, now: Timestamp) -> Result<SignedRequest, NotSent> {
    let rendered = render(subject, &added)?;
    let wire = wire::of(subject.endpoint.wire_format);
    if wire.script(subject.endpoint).is_some() {
        return Ok(script_call(rendered.body));
    }
    Ok(sign(subject, rendered, added.headers, now)?)
}

fn not_transformed(endpoint: &Endpoint, why: NotTransformed) -> NotSent {
    match why {
        NotTransformed::Skip(skip) => NotSent::skipped(skip),
        NotTransformed::Busy => NotSent::busy(),
        NotTransformed::Script(ScriptError::TimedOut) => {
            let limit = endpoint.timeout.as_millis();
            let text = format!("settings.transform did not end within {limit} ms");
            NotSent::new("timeout", "timeout", text)
        }
        NotTransformed::Script(error) => NotSent::unwritable(&transform::refused(&error)),
        NotTransformed::Unusable(problem) => NotSent::unwritable(&transform::refused(&problem)),
    }
}
