//! Exchanges with receivers that misbehave, over real sockets.

mod bodies;
mod connections;
mod heads;
mod http2;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// Long enough for any machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A receiver that handles its connections, numbered from 1, by a function.
struct Receiver {
    url: Url,
    connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Receiver {
    async fn start<F>(handle: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut handled = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                handled.spawn(handle(counted.fetch_add(1, Ordering::SeqCst) + 1, stream));
            }
        });
        Self {
            url,
            connections,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn request(&self, reading: Reading) -> Outgoing {
        outgoing(self.url.clone(), reading)
    }
}

fn outgoing(url: Url, reading: Reading) -> Outgoing {
    let body = Bytes::from_static(b"{}");
    let headers = HeaderMap::new();
    Outgoing {
        method: Method::POST,
        url,
        headers,
        body,
        timeout: LIMIT,
        limit: LIMIT,
        reading,
    }
}

fn sender() -> Sender {
    Sender::new(EgressPolicy::new("127.0.0.0/8", true).unwrap()).unwrap()
}

/// Reads one request whose body is `{}`; `false` when the connection is closed before.
async fn take_request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n{}") {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
            _ => return false,
        }
    }
    true
}

/// Answers each request of a connection with the same bytes.
async fn answer_all(mut stream: TcpStream, answer: &[u8]) {
    while take_request(&mut stream).await {
        stream.write_all(answer).await.unwrap();
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
