//! CloudEvents over HTTP with its abuse protection: a receiver that is asked for consent first, by
//! a real OPTIONS request, and the deliveries that follow from its answer.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{Api, Backend, Place, Process};

/// Who we say we are.
const ORIGIN: &str = "events.example.com";

#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    at: Instant,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Answers OPTIONS as the path says: `/rate/300` consents to so many a minute, `/any` to all,
/// `/other` to somebody else, `/down` at the second time of asking.
struct Receiver {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen, task }
    }

    fn got(&self, method: &Method, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|request| request.method == method && request.path == path)
            .cloned()
            .collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(seen): State<Arc<Mutex<Vec<Seen>>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let path = parts.uri.path().to_owned();
    let asked = {
        let mut seen = seen.lock().unwrap();
        let method = parts.method.clone();
        let headers = parts.headers.clone();
        seen.push(Seen {
            method,
            path: path.clone(),
            headers,
            body,
            at: Instant::now(),
        });
        seen.iter()
            .filter(|request| request.method == Method::OPTIONS && request.path == path)
            .count()
    };
    if parts.method != Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let allow = |origin: &str| [("WebHook-Allowed-Origin", origin.to_owned())].into_response();
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "rate", rate] => {
            ([("WebHook-Allowed-Rate", rate.to_owned())], allow(ORIGIN)).into_response()
        }
        ["", "other"] => allow("other.example.com"),
        ["", "down"] if asked == 1 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => allow("*"),
    }
}

/// The program, a receiver, a client.
struct Scene {
    receiver: Receiver,
    api: Api,
    _up: Process,
    _place: Place,
}

impl Scene {
    async fn start() -> Self {
        let place = Place::new(Backend::EmbeddedSqlite).await;
        let up = Process::start(&place, &["up"]).await;
        Self {
            receiver: Receiver::start().await,
            api: Api::of(&up),
            _up: up,
            _place: place,
        }
    }

    async fn endpoint(&self, path: &str, settings: Value, more: Value) -> Value {
        let mut members = json!({"wire_format": "cloudevents", "settings": settings});
        members
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.api
            .endpoint(&format!("{}{path}", self.receiver.url), members)
            .await
    }

    /// Enqueues so many at once; waits until all are at their end.
    async fn deliver(&self, endpoint: &Value, count: usize) -> Vec<Value> {
        let item = |n: usize| {
            json!({
                "type": "order.paid", "payload": {"n": n}, "endpoint_id": endpoint["id"],
            })
        };
        let accepted = self
            .api
            .post("/v1/notifications/batch", (0..count).map(item).collect())
            .await;
        let mut finished = Vec::new();
        for item in accepted["items"]
            .as_array()
            .unwrap_or_else(|| panic!("{accepted}"))
        {
            finished.extend(self.api.finished(item["id"].as_str().unwrap(), 1).await);
        }
        finished
    }
}

fn handshake() -> Value {
    json!({"handshake": true, "origin": ORIGIN, "request_rate": 600})
}

#[tokio::test]
async fn consent_is_asked_for_once_and_its_rate_is_kept() {
    let scene = Scene::start().await;
    let endpoint = scene.endpoint("/rate/300", handshake(), json!({})).await;
    let deliveries = scene.deliver(&endpoint, 16).await;
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery["status"] == "delivered"),
        "{deliveries:?}"
    );
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery["attempt_count"] == 1),
        "{deliveries:?}"
    );

    let asked = scene.receiver.got(&Method::OPTIONS, "/rate/300");
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (
            asked[0].header("webhook-request-origin"),
            asked[0].header("webhook-request-rate")
        ),
        (ORIGIN, "600")
    );
    assert!(asked[0].body.is_empty());
    let posted = scene.receiver.got(&Method::POST, "/rate/300");
    assert_eq!(posted.len(), 16);
    for request in &posted {
        assert_eq!(request.header("webhook-request-origin"), ORIGIN);
        assert_eq!(
            request.header("content-type"),
            "application/cloudevents+json; charset=utf-8"
        );
        assert!(request.at >= asked[0].at);
    }
    // Five a second, so 200 ms apart. One request may be held up on its way, and the next not.
    for window in posted.windows(6) {
        let took = (window[5].at - window[0].at).as_secs_f64();
        assert!(took > 0.7, "6 requests in {took} s");
    }
}

#[tokio::test]
async fn consent_for_everybody_will_do() {
    let scene = Scene::start().await;
    let endpoint = scene.endpoint("/any", handshake(), json!({})).await;
    let deliveries = scene.deliver(&endpoint, 5).await;
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery["status"] == "delivered"),
        "{deliveries:?}"
    );
    assert_eq!(scene.receiver.got(&Method::OPTIONS, "/any").len(), 1);
    assert_eq!(scene.receiver.got(&Method::POST, "/any").len(), 5);
    // Without the handshake nobody is asked, and no origin is named.
    let silent = scene.endpoint("/silent", json!({}), json!({})).await;
    scene.deliver(&silent, 1).await;
    assert!(scene.receiver.got(&Method::OPTIONS, "/silent").is_empty());
    assert_eq!(
        scene.receiver.got(&Method::POST, "/silent")[0].header("webhook-request-origin"),
        ""
    );
}

