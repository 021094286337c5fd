//! The spans of attempts at deliveries; those of their requests and scripts are beneath them
//! (`attempt::spans`). No payload, recipient or secret is ever in a span.

use posthaste_shared::domain::delivery::{DeliveryState, Wait};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::trace_context::TraceContext;
use posthaste_shared::store::record::Record;
use posthaste_shared::telemetry::trace::{Kind, Span, Tracer, names};

use crate::pipeline::job::{AckHandle, Job};

/// Sees to it that a notification that was just taken up has a trace, so that all its attempts,
/// hours later and in other workers, are in one. Does nothing where tracing is off, or where the
/// enqueuer brought one.
pub(crate) fn take_up(tracer: &Tracer, notification: &mut Notification) {
    if !tracer.is_on() || parent(notification).is_some() {
        return;
    }
    let mut span = tracer.notification(
        name(tracer, "receive"),
        &notification.tenant,
        &notification.id,
    );
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
    let mut span = tracer.span(
        Kind::Consumer,
        name(tracer, "process"),
        parent(&job.notification),
    );
    let Some(context) = span.recorded() else {
        return span;
    };
    tracing::Span::current().record("trace.id", tracing::field::display(context.trace));
    note_message(&mut span, tracer, "process", &job.notification);
    let source = if matches!(job.ack, AckHandle::Lease(_)) {
        "store"
    } else {
        "broker"
    };
    span.set(names::DELIVERY_SOURCE, source);
    span.set(names::DELIVERY_ID, job.delivery.id.to_string());
    span.set(names::ENDPOINT_ID, job.endpoint.id.as_str().to_owned());
    span.set(names::WIRE_FORMAT, job.endpoint.wire_format.as_str());
    span.set(
        names::ATTEMPT_NUMBER,
        i64::from(job.delivery.attempt_count + 1),
    );
    span.set(names::ATTEMPT_ROUND, i64::from(job.delivery.round));
    span
}

/// Closes the span of an attempt that was made, by its record.
pub(crate) fn attempted(mut span: Span, record: &Record) {
    let Some(attempt) = record
        .attempt
        .as_ref()
        .filter(|_| span.recorded().is_some())
    else {
        return;
    };
    span.set(names::ATTEMPT_RESULT, attempt.result.as_str());
    note_state(&mut span, &record.delivery.state);
    if let Some(error) = &attempt.error {
        span.fail(error.code.clone());
    }
}

/// Closes the span of a delivery without an attempt, by its record. One that came from the store
/// and waits there again is left out: it may do so many times.
pub(crate) fn untried(mut span: Span, record: &Record, ack: &AckHandle) {
    let state = &record.delivery.state;
    if matches!(
        (ack, state),
        (AckHandle::Lease(_), DeliveryState::Pending(_))
    ) {
        return span.discard();
    }
    note_state(&mut span, state);
    if let DeliveryState::Failed { reason, .. } = state {
        span.fail(reason.as_str());
    }
}

fn parent(notification: &Notification) -> Option<TraceContext> {
    TraceContext::parse(notification.traceparent.as_deref()?)
}

/// Such as `process posthaste.work`.
fn name(tracer: &Tracer, operation: &str) -> String {
    format!(
        "{operation} {}",
        tracer.messaging().map_or("", |messaging| &messaging.queue)
    )
}

fn note_message(
    span: &mut Span,
    tracer: &Tracer,
    operation: &'static str,
    notification: &Notification,
) {
    if let Some(messaging) = tracer.messaging() {
        span.set(names::MESSAGING_SYSTEM, messaging.system);
        let exchange = &messaging.exchange;
        let queue = &messaging.queue;
        span.set(
            names::MESSAGING_DESTINATION_NAME,
            format!("{exchange}:{}:{queue}", messaging.routing_key),
        );
    }
    span.set(names::MESSAGING_OPERATION_TYPE, operation);
    span.set(names::MESSAGING_OPERATION_NAME, operation);
    span.set(
        names::MESSAGING_MESSAGE_ID,
        notification.id.as_str().to_owned(),
    );
    span.set(names::NOTIFICATION_ID, notification.id.as_str().to_owned());
    span.set(
        names::NOTIFICATION_TYPE,
        notification.kind.as_str().to_owned(),
    );
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
        DeliveryState::Delivered { .. }
        | DeliveryState::Expired { .. }
        | DeliveryState::Cancelled { .. } => {}
    }
}
