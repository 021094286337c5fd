//! Notifications get to their webhooks, on every pairing of store and broker.

use serde_json::{Value, json};

use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process};

/// How many notifications come in each of the three ways.
const EACH: usize = 200;

async fn everything_arrives_once(backend: Backend) {
    let place = Place::new(backend).await;
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    // Fewer than half of what comes, so that neither worker takes everything.
    let prefetch = [("POSTHASTE_WORKER_PREFETCH", "32")];
    let workers = [
        Process::start_with(&place, &["worker"], &prefetch).await,
        Process::start_with(&place, &["worker"], &prefetch).await,
    ];
    let api = Api::of(&api_process);
    let endpoint = api
        .endpoint(
            &receiver.url("/slow/20"),
            json!({"wire_format": "raw", "max_in_flight": 8}),
        )
        .await;

    let mut ids = by_batch(&api, &endpoint).await;
    ids.extend(by_command(&place, &api_process, &endpoint).await);
    if place.broker_url != "embedded" {
        ids.extend(by_foreign_client(&place, &endpoint).await);
    }

    receiver.wait_for("/slow", ids.len()).await;
    let deliveries = eventually("every delivery is recorded", async || {
        let deliveries = api.all_deliveries("&status=delivered").await;
        (deliveries.len() >= ids.len()).then_some(deliveries)
    })
    .await;
    let mut recorded: Vec<_> = deliveries
        .iter()
        .map(|delivery| delivery["notification_id"].as_str().unwrap().to_owned())
        .collect();
    recorded.sort();
    ids.sort();
    assert_eq!(recorded, ids, "each is recorded once");
    let payloads: std::collections::BTreeSet<String> = receiver
        .requests("/slow")
        .iter()
        .map(|request| request.header("webhook-id").to_owned())
        .collect();
    assert_eq!(
        payloads.len(),
        ids.len(),
        "each has a webhook-id of its own"
    );
    spread_over_both(&api, &deliveries).await;
    let reconciled = process::run(&place, &["reconcile", "--json"], &[], None).await;
    assert!(
        reconciled.status.success(),
        "{}",
        String::from_utf8_lossy(&reconciled.stdout)
    );
    for process in workers.into_iter().chain([api_process]) {
        assert!(process.stop().await.success());
    }
}

