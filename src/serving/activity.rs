//! What a connection is doing, and how long it may go on doing it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Limits;

/// How long a client may leave an answer unread, once what the network holds for it is full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a connection is doing. Its socket, its requests and its watchdog share it.
pub(super) struct Activity(Mutex<State>);

struct State {
    /// Requests whose answer is not wholly written.
    requests: usize,
    /// Whether there was a request.
    served: bool,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
    /// When the first byte of the next request came.
    head_since: Option<Instant>,
    /// Since when the socket takes no more of an answer.
    blocked_since: Option<Instant>,
    /// In HTTP/2 bytes come without a request, too, such as pings.
    http2: bool,
    /// All is answered; what still comes is read and dropped, in the socket's own time.
    lingers: bool,
}

impl Activity {
    /// A connection that begins now.
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            requests: 0,
            served: false,
            idle_since: Instant::now(),
            head_since: None,
            blocked_since: None,
            http2: false,
            lingers: false,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's head is complete.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.requests += 1;
        state.served = true;
        state.head_since = None;
    }

    /// A request is answered, or given up.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.requests = state.requests.saturating_sub(1);
        state.idle_since = Instant::now();
    }

    /// Notes that bytes came in.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        if !state.served && state.head_since.is_none() {
            // The first bytes of HTTP/2's preface, which is no request in HTTP/1.
            state.http2 = bytes.starts_with(b"PRI ");
        }
        // Bytes that come while a request is being answered belong to its body: they start no
        // clock, else a slow handler would count against its client.
        if state.requests == 0 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    /// The socket took bytes of an answer, or would take none.
    pub(super) fn wrote(&self, blocked: bool) {
        let mut state = self.state();
        // Only the first refusal starts the clock, and any byte that the socket takes stops it: a
        // slow reader goes on, only one that reads nothing at all is cut off.
        state.blocked_since = blocked.then(|| state.blocked_since.unwrap_or_else(Instant::now));
    }

    /// The connection is being closed; the socket bounds how long that takes.
    pub(super) fn linger(&self) {
        self.state().lingers = true;
    }

    /// Since when the connection has had no request; none: it has one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.requests == 0).then_some(state.idle_since)
    }

    /// When the connection is to be closed, if nothing happens until then.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let state = self.state();
        if state.lingers {
            return None;
        }
        let blocked = state.blocked_since.map(|since| since + WRITE_TIMEOUT);
        // How long handlers take is theirs to bound. Here only a client that does not read counts.
        if state.requests > 0 {
            return blocked;
        }
        let idle = state.idle_since + limits.idle_timeout;
        let head = match (state.served, state.head_since) {
            // The first request is measured from the beginning of the connection, so that a client
            // gains nothing by keeping silent before its first byte.
            (false, _) => Some(state.idle_since + limits.header_timeout),
            (true, since) => since
                .filter(|_| !state.http2)
                .map(|since| since + limits.header_timeout),
        };
        [Some(idle), head, blocked].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits::OPERATIONS;

    #[tokio::test(start_paused = true)]
    async fn heads_idle_connections_and_unread_answers_have_their_own_times() {
        let activity = Activity::new();
        let start = Instant::now();
        assert_eq!(
            activity.deadline(&LIMITS),
            Some(start + LIMITS.header_timeout),
            "silent from the beginning"
        );
        activity.received(b"GET / HT");
        activity.begin();
        assert_eq!(activity.deadline(&LIMITS), None, "a request is under way");
        activity.wrote(true);
        tokio::time::advance(Duration::from_secs(3)).await;
        activity.wrote(true);
        assert_eq!(
            activity.deadline(&LIMITS),
            Some(start + WRITE_TIMEOUT),
            "it does not read its answer"
        );
        activity.wrote(false);
        activity.end();
        let idle = Instant::now();
        assert_eq!(
            activity.deadline(&LIMITS),
            Some(idle + LIMITS.idle_timeout),
            "kept alive"
        );
        activity.received(b"G");
        tokio::time::advance(Duration::from_secs(1)).await;
        activity.received(b"E");
        assert_eq!(
            activity.deadline(&LIMITS),
            Some(idle + LIMITS.header_timeout),
            "a head that drips"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn pings_neither_shorten_nor_lengthen_an_idle_connection_of_http2() {
        let activity = Activity::new();
        activity.received(b"PRI * HTTP/2.0\r\n\r\n");
        activity.begin();
        activity.end();
        let idle = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        activity.received(b"a ping");
        assert_eq!(activity.deadline(&LIMITS), Some(idle + LIMITS.idle_timeout));
    }
}
