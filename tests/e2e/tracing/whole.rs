//! All attempts of a delivery are in one trace, whoever began it.

use std::collections::BTreeSet;

use posthaste_shared::telemetry::trace::names;
use serde_json::{Value, json};

use super::{CLIENT, CONSUMER, ENDPOINT, PARENT, PRODUCER, SERVER, TRACE, named};
use crate::support::collector::{Collector, Exported};
use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process};

/// Each span's parent is one of the others, but for the roots, whose parent is given.
fn assert_whole(spans: &[Exported], root: &str) {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "no id is there twice: {spans:#?}");
    for span in spans {
        let known = ids.contains(span.parent.as_str()) || span.parent == root;
        assert!(
            known,
            "{} has the parent {:?}, which did not come",
            span.name, span.parent
        );
        assert!(span.ended >= span.began, "{span:?}");
        for name in span.attributes.keys() {
            assert!(
                names::ALL.contains(&name.as_str()),
                "{name} is no name that is documented"
            );
        }
    }
}

/// One notification, three attempts: what came to the collector.
async fn three_attempts(
    place: &Place,
    collector: &Collector,
    api: &Process,
) -> (Vec<Exported>, Receiver, Value) {
    let receiver = Receiver::start().await;
    let api = Api::of(api);
    let retry = json!({"max_retries": 4, "delays_ms": [1000, 1000, 1000, 1000]});
    let more = json!({"retry": retry, "settings": {"traceparent": true}});
    let endpoint = api.endpoint(&receiver.url("/fail/2/503"), more).await;
    let body =
        json!({"type": "order.paid", "payload": {"order": 7}, "endpoint_id": endpoint["id"]});
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let answer = api
        .post_with("/v1/notifications", body, &[("traceparent", &traceparent)])
        .await;
    let id = answer["id"].as_str().unwrap();
    let delivery = api.finished(id, 1).await.remove(0);
    assert_eq!(
        (&delivery["status"], &delivery["attempt_count"]),
        (&json!("delivered"), &json!(3))
    );
    let spans = collector.trace(TRACE, 8).await;
    assert_whole(&spans, PARENT);
    assert_eq!(spans.len(), 8, "{spans:#?}");

    let server = named(&spans, SERVER, "POST /v1/notifications")[0];
    assert_eq!(server.parent, PARENT);
    assert_eq!(server.get("http.request.method"), "POST");
    assert_eq!(server.get("http.route"), "/v1/notifications");
    assert_eq!(server.get("http.response.status_code"), "202");
    let producer = named(
        &spans,
        PRODUCER,
        &format!("send {}.notifications", place.prefix),
    )[0];
    assert_eq!(producer.parent, server.id);
    assert_eq!(producer.get("messaging.message.id"), id);
    assert_eq!(producer.get("messaging.operation.type"), "send");
    let attempts = named(&spans, CONSUMER, &format!("process {}.work", place.prefix));
    let requests = named(&spans, CLIENT, "POST");
    let received = receiver.requests("/fail/2/503");
    for (place, attempt) in attempts.iter().enumerate() {
        assert_eq!(
            attempt.parent, producer.id,
            "each attempt hangs beneath what enqueued it"
        );
        assert_eq!(
            attempt.get("posthaste.attempt.number"),
            (place + 1).to_string()
        );
        assert_eq!(attempt.get("posthaste.notification.id"), id);
        assert_eq!(
            attempt.get("posthaste.delivery.id"),
            delivery["id"].as_str().unwrap()
        );
        assert_eq!(
            attempt.get("posthaste.endpoint.id"),
            endpoint["id"].as_str().unwrap()
        );
        assert_eq!(attempt.get("posthaste.tenant"), "default");
        assert_eq!(attempt.get("posthaste.wire_format"), "standard");
        assert_eq!(
            attempt.get("posthaste.delivery.source"),
            if place == 0 { "broker" } else { "store" }
        );
        let request = requests[place];
        assert_eq!(request.parent, attempt.id);
        assert!(request.began >= attempt.began && request.ended <= attempt.ended);
        assert_eq!(request.get("server.address"), "127.0.0.1");
        assert_eq!(request.get("server.port"), receiver.port.to_string());
        assert_eq!(request.get("network.peer.port"), receiver.port.to_string());
        assert!(
            request
                .get("posthaste.phase.wait_ms")
                .parse::<f64>()
                .unwrap()
                > 0.0
        );
        assert_eq!(
            received[place].header("traceparent"),
            request.traceparent(),
            "the receiver's spans hang beneath"
        );
        let (status, result, state) = if place < 2 {
            ("503", "5xx", "pending")
        } else {
            ("200", "2xx", "delivered")
        };
        assert_eq!(request.get("http.response.status_code"), status);
        assert_eq!(attempt.get("posthaste.attempt.result"), result);
        assert_eq!(attempt.get("posthaste.delivery.status"), state);
        assert_eq!((attempt.failed, request.failed), (place < 2, place < 2));
    }
    (spans, receiver, endpoint)
}

