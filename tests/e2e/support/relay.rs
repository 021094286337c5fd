//! Stands between the program and somebody's receiver.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinHandle;

/// It remembers what went through; ends when dropped.
pub struct Relay {
    pub url: String,
    state: Arc<Mutex<Passed>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Passed {
    to: String,
    requests: Vec<(Method, HeaderMap, Bytes)>,
}

impl Relay {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(Passed::default()));
        let router = Router::new().fallback(pass).with_state(Arc::clone(&state));
        let task =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("serving") });
        Self { url, state, task }
    }

    pub fn lead_to(&self, url: String) {
        self.state.lock().expect("state").to = url;
    }

    /// The only POST that went through.
    pub fn posted(&self) -> (HeaderMap, Bytes) {
        let requests = &self.state.lock().expect("state").requests;
        let posted: Vec<_> = requests
            .iter()
            .filter(|(method, ..)| method == Method::POST)
            .collect();
        assert_eq!(posted.len(), 1);
        (posted[0].1.clone(), posted[0].2.clone())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(state): State<Arc<Mutex<Passed>>>, uri: Uri, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .expect("a body");
    let to = {
        let mut state = state.lock().expect("state");
        state
            .requests
            .push((parts.method.clone(), parts.headers.clone(), body.clone()));
        format!("{}{}", state.to, uri.path())
    };
    let (status, headers, body) = send(parts.method, &to, parts.headers, body).await;
    (status, headers, body).into_response()
}

/// Sends a request; gives the answer without what is the connection's own.
pub async fn send(
    method: Method,
    url: &str,
    mut headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, Bytes) {
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    let request = reqwest::Client::new()
        .request(method, url)
        .headers(headers)
        .body(body);
    let answer = request.send().await.expect("an answer of the receiver");
    let status = answer.status();
    let mut headers = answer.headers().clone();
    for own in [
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::CONTENT_LENGTH,
    ] {
        headers.remove(own);
    }
    (status, headers, answer.bytes().await.expect("its body"))
}
