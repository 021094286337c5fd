//! A server on loopback that keeps what it is asked, and answers what it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Method, path and version.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    closed: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    /// Answers every request with these bytes; with none, never.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer.into());
        let kept = Arc::clone(&asked);
        let closed = Arc::new(AtomicUsize::new(0));
        let gone = Arc::clone(&closed);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(
                    stream,
                    Arc::clone(&kept),
                    Arc::clone(&gone),
                    Arc::clone(&answer),
                ));
            }
        });
        Self {
            url,
            asked,
            closed,
            serving,
        }
    }

    /// Answers with a status and a JSON body.
    pub(crate) async fn json(status: u16, body: &str) -> Self {
        Self::answering(format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: \
             {}\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Connections that were closed by the client while it waited.
    pub(crate) fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// The one request that came.
    pub(crate) fn only(&self) -> Asked {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }
}

async fn serve(
    mut stream: TcpStream,
    kept: Arc<Mutex<Vec<Asked>>>,
    closed: Arc<AtomicUsize>,
    answer: Arc<Vec<u8>>,
) {
    let mut read = Vec::new();
    loop {
        let Some(asked) = parse(&read) else {
            let mut chunk = [0; 16 * 1024];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(length) => read.extend_from_slice(&chunk[..length]),
            }
            continue;
        };
        read.clear();
        kept.lock().unwrap().push(asked);
        if answer.is_empty() {
            // Until the client goes.
            let _ = stream.read(&mut [0; 16]).await;
            closed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn parse(read: &[u8]) -> Option<Asked> {
    let head = read.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&read[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let line = lines.next()?.to_owned();
    let pair = |line: &str| {
        line.split_once(':')
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
    };
    let headers: Vec<_> = lines.filter_map(pair).collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let body = read.get(head + 4..head + 4 + length)?;
    Some(Asked {
        line,
        headers,
        body: String::from_utf8_lossy(body).into_owned(),
    })
}
