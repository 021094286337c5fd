//! Bodies of requests and answers, as small as they can be.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Interval, interval};

/// A body that is there already, or one that comes a byte at a time.
pub(super) enum Slip {
    /// All at once; `None`: sent, or empty.
    Whole(Option<Bytes>),
    /// A byte at each tick, without an end.
    Drip(Interval),
}

impl Slip {
    /// Nothing at all.
    pub(super) const fn empty() -> Self {
        Self::Whole(None)
    }

    /// These bytes.
    pub(super) const fn of(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }

    /// A byte a second, for ever.
    pub(super) fn drip() -> Self {
        Self::Drip(interval(Duration::from_secs(1)))
    }
}

impl Body for Slip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Drip(interval) => interval
                .poll_tick(context)
                .map(|_| Some(Ok(Frame::data(Bytes::from_static(b"."))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Drip(_) => SizeHint::default(),
        }
    }
}

/// Reads a body to its end and returns its beginning, `keep` bytes at most.
pub(super) async fn read(mut body: Incoming, keep: usize) -> Result<Bytes, hyper::Error> {
    let mut first = Bytes::new();
    let mut more: Vec<u8> = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if first.is_empty() && more.is_empty() {
            // Most bodies are a single frame, which is not copied.
            first = data;
        } else if first.len() + more.len() < keep {
            if more.is_empty() {
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&data);
        }
    }
    let whole = if more.is_empty() {
        first
    } else {
        Bytes::from(more)
    };
    Ok(whole.slice(..whole.len().min(keep)))
}