async fn by_batch(api: &Api, endpoint: &Value) -> Vec<String> {
    let item =
        |n: usize| json!({"type": "test.sent", "payload": {"n": n}, "endpoint_id": endpoint["id"]});
    let answer = api
        .post("/v1/notifications/batch", (0..EACH).map(item).collect())
        .await;
    let items = answer["items"].as_array().expect("items");
    assert_eq!(items.len(), EACH);
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

async fn by_command(place: &Place, api: &Process, endpoint: &Value) -> Vec<String> {
    let line = |n: usize| {
        json!({
            "id": format!("line-{n}"), "type": "test.sent", "payload": n,
            "endpoint_id": endpoint["id"],
        })
    };
    let lines: Vec<String> = (0..EACH).map(|n| line(n).to_string()).collect();
    let arguments = ["send", "--file", "-", "--json"];
    let output = process::run(
        place,
        &arguments,
        &[("POSTHASTE_API_URL", &api.url)],
        Some(lines.join("\n")),
    )
    .await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (0..EACH).map(|n| format!("line-{n}")).collect()
}

/// pika, from Python, knowing nothing but the contract.
async fn by_foreign_client(place: &Place, endpoint: &Value) -> Vec<String> {
    let script = r#"
import json, sys, pika
url, prefix, endpoint, count = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.confirm_delivery()
for n in range(int(count)):
    body = json.dumps({"type": "test.sent", "payload": {"n": n}, "endpoint_id": endpoint})
    properties = pika.BasicProperties(
        content_type="application/json", delivery_mode=2, message_id=f"pika-{n}"
    )
    exchange = f"{prefix}.notifications"
    channel.basic_publish(exchange, "notification", body, properties, mandatory=True)
connection.close()
"#;
    let arguments = [
        &place.broker_url,
        &place.prefix,
        endpoint["id"].as_str().unwrap(),
        &EACH.to_string(),
    ];
    crate::interop::python(script, &arguments, "").await;
    (0..EACH).map(|n| format!("pika-{n}")).collect()
}

/// Both workers made attempts.
async fn spread_over_both(api: &Api, deliveries: &[Value]) {
    let mut workers = std::collections::BTreeSet::new();
    for delivery in deliveries.iter().step_by(7) {
        let delivery = api.delivery(delivery).await;
        workers.insert(
            delivery["attempts"][0]["worker"]
                .as_str()
                .expect("a worker")
                .to_owned(),
        );
        if workers.len() == 2 {
            return;
        }
    }
    panic!("only {workers:?} worked");
}

#[tokio::test]
async fn everything_arrives_once_on_rabbitmq_and_postgres() {
    everything_arrives_once(Backend::RabbitPostgres).await;
}

#[tokio::test]
async fn everything_arrives_once_on_rabbitmq_and_sqlite() {
    everything_arrives_once(Backend::RabbitSqlite).await;
}

#[tokio::test]
async fn everything_arrives_once_on_embedded_and_postgres() {
    everything_arrives_once(Backend::EmbeddedPostgres).await;
}

#[tokio::test]
async fn everything_arrives_once_on_embedded_and_sqlite() {
    everything_arrives_once(Backend::EmbeddedSqlite).await;
}

#[tokio::test]
async fn subscriptions_decide_who_gets_what() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let subscribed = |types: Value| json!({"wire_format": "raw", "subscription": {"types": types}});
    api.endpoint(
        &receiver.url("/ok/exact"),
        subscribed(json!(["message.phone.received"])),
    )
    .await;
    api.endpoint(
        &receiver.url("/status/400"),
        subscribed(json!(["message.*"])),
    )
    .await;
    api.endpoint(&receiver.url("/fail/1/503"), subscribed(json!([])))
        .await;
    api.endpoint(&receiver.url("/ok/other"), subscribed(json!(["call.*"])))
        .await;
    let by_phone =
        json!({"wire_format": "raw", "subscription": {"phone_numbers": ["+18005550199"]}});
    api.endpoint(&receiver.url("/ok/phone"), by_phone).await;
    let elsewhere = json!({"wire_format": "raw", "tenant": "elsewhere"});
    api.endpoint(&receiver.url("/ok/tenant"), elsewhere).await;

    let body = json!({"type": "message.phone.received", "payload": {"n": 1}});
    let id = api.post("/v1/notifications", body).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut ends: Vec<String> = api
        .finished(&id, 3)
        .await
        .iter()
        .map(|delivery| {
            format!(
                "{}/{}",
                delivery["status"].as_str().unwrap(),
                delivery["attempt_count"]
            )
        })
        .collect();
    ends.sort();
    assert_eq!(
        ends,
        ["delivered/1", "delivered/2", "failed/1"],
        "each succeeds and fails on its own"
    );

    let body = json!({
        "type": "call.missed", "payload": {}, "recipient": {"phone_number": "+18005550199"},
    });
    let id = api.post("/v1/notifications", body).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    api.finished(&id, 3).await;
    assert_eq!(receiver.requests("/ok/exact").len(), 1);
    assert_eq!(receiver.requests("/ok/other").len(), 1);
    assert_eq!(receiver.requests("/ok/phone").len(), 1);
    assert_eq!(receiver.requests("/ok/tenant").len(), 0);

    let body = json!({"type": "nobody.wants.this", "payload": {}, "tenant": "empty"});
    let id = api.post("/v1/notifications", body).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let notification = eventually("a notification that nobody wants is kept", async || {
        let (status, body) = api
            .call(
                reqwest::Method::GET,
                &format!("/v1/notifications/{id}"),
                None,
            )
            .await;
        status.is_success().then_some(body)
    })
    .await;
    assert_eq!(notification["deliveries"], json!([]));
}

#[tokio::test]
async fn enqueueing_the_same_twice_delivers_once() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api
        .endpoint(&receiver.url("/ok"), json!({"wire_format": "raw"}))
        .await;
    let body = json!({"id": "order-1", "type": "a", "payload": 1, "endpoint_id": endpoint["id"]});
    assert_eq!(
        api.post("/v1/notifications", body.clone()).await["deduplicated"],
        false
    );
    assert_eq!(
        api.post("/v1/notifications", body.clone()).await["deduplicated"],
        true
    );
    let other = json!({"id": "order-1", "type": "a", "payload": 2, "endpoint_id": endpoint["id"]});
    let (status, problem) = api
        .call(reqwest::Method::POST, "/v1/notifications", Some(other))
        .await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (409, &json!("idempotency_conflict"))
    );
    api.finished("order-1", 1).await;
    // A further notification to the same endpoint shows that the queue has been worked off.
    let id = api.enqueue_to(&endpoint, json!({})).await;
    api.finished(&id, 1).await;
    assert_eq!(receiver.requests("/ok").len(), 2);
}

#[tokio::test]
async fn a_rate_limit_is_kept_and_everything_arrives() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let limited = json!({
        "wire_format": "raw", "rate_limit_per_second": 20, "settings": {"traceparent": true},
    });
    let endpoint = api.endpoint(&receiver.url("/ok"), limited).await;
    let item = |n: usize| json!({"type": "a", "payload": n, "endpoint_id": endpoint["id"]});
    api.post("/v1/notifications/batch", (0..60).map(item).collect())
        .await;
    let requests = receiver.wait_for("/ok", 60).await;
    for window in requests.windows(21) {
        let took = (window[20].at - window[0].at).as_secs_f64();
        // Twenty turns of 50 ms; a request may be held up on its way, and the next not.
        assert!(took > 0.7, "21 requests in {took} s");
    }
}
