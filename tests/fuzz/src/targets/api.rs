//! Requests to the HTTP API, by somebody who has a key for everything.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use posthaste_producer::http::{Api, ApiParts, ApiSettings, router};
use posthaste_shared::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use posthaste_shared::clock::{Clock, SystemClock};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::resolver::Resolver;
use posthaste_shared::services::Services;
use posthaste_shared::store::{Store, StoreOptions};
use posthaste_shared::telemetry::metrics::Metrics;
use posthaste_shared::telemetry::trace::Tracer;
use posthaste_worker::attempt::Attempter;
use posthaste_worker::script::Compiler;
use posthaste_worker::send::Sender;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{Target, parts};

/// The program's own, which lives where the API and the worker meet.
#[path = "../../../../src/wire_formats.rs"]
mod wire_formats;

pub(super) const TARGET: Target = Target {
    name: "api",
    about: "a request to the HTTP API: answered, and never by a 500",
    run,
    tokens: &[
        "GET ",
        "POST ",
        "PUT ",
        "PATCH ",
        "DELETE ",
        "/v1/endpoints",
        "/v1/notifications",
        "/v1/deliveries",
        "/v1/events",
        "/v1/keys",
        "/v1/dead-letters",
        "/v1/replays",
        "/v1/overview",
        "/v1/failures",
        "/v1/stats",
        "/v1/workers",
        "?limit=",
        "&cursor=",
        "&status=failed",
        "\"url\"",
        "\"wire_format\"",
        "\"settings\"",
        "\"retry\"",
        "\"subscription\"",
        "\"secret\"",
        "\"headers\"",
        "\"uid\"",
        "if-match: ",
        "idempotency-key: ",
        "content-type: application/json",
        "standard",
        "raw",
        "\"type\"",
        "\"payload\"",
        "\"recipient\"",
        "\"endpoint_id\"",
    ],
};

/// The administrator's key of this installation.
const KEY: &str = "pk_admin_of_the_fuzzed_installation_0123456789";
const MASTER_KEY: &str = "the master key of the fuzzed installation, long enough";

struct Installation {
    runtime: Runtime,
    router: Router,
    _files: tempfile::TempDir,
}

static INSTALLATION: LazyLock<Installation> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let files = tempfile::tempdir().unwrap();
    let router = runtime.block_on(start(files.path()));
    Installation {
        runtime,
        router,
        _files: files,
    }
});

async fn start(files: &std::path::Path) -> Router {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = Store::connect(&StoreOptions {
        master_key: Some(Secret::new(MASTER_KEY)),
        ..StoreOptions::new(Secret::new(format!("sqlite://{}/fuzz.db", files.display())))
    })
    .await
    .unwrap();
    store.migrate().await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let services = Services {
        broker: Arc::new(EmbeddedBroker::new(
            store.clone(),
            Arc::clone(&clock),
            EmbeddedOptions::default(),
        )),
        store,
        clock: Arc::clone(&clock),
        metrics: Arc::new(Metrics::new()),
        tracer: Tracer::off(),
    };
    // Nothing may be called, whatever an input asks for.
    let egress = EgressPolicy::new("none", false).unwrap();
    let resolver = Resolver::new(&[]);
    let sender = Sender::with_resolver(egress.clone(), &resolver).unwrap();
    let attempter = Attempter::new(sender, Arc::clone(&clock), Compiler::in_threads());
    router(Api::new(ApiParts {
        services,
        egress,
        wire_formats: Arc::new(wire_formats::WorkerWireFormats {
            attempter,
            clock,
            max_recipients: 100,
        }),
        resolver: Arc::new(resolver),
        shutdown: CancellationToken::new(),
        settings: ApiSettings {
            admin_key: Some(Secret::new(KEY)),
            ..ApiSettings::default()
        },
    }))
}

fn run(input: &[u8]) {
    let [line, headers, body] = parts(input);
    let Some((method, path)) = std::str::from_utf8(line)
        .ok()
        .and_then(|l| l.split_once(' '))
    else {
        return;
    };
    // Streams do not end by themselves, and a test of an endpoint looks names up.
    if path.contains("stream") || path.contains("/test") || path.contains("wait") {
        return;
    }
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {KEY}"));
    for line in String::from_utf8_lossy(headers).lines() {
        if let Some((name, value)) = line.split_once(':') {
            request = request.header(name.trim(), value.trim());
        }
    }
    let Ok(request) = request.body(Body::from(body.to_vec())) else {
        return;
    };
    let Installation {
        runtime, router, ..
    } = &*INSTALLATION;
    let (status, answer) = runtime.block_on(async {
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let streams = answer
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let body = if streams {
            Vec::new()
        } else {
            let read = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
            read.unwrap().to_vec()
        };
        (status, String::from_utf8_lossy(&body).into_owned())
    });
    assert!(status.as_u16() < 500, "{method} {path}: {status} {answer}");
    if status.is_client_error() && method != "HEAD" {
        let problem: serde_json::Value = serde_json::from_str(&answer)
            .unwrap_or_else(|_| panic!("{method} {path}: {status} {answer:?} is no problem"));
        assert!(problem["code"].is_string(), "{answer}");
    }
    for secret in [KEY, MASTER_KEY] {
        assert!(!answer.contains(secret), "{method} {path} tells a secret");
    }
}
