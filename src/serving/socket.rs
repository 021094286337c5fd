//! A client's socket: notes what happens on it, and closes in a way that does not lose the last
//! answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::activity::Activity;

/// How long what a client still sends is read after the last answer.
const LINGER: Duration = Duration::from_secs(30);
/// How long a client may be silent in that time.
const LINGER_SILENCE: Duration = Duration::from_secs(3);
/// How much is read in that time: the largest body that the API can be set to take
/// (`max_batch_bytes`).
const LINGER_BYTES: usize = 256 * 1024 * 1024;

/// The socket of one client.
pub(super) struct Socket {
    stream: TcpStream,
    activity: Arc<Activity>,
    closing: Option<Closing>,
}

/// The answer is out and our side is closed.
///
/// An answer can come before its request was read whole, such as 413. Closing the socket then would
/// make the system send a reset, at which the client's side throws the answer away unread; and most
/// clients read no answer before they have written all. So what comes is read and dropped until the
/// client closes, too.
struct Closing {
    ends_at: Instant,
    /// At the end of the silence that is allowed, or at `ends_at`.
    timer: Pin<Box<Sleep>>,
    dropped: usize,
}

impl Socket {
    /// Wraps a connection that was accepted.
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            closing: None,
        }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        self.activity.wrote(written.is_pending());
    }
}

impl Closing {
    fn new() -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(now + LINGER_SILENCE));
        Self {
            ends_at: now + LINGER,
            timer,
            dropped: 0,
        }
    }

    /// Reads and drops what comes; ready when the client is done, or its time is.
    fn poll(&mut self, stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<()> {
        // On the stack for one poll: a connection that lingers keeps no buffer while it waits.
        let mut scratch = [0_u8; 16 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.dropped += buffer.filled().len();
                    let now = Instant::now();
                    // Checked here besides by the timer: a client that sends without a pause never
                    // lets it fire.
                    if self.dropped > LINGER_BYTES || now >= self.ends_at {
                        return Poll::Ready(());
                    }
                    self.timer
                        .as_mut()
                        .reset((now + LINGER_SILENCE).min(self.ends_at));
                }
                // The client closed its side, or the connection broke: there is no answer left to
                // lose.
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.timer.as_mut().poll(context),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        // A read of nothing is the end of the stream, which is not activity.
        if !new.is_empty() {
            self.activity.received(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.closing.is_none() {
            // Our side closes first, so that the client sees the end of the answer. From then on
            // the times above bound the connection, and no longer the watchdog.
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.activity.linger();
        }
        let closing = this.closing.get_or_insert_with(Closing::new);
        closing.poll(&mut this.stream, context).map(Ok)
    }
}
