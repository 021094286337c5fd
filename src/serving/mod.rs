//! Serving HTTP to whoever connects. A client that is slow, silent or greedy must not keep the
//! others out, and never those that ask whether the process is well: connections are counted, each
//! has limits of time, and some are kept for health and metrics alone.

mod activity;
mod connection;
mod room;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::room::{Room, Seat};

/// Pause after a failed accept. It fails mostly for want of files, which takes a moment to mend
/// itself.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener allows its clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most connections at once; some more are kept for health and metrics.
    pub(crate) max_connections: usize,
    /// The most connections of one client: an IPv4 address, or a network of IPv6 with a prefix of
    /// 64 bits.
    pub(crate) max_connections_per_client: usize,
    /// How long the head of a request may take: from the connection's beginning, then from its
    /// first byte.
    pub(crate) header_timeout: Duration,
    /// How long a connection may be without a request.
    pub(crate) idle_timeout: Duration,
}

impl Limits {
    /// For listeners that serve health and metrics alone.
    pub(crate) const OPERATIONS: Self = Self {
        max_connections: 64,
        max_connections_per_client: 48,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
    };

    /// The limits with no more connections than half of the files that the process may open: the
    /// store, the broker and the endpoints need the others. Raises the process's soft limit of open
    /// files to its hard one before.
    pub(crate) fn within_open_files(self) -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        );
        let files = if raised.is_ok() { maximum } else { current };
        let half = files
            .map_or(usize::MAX, |files| {
                usize::try_from(files / 2).unwrap_or(usize::MAX)
            })
            .max(1);
        if half < self.max_connections {
            tracing::warn!(
                max_connections = half,
                "max_connections is more than half of the files that this process may open, and is \
                 lowered to that"
            );
        }
        let max_connections = self.max_connections.min(half);
        let max_connections_per_client = self.max_connections_per_client.min(max_connections);
        Self {
            max_connections,
            max_connections_per_client,
            ..self
        }
    }
}

/// Serves in the background until the token is cancelled. Requests under way are finished then;
/// whoever does not want to wait for them aborts the task.
pub(crate) fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let room = Arc::new(Room::new(limits));
        // Aborting this task ends the connections, too: they end with the set.
        let mut connections = JoinSet::new();
        loop {
            // Biased, with shutdown first: under a flood of connections the other branches are
            // always ready. Connections that ended are reaped before others are accepted, so that
            // the set stays small.
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    if let Some((seat, stream)) = admit(&room, accepted) {
                        let ended = shutdown.clone();
                        connections.spawn(connection::run(
                            stream,
                            seat,
                            router.clone(),
                            limits,
                            ended,
                        ));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Where files are wanting, an idle connection has one to give.
                    room.close_an_idle_one();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // From here on new connections are refused, while open ones finish their requests.
        drop(listener);
        while connections.join_next().await.is_some() {}
    })
}

fn admit(room: &Arc<Room>, (stream, peer): (TcpStream, SocketAddr)) -> Option<(Seat, TcpStream)> {
    let Some(seat) = room.enter(peer.ip()) else {
        tracing::debug!(%peer, "a connection was refused: the limits of connections are reached");
        return None;
    };
    // Answers are written whole, so waiting for more to send only costs time.
    let _ = stream.set_nodelay(true);
    Some((seat, stream))
}