#[tokio::test]
async fn all_attempts_of_a_delivery_are_in_its_enqueuers_trace() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let collector = Collector::start().await;
    let environment = [
        (ENDPOINT, collector.url.as_str()),
        (
            "POSTHASTE_TRACING_HEADERS",
            "authorization=Bearer%20hunter2-hunter2",
        ),
        ("OTEL_SERVICE_NAME", "webhooks"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        ("POSTHASTE_LOG", "trace"),
    ];
    process::run(&place, &["migrate"], &[], None).await;
    let api = Process::start_with(&place, &["api"], &environment).await;
    let worker = Process::start_with(&place, &["worker"], &environment).await;
    let (spans, ..) = three_attempts(&place, &collector, &api).await;
    for span in &spans {
        let role = if matches!(span.kind, SERVER | PRODUCER) {
            "api"
        } else {
            "worker"
        };
        assert_eq!(span.resource["posthaste.role"], role);
        assert_eq!(span.resource["service.name"], "webhooks");
        assert_eq!(span.resource["deployment.environment.name"], "test");
        assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert!(!span.resource["service.instance.id"].is_empty());
    }
    let attempt = named(&spans, CONSUMER, "process")[0];
    assert_eq!(attempt.get("messaging.system"), "rabbitmq");
    let destination = format!("{0}.notifications:notification:{0}.work", place.prefix);
    assert_eq!(attempt.get("messaging.destination.name"), destination);
    // A delivery's lines in the log name its trace.
    worker.logs(TRACE).await;
    for (headers, _) in collector.requests() {
        assert_eq!(headers["authorization"], "Bearer hunter2-hunter2");
        assert_eq!(headers["content-type"], "application/x-protobuf");
    }
    let doctor = process::run(&place, &["doctor"], &environment, None).await;
    let seen = format!(
        "{}{}{}",
        api.log(),
        worker.log(),
        String::from_utf8_lossy(&doctor.stdout)
    );
    assert!(
        !seen.contains("hunter2"),
        "the collector's credentials are seen"
    );
}

