//! A webhook receiver that takes its time, or holds all requests until told, and counts how many it
//! has at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What came of one `webhook-id`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Requests that were answered.
    pub answered: u32,
    /// Requests whose connection was closed before their answer.
    pub cut_off: u32,
}

#[derive(Default)]
struct Seen {
    under_way: usize,
    peak: usize,
    answers: Vec<Instant>,
    calls: HashMap<String, Calls>,
}

/// The receiver; ends when dropped.
pub struct SlowReceiver {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    held: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl SlowReceiver {
    /// It answers 200 after this time.
    pub async fn start(takes: Duration) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (held, holding) = watch::channel(false);
        let router = Router::new()
            .fallback(answer)
            .with_state((Arc::clone(&seen), takes, holding));
        let task =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("serving") });
        Self {
            port,
            seen,
            held,
            task,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From now on no request is answered; or again.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// How many requests it has now.
    pub fn under_way(&self) -> usize {
        self.seen.lock().expect("seen").under_way
    }

    /// The most that it had at once since this was last asked.
    pub fn peak(&self) -> usize {
        let mut seen = self.seen.lock().expect("seen");
        let under_way = seen.under_way;
        std::mem::replace(&mut seen.peak, under_way)
    }

    /// How many it has answered.
    pub fn answered(&self) -> usize {
        self.seen.lock().expect("seen").answers.len()
    }

    /// The most answers within any window of that length.
    pub fn most_within(&self, window: Duration) -> usize {
        let seen = self.seen.lock().expect("seen");
        let from = |first: &Instant| {
            let later = seen.answers.partition_point(|at| *at < *first + window);
            later - seen.answers.partition_point(|at| at < first)
        };
        seen.answers.iter().map(from).max().unwrap_or(0)
    }

    /// Answers a second between two of its answers, by number.
    pub fn rate(&self, from: usize, to: usize) -> f64 {
        let seen = self.seen.lock().expect("seen");
        let took = seen.answers[to - 1]
            .duration_since(seen.answers[from])
            .as_secs_f64();
        (to - 1 - from) as f64 / took
    }

    /// What came of each `webhook-id` so far; requests under way are left out.
    pub fn calls(&self) -> HashMap<String, Calls> {
        self.seen.lock().expect("seen").calls.clone()
    }
}

impl Drop for SlowReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Shared = (Arc<Mutex<Seen>>, Duration, watch::Receiver<bool>);

async fn answer(State((seen, takes, mut held)): State<Shared>, request: Request) -> StatusCode {
    let id = request
        .headers()
        .get("webhook-id")
        .and_then(|id| id.to_str().ok())
        .expect("a webhook-id")
        .to_owned();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await;
    assert!(body.is_ok(), "the whole body");
    let mut call = Call::begin(seen, id);
    tokio::time::sleep(takes).await;
    assert!(
        held.wait_for(|held| !held).await.is_ok(),
        "the receiver is there"
    );
    call.answered = true;
    StatusCode::OK
}

/// A request that is under way until this is dropped: before the answer goes out, or when the
/// connection is closed.
struct Call {
    seen: Arc<Mutex<Seen>>,
    id: String,
    answered: bool,
}

impl Call {
    fn begin(seen: Arc<Mutex<Seen>>, id: String) -> Self {
        {
            let mut seen = seen.lock().expect("seen");
            seen.under_way += 1;
            seen.peak = seen.peak.max(seen.under_way);
        }
        Self {
            seen,
            id,
            answered: false,
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut seen = self.seen.lock().expect("seen");
        seen.under_way -= 1;
        if self.answered {
            seen.answers.push(Instant::now());
        }
        let calls = seen.calls.entry(std::mem::take(&mut self.id)).or_default();
        if self.answered {
            calls.answered += 1;
        } else {
            calls.cut_off += 1;
        }
    }
}
