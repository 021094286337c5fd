//! Bare hyper: a task for each connection, which reads a request, notes it and answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Manner;
use super::book::{Book, Record, number_in};
use crate::commands::bench::body::{self, Slip};
use crate::commands::bench::clock;

/// Connections that the system holds before they are accepted.
const BACKLOG: u32 = 4_096;
/// The number stands near the beginning of every body, whatever the wire format puts before it.
const BEGINNING: usize = 1_024;
/// Between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_secs(1);
/// How long to wait when the process has no more files to open.
const BREATH: Duration = Duration::from_millis(10);

/// A listening address and its connections.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    stopping: CancellationToken,
    accepting: JoinHandle<()>,
}

struct Desk {
    manner: Manner,
    healthy: bool,
    book: Arc<Book>,
    requests: AtomicU64,
}

impl Server {
    /// Listens and serves.
    pub(super) fn start(
        address: SocketAddr,
        manner: Manner,
        healthy: bool,
        book: Arc<Book>,
    ) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // For a server that comes back at its old address.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk {
            manner,
            healthy,
            book,
            requests: AtomicU64::new(0),
        });
        let stopping = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, desk, stopping.clone()));
        Ok(Self {
            address,
            stopping,
            accepting,
        })
    }

    /// Closes the address and cuts all connections.
    pub(super) async fn stop(&mut self) {
        self.stopping.cancel();
        let _ = (&mut self.accepting).await;
    }
}

async fn accept(listener: TcpListener, desk: Arc<Desk>, stopping: CancellationToken) {
    // Dropped, it ends every connection.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((_, _)) if desk.manner == Manner::Close => {}
            Ok((stream, _)) if desk.manner == Manner::DripHead => {
                connections.spawn(drip(stream));
            }
            Ok((stream, _)) => drop(connections.spawn(serve(stream, Arc::clone(&desk)))),
            Err(_) => tokio::time::sleep(BREATH).await,
        }
    }
}

/// Answers whatever comes with a head that does not end. hyper would send it whole.
async fn drip(mut stream: TcpStream) {
    let mut request = [0; BEGINNING];
    let begun = matches!(stream.read(&mut request).await, Ok(1..))
        && stream
            .write_all(b"HTTP/1.1 200 OK\r\nx-drip: ")
            .await
            .is_ok();
    while begun && stream.write_all(b".").await.is_ok() {
        tokio::time::sleep(DRIP).await;
    }
}

async fn serve(stream: TcpStream, desk: Arc<Desk>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| desk.answer(request));
    // That a sender cuts a connection is its affair.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Slip>, hyper::Error> {
        let at = clock::now();
        let id = request
            .headers()
            .get("webhook-id")
            .and_then(|id| id.to_str().ok())
            .and_then(|id| Uuid::try_parse(id.trim_start_matches("msg_")).ok())
            .unwrap_or_default();
        let endpoint = request.uri().path().trim_start_matches('/').parse();
        let body = body::read(request.into_body(), BEGINNING).await?;
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        let status = match self.manner {
            Manner::After(_) | Manner::DripBody => 200,
            Manner::Status(status, _) => status,
            Manner::Half if count.is_multiple_of(2) => 500,
            Manner::Half => 200,
            Manner::Hang | Manner::Close | Manner::DripHead => 0,
        };
        let record = Record {
            at,
            id,
            number: number_in(&body),
            endpoint: endpoint.unwrap_or(u32::MAX),
            status,
        };
        self.book.note(record, self.healthy);
        match self.manner {
            Manner::Hang => std::future::pending().await,
            Manner::After(delay) if !delay.is_zero() => tokio::time::sleep(delay).await,
            _ => {}
        }
        let mut response = Response::new(match self.manner {
            Manner::DripBody => Slip::drip(),
            _ => Slip::empty(),
        });
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        if let Manner::Status(_, Some(seconds)) = self.manner {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        Ok(response)
    }
}
