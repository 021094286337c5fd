//! A connection that is opened again whenever it is lost. lapin can recover connections itself;
//! this is kept apart from it, because a lost connection is a clean cut: new channels, new delivery
//! tags, and nothing of the old one is ever sent again.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use futures::StreamExt as _;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ErrorKind, Event};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::options::{Target, address};
use super::origin::OriginKeys;
use super::{dial, topology};
use crate::backoff::Reconnect;
use crate::broker::BrokerError;
use crate::repeat::pause;
use crate::telemetry::metrics::Metrics;
use crate::tls;

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
    /// Host and port of the node.
    address: String,
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
    /// The first one is being opened.
    Connecting,
    Unreachable(String),
    Topology(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("still connecting"),
            Self::Unreachable(text) | Self::Topology(text) => f.write_str(text),
        }
    }
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
        // Anywhere in the list, so that the connections of many processes spread over the nodes.
        let nodes = Nodes {
            next: rand::random_range(0..target.nodes.len()),
            wedged: vec![false; target.nodes.len()],
        };
        let keeper = Keeper {
            target,
            nodes,
            metrics,
            stop,
            state: sender,
            reported: None,
        };
        (Self { state }, keeper.run())
    }

    /// The current connection; waits up to `patience` for one that takes messages.
    pub(super) async fn session(&self, patience: Duration) -> Result<Arc<Session>, BrokerError> {
        if let Some(session) = self.usable() {
            return Ok(session);
        }
        let mut state = self.state.clone();
        let settled = |state: &State| matches!(state, State::Up(_) | State::Closed);
        // `Closed` ends the wait as well: no connection will come any more. Whether one came is
        // asked again below, because it may be lost or blocked by then.
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
            // RabbitMQ stops reading from a connection that it blocks, so that a publish would wait
            // for its confirm until the deadline. An error at once lets the caller decide.
            State::Up(session) if session.is_open() && !session.is_blocked() => {
                Some(Arc::clone(session))
            }
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
    /// By which messages of Posthaste's own events are known.
    pub(super) fn origin_keys(&self) -> &OriginKeys {
        &self.target.origin
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether RabbitMQ reads nothing from publishers now.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Opens a new channel on the current connection.
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
            // An event can be missed, as the listener begins after the connection was opened. So
            // the state is looked at as well, every second.
            match timeout(LOOK_EVERY, events.next()).await {
                Ok(Some(Event::Error(error))) => last = error.to_string(),
                Ok(Some(Event::ConnectionBlocked(reason))) => {
                    tracing::warn!(reason, "RabbitMQ blocks publishers")
                }
                Ok(Some(Event::ConnectionUnblocked)) => {
                    tracing::info!("RabbitMQ takes messages again")
                }
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

/// Which of the target's nodes to try.
struct Nodes {
    /// The one that is tried first.
    next: usize,
    /// Those that took a socket and then said nothing.
    wedged: Vec<bool>,
}

/// The task behind a [`Link`].
struct Keeper {
    target: Arc<Target>,
    nodes: Nodes,
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
        let mut number = 0;
        // Counted from here, and not from the first success, so that a connection that never comes
        // is seen as one that is down.
        self.metrics.connection_wanted();
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = self.nodes.open(&self.target, number + 1) => opened,
            };
            match opened {
                Ok(session) => {
                    number += 1;
                    let since = Instant::now();
                    self.hold(Arc::new(session)).await;
                    // A server that accepts connections and drops them at once would otherwise be
                    // called without a pause: a success alone does not reset the pauses.
                    if since.elapsed() >= STEADY {
                        pauses.reset();
                    }
                }
                Err(trouble) => self.down(trouble),
            }
            pause(&stop, pauses.next()).await;
        }
        self.metrics.connection_unwanted();
        self.state.send_replace(State::Closed);
    }

    /// Shows the connection until it is lost or no longer wanted.
    async fn hold(&mut self, session: Arc<Session>) {
        if session.number > 1 {
            self.metrics.broker_reconnects.inc();
        }
        tracing::info!(broker.address = session.address, "connected to RabbitMQ");
        self.reported = None;
        self.metrics.connection_up();
        self.state.send_replace(State::Up(Arc::clone(&session)));
        tokio::select! {
            () = self.stop.cancelled() => {
                // First, so that nobody gets a connection that is about to be closed.
                self.state.send_replace(State::Closed);
                session.close().await;
            }
            why = session.lost() => self.down(Trouble::Unreachable(why)),
        }
        self.metrics.connection_lost();
    }

    fn down(&mut self, trouble: Trouble) {
        // With a pause of seconds between the tries, a broker that is down for an hour would else
        // fill the log with one sentence.
        if self.reported.as_ref() != Some(&trouble) {
            tracing::warn!(
                broker.address = self.target.addresses(),
                reason = %trouble,
                "no connection to RabbitMQ; trying again"
            );
            self.reported = Some(trouble.clone());
        }
        self.state.send_replace(State::Down(trouble));
    }
}

