//! One span, while its work goes on.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::Inner;
use super::names::ERROR_TYPE;
use super::random_span;
use crate::domain::trace_context::{SpanId, TraceContext};

/// On which side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work inside a process.
    Internal,
    /// A request that came in.
    Server,
    /// A request that goes out.
    Client,
    /// A message that is sent.
    Producer,
    /// A message that is worked on.
    Consumer,
}

/// A text that is often a constant, or shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// A constant, or a text of its own.
    Own(Cow<'static, str>),
    /// One that is made once.
    Shared(Arc<str>),
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text, UTF-8 as everywhere.
    Text(Text),
    /// A whole number, signed.
    Integer(i64),
    /// Any other number, such as milliseconds.
    Number(f64),
}

/// A span. It ends when it is dropped. One that is not recorded still has a context to pass on,
/// where there is one.
#[derive(Debug, Default)]
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    context: Option<TraceContext>,
    recording: Option<Box<Recording>>,
}

struct Recording {
    tracer: Arc<Inner>,
    begun: Instant,
    data: SpanData,
}

/// What is sent of a span.
#[derive(Debug)]
pub(super) struct SpanData {
    pub(super) context: TraceContext,
    pub(super) parent: Option<SpanId>,
    pub(super) kind: Kind,
    pub(super) name: Text,
    /// When it began, in nanoseconds since 1970.
    pub(super) begun_at: u64,
    pub(super) ended_at: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) failed: bool,
}

impl Span {
    /// No span, and no context.
    pub const fn none() -> Self {
        Self {
            context: None,
            recording: None,
        }
    }

    pub(super) const fn unrecorded(context: TraceContext) -> Self {
        Self {
            context: Some(context),
            recording: None,
        }
    }

    pub(super) fn begin(
        tracer: &Arc<Inner>,
        kind: Kind,
        name: Text,
        context: TraceContext,
        parent: Option<SpanId>,
    ) -> Self {
        let begun_at = u64::try_from(tracer.clock.now().as_micros())
            .unwrap_or(0)
            .saturating_mul(1_000);
        let attributes = Vec::with_capacity(20);
        let data = SpanData {
            context,
            parent,
            kind,
            name,
            begun_at,
            ended_at: begun_at,
            attributes,
            failed: false,
        };
        let recording = Recording {
            tracer: Arc::clone(tracer),
            begun: Instant::now(),
            data,
        };
        Self {
            context: Some(context),
            recording: Some(Box::new(recording)),
        }
    }

    /// Begins a span beneath this one.
    pub fn child(&self, kind: Kind, name: impl Into<Text>) -> Self {
        match (&self.recording, self.context) {
            (Some(recording), Some(context)) => Self::begin(
                &recording.tracer,
                kind,
                name.into(),
                context.at(random_span()),
                Some(context.span),
            ),
            // Not recorded, but with the context: those further down have to hear that the trace is
            // left out, or they would begin one of their own.
            (_, context) => Self {
                context,
                recording: None,
            },
        }
    }

    /// What those who are called on behalf of this work are told; `None` when tracing is off.
    #[must_use]
    pub const fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// The context, if this span is recorded.
    #[must_use]
    pub fn recorded(&self) -> Option<TraceContext> {
        self.context.filter(|_| self.recording.is_some())
    }

    /// Says something of the work. Nothing happens in a span that is not recorded: where a value
    /// costs something to make, ask [`Self::recorded`] first.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(recording) = &mut self.recording {
            recording.data.attributes.push((name, value.into()));
        }
    }

    /// [`Self::set`], where there is a value.
    pub fn set_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// The work failed; `error_type` is one of few words.
    pub fn fail(&mut self, error_type: impl Into<Text>) {
        self.set(ERROR_TYPE, error_type.into());
        if let Some(recording) = &mut self.recording {
            recording.data.failed = true;
        }
    }

    /// Drops the span, which is then never exported.
    pub fn discard(mut self) {
        self.recording = None;
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(recording) = self.recording.take() {
            let Recording {
                tracer,
                begun,
                mut data,
            } = *recording;
            // Measured by the monotonic clock: a wall clock that is set back meanwhile would let
            // the span end before it began.
            let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            data.ended_at = data.begun_at.saturating_add(took);
            tracer.queue.put(data);
        }
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.data.fmt(f)
    }
}

impl Text {
    pub(super) fn into_string(self) -> String {
        match self {
            Self::Own(text) => text.into_owned(),
            Self::Shared(text) => text.as_ref().to_owned(),
        }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Own(Cow::Borrowed(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Own(Cow::Owned(text))
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl<T: Into<Text>> From<T> for Value {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}
