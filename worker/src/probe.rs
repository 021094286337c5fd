//! Tries an endpoint now: one request, outside the queue, nothing recorded; tells what went out,
//! what came back, and what Posthaste would have done next.

use posthaste_shared::domain::attempt::{AttemptError, Phases};
use posthaste_shared::domain::delivery::{FailureReason, Hold};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::{DeliveryId, NotificationId, NotificationType};
use posthaste_shared::domain::notification::{Notification, Origin, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::{REDACTED, looks_secret};
use posthaste_shared::telemetry::trace::Span;

use crate::attempt::preview::Preview;
use crate::attempt::sign::SignedRequest;
use crate::attempt::{AttemptEnd, Attempter, FinishedAttempt};
use crate::pipeline::decide::{AttemptFacts, decide};
use crate::wire::outcome::Verdict;
use crate::wire::{self, RenderError, Skip, Subject};

/// What a try of an endpoint showed.
#[derive(Debug)]
pub struct Probe {
    /// What went out; `None` when it could not be written.
    pub request: Option<SignedRequest>,
    /// What came back: status, headers (secrets redacted), body.
    pub response: Option<ProbeResponse>,
    /// Why nothing came back, or what was wrong with it.
    pub error: Option<AttemptError>,
    /// What would happen to a delivery after this, as a sentence.
    pub verdict: String,
    /// The same in one word: `delivered`, `retry`, `waits`, or the reason of a failure.
    pub outcome: &'static str,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// Where the time went.
    pub phases: Phases,
    /// The address that was called.
    pub address: Option<String>,
    /// What a script wrote to its console.
    pub console: Option<String>,
}

/// An answer, as it may be shown.
#[derive(Debug)]
pub struct ProbeResponse {
    /// The HTTP status code of the answer.
    pub status: u16,
    /// The headers of the answer, names in lower case, values of sensitive ones redacted.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body.
    pub body: String,
}

/// The sample that the endpoint's wire format sends in a try.
#[must_use]
pub fn sample(endpoint: &Endpoint, now: Timestamp) -> Notification {
    let sample = wire::of(endpoint.wire_format).sample();
    #[expect(
        clippy::expect_used,
        reason = "each wire format's sample is a constant; a test tries them all"
    )]
    let kind = NotificationType::parse(sample.kind).expect("a sample's type");
    #[expect(
        clippy::expect_used,
        reason = "a JSON value is valid when it is printed"
    )]
    let json =
        |value: serde_json::Value| RawJson::parse(value.to_string()).expect("a sample's JSON");
    Notification {
        id: NotificationId::generate(now),
        tenant: endpoint.tenant.clone(),
        kind,
        target: Some(endpoint.id.clone()),
        payload: json(sample.payload),
        recipient: sample.recipient.map(json),
        overrides: sample.overrides.map(json),
        accepted_at: now,
        deliver_at: None,
        expires_at: None,
        priority: Priority::Normal,
        origin: Origin::Producer,
        traceparent: None,
        hops: Hops::default(),
    }
}

/// Sends the notification to the endpoint, once.
pub async fn probe(
    attempter: &Attempter,
    endpoint: &Endpoint,
    notification: &Notification,
    now: Timestamp,
) -> Probe {
    // The first recipient stands for all: a test is one request.
    let recipients = wire::of(endpoint.wire_format).recipients(notification);
    let recipient = recipients.get(0);
    let delivery = DeliveryId::of(&notification.id, &endpoint.id, recipient);
    let subject = Subject {
        delivery,
        recipient,
        notification,
        endpoint,
        trace: None,
    };
    match attempter.attempt(&subject, None, now, &Span::none()).await {
        AttemptEnd::Finished(finished) => report(endpoint, *finished),
        AttemptEnd::Unwritable(error) => unwritten(error),
        AttemptEnd::Skipped { skip, console } => Probe {
            console,
            ..skipped(skip)
        },
        AttemptEnd::TooSoon(rate) => too_soon(rate),
        AttemptEnd::Busy => busy(),
    }
}

