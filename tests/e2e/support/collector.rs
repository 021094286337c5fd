//! A collector of spans: OTLP over HTTP, read with the types that the OpenTelemetry project
//! generates from its own definitions. It remembers what it got.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message as _;
use tokio::task::JoinHandle;

use super::eventually;

/// A span that came, with what the process that made it says of itself.
#[derive(Debug, Clone)]
pub struct Exported {
    pub trace: String,
    pub id: String,
    /// Empty for the first of a trace.
    pub parent: String,
    pub name: String,
    /// 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    pub failed: bool,
    pub began: u64,
    pub ended: u64,
    pub attributes: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
}

impl Exported {
    /// An attribute as text; empty where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// The `traceparent` of what hangs beneath it.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

/// How it answers, if it does not just take what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// Never.
    Hangs = 1,
    /// 400.
    Refuses,
}

#[derive(Default)]
struct Seen {
    mood: AtomicU8,
    requests: Mutex<Vec<(HeaderMap, Bytes)>>,
}

/// The collector; ends when dropped.
pub struct Collector {
    pub url: String,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Seen::default());
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&seen));
        let task =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("serving") });
        Self { url, seen, task }
    }

    pub fn set(&self, mood: Mood) {
        self.seen.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// Headers and bodies of all requests.
    pub fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.seen.requests.lock().expect("requests").clone()
    }

    /// All spans that came.
    pub fn spans(&self) -> Vec<Exported> {
        self.requests()
            .iter()
            .flat_map(|(_, body)| read(body))
            .collect()
    }

    /// The spans of one trace, once there are so many.
    pub async fn trace(&self, trace: &str, count: usize) -> Vec<Exported> {
        eventually(&format!("{count} spans of the trace {trace}"), async || {
            let mut spans = self.spans();
            spans.retain(|span| span.trace == trace);
            spans.sort_by_key(|span| span.began);
            (spans.len() >= count).then_some(spans)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> Response {
    seen.requests
        .lock()
        .expect("requests")
        .push((headers, body));
    match seen.mood.load(Ordering::SeqCst) {
        mood if mood == Mood::Hangs as u8 => std::future::pending().await,
        mood if mood == Mood::Refuses as u8 => StatusCode::BAD_REQUEST.into_response(),
        _ => ExportTraceServiceResponse::default()
            .encode_to_vec()
            .into_response(),
    }
}

fn read(body: &Bytes) -> Vec<Exported> {
    let request = ExportTraceServiceRequest::decode(body.clone()).expect("OTLP");
    let mut exported = Vec::new();
    for of_resource in request.resource_spans {
        let resource = texts(&of_resource.resource.expect("a resource").attributes);
        for span in of_resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            exported.push(Exported {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                kind: span.kind,
                failed: span.status.is_some_and(|status| status.code == 2),
                began: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
                attributes: texts(&span.attributes),
                resource: resource.clone(),
            });
        }
    }
    exported
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &any_value::Value| match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::DoubleValue(number) => number.to_string(),
        other => panic!("no attribute of ours is {other:?}"),
    };
    let mut texts = BTreeMap::new();
    for attribute in attributes {
        let value = attribute
            .value
            .as_ref()
            .and_then(|value| value.value.as_ref())
            .expect("a value");
        assert!(
            texts.insert(attribute.key.clone(), text(value)).is_none(),
            "{} is there twice",
            attribute.key
        );
    }
    texts
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
