//! Ended spans on their way out: bounded, and never waited for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use tokio::sync::Notify;

use super::span::SpanData;

/// The most spans that wait: at 1 to 2 KiB each, 8 to 16 MiB. What a busy process makes in some
/// seconds.
pub(super) const CAPACITY: usize = 8_192;
/// The most spans in one request: the default of OpenTelemetry's SDKs.
pub(super) const BATCH: usize = 512;

/// Spans that wait to be sent.
#[derive(Debug)]
pub(super) struct Queue {
    spans: Mutex<VecDeque<SpanData>>,
    enough: Notify,
    dropped: IntCounter,
}

impl Queue {
    pub(super) fn new(dropped: IntCounter) -> Self {
        Self {
            spans: Mutex::new(VecDeque::with_capacity(BATCH)),
            enough: Notify::new(),
            dropped,
        }
    }

    /// Puts a span in; drops it where there is no room.
    pub(super) fn put(&self, span: SpanData) {
        let waiting = {
            let mut spans = self.lock();
            // The newest span is dropped and not the oldest: the oldest ones are about to be sent,
            // and may have their parents sent already.
            if spans.len() >= CAPACITY {
                drop(spans);
                self.dropped.inc();
                return;
            }
            spans.push_back(span);
            spans.len()
        };
        // Only now and then, so that a span wakes nobody.
        if waiting.is_multiple_of(BATCH) {
            self.enough.notify_one();
        }
    }

    /// Takes the oldest out.
    pub(super) fn take(&self, most: usize) -> Vec<SpanData> {
        let mut spans = self.lock();
        let count = spans.len().min(most);
        spans.drain(..count).collect()
    }

    /// Returns when there is enough for a whole request.
    pub(super) async fn until_enough(&self) {
        self.enough.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SpanData>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tracer;
    use super::super::{Kind, Tracer};
    use super::*;

    fn make(tracer: &Tracer, count: usize) {
        for _ in 0..count {
            drop(tracer.span(Kind::Internal, "a", None));
        }
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let (tracer, queue, metrics) = tracer(1.0);
        make(&tracer, CAPACITY + 3);
        assert_eq!(metrics.trace_spans_dropped.get(), 3);
        assert_eq!(queue.take(BATCH).len(), BATCH);
        make(&tracer, 1);
        assert_eq!(metrics.trace_spans_dropped.get(), 3);
    }

    #[tokio::test]
    async fn a_whole_batch_wakes_the_exporter() {
        let (tracer, queue, _) = tracer(1.0);
        make(&tracer, BATCH);
        tokio::time::timeout(std::time::Duration::from_secs(5), queue.until_enough())
            .await
            .unwrap();
    }
}
