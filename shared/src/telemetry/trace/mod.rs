//! Tracing: spans of OpenTelemetry, made where the work is done and sent to a collector in the
//! background. Off, a [`Tracer`] is `None` inside and each call returns at once.
//!
//! What belongs to a notification is in one trace: its context travels with it, over the broker and
//! through the store, and every attempt's span hangs beneath it. Who is called on whose behalf is
//! known where a span is made, so parents are passed as values; there is no current span.

mod encode;
mod export;
pub mod names;
mod queue;
mod span;

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use self::export::Exporting;
use self::queue::Queue;
use super::metrics::Metrics;
use crate::clock::Clock;
use crate::config::TracingConfig;
use crate::domain::id::{NotificationId, TenantId};
use crate::domain::trace_context::{SpanId, TraceContext, TraceId};

pub use self::span::{Kind, Span, Text, Value};

/// Trace ids have 56 random bits at their end to decide by (OpenTelemetry, "Probability Sampling").
const RANDOM_BITS: u32 = 56;

/// Makes spans. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    /// A trace whose last 56 bits are less is not recorded.
    refused_below: u64,
    messaging: Messaging,
    exporting: Mutex<Option<Exporting>>,
}

/// What the broker and its objects are called in spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messaging {
    /// `rabbitmq`, or `posthaste` for the embedded queue.
    pub system: &'static str,
    /// Where notifications are published.
    pub exchange: Arc<str>,
    /// Where they are taken from.
    pub queue: Arc<str>,
    /// With which routing key.
    pub routing_key: &'static str,
}

