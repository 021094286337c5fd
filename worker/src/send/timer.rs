//! Where the time of an exchange goes. The client says nothing of its inside, so the connector
//! writes into a timer that belongs to the task on whose behalf it runs.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthaste_shared::domain::attempt::Phases;
use tokio::time::Instant;

tokio::task_local! {
    static TIMER: Timer;
}

/// Numbers exchanges, so that a connection knows for which of them it was opened.
static EXCHANGES: AtomicU64 = AtomicU64::new(1);

/// Times one exchange. Clones are handles to the same timer.
#[derive(Debug, Clone)]
pub(super) struct Timer {
    exchange: u64,
    deadline: Instant,
    times: Arc<Mutex<Times>>,
}

/// What an exchange is waiting for while it has no connection yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// A connection of the pool, or the connector's turn.
    Starting,
    /// The addresses of a name.
    LookingUp(String),
    /// A TCP connection to one of these.
    Connecting(Vec<SocketAddr>),
    /// The end of the TLS handshake with this address.
    Handshake(SocketAddr),
    /// The head of the answer from this address.
    Waiting(SocketAddr),
}

#[derive(Debug)]
struct Times {
    begun: Instant,
    stage: Stage,
    dns: Option<Duration>,
    connect: Option<Duration>,
    tls: Option<Duration>,
    connected: Option<Instant>,
    answered: Option<Instant>,
    finished: Option<Instant>,
    address: Option<String>,
}

impl Timer {
    /// Starts now; the exchange ends at the deadline.
    pub(super) fn start(deadline: tokio::time::Instant) -> Self {
        let times = Times {
            begun: Instant::now(),
            stage: Stage::Starting,
            dns: None,
            connect: None,
            tls: None,
            connected: None,
            answered: None,
            finished: None,
            address: None,
        };
        // Only its being unique counts, so no order with other memory is needed.
        let exchange = EXCHANGES.fetch_add(1, Ordering::Relaxed);
        Self {
            exchange,
            deadline,
            times: Arc::new(Mutex::new(times)),
        }
    }

    /// The timer of the exchange that this task makes, if it makes one.
    pub(super) fn current() -> Option<Self> {
        TIMER.try_with(Self::clone).ok()
    }

    /// Runs the exchange so that the connector finds this timer.
    pub(super) fn scope<F: Future>(&self, exchange: F) -> impl Future<Output = F::Output> + use<F> {
        TIMER.scope(self.clone(), exchange)
    }

    /// The number of the exchange.
    pub(super) const fn exchange(&self) -> u64 {
        self.exchange
    }

    /// When the exchange ends at the latest.
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is left until then.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.lock().stage = stage;
    }

    pub(super) fn stage(&self) -> Stage {
        self.lock().stage.clone()
    }

    /// A name's addresses are known; the first of them is what would be called.
    pub(super) fn looked_up(&self, took: Duration, first: Option<SocketAddr>) {
        let mut times = self.lock();
        times.dns = Some(took);
        times.address = first.map(|address| address.ip().to_string());
    }

    /// There is a TCP connection.
    pub(super) fn connected(&self, took: Duration, address: SocketAddr) {
        let mut times = self.lock();
        times.connect = Some(took);
        times.connected = Some(Instant::now());
        times.address = Some(address.to_string());
    }

    /// The TLS handshake is done.
    pub(super) fn tls_done(&self, took: Duration) {
        let mut times = self.lock();
        times.tls = Some(took);
        // Again after TCP: the wait for the answer begins when the request can be written.
        times.connected = Some(Instant::now());
    }

    /// The request went out on a connection that was there before, whatever the connector did
    /// meanwhile.
    pub(super) fn reused(&self, address: SocketAddr) {
        let mut times = self.lock();
        // The connector may have looked up and connected in the background for a connection that
        // another request got.
        (times.dns, times.connect, times.tls, times.connected) = (None, None, None, None);
        times.address = Some(address.to_string());
    }

    /// The answer's head is there.
    pub(super) fn answered(&self) {
        self.lock().answered = Some(Instant::now());
    }

    /// The answer's body is there, or as much of it as is read.
    pub(super) fn finished(&self) {
        self.lock().finished = Some(Instant::now());
    }

    /// The address that was called; without a port, the one that would have been.
    pub(super) fn address(&self) -> Option<String> {
        self.lock().address.clone()
    }

    pub(super) fn phases(&self) -> Phases {
        let times = self.lock();
        let between =
            |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        Phases {
            dns: times.dns.map(millis),
            connect: times.connect.map(millis),
            tls: times.tls.map(millis),
            // Without a connection of its own the wait begins with the exchange.
            wait: between(times.connected.or(Some(times.begun)), times.answered).map(millis),
            body: between(times.answered, times.finished).map(millis),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
