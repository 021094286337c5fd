//! The receiver of a bench: a process of its own, so that its processor time is counted apart and
//! the load does not disturb its clock. The bench tells it what to do on its stdin, a word a line,
//! and it answers each on stdout with a line of JSON. It ends with its stdin.

pub(super) mod book;
mod names;
mod server;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpSocket;

use self::book::Book;
use self::server::Server;
use crate::failure::{Done, Failure};
use crate::output::Output;

/// The digits of the number that a payload begins with.
pub(super) const DIGITS: usize = 8;

/// How endpoints answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Manner {
    /// 200 after a time, which may be zero.
    After(Duration),
    /// This status at once; 429 and 503 with `Retry-After`, in seconds.
    Status(u16, Option<u32>),
    /// 500 to every other request, 200 to the others.
    Half,
    /// Never.
    Hang,
    /// An answer whose head comes at a byte a second and never ends.
    DripHead,
    /// 200 at once, then a body of a byte a second.
    DripBody,
    /// The connection is closed as soon as it is open.
    Close,
}

/// What the receiver is told at its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Orders {
    /// Of the endpoints that are healthy: the bench waits for their deliveries.
    pub(super) healthy: Manner,
    /// Of the endpoints that are sick.
    pub(super) sick: Manner,
    /// The bench waits for the deliveries of these, too.
    pub(super) sick_count: bool,
}

/// Where it receives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Addresses {
    /// For healthy endpoints.
    pub(super) healthy: SocketAddr,
    /// For sick endpoints.
    pub(super) sick: SocketAddr,
    /// Nobody listens here, and nobody else can.
    pub(super) refusing: SocketAddr,
    /// A name server that knows no name.
    pub(super) names: SocketAddr,
}

/// Serves until stdin ends.
pub(super) async fn run(orders: &str) -> Done {
    let orders: Orders = serde_json::from_str(orders)
        .map_err(|error| Failure::wrong_use(format!("the receiver's orders: {error}")))?;
    let output = Output::new(true);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let book = Arc::new(Book::default());
    let mut healthy = Server::start(loopback, orders.healthy, true, Arc::clone(&book))?;
    let sick = Server::start(loopback, orders.sick, orders.sick_count, Arc::clone(&book))?;
    // Bound but not listening: connections are refused, and the port is not given to others.
    let refusing = TcpSocket::new_v4()?;
    refusing.bind(loopback)?;
    let sure = Arc::new(AtomicBool::new(false));
    let names = names::start(Arc::clone(&sure)).await?;
    output.ndjson(&Addresses {
        healthy: healthy.address,
        sick: sick.address,
        refusing: refusing.local_addr()?,
        names,
    })?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match line.split_once(' ').unwrap_or((line.as_str(), "")) {
            ("count", _) => {
                json!({"healthy": book.healthy()})
            }
            ("down", _) => {
                healthy.stop().await;
                Value::Null
            }
            ("up", _) => {
                healthy = Server::start(healthy.address, orders.healthy, true, Arc::clone(&book))?;
                Value::Null
            }
            ("no-names", _) => {
                sure.store(true, Ordering::Relaxed);
                Value::Null
            }
            ("write", path) => {
                book.write(Path::new(path))?;
                Value::Null
            }
            _ => return Err(Failure::wrong_use(format!("no such order: {line}"))),
        };
        output.ndjson(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}
