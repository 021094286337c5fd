//! A connection that is made again whenever it is lost. lapin can recover connections itself; this is
//! kept apart from it, because a lost connection is a clean cut: new channels, new delivery tags, and
//! nothing of the old one is ever sent again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use lapin::{Channel, Connection, ErrorKind, Event};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::options::Target;
use super::{dial, topology};
use crate::backoff::Reconnect;
use crate::broker::BrokerError;
use crate::telemetry::metrics::Metrics;

/// The bound for opening a channel, declaring, and closing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The bound for closing a connection in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the connection's state is looked at, should no event tell of a loss.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A connection that lived so long was a good one: the next is tried soon after its loss.
const STEADY: Duration = Duration::from_secs(10);

/// An open connection on which the topology was declared.
pub(super) struct Session {
    /// Counts the connections of one [`Link`].
    pub(super) number: u64,
    connection: Connection,
    target: Arc<Target>,
}

/// What a connection is doing.
#[derive(Clone)]
enum State {
    Down(Trouble),
    Up(Arc<Session>),
    Closed,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// The first one is being made.
    Connecting,
    Unreachable(String),
    Topology(String),
}

/// The way to the current connection. Its task ends when `stop` is cancelled.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
}

impl Link {
    /// Starts connecting, and the future that keeps at it: spawn that one.
    pub(super) fn start(
        target: Arc<Target>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, state) = watch::channel(State::Down(Trouble::Connecting));
        let keeper = Keeper { target, metrics, stop, state: sender, reported: None };
        (Self { state }, keeper.run())
    }

    /// The current connection; waits up to `patience` for one that takes messages.
    pub(super) async fn session(&self, patience: Duration) -> Result<Arc<Session>, BrokerError> {
        if let Some(session) = self.usable() {
            return Ok(session);
        }
        let mut state = self.state.clone();
        let settled = |state: &State| matches!(state, State::Up(_) | State::Closed);
        drop(timeout(patience, state.wait_for(settled)).await.map(drop));
        self.usable().ok_or_else(|| self.trouble())
    }

    /// The next connection, however long it takes; `None` once closed.
    pub(super) async fn wait(&self) -> Option<Arc<Session>> {
        let mut state = self.state.clone();
        let settled = |state: &State| matches!(state, State::Up(_) | State::Closed);
        match &*state.wait_for(settled).await.ok()? {
            State::Up(session) => Some(Arc::clone(session)),
            _ => None,
        }
    }

    fn usable(&self) -> Option<Arc<Session>> {
        match &*self.state.borrow() {
            State::Up(session) if session.is_open() && !session.is_blocked() => Some(Arc::clone(session)),
            _ => None,
        }
    }

    fn trouble(&self) -> BrokerError {
        let text = match &*self.state.borrow() {
            State::Closed => "closed".to_owned(),
            State::Up(session) if session.is_blocked() => {
                "RabbitMQ blocks publishers because it runs low on memory or disk space".to_owned()
            }
            State::Up(_) => "the connection was just lost".to_owned(),
            State::Down(Trouble::Connecting) => "still connecting".to_owned(),
            State::Down(Trouble::Unreachable(text)) => text.clone(),
            State::Down(Trouble::Topology(text)) => return BrokerError::Topology(text.clone()),
        };
        BrokerError::Unavailable(text)
    }
}

impl Session {
    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether RabbitMQ reads nothing from publishers now.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        in_time(self.connection.create_channel()).await
    }

    /// Declares the topology, on a channel of its own: an error closes the channel.
    pub(super) async fn declare(&self) -> Result<(), BrokerError> {
        let channel = self.channel().await?;
        in_time(topology::declare(&channel, &self.target.names)).await?;
        close_channel(&channel).await;
        Ok(())
    }

    /// Returns when the connection is gone.
    async fn lost(&self) -> String {
        let mut events = std::pin::pin!(self.connection.events_listener());
        let mut last = "the connection was closed".to_owned();
        while self.is_open() {
            match timeout(LOOK_EVERY, events.next()).await {
                Ok(Some(Event::Error(error))) => last = error.to_string(),
                Ok(Some(Event::ConnectionBlocked(reason))) => tracing::warn!(reason, "RabbitMQ blocks publishers"),
                Ok(Some(Event::ConnectionUnblocked)) => tracing::info!("RabbitMQ takes messages again"),
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => break,
            }
        }
        last
    }

    async fn close(&self) {
        if self.is_open() {
            drop(timeout(CLOSE_TIMEOUT, self.connection.close(200, "OK".into())).await);
        }
    }
}

/// The task behind a [`Link`].
struct Keeper {
    target: Arc<Target>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    state: watch::Sender<State>,
    /// The trouble that was last logged: the same one is not logged at each try.
    reported: Option<Trouble>,
}

