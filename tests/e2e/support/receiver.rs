//! A webhook receiver on loopback that remembers what it got. The path says how it answers:
//! `/ok`, `/status/503`, `/fail/2/503` (the first two requests of each webhook-id), `/slow/200` (ms),
//! `/hang`, `/retry-after/3` (429 once for each webhook-id), `/redirect`, `/echo`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinHandle;

use super::eventually;

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
    pub wall: SystemTime,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().expect("text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

#[derive(Default)]
struct Seen {
    requests: Vec<Received>,
    counts: HashMap<(String, String), u32>,
    down: bool,
}

/// The receiver; ends when dropped.
pub struct Receiver {
    pub port: u16,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serving") });
        Self { port, seen, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From now on everything is answered 503; or no longer.
    pub fn set_down(&self, down: bool) {
        self.seen.lock().expect("seen").down = down;
    }

    /// Requests to paths that begin with `path`, in order.
    pub fn requests(&self, path: &str) -> Vec<Received> {
        let seen = self.seen.lock().expect("seen");
        seen.requests.iter().filter(|request| request.path.starts_with(path)).cloned().collect()
    }

    /// Waits for so many requests to a path.
    pub async fn wait_for(&self, path: &str, count: usize) -> Vec<Received> {
        eventually(&format!("{count} requests to {path}"), async || {
            Some(self.requests(path)).filter(|requests| requests.len() >= count)
        })
        .await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "when a request came is to be known by the wall clock")]
async fn answer(State(seen): State<Arc<Mutex<Seen>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let id = parts.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let (nth, down) = {
        let mut seen = seen.lock().expect("seen");
        let nth = seen.counts.entry((path.clone(), id)).or_default();
        *nth += 1;
        let nth = *nth;
        let (headers, body) = (parts.headers.clone(), body.clone());
        let (at, wall) = (Instant::now(), SystemTime::now());
        seen.requests.push(Received { path: path.clone(), headers, body, at, wall });
        (nth, seen.down)
    };
    if down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let mut words = path.split('/').skip(1);
    let (word, mut numbers) = (words.next().unwrap_or_default(), words.map(|word| word.parse::<u64>().unwrap_or(0)));
    let mut number = || numbers.next().unwrap_or(0);
    match word {
        "status" => status(number()).into_response(),
        "fail" if u64::from(nth) <= number() => status(number()).into_response(),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number())).await;
            StatusCode::OK.into_response()
        }
        "hang" => std::future::pending().await,
        "retry-after" if nth == 1 => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, number().to_string())]).into_response()
        }
        "redirect" => (StatusCode::FOUND, [(header::LOCATION, "/ok")]).into_response(),
        "echo" => format!("{:?}", parts.headers).into_response(),
        _ => StatusCode::OK.into_response(),
    }
}

fn status(number: u64) -> StatusCode {
    StatusCode::from_u16(u16::try_from(number).expect("a status")).expect("a status")
}