#[tokio::test]
async fn without_consent_nothing_is_posted() {
    let scene = Scene::start().await;
    let endpoint = scene.endpoint("/other", handshake(), json!({})).await;
    let delivery = &scene.deliver(&endpoint, 1).await[0];
    assert_eq!(
        (&delivery["status"], &delivery["reason"]),
        (&json!("failed"), &json!("rejected")),
        "{delivery}"
    );
    let detail = scene.api.delivery(delivery).await;
    let error = &detail["attempts"][0]["error"];
    assert_eq!(error["code"], "no_consent", "{detail}");
    assert!(
        error["text"]
            .as_str()
            .unwrap()
            .contains("other.example.com"),
        "{detail}"
    );
    assert_eq!(scene.receiver.got(&Method::OPTIONS, "/other").len(), 1);
    assert!(scene.receiver.got(&Method::POST, "/other").is_empty());
}

#[tokio::test]
async fn a_receiver_that_cannot_answer_is_asked_again() {
    let scene = Scene::start().await;
    let endpoint = scene.endpoint("/down", handshake(), json!({})).await;
    let delivery = &scene.deliver(&endpoint, 1).await[0];
    assert_eq!(
        (&delivery["status"], &delivery["attempt_count"]),
        (&json!("delivered"), &json!(2)),
        "{delivery}"
    );
    let detail = scene.api.delivery(delivery).await;
    let first = detail["attempts"][0]["error"]["text"].as_str().unwrap();
    assert!(
        first.starts_with("the request for consent: ") && first.contains("500"),
        "{first}"
    );
    assert_eq!(scene.receiver.got(&Method::OPTIONS, "/down").len(), 2);
    assert_eq!(scene.receiver.got(&Method::POST, "/down").len(), 1);
}

#[tokio::test]
async fn binary_mode_and_posthastes_own_events_arrive() {
    let scene = Scene::start().await;
    let binary = scene
        .endpoint(
            "/binary",
            json!({"mode": "binary", "source": "/shop"}),
            json!({}),
        )
        .await;
    let overrides = json!({"cloudevents": {"subject": "Euro € 😀", "extensions": {"shard": 7}}});
    let id = scene
        .api
        .enqueue_to(
            &binary,
            json!({"payload": {"a": 1}, "overrides": overrides}),
        )
        .await;
    assert_eq!(scene.api.finished(&id, 1).await[0]["status"], "delivered");
    let request = &scene.receiver.got(&Method::POST, "/binary")[0];
    assert_eq!(
        (request.header("content-type"), &request.body[..]),
        ("application/json", &br#"{"a":1}"#[..])
    );
    assert_eq!(
        (request.header("ce-id"), request.header("ce-source")),
        (id.as_str(), "/shop")
    );
    assert_eq!(
        (request.header("ce-subject"), request.header("ce-shard")),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "7")
    );
    assert_eq!(
        (
            request.header("ce-specversion"),
            request.header("ce-datacontenttype")
        ),
        ("1.0", "")
    );

    // A delivery that fails makes an event; whoever subscribes to it gets the event itself.
    let subscription = json!({"subscription": {"types": ["delivery.failed"]}});
    scene.endpoint("/events", json!({}), subscription).await;
    let refused = scene
        .endpoint(
            "/other",
            handshake(),
            json!({"subscription": {"types": ["none"]}}),
        )
        .await;
    let failed = &scene.deliver(&refused, 1).await[0];
    let event = crate::support::eventually("the event", async || {
        scene
            .receiver
            .got(&Method::POST, "/events")
            .first()
            .cloned()
    })
    .await;
    let event: Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!(
        (&event["type"], &event["source"]),
        (&json!("delivery.failed"), &json!("/posthaste")),
        "{event}"
    );
    assert_eq!(
        (&event["subject"], &event["data"]["delivery"]["id"]),
        (&failed["id"], &failed["id"]),
        "{event}"
    );
    let recorded = &scene
        .api
        .events("delivery.failed", failed["id"].as_str().unwrap())
        .await[0];
    assert_eq!(&event, recorded);
}

#[tokio::test]
async fn consent_is_asked_for_at_the_url_that_a_transform_chooses() {
    let scene = Scene::start().await;
    let mut settings = handshake();
    let script = "export default ({ payload }) => ({ payload, url: `URL/${payload.n % 2 ? 'odd' : \
                  'other'}` });";
    settings["transform"] = script.replace("URL", &scene.receiver.url).into();
    let endpoint = scene
        .endpoint("/any", settings, json!({"timeout_ms": 30_000}))
        .await;
    let mut ends: Vec<_> = scene
        .deliver(&endpoint, 4)
        .await
        .iter()
        .map(|one| one["status"].to_string())
        .collect();
    ends.sort();
    // Only one of the two gave its consent: that of the other is not asked for in its name.
    assert_eq!(
        ends,
        [
            r#""delivered""#,
            r#""delivered""#,
            r#""failed""#,
            r#""failed""#
        ]
    );
    assert_eq!(scene.receiver.got(&Method::OPTIONS, "/odd").len(), 1);
    assert_eq!(scene.receiver.got(&Method::POST, "/odd").len(), 2);
    assert!(!scene.receiver.got(&Method::OPTIONS, "/other").is_empty());
    for (method, path) in [
        (Method::POST, "/other"),
        (Method::OPTIONS, "/any"),
        (Method::POST, "/any"),
    ] {
        assert!(
            scene.receiver.got(&method, path).is_empty(),
            "{method} {path}"
        );
    }
}