impl Keeper {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut pauses = Reconnect::default();
        let (mut number, mut wedged) = (0, false);
        self.metrics.connection_wanted();
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = open(&self.target, number + 1, wedged) => opened,
            };
            match opened {
                Ok(session) => {
                    number += 1;
                    let since = Instant::now();
                    self.hold(Arc::new(session)).await;
                    if since.elapsed() >= STEADY {
                        pauses.reset();
                    }
                }
                Err(failed) => {
                    wedged |= failed.wedged;
                    self.down(failed.trouble);
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pauses.next()) => {}
            }
        }
        self.metrics.connection_unwanted();
        self.state.send_replace(State::Closed);
    }

    /// Shows the connection until it is lost or no longer wanted.
    async fn hold(&mut self, session: Arc<Session>) {
        let address = self.target.address();
        if session.number > 1 {
            self.metrics.broker_reconnects.inc();
        }
        tracing::info!(broker.address = address, "connected to RabbitMQ");
        self.reported = None;
        self.metrics.connection_up();
        self.state.send_replace(State::Up(Arc::clone(&session)));
        tokio::select! {
            () = self.stop.cancelled() => {
                self.state.send_replace(State::Closed);
                session.close().await;
            }
            why = session.lost() => self.down(Trouble::Unreachable(why)),
        }
        self.metrics.connection_lost();
    }

    fn down(&mut self, trouble: Trouble) {
        if self.reported.as_ref() != Some(&trouble) {
            tracing::warn!(broker.address = self.target.address(), reason = ?trouble, "no connection to RabbitMQ; trying again");
            self.reported = Some(trouble.clone());
        }
        self.state.send_replace(State::Down(trouble));
    }
}

struct Failed {
    trouble: Trouble,
    /// The server took the socket and then said nothing.
    wedged: bool,
}

/// Connects and declares. With `careful`, first sees whether the server answers at all: each connection
/// that hangs in its handshake holds a thread until the server lets go of it.
async fn open(target: &Arc<Target>, number: u64, careful: bool) -> Result<Session, Failed> {
    let unreachable = |text: String| Trouble::Unreachable(format!("{}: {text}", target.address()));
    if careful && let Err(error) = dial::greet(target).await {
        return Err(Failed { trouble: unreachable(error.to_string()), wedged: true });
    }
    let connection = dial::connect(target)
        .await
        .map_err(|error| Failed { wedged: is_timeout(&error), trouble: unreachable(plain(&error)) })?;
    let session = Session { number, connection, target: Arc::clone(target) };
    match session.declare().await {
        Ok(()) => Ok(session),
        Err(error) => {
            session.close().await;
            let trouble = match error {
                BrokerError::Topology(text) => Trouble::Topology(text),
                other => unreachable(other.to_string()),
            };
            Err(Failed { trouble, wedged: false })
        }
    }
}

fn is_timeout(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::IOError(io) if io.kind() == std::io::ErrorKind::TimedOut)
}

/// Awaits an answer of the server, with a bound.
pub(super) async fn in_time<T>(work: impl Future<Output = lapin::Result<T>>) -> Result<T, BrokerError> {
    match timeout(ANSWER_TIMEOUT, work).await {
        Ok(result) => result.map_err(|error| broker_error(&error)),
        Err(_) => Err(BrokerError::Unavailable("no answer in time".to_owned())),
    }
}

/// Closes a channel in good order, as far as it is still open.
pub(super) async fn close_channel(channel: &Channel) {
    if channel.status().connected() {
        drop(timeout(CLOSE_TIMEOUT, channel.close(200, "OK".into())).await);
    }
}

/// What a failure means to the caller.
pub(super) fn broker_error(error: &lapin::Error) -> BrokerError {
    // AMQP 0-9-1, section 1.2 of the reference: 403 access refused, 405 resource locked, 406 precondition failed.
    match error.kind() {
        ErrorKind::ProtocolError(protocol) if error.is_amqp_soft_error() => match protocol.get_id() {
            403 => BrokerError::Topology(format!(
                "{}: give the user the rights to configure, write and read it",
                protocol.get_message()
            )),
            405 | 406 => BrokerError::Topology(format!(
                "{}: delete that queue or exchange (its messages are lost with it) or set another name prefix \
                 (POSTHASTE_NAME_PREFIX)",
                protocol.get_message()
            )),
            _ => BrokerError::Unavailable(plain(error)),
        },
        _ => BrokerError::Unavailable(plain(error)),
    }
}

/// lapin's text; no error of lapin's carries the URL.
fn plain(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => protocol.get_message().to_string(),
        ErrorKind::IOError(io) => io.to_string(),
        _ => error.to_string(),
    }
}
