//! A connection that knows what the client does not say: for which exchange it was opened, and
//! whether a byte of an answer has come since the last request went out on it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::dial::Socket;

/// What is known of a connection. Clones are handles to the same connection.
#[derive(Debug, Clone)]
pub(super) struct Known(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    address: SocketAddr,
    opened_for: u64,
    http2: bool,
    /// An answer came on it before.
    proven: AtomicBool,
    /// Something was written since a byte was last read.
    unanswered: AtomicBool,
}

impl Known {
    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(super) fn is_http2(&self) -> bool {
        self.0.http2
    }

    /// Whether it was there before this exchange, and so may have been closed by the other side
    /// meanwhile.
    pub(super) fn is_reused_by(&self, exchange: u64) -> bool {
        self.0.opened_for != exchange || self.0.proven.load(Ordering::Acquire)
    }

    /// Whether no byte has come since the last request was written. On HTTP/2 it says nothing, as
    /// frames of the connection's own come at any time.
    pub(super) fn is_unanswered(&self) -> bool {
        self.0.unanswered.load(Ordering::Acquire)
    }

    /// Notes that an answer came: the next request on the connection finds it already used.
    pub(super) fn answered(&self) {
        self.0.proven.store(true, Ordering::Release);
    }
}

#[derive(Debug)]
pub(super) enum Stream {
    Plain(Box<dyn Socket>),
    Tls(Box<TlsStream<Box<dyn Socket>>>),
}

/// A connection as the client holds it.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    known: Known,
    /// Why nothing can be written any more.
    unwritable: Option<io::Error>,
}

impl Watched {
    pub(super) fn new(stream: Stream, address: SocketAddr, opened_for: u64) -> Self {
        let http2 = match &stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        // Nothing was read yet: a connection that breaks before its first byte has answered
        // nothing.
        let unanswered = AtomicBool::new(true);
        let facts = Facts {
            address,
            opened_for,
            http2,
            proven: AtomicBool::new(false),
            unanswered,
        };
        Self {
            stream,
            known: Known(Arc::new(facts)),
            unwritable: None,
        }
    }

    /// Receivers answer early, such as 413 to a large request, and close: writing on fails while
    /// their answer waits to be read. So on HTTP/1.1 what cannot be written is dropped, and reading
    /// finds the answer or, where there is none, this error.
    fn written(&mut self, result: io::Result<usize>, wanted: usize) -> io::Result<usize> {
        // Set even where writing failed: a part of the request may have left before.
        self.known.0.unanswered.store(true, Ordering::Release);
        match result {
            Err(error) if !self.known.0.http2 && is_closed(&error) => {
                self.unwritable = Some(error);
                Ok(wanted)
            }
            other => other,
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.known.clone());
        if self.known.0.http2 {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        })?;
        if buffer.filled().len() > before {
            self.known.0.unanswered.store(false, Ordering::Release);
        } else if room && let Some(error) = self.unwritable.take() {
            // The stream ended without an answer, so the failed write is the cause worth reporting.
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.unwritable.is_some() {
            // Reported as written, so that the client goes on to read the answer.
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        });
        Poll::Ready(self.written(result, bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        if self.unwritable.is_some() {
            return Poll::Ready(Ok(wanted));
        }
        let result = ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        });
        Poll::Ready(self.written(result, wanted))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unwritable.is_some() {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        });
        Poll::Ready(match result {
            // TLS keeps written bytes until they are flushed: the closed connection may show here
            // first.
            Err(error) if !self.known.0.http2 && is_closed(&error) => {
                self.unwritable = Some(error);
                Ok(())
            }
            other => other,
        })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
