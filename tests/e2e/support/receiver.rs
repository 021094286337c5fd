//! A webhook receiver on loopback that remembers what it got. The path says how it answers: `/ok`,
//! `/status/503`, `/fail/2/503` (the first two requests of each webhook-id), `/slow/200` (ms),
//! `/hang`, `/retry-after/3` (429 once for each webhook-id), `/redirect`, `/echo`, `/echo-code`
//! (the headers as the description of an Authgear answer), `/provider` (JSON with an id, a date and
//! a token); or the test says it by [`Receiver::answer`]. Every method will do.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinHandle;

use super::eventually;

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: Method,
    pub path: String,
    /// With the path, as it stood in the request line.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
    pub wall: SystemTime,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
            .to_str()
            .expect("text")
    }

    /// All headers, with names in lower case.
    pub fn header_list(&self) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// What stands behind the `?`.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// Status and body.
pub type Answer = (u16, String);

type Answerer = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

#[derive(Default)]
struct Seen {
    requests: Vec<Received>,
    counts: HashMap<(String, String), u32>,
    answers: HashMap<String, Answerer>,
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
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let task =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("serving") });
        Self { port, seen, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From now on everything is answered 503; or no longer.
    pub fn set_down(&self, down: bool) {
        self.seen.lock().expect("seen").down = down;
    }

    /// From now on this is how requests to exactly this path are answered.
    pub fn answer(&self, path: &str, answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        self.seen
            .lock()
            .expect("seen")
            .answers
            .insert(path.to_owned(), Arc::new(answer));
    }

    /// The same, by a list: one for each request, the last for all that follow.
    pub fn answers(&self, path: &str, answers: &[(u16, &str)]) {
        let left: VecDeque<Answer> = answers
            .iter()
            .map(|(status, body)| (*status, (*body).to_owned()))
            .collect();
        let left = Mutex::new(left);
        self.answer(path, move |_| {
            let mut left = left.lock().expect("answers");
            let answer = left.pop_front().expect("an answer");
            if left.is_empty() {
                left.push_back(answer.clone());
            }
            answer
        });
    }

    /// Requests to paths that begin with `path`, in order.
    pub fn requests(&self, path: &str) -> Vec<Received> {
        let seen = self.seen.lock().expect("seen");
        seen.requests
            .iter()
            .filter(|request| request.path.starts_with(path))
            .cloned()
            .collect()
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

#[expect(
    clippy::disallowed_methods,
    reason = "when a request came is to be known by the wall clock"
)]
async fn answer(State(seen): State<Arc<Mutex<Seen>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let id = parts
        .headers
        .get("webhook-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let (nth, first, down, programmed) = {
        let mut seen = seen.lock().expect("seen");
        let nth = seen.counts.entry((path.clone(), id)).or_default();
        *nth += 1;
        let nth = *nth;
        let method = parts.method.clone();
        let target = parts.uri.to_string();
        let headers = parts.headers.clone();
        let body = body.clone();
        let at = Instant::now();
        let wall = SystemTime::now();
        let request = Received {
            method,
            path: path.clone(),
            target,
            headers,
            body,
            at,
            wall,
        };
        let first = !seen.requests.iter().any(|one| one.path == path);
        seen.requests.push(request.clone());
        let answerer = seen.answers.get(&path).map(Arc::clone);
        (
            nth,
            first,
            seen.down,
            answerer.map(|answerer| (answerer, request)),
        )
    };
    if down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if let Some((answerer, request)) = programmed {
        let (number, body) = answerer(&request);
        return (status(number.into()), body).into_response();
    }
    let mut words = path.split('/').skip(1);
    let (word, mut numbers) = (
        words.next().unwrap_or_default(),
        words.map(|word| word.parse::<u64>().unwrap_or(0)),
    );
    let mut number = || numbers.next().unwrap_or(0);
    match word {
        "status" => status(number()).into_response(),
        "fail" if u64::from(nth) <= number() => status(number()).into_response(),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number())).await;
            StatusCode::OK.into_response()
        }
        "hang" => std::future::pending().await,
        "retry-after" if nth == 1 => (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, number().to_string())],
        )
            .into_response(),
        // The first request of all to the path, whichever delivery it is of.
        "pause" if first => (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, number().to_string())],
        )
            .into_response(),
        "redirect" => (StatusCode::FOUND, [(header::LOCATION, "/ok")]).into_response(),
        "provider" => axum::Json(serde_json::json!({
            "id": "push-1",
            "data": {
                "id": "sms-1", "number": 42, "date": "2026-01-14T10:30:00.000Z",
                "X-Auth-Token": "tok-789",
            },
        }))
        .into_response(),
        "echo" => format!("{:?}", parts.headers).into_response(),
        "echo-code" => {
            let said = format!("{:?}", parts.headers);
            axum::Json(serde_json::json!({
                "code": "delivery_rejected", "description": said,
            }))
            .into_response()
        }
        _ => StatusCode::OK.into_response(),
    }
}

fn status(number: u64) -> StatusCode {
    StatusCode::from_u16(u16::try_from(number).expect("a status")).expect("a status")
}
