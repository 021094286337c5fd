//! Answers that break off, hang, are larger than most or come compressed; connections that die.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Api, Backend, Place, Process};

/// What a receiver writes for each request of a connection, and whether it hangs up then.
type Answers = &'static [(&'static str, bool)];

/// A receiver that writes bytes, not HTTP; ends when dropped.
struct Rude {
    url: String,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Rude {
    /// Answers the requests of each connection by the list, its last element for all that follow.
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let count = Arc::clone(&count);
                tokio::spawn(async move { serve(stream, answers, &count).await });
            }
        });
        Self {
            url,
            requests,
            task,
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Rude {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, answers: Answers, count: &AtomicUsize) {
    let mut number = 0;
    while read_request(&mut stream).await {
        count.fetch_add(1, Ordering::SeqCst);
        let (answer, hang_up) = answers[number.min(answers.len() - 1)];
        number += 1;
        if stream.write_all(answer.as_bytes()).await.is_err() || hang_up {
            return;
        }
    }
}

/// Reads one request with its body; `false` when there is no more.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return true;
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
            _ => return false,
        }
    }
}

async fn up() -> (Place, Process, Api) {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let process = Process::start(&place, &["up"]).await;
    let api = Api::of(&process);
    (place, process, api)
}

async fn outcome(api: &Api, endpoint: &Value, more: Value) -> Value {
    let id = api.enqueue_to(endpoint, more).await;
    let deliveries = api.finished(&id, 1).await;
    api.delivery(&deliveries[0]).await
}

/// How it ended: status, reason, attempts, and of the last one result, status code and the error's
/// code.
fn said(delivery: &Value) -> String {
    let attempts = delivery["attempts"].as_array().unwrap();
    let last = attempts.last().unwrap();
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let of = [
        &delivery["status"],
        &delivery["reason"],
        &last["result"],
        &last["status_code"],
        &last["error"]["code"],
    ];
    format!("{} in {}", of.map(word).join(" "), attempts.len())
}

#[tokio::test]
async fn the_status_counts_though_the_body_breaks_off() {
    let (_place, _up, api) = up().await;
    for (answer, expected) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
            "delivered null 2xx 200 null in 1",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\nhalf",
            "failed rejected 4xx 400 http_status in 1",
        ),
        (
            "HTTP/1.1 410 Gone\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
            "failed gone 4xx 410 http_status in 1",
        ),
    ] {
        for hang_up in [true, false] {
            let answers = Box::leak(Box::new([(answer, hang_up)]));
            let receiver = Rude::start(answers).await;
            let endpoint = api
                .endpoint(&receiver.url, json!({"wire_format": "raw"}))
                .await;
            assert_eq!(
                said(&outcome(&api, &endpoint, json!({})).await),
                expected,
                "{answer} {hang_up}"
            );
            assert_eq!(receiver.requests(), 1, "{answer} {hang_up}");
            if answer.contains("410") {
                let id = endpoint["id"].as_str().unwrap();
                assert_eq!(
                    api.get(&format!("/v1/endpoints/{id}")).await["disabled_reason"],
                    "gone"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_no_attempt() {
    let (_place, _up, api) = up().await;
    // Each connection answers once; whoever uses it again gets nothing.
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let receiver = Rude::start(Box::leak(Box::new([(answer, false), ("", true)]))).await;
    let endpoint = api
        .endpoint(
            &receiver.url,
            json!({"wire_format": "raw", "retry": {"max_retries": 0}}),
        )
        .await;
    for _ in 0..4 {
        assert_eq!(
            said(&outcome(&api, &endpoint, json!({})).await),
            "delivered null 2xx 200 null in 1"
        );
    }
}

fn sms(answer: &str) -> Answers {
    let answer: &'static str = Box::leak(answer.to_owned().into_boxed_str());
    Box::leak(Box::new([(answer, true)]))
}

async fn by_gateway(api: &Api, answer: &str) -> String {
    let receiver = Rude::start(sms(answer)).await;
    let more = json!({"wire_format": "authgear-sms", "retry": {"max_retries": 0}});
    let endpoint = api.endpoint(&receiver.url, more).await;
    let payload = json!({"payload": {"to": "+441", "body": "hello"}});
    said(&outcome(api, &endpoint, payload).await)
}

#[tokio::test]
async fn a_body_that_decides_is_read_whole_or_is_no_success() {
    let (_place, _up, api) = up().await;
    let answer = |more: &str, body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\n{more}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let padded =
        |code: &str, bytes: usize| format!(r#"{{"pad":"{}","code":"{code}"}}"#, "x".repeat(bytes));
    for (answer, expected) in [
        (
            answer("", &padded("ok", 100_000)),
            "delivered null 2xx 200 null in 1",
        ),
        (
            answer("", &padded("delivery_rejected", 100_000)),
            "failed provider_rejected 2xx 200 delivery_rejected in 1",
        ),
        (
            answer("", &padded("ok", 1_100_000)),
            "failed rejected 2xx 200 answer_too_large in 1",
        ),
        (
            answer("content-encoding: gzip\r\n", "\x1f"),
            "failed rejected 2xx 200 answer_encoded in 1",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"code\":".to_owned(),
            "failed retries_exhausted 2xx 200 connection_closed in 1",
        ),
        (
            "HTTP/1.1 410 Gone\r\ncontent-length: 99\r\n\r\n{\"code\":".to_owned(),
            "failed gone 4xx 410 http_status in 1",
        ),
    ] {
        assert_eq!(by_gateway(&api, &answer).await, expected, "{:.60}", answer);
    }
}

#[tokio::test]
async fn novus_answers_are_read_as_novu_reads_them() {
    let (_place, _up, api) = up().await;
    for (body, path, id) in [
        ("\u{feff}{\"id\":\"m-1\"}", "id", "m-1"),
        ("[{\"id\":\"m-2\"}]", "0.id", "m-2"),
        ("{\"id\":\"m-3\",\"deep\":[[[[1e999]]]]}\n\n", "id", "m-3"),
    ] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let receiver = Rude::start(sms(&answer)).await;
        let settings = json!({
            "apiKeyRequestHeader": "X-API-KEY", "apiKey": "key-123", "from": "MyApp",
            "idPath": path,
        });
        let endpoint = api
            .endpoint(
                &receiver.url,
                json!({"wire_format": "novu-sms", "settings": settings}),
            )
            .await;
        let more = json!({"payload": {"content": "hello"}, "recipient": {"phone": "+441"}});
        let delivery = outcome(&api, &endpoint, more).await;
        assert_eq!(
            (&delivery["status"], &delivery["provider_message_id"]),
            (&json!("delivered"), &json!(id))
        );
    }
}
