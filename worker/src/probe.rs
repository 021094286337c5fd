//! Tries an endpoint now: one request, outside the queue, nothing recorded; tells what went out, what
//! came back, and what Posthaste would have made of it.

use posthaste_shared::domain::attempt::{AttemptError, Phases, STORED_BODY_BYTES};
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{DeliveryId, NotificationId, NotificationType};
use posthaste_shared::domain::notification::{Notification, Origin, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::{REDACTED, looks_secret};

use crate::classify::classify;
use crate::decide::{Made, decide};
use crate::outcome::Verdict;
use crate::send::{Exchange, Sender};
use crate::sign::{SignedRequest, sign};
use crate::wire::{self, RenderError, Subject};

/// What a try of an endpoint showed.
#[derive(Debug)]
pub struct Probe {
    /// What went out; `None` when it could not be written.
    pub request: Option<SignedRequest>,
    /// What came back: status, headers (secrets redacted), body.
    pub response: Option<ProbeResponse>,
    /// Why nothing came back, or what was wrong with it.
    pub error: Option<AttemptError>,
    /// What would become of a delivery after this, as a sentence.
    pub verdict: String,
    /// The same in one word: `delivered`, `retry`, or the reason of a failure.
    pub outcome: &'static str,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// Where the time went.
    pub phases: Phases,
    /// The address that was called.
    pub address: Option<String>,
}

/// An answer, as it may be shown.
#[derive(Debug)]
pub struct ProbeResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body.
    pub body: String,
}

/// The sample that the endpoint's wire format sends in a try.
#[must_use]
pub fn sample(endpoint: &Endpoint, now: Timestamp) -> Notification {
    let (kind, payload) = wire::of(endpoint.wire_format).sample();
    #[expect(clippy::expect_used, reason = "each wire format's sample is a constant; a test tries them all")]
    let (kind, payload) = (
        NotificationType::parse(kind).expect("a sample's type"),
        RawJson::parse(payload.to_string()).expect("a sample's payload"),
    );
    Notification {
        id: NotificationId::generate(now),
        tenant: endpoint.tenant.clone(),
        kind,
        target: Some(endpoint.id.clone()),
        payload,
        recipient: None,
        overrides: None,
        accepted_at: now,
        deliver_at: None,
        expires_at: None,
        priority: Priority::Normal,
        origin: Origin::Producer,
        traceparent: None,
    }
}

/// Sends the notification to the endpoint, once.
pub async fn probe(sender: &Sender, endpoint: &Endpoint, notification: &Notification, now: Timestamp) -> Probe {
    let recipients = wire::of(endpoint.wire_format).recipients(notification);
    let recipient = recipients.first().and_then(Option::as_deref);
    let delivery = DeliveryId::of(&notification.id, &endpoint.id, recipient);
    let subject = Subject { delivery, recipient, notification, endpoint };
    let request =
        match wire::of(endpoint.wire_format).render(&subject).and_then(|rendered| sign(&subject, rendered, now)) {
            Ok(request) => request,
            Err(error) => return unwritten(error),
        };
    let exchange = sender.send(&request).await;
    report(endpoint, request, exchange, now)
}

fn report(endpoint: &Endpoint, request: SignedRequest, exchange: Exchange, now: Timestamp) -> Probe {
    let outcome = classify(endpoint, &exchange.result, now);
    let made = Made { number: 1, expires_at: None, now, jitter: 0.0 };
    let (outcome_word, verdict) = match decide(&outcome, &endpoint.retry, made) {
        Verdict::Complete => ("delivered", "the endpoint took it".to_owned()),
        Verdict::RetryAt(at) => {
            let pause = at.since(now).as_secs_f64();
            ("retry", format!("it would be tried again after {pause:.0} s, {} times in all", endpoint.retry.retries()))
        }
        Verdict::GiveUp(reason) => (reason.as_str(), "it would have failed for good".to_owned()),
        Verdict::Expire => ("expired", "it would have expired".to_owned()),
    };
    let response = exchange.result.ok().map(|reply| {
        let shown = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            let value =
                if looks_secret(name.as_str()) { REDACTED.into() } else { String::from_utf8_lossy(value.as_bytes()) };
            (name.to_string(), value.into_owned())
        };
        let cut = &reply.body[..reply.body.len().min(STORED_BODY_BYTES)];
        ProbeResponse {
            status: reply.status,
            headers: reply.headers.iter().map(shown).collect(),
            body: request.without_secrets(&String::from_utf8_lossy(cut)),
        }
    });
    Probe {
        request: Some(request),
        response,
        error: outcome.error().cloned(),
        verdict,
        outcome: outcome_word,
        duration_ms: exchange.duration.as_secs_f64() * 1e3,
        phases: exchange.phases,
        address: exchange.address,
    }
}

fn unwritten(error: RenderError) -> Probe {
    Probe {
        request: None,
        error: Some(AttemptError { code: "render_error".to_owned(), text: error.to_string() }),
        response: None,
        verdict: "it would have failed: it cannot be written in the endpoint's wire format".to_owned(),
        outcome: FailureReason::RenderError.as_str(),
        duration_ms: 0.0,
        phases: Phases::default(),
        address: None,
    }
}