#[tokio::test]
async fn one_process_traces_the_same() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let collector = Collector::start().await;
    let up = Process::start_with(
        &place,
        &["up"],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)],
    )
    .await;
    let (spans, receiver, endpoint) = three_attempts(&place, &collector, &up).await;
    let attempt = named(&spans, CONSUMER, "process")[0];
    assert_eq!(attempt.get("messaging.system"), "posthaste");
    assert_eq!(attempt.resource["posthaste.role"], "up");
    assert_eq!(attempt.resource["service.name"], "posthaste");

    // A replay is in the same trace, in the next round.
    let api = Api::of(&up);
    let delivery = attempt.get("posthaste.delivery.id").to_owned();
    api.post(&format!("/v1/deliveries/{delivery}/retry"), json!({}))
        .await;
    receiver.wait_for("/fail/2/503", 4).await;
    let spans = collector.trace(TRACE, 10).await;
    let again = *named(&spans, CONSUMER, "process").last().unwrap();
    assert_eq!(
        (
            again.get("posthaste.attempt.number"),
            again.get("posthaste.attempt.round")
        ),
        ("4", "2")
    );
    assert_eq!(
        again.get("posthaste.endpoint.id"),
        endpoint["id"].as_str().unwrap()
    );
    let metrics = reqwest::get(format!("{}/metrics", up.url))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("posthaste_trace_spans_dropped_total 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn who_brings_no_context_gets_one_trace_for_all_deliveries() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let collector = Collector::start().await;
    let receiver = Receiver::start().await;
    let up = Process::start_with(&place, &["up"], &[(ENDPOINT, &collector.url)]).await;
    let api = Api::of(&up);
    for path in ["/ok/1", "/ok/2", "/ok/3"] {
        api.endpoint(
            &receiver.url(path),
            json!({"wire_format": "raw", "subscription": {"types": ["a.*"]}}),
        )
        .await;
    }
    let answer = api
        .post("/v1/notifications", json!({"type": "a.b", "payload": 1}))
        .await;
    let id = answer["id"].as_str().unwrap();
    api.finished(id, 3).await;
    let producer = eventually("the producer's span", async || {
        let spans = collector.spans();
        named(&spans, PRODUCER, "send")
            .first()
            .map(|span| (*span).clone())
    })
    .await;
    let spans = collector.trace(&producer.trace, 8).await;
    assert_whole(&spans, "");
    assert_eq!(
        spans.len(),
        8,
        "request, publishing, and three times attempt and request: {spans:#?}"
    );
    assert_eq!(
        named(&spans, SERVER, "POST /v1/notifications")[0].parent,
        ""
    );
    let attempts = named(&spans, CONSUMER, "process");
    assert!(attempts.iter().all(|attempt| attempt.parent == producer.id));
    let endpoints: BTreeSet<&str> = attempts
        .iter()
        .map(|attempt| attempt.get("posthaste.endpoint.id"))
        .collect();
    assert_eq!(endpoints.len(), 3);
}

#[tokio::test]
async fn straight_from_the_broker_without_a_context_a_worker_begins_the_trace() {
    let place = Place::new(Backend::RabbitSqlite).await;
    let collector = Collector::start().await;
    let receiver = Receiver::start().await;
    let up = Process::start_with(&place, &["up"], &[(ENDPOINT, &collector.url)]).await;
    let api = Api::of(&up);
    let more = json!({"retry": {"delays_ms": [1000]}, "settings": {"traceparent": true}});
    let endpoint = api.endpoint(&receiver.url("/fail/1/503"), more).await;
    let to = endpoint["id"].as_str().unwrap();
    let send = |id: &'static str, more: Vec<String>, environment: Vec<(&'static str, String)>| {
        let arguments = [
            "send",
            "--broker",
            "--type",
            "a",
            "--payload",
            "{}",
            "--endpoint",
            to,
            "--id",
            id,
        ];
        let arguments: Vec<String> = arguments
            .into_iter()
            .map(str::to_owned)
            .chain(more)
            .collect();
        let place = &place;
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let environment: Vec<(&str, &str)> = environment
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let output = process::run(place, &arguments, &environment, None).await;
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    };
    send("n-1", vec![], vec![]).await;
    api.finished("n-1", 1).await;
    let root = eventually("the first span of the trace", async || {
        named(&collector.spans(), CONSUMER, "receive")
            .first()
            .map(|span| (*span).clone())
    })
    .await;
    let spans = collector.trace(&root.trace, 5).await;
    assert_whole(&spans, "");
    assert_eq!(spans.len(), 5, "{spans:#?}");
    assert!(
        named(&spans, CONSUMER, "process")
            .iter()
            .all(|attempt| attempt.parent == root.id)
    );

    // With a context, by the flag or by the variable, it is in that trace.
    let given = format!("00-{TRACE}-{PARENT}-01");
    send(
        "n-2",
        vec!["--traceparent".to_owned(), given.clone()],
        vec![],
    )
    .await;
    send("n-3", vec![], vec![("TRACEPARENT", given)]).await;
    for id in ["n-2", "n-3"] {
        api.finished(id, 1).await;
    }
    let spans = collector.trace(TRACE, 8).await;
    assert_whole(&spans, PARENT);
    assert!(
        named(&spans, CONSUMER, "process")
            .iter()
            .all(|attempt| attempt.parent == PARENT)
    );
    let refused = process::run(&place, &["send", "--traceparent", "00-ab", "-"], &[], None).await;
    assert_eq!(refused.status.code(), Some(2));
}
