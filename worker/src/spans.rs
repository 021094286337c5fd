//! What the worker's spans say: one for each attempt at a delivery, with one beneath it for each request and
//! script. Called by the intake, the pipeline and the courier. No payload, recipient, secret, path or query of a
//! URL is ever in a span: paths of webhooks are often secrets, or have telephone numbers in them.

use http::Method;
use posthaste_shared::domain::attempt::Phases;
use posthaste_shared::domain::delivery::{DeliveryState, Wait};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::trace_context::TraceContext;
use posthaste_shared::store::record::Record;
use posthaste_shared::telemetry::trace::{Kind, Span, Tracer, names};

use crate::job::{Custody, Job};
use crate::send::Exchange;
use crate::sign::SignedRequest;

/// Sees to it that a notification that was just taken up has a trace, so that all its attempts, hours later and in
/// other workers, are in one. Does nothing where tracing is off, or where the enqueuer brought one.
pub(crate) fn take_up(tracer: &Tracer, notification: &mut Notification) {
    if !tracer.is_on() || parent(notification).is_some() {
        return;
    }
    let mut span = tracer.notification(name(tracer, "receive"), &notification.tenant, &notification.id);
    if span.recorded().is_some() {
        note_message(&mut span, tracer, "receive", notification);
    }
    notification.traceparent = span.context().map(|context| context.to_string());
}

/// Begins the span of an attempt, beneath what the enqueuer began.
pub(crate) fn attempt(tracer: &Tracer, job: &Job) -> Span {
    if !tracer.is_on() {
        return Span::none();
    }
    let mut span = tracer.span(Kind::Consumer, name(tracer, "process"), parent(&job.notification));
    let Some(context) = span.recorded() else { return span };
    tracing::Span::current().record("trace.id", tracing::field::display(context.trace));
    note_message(&mut span, tracer, "process", &job.notification);
    let source = if matches!(job.custody, Custody::Lease(_)) { "store" } else { "broker" };
    span.set(names::DELIVERY_SOURCE, source);
    span.set(names::DELIVERY_ID, job.delivery.id.to_string());
    span.set(names::ENDPOINT_ID, job.endpoint.id.as_str().to_owned());
    span.set(names::WIRE_FORMAT, job.endpoint.wire_format.as_str());
    span.set(names::ATTEMPT_NUMBER, i64::from(job.delivery.attempt_count + 1));
    span.set(names::ATTEMPT_ROUND, i64::from(job.delivery.round));
    span
}

/// An attempt was made; this is its record.
pub(crate) fn made(mut span: Span, record: &Record) {
    let Some(attempt) = record.attempt.as_ref().filter(|_| span.recorded().is_some()) else { return };
    span.set(names::ATTEMPT_RESULT, attempt.result.as_str());
    note_state(&mut span, &record.delivery.state);
    if let Some(error) = &attempt.error {
        span.fail(error.code.clone());
    }
}

/// No attempt was made; this is what became of the delivery. One that came from the store and waits there again is
/// left out: it may do so many times.
pub(crate) fn unmade(mut span: Span, record: &Record, custody: &Custody) {
    let state = &record.delivery.state;
    if matches!((custody, state), (Custody::Lease(_), DeliveryState::Pending(_))) {
        return span.discard();
    }
    note_state(&mut span, state);
    if let DeliveryState::Failed { reason, .. } = state {
        span.fail(reason.as_str());
    }
}

/// Begins the span of a request, beneath that of the attempt.
pub(crate) fn request(attempt: &Span, method: &Method, purpose: Option<&'static str>) -> Span {
    let name = match method.as_str() {
        "POST" => "POST",
        "OPTIONS" => "OPTIONS",
        _ => "HTTP",
    };
    let mut span = attempt.child(Kind::Client, name);
    span.set_some(names::REQUEST_PURPOSE, purpose);
    span
}

/// What came of a request.
pub(crate) fn answered(mut span: Span, request: &SignedRequest, exchange: &Exchange) {
    if span.recorded().is_none() {
        return;
    }
    let url = request.url();
    span.set(names::HTTP_REQUEST_METHOD, request.method().as_str().to_owned());
    span.set(names::URL_SCHEME, if url.scheme() == "https" { "https" } else { "http" });
    span.set_some(names::SERVER_ADDRESS, url.host_str().map(str::to_owned));
    span.set_some(names::SERVER_PORT, url.port_or_known_default().map(i64::from));
    if let Some(address) = &exchange.address {
        match address.parse::<std::net::SocketAddr>() {
            Ok(address) => {
                span.set(names::NETWORK_PEER_ADDRESS, address.ip().to_string());
                span.set(names::NETWORK_PEER_PORT, i64::from(address.port()));
            }
            // An address without a port: nothing was connected to.
            Err(_) => span.set(names::NETWORK_PEER_ADDRESS, address.clone()),
        }
    }
    note_phases(&mut span, exchange.phases);
    match &exchange.result {
        Ok(reply) => {
            span.set(names::HTTP_RESPONSE_STATUS_CODE, i64::from(reply.status));
            if reply.status >= 400 {
                span.fail(reply.status.to_string());
            }
        }
        Err(error) => span.fail(error.error().code),
    }
}

/// Begins the span of a script.
pub(crate) fn script(attempt: &Span, name: &'static str) -> Span {
    attempt.child(Kind::Internal, name)
}

fn parent(notification: &Notification) -> Option<TraceContext> {
    TraceContext::parse(notification.traceparent.as_deref()?)
}

/// Such as `process posthaste.work`.
fn name(tracer: &Tracer, operation: &str) -> String {
    format!("{operation} {}", tracer.messaging().map_or("", |messaging| &messaging.queue))
}

fn note_message(span: &mut Span, tracer: &Tracer, operation: &'static str, notification: &Notification) {
    if let Some(messaging) = tracer.messaging() {
        span.set(names::MESSAGING_SYSTEM, messaging.system);
        let (exchange, queue) = (&messaging.exchange, &messaging.queue);
        span.set(names::MESSAGING_DESTINATION_NAME, format!("{exchange}:{}:{queue}", messaging.routing_key));
    }
    span.set(names::MESSAGING_OPERATION_TYPE, operation);
    span.set(names::MESSAGING_OPERATION_NAME, operation);
    span.set(names::MESSAGING_MESSAGE_ID, notification.id.as_str().to_owned());
    span.set(names::NOTIFICATION_ID, notification.id.as_str().to_owned());
    span.set(names::NOTIFICATION_TYPE, notification.kind.as_str().to_owned());
    span.set(names::TENANT, notification.tenant.as_str().to_owned());
}

fn note_state(span: &mut Span, state: &DeliveryState) {
    span.set(names::DELIVERY_STATUS, state.status().as_str());
    match state {
        DeliveryState::Failed { reason, .. } => span.set(names::DELIVERY_REASON, reason.as_str()),
        DeliveryState::Pending(wait) => {
            span.set(names::DELIVERY_WAIT, wait.as_str());
            if let Wait::Parked { why } = wait {
                span.set(names::DELIVERY_HOLD, why.as_str());
            }
        }
        DeliveryState::Delivered { .. } | DeliveryState::Expired { .. } | DeliveryState::Cancelled { .. } => {}
    }
}

fn note_phases(span: &mut Span, phases: Phases) {
    span.set_some(names::PHASE_DNS, phases.dns);
    span.set_some(names::PHASE_CONNECT, phases.connect);
    span.set_some(names::PHASE_TLS, phases.tls);
    span.set_some(names::PHASE_WAIT, phases.wait);
    span.set_some(names::PHASE_BODY, phases.body);
}
