//! Where the time of an exchange goes. The client tells nothing of its inside, so the resolver, the
//! connector and TLS write into a timer that belongs to the task on whose behalf they run.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use posthaste_shared::domain::attempt::Phases;
use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    static TIMER: Arc<Mutex<Times>>;
}

#[derive(Debug)]
struct Times {
    begun: Instant,
    dns: Option<Duration>,
    tls_begun: Option<Instant>,
    connect_begun: Option<Instant>,
    connected: Option<Instant>,
    answered: Option<Instant>,
    finished: Option<Instant>,
    address: Option<SocketAddr>,
}

/// Times one exchange.
#[derive(Debug)]
pub(super) struct PhaseTimer(Arc<Mutex<Times>>);

impl PhaseTimer {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(Times {
            begun: Instant::now(),
            dns: None,
            tls_begun: None,
            connect_begun: None,
            connected: None,
            answered: None,
            finished: None,
            address: None,
        })))
    }

    /// Runs the exchange so that its parts find this timer.
    pub(super) fn scope<F: Future>(&self, exchange: F) -> impl Future<Output = F::Output> + use<F> {
        TIMER.scope(Arc::clone(&self.0), exchange)
    }

    /// The answer's head is there.
    pub(super) fn answered(&self, address: Option<SocketAddr>) {
        let mut times = lock(&self.0);
        times.answered = Some(Instant::now());
        times.address = address.or(times.address);
    }

    /// The answer's body is there.
    pub(super) fn finished(&self) {
        lock(&self.0).finished = Some(Instant::now());
    }

    /// The address that was called, or would have been first.
    pub(super) fn address(&self) -> Option<String> {
        lock(&self.0)
            .address
            .map(|address| if address.port() == 0 { address.ip().to_string() } else { address.to_string() })
    }

    pub(super) fn phases(&self) -> Phases {
        let times = lock(&self.0);
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let tcp_done = times.tls_begun.or(times.connected);
        let connect =
            between(times.connect_begun, tcp_done).map(|all| all.saturating_sub(times.dns.unwrap_or_default()));
        Phases {
            dns: times.dns.map(millis),
            connect: connect.map(millis),
            tls: between(times.tls_begun, times.connected).map(millis),
            wait: between(times.connected.or(Some(times.begun)), times.answered).map(millis),
            body: between(times.answered, times.finished).map(millis),
        }
    }
}

/// Called by the resolver.
pub(super) fn resolved(took: Duration, addresses: &[SocketAddr]) {
    with_timer(|times| {
        times.dns = Some(took);
        times.address = addresses.first().copied();
    });
}

/// Called when a TLS handshake begins.
pub(super) fn tls_begun() {
    with_timer(|times| times.tls_begun = Some(Instant::now()));
}

/// A connection that is made in the background, for another request, has no timer: nothing is kept of it.
fn with_timer(change: impl FnOnce(&mut Times)) {
    let _ = TIMER.try_with(|timer| change(&mut lock(timer)));
}

fn lock(times: &Mutex<Times>) -> MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Times connecting: look-up, TCP and TLS together.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimedConnect;

/// A connector that is timed.
#[derive(Debug, Clone)]
pub(super) struct Timed<S>(S);

impl<S> Layer<S> for TimedConnect {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed(inner)
    }
}

impl<S, Target> Service<Target> for Timed<S>
where
    S: Service<Target>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let connecting = self.0.call(target);
        Box::pin(async move {
            with_timer(|times| times.connect_begun = Some(Instant::now()));
            let connected = connecting.await;
            if connected.is_ok() {
                with_timer(|times| times.connected = Some(Instant::now()));
            }
            connected
        })
    }
}
