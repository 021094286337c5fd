//! One connection to RabbitMQ: the socket, TLS and the AMQP handshake, each with a deadline.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_rs::Runtime;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};

use super::options::Target;
use super::stream::{self, Kit, NodeStream};

/// The bound for the socket with TLS, and for the AMQP handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client says first (AMQP 0-9-1, section 4.2.2).
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// Frame type, channel and size before a frame's payload (section 4.2.3).
const FRAME_HEADER: usize = 7;
/// Class, method and protocol version before the server's properties in `connection.start`.
const START_HEADER: usize = 6;
/// RabbitMQ's `connection.start` has some 500 bytes.
const LONGEST_START: usize = 64 * 1024;

/// Opens an AMQP connection.
///
/// A server that takes the socket and then says nothing makes this fail with `TimedOut`; the thread
/// that lapin started for it lives on until the socket closes. Call [`greet`] before trying again.
pub(super) async fn connect(target: &Arc<Target>, node: &AMQPUri) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name("posthaste".into());
    let dialled = Arc::clone(target);
    let open = async move |uri: AMQPUri, _: Runtime<Kit>| {
        let stream = open_stream(&dialled, &uri).await?;
        Ok(AsyncTcpStream::Plain(stream))
    };
    let runtime = Kit::current();
    // Twice the bound of one step: the stream (socket and TLS) and the AMQP handshake follow each
    // other in here, and `open_stream` bounds only the first.
    let handshake = Connection::connector(node.clone(), runtime, open, properties);
    tokio::time::timeout(2 * STEP_TIMEOUT, handshake)
        .await
        .unwrap_or_else(|_| Err(timed_out().into()))
}

/// What the server says of itself (`product`, `version`, …) when a client knocks, without logging
/// in.
pub(super) async fn greet(target: &Target, node: &AMQPUri) -> io::Result<Vec<(String, String)>> {
    let mut stream = open_stream(target, node).await?;
    let start = within(async {
        stream.write_all(PROTOCOL_HEADER).await?;
        stream.flush().await?;
        let mut header = [0; FRAME_HEADER];
        stream.read_exact(&mut header).await?;
        let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
        // The size is what the other side says: a port that speaks something else must not make
        // this allocate gigabytes.
        let mut payload = vec![0; size.min(LONGEST_START)];
        stream.read_exact(&mut payload).await?;
        Ok(payload)
    })
    .await?;
    let properties = start
        .get(START_HEADER..)
        .and_then(|rest| parse_field_table(rest).ok());
    Ok(properties
        .map(|(_, table)| texts(&table))
        .unwrap_or_default())
}

async fn open_stream(target: &Target, node: &AMQPUri) -> io::Result<NodeStream> {
    let authority = &node.authority;
    within(stream::connect(
        &authority.host,
        authority.port,
        target.tls.as_ref(),
    ))
    .await
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(STEP_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

fn texts(table: &FieldTable) -> Vec<(String, String)> {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    };
    table
        .inner()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)))
        .collect()
}