impl Nodes {
    /// Connects to the first node that takes it, each being tried once. The next call begins behind
    /// that one: it is opened when that connection was lost.
    async fn open(&mut self, target: &Arc<Target>, number: u64) -> Result<Session, Trouble> {
        let first = self.next;
        let count = target.nodes.len();
        let mut troubles = Vec::new();
        for index in (0..count).map(|offset| (first + offset) % count) {
            match open(target, &target.nodes[index], number, self.wedged[index]).await {
                Ok(session) => {
                    // Behind the node that took it: when this connection is lost, that node is the
                    // one most likely to be down.
                    self.next = (index + 1) % count;
                    if !troubles.is_empty() {
                        tracing::warn!(reason = %all_of(troubles), "not all nodes of RabbitMQ can \
                            be reached");
                    }
                    return Ok(session);
                }
                Err(failed) => {
                    self.wedged[index] |= failed.wedged;
                    troubles.push(failed.trouble);
                }
            }
        }
        Err(all_of(troubles))
    }
}

/// What is wrong with the nodes, as one. Objects that differ are for a person to mend, so they come
/// first.
fn all_of(troubles: Vec<Trouble>) -> Trouble {
    let mut texts = Vec::new();
    for trouble in troubles {
        match trouble {
            Trouble::Unreachable(text) => texts.push(text),
            other => return other,
        }
    }
    // In the same order whichever was tried first, as the same trouble is logged once.
    texts.sort();
    Trouble::Unreachable(texts.join("; "))
}

struct Failed {
    trouble: Trouble,
    /// The server took the socket and then said nothing.
    wedged: bool,
}

/// Connects and declares. With `careful`, first sees whether the server answers at all: each
/// connection that hangs in its handshake holds a thread until the server lets go of it.
async fn open(
    target: &Arc<Target>,
    node: &AMQPUri,
    number: u64,
    careful: bool,
) -> Result<Session, Failed> {
    let address = address(node);
    let unreachable = |text: String| Trouble::Unreachable(format!("{address}: {text}"));
    // lapin runs the handshake on a thread that no deadline of ours ends. A server that is known to
    // say nothing is greeted without lapin first, so that tries do not pile up threads.
    if careful && let Err(error) = dial::greet(target, node).await {
        return Err(Failed {
            trouble: unreachable(io_text(&error)),
            wedged: true,
        });
    }
    let connection = dial::connect(target, node).await.map_err(|error| Failed {
        wedged: is_timeout(&error),
        trouble: unreachable(plain(&error)),
    })?;
    let session = Session {
        number,
        address: address.clone(),
        connection,
        target: Arc::clone(target),
    };
    match session.declare().await {
        Ok(()) => Ok(session),
        Err(error) => {
            // A connection without the topology is of no use. Closed in good order, it does not
            // look like a client that vanished in RabbitMQ's log.
            session.close().await;
            let trouble = match error {
                BrokerError::Topology(text) => Trouble::Topology(text),
                other => unreachable(other.to_string()),
            };
            Err(Failed {
                trouble,
                wedged: false,
            })
        }
    }
}

fn is_timeout(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::IOError(io) if io.kind() == std::io::ErrorKind::TimedOut)
}

/// Awaits an answer of the server, with a bound.
pub(super) async fn in_time<T>(
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
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
    // AMQP 0-9-1, section 1.2 of the reference: 403 access refused, 405 resource locked, 406
    // precondition failed.
    match error.kind() {
        ErrorKind::ProtocolError(protocol) if error.is_amqp_soft_error() => match protocol.get_id()
        {
            403 => BrokerError::Topology(format!(
                "{}: give the user the rights to configure, write and read it",
                protocol.get_message()
            )),
            405 | 406 => BrokerError::Topology(format!(
                "{}: delete that queue or exchange (its messages are lost with it) or set another \
                 name prefix \
                 (POSTHASTE_NAME_PREFIX)",
                protocol.get_message()
            )),
            _ => BrokerError::Unavailable(plain(error)),
        },
        _ => BrokerError::Unavailable(plain(error)),
    }
}

/// What the operating system or TLS said.
fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    tls::reword(&text, error).unwrap_or(text)
}

/// lapin's text; no error of lapin's carries the URL.
fn plain(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => protocol.get_message().to_string(),
        ErrorKind::IOError(io) => io_text(io),
        _ => error.to_string(),
    }
}