/// Which process makes the spans.
#[derive(Debug, Clone)]
pub struct Origin {
    /// `api`, `worker` or `up`.
    pub role: &'static str,
    /// Which of them: `service.instance.id`.
    pub instance: String,
    /// What the broker is called.
    pub messaging: Messaging,
}

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for tracing_otlp_endpoint cannot be created")]
pub struct TracingError(#[from] reqwest::Error);

impl Tracer {
    /// A tracer that makes no spans.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Makes spans and sends them. Must be called within a tokio runtime. That the collector cannot
    /// be reached is not an error: spans that cannot be sent are dropped and counted.
    ///
    /// # Errors
    /// When the HTTP client cannot be created.
    pub fn start(
        config: &TracingConfig,
        origin: Origin,
        metrics: &Metrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TracingError> {
        let queue = Arc::new(Queue::new(metrics.trace_spans_dropped.clone()));
        let resource = encode::resource(&config.resource, &origin);
        let exporting = Exporting::start(config, resource, Arc::clone(&queue), metrics)?;
        // As a whole number: comparing is exact then, and all services of one ratio draw the line
        // at the same id.
        let refused_below = refused_below(config.sample_ratio);
        let exporting = Mutex::new(Some(exporting));
        Ok(Self(Some(Arc::new(Inner {
            queue,
            clock,
            refused_below,
            messaging: origin.messaging,
            exporting,
        }))))
    }

    /// Whether spans are made at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What the broker is called; `None` when off.
    #[must_use]
    pub fn messaging(&self) -> Option<&Messaging> {
        self.0.as_deref().map(|inner| &inner.messaging)
    }

    /// Begins a span. Beneath a parent, it is recorded if the parent's trace is. Without one it
    /// begins a trace, which is recorded by the sample ratio; one that is not has a context all the
    /// same, so that all who come later agree.
    pub fn span(&self, kind: Kind, name: impl Into<Text>, parent: Option<TraceContext>) -> Span {
        let Some(inner) = &self.0 else {
            return Span::none();
        };
        match parent {
            // The ratio is not asked again: a trace that is recorded in parts is worth less than
            // none.
            Some(parent) if parent.is_sampled() => Span::begin(
                inner,
                kind,
                name.into(),
                parent.at(random_span()),
                Some(parent.span),
            ),
            Some(parent) => Span::unrecorded(parent),
            None => inner.root(kind, name.into(), random_trace(), random_span()),
        }
    }

    /// Begins the trace of a notification whose enqueuer brought none. Its ids are derived from the
    /// notification's name, so that a message that is delivered again, to any worker, goes on in
    /// the same trace.
    pub fn notification(
        &self,
        name: impl Into<Text>,
        tenant: &TenantId,
        id: &NotificationId,
    ) -> Span {
        let Some(inner) = &self.0 else {
            return Span::none();
        };
        // Neither name has a zero byte in it.
        // Derived and not drawn: every process that meets the notification first after another one
        // died arrives at the same trace.
        let hash = Sha256::new()
            .chain_update(b"posthaste trace\0")
            .chain_update(tenant.as_str())
            .chain_update([0])
            .chain_update(id.as_str())
            .finalize();
        let mut trace = [0; 16];
        let mut span = [0; 8];
        trace.copy_from_slice(&hash[..16]);
        span.copy_from_slice(&hash[16..24]);
        let trace = TraceId::new(trace).unwrap_or_else(random_trace);
        inner.root(
            Kind::Consumer,
            name.into(),
            trace,
            SpanId::new(span).unwrap_or_else(random_span),
        )
    }

    /// Sends what is there and ends; takes 3 s at most. Spans that end later are dropped.
    pub async fn shutdown(&self) {
        let Some(inner) = &self.0 else { return };
        // Taken out under the lock and awaited without it: a second call finds nothing and returns
        // at once.
        let exporting = inner
            .exporting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(exporting) = exporting {
            exporting.finish().await;
        }
    }
}

impl Inner {
    fn root(self: &Arc<Self>, kind: Kind, name: Text, trace: TraceId, span: SpanId) -> Span {
        // A trace that is not recorded still has a context: it goes along, so that nobody behind us
        // begins a trace of their own in the middle.
        let context = TraceContext::new(trace, span, is_wanted(trace, self.refused_below));
        if context.is_sampled() {
            Span::begin(self, kind, name, context, None)
        } else {
            Span::unrecorded(context)
        }
    }
}

/// The same trace gets the same answer everywhere, and a higher ratio takes all that a lower one
/// takes.
fn is_wanted(trace: TraceId, refused_below: u64) -> bool {
    let bytes = trace.bytes();
    let random = bytes[16 - RANDOM_BITS as usize / 8..]
        .iter()
        .fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
    // By the last bits of the id, which level 2 of W3C's Trace Context wants to be random, so that
    // all services that sample by the same rule agree.
    random >= refused_below
}

fn refused_below(ratio: f64) -> u64 {
    let all = 1_u64 << RANDOM_BITS;
    // Both fit: 2^56 is exact as a double, and the ratio is 0 to 1.
    ((1.0 - ratio) * all as f64) as u64
}

fn random_trace() -> TraceId {
    loop {
        // All zeros is not an id (Trace Context, section 3.2.2.3).
        if let Some(id) = TraceId::new(rand::random()) {
            return id;
        }
    }
}

fn random_span() -> SpanId {
    loop {
        if let Some(id) = SpanId::new(rand::random()) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::time::Timestamp;

    pub(super) fn tracer(ratio: f64) -> (Tracer, Arc<Queue>, Metrics) {
        let metrics = Metrics::new();
        let queue = Arc::new(Queue::new(metrics.trace_spans_dropped.clone()));
        let messaging = Messaging {
            system: "rabbitmq",
            exchange: "x".into(),
            queue: "q".into(),
            routing_key: "notification",
        };
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_000_000)));
        let queue_too = Arc::clone(&queue);
        let refused_below = refused_below(ratio);
        let inner = Inner {
            queue,
            clock,
            refused_below,
            messaging,
            exporting: Mutex::new(None),
        };
        (Tracer(Some(Arc::new(inner))), queue_too, metrics)
    }

    fn parent(flags: &str) -> Option<TraceContext> {
        TraceContext::parse(&format!(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"
        ))
    }

    #[test]
    fn a_recorded_parent_is_followed_whatever_the_ratio() {
        let (tracer, queue, _) = tracer(0.0);
        let span = tracer.span(Kind::Server, "a", parent("01"));
        let above = parent("01").unwrap();
        let context = span.context().unwrap();
        assert_eq!(context.trace, above.trace);
        assert_ne!(context.span, above.span);
        let child = span.child(Kind::Client, "b");
        assert_eq!(child.context().unwrap().trace, above.trace);
        drop(child);
        drop(span);
        let ended = queue.take(10);
        assert_eq!(ended[0].parent, Some(context.span));
        assert_eq!(ended[1].parent, Some(above.span));
    }

    #[test]
    fn an_unrecorded_parent_is_passed_on_as_it_is() {
        let (tracer, queue, _) = tracer(1.0);
        let span = tracer.span(Kind::Server, "a", parent("00"));
        assert_eq!(span.context(), parent("00"));
        assert_eq!(span.child(Kind::Client, "b").context(), parent("00"));
        drop(span);
        assert!(queue.take(10).is_empty());
    }

    #[test]
    fn a_trace_that_the_ratio_leaves_out_says_so_to_all() {
        let (tracer, queue, _) = tracer(0.0);
        let span = tracer.span(Kind::Server, "a", None);
        assert!(!span.context().unwrap().is_sampled());
        drop(span);
        assert!(queue.take(10).is_empty());
    }

    #[test]
    fn off_there_are_no_spans_and_no_contexts() {
        let span = Tracer::off().span(Kind::Server, "a", parent("01"));
        assert_eq!(span.context(), None);
        assert_eq!(span.child(Kind::Client, "b").context(), None);
    }

    #[test]
    fn a_notifications_own_trace_is_the_same_in_every_worker() {
        let tenant = TenantId::default();
        let id = NotificationId::parse("n-1").unwrap();
        let ((one, ..), (other, ..)) = (tracer(1.0), tracer(1.0));
        let context = one.notification("receive", &tenant, &id).context().unwrap();
        assert!(context.is_sampled());
        assert_eq!(
            other.notification("receive", &tenant, &id).context(),
            Some(context)
        );
        let another = NotificationId::parse("n-2").unwrap();
        assert_ne!(
            other
                .notification("receive", &tenant, &another)
                .context()
                .unwrap()
                .trace,
            context.trace
        );
    }

    #[test]
    fn the_ratio_is_kept_by_random_and_by_derived_ids() {
        let (tracer, ..) = tracer(0.25);
        let count = 20_000;
        let random = (0..count)
            .filter(|_| {
                tracer
                    .span(Kind::Server, "a", None)
                    .context()
                    .unwrap()
                    .is_sampled()
            })
            .count();
        let derived = (0..count)
            .filter(|n| {
                let id = NotificationId::parse(&format!("n-{n}")).unwrap();
                tracer
                    .notification("a", &TenantId::default(), &id)
                    .context()
                    .unwrap()
                    .is_sampled()
            })
            .count();
        // Six standard deviations of the binomial distribution: 6 * sqrt(20000 * 0.25 * 0.75) =
        // 367.
        for found in [random, derived] {
            assert!(found.abs_diff(5_000) < 367, "{found}");
        }
        let last = TraceId::new([0xff; 16]).unwrap();
        assert!(is_wanted(last, refused_below(0.000_001)) && is_wanted(last, refused_below(1.0)));
        assert!(!is_wanted(last, refused_below(0.0)));
    }
}