/// What would be sent to the endpoint for the notification; nothing is.
pub async fn preview(
    attempter: &Attempter,
    endpoint: &Endpoint,
    notification: &Notification,
    now: Timestamp,
) -> Preview {
    // The first recipient stands for all, as in a test.
    let recipients = wire::of(endpoint.wire_format).recipients(notification);
    let recipient = recipients.get(0);
    let subject = Subject {
        delivery: DeliveryId::of(&notification.id, &endpoint.id, recipient),
        recipient,
        notification,
        endpoint,
        trace: None,
    };
    attempter.preview(&subject, now).await
}

fn report(endpoint: &Endpoint, finished: FinishedAttempt) -> Probe {
    // The first of its round, and without jitter: what is shown should be the same at each test.
    let facts = AttemptFacts {
        number: 1,
        expires_at: None,
        now: finished.over,
        jitter: 0.0,
    };
    let (outcome_word, verdict) = match decide(&finished.outcome, &endpoint.retry, facts) {
        Verdict::Complete => ("delivered", "the endpoint took it".to_owned()),
        Verdict::RetryAt(at) => {
            let pause = at.since(finished.over).as_secs_f64();
            let said = match endpoint.retry.retries() {
                1 => format!("it would be retried once, after {pause:.0} s"),
                most => {
                    format!("it would be retried up to {most} times, the first after {pause:.0} s")
                }
            };
            ("retry", said)
        }
        Verdict::GiveUp(reason @ FailureReason::RenderError) => (
            reason.as_str(),
            "it would have failed: the endpoint's transform leaves nothing that can be sent"
                .to_owned(),
        ),
        Verdict::GiveUp(reason) => (
            reason.as_str(),
            "it would have failed at once, without a retry".to_owned(),
        ),
        Verdict::Expire => ("expired", "it would have expired".to_owned()),
    };
    let response = finished.reply.as_ref().map(|reply| {
        let shown = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            // By its name, since it is the receiver's header: `Set-Cookie` may come back to whoever
            // may read endpoints, but not with a session in it.
            let value = if looks_secret(name.as_str()) {
                REDACTED.to_owned()
            } else {
                let text = String::from_utf8_lossy(value.as_bytes());
                match &finished.request {
                    Some(request) => request.without_secrets(&text),
                    None => text.into_owned(),
                }
            };
            (name.to_string(), value)
        };
        ProbeResponse {
            status: reply.status,
            headers: reply.headers.iter().map(shown).collect(),
            body: finished.shown_body().unwrap_or_default(),
        }
    });
    Probe {
        response,
        error: finished.outcome.error().cloned(),
        verdict,
        outcome: outcome_word,
        duration_ms: finished.duration.as_secs_f64() * 1e3,
        phases: finished.phases,
        address: finished.address,
        console: finished.console,
        request: finished.request,
    }
}

fn skipped(skip: Skip) -> Probe {
    Probe {
        error: Some(AttemptError {
            code: skip.code.to_owned(),
            text: skip.text,
        }),
        verdict: "nothing would have been sent: the delivery would have been cancelled".to_owned(),
        outcome: "cancelled",
        ..nothing_sent()
    }
}

fn too_soon(rate: f64) -> Probe {
    let text = format!(
        "the receiver wants no more than {:.3} requests a minute: try again later",
        rate * 60.0
    );
    Probe {
        error: Some(AttemptError {
            code: "rate_limit".to_owned(),
            text,
        }),
        verdict: "nothing was sent: the delivery would have waited for its turn".to_owned(),
        outcome: "waits",
        ..nothing_sent()
    }
}

fn busy() -> Probe {
    let text = "as many scripts run or are being compiled as may: try again later".to_owned();
    Probe {
        error: Some(AttemptError {
            code: Hold::Scripts.as_str().to_owned(),
            text,
        }),
        verdict: "nothing was sent: the delivery would have waited until its script can be run"
            .to_owned(),
        outcome: "waits",
        ..nothing_sent()
    }
}

fn unwritten(error: RenderError) -> Probe {
    Probe {
        error: Some(AttemptError {
            code: "render_error".to_owned(),
            text: error.to_string(),
        }),
        verdict: "it would have failed: it cannot be written in the endpoint's wire format"
            .to_owned(),
        outcome: FailureReason::RenderError.as_str(),
        ..nothing_sent()
    }
}

fn nothing_sent() -> Probe {
    Probe {
        request: None,
        response: None,
        error: None,
        verdict: String::new(),
        outcome: "",
        duration_ms: 0.0,
        phases: Phases::default(),
        address: None,
        console: None,
    }
}
