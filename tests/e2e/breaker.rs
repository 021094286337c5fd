//! An endpoint that fails is left alone, and so is one that asks for a pause: its work waits, uses
//! up no attempt, and is sent once it answers again.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process, within};

/// How many notifications wait for an endpoint.
const MANY: usize = 60;

async fn enqueue(api: &Api, endpoint: &Value, many: usize) {
    let item = |n: usize| json!({"type": "a", "payload": n, "endpoint_id": endpoint["id"]});
    api.post("/v1/notifications/batch", (0..many).map(item).collect())
        .await;
}

async fn metric(process: &Process, name: &str) -> Option<f64> {
    let text = reqwest::get(format!("{}/metrics", process.url))
        .await
        .ok()?
        .text()
        .await
        .ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

async fn an_endpoint_that_fails_is_left_alone(backend: Backend) {
    let place = Place::new(backend).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    // One at a time: the breaker opens after ten failures, not after those that are under way.
    let endpoint = api
        .endpoint(&receiver.url("/ok"), json!({"max_in_flight": 1}))
        .await;
    let id = endpoint["id"].as_str().unwrap();
    receiver.set_down(true);
    enqueue(&api, &endpoint, MANY).await;
    let held = eventually("deliveries wait for the breaker", async || {
        let held = api.all_deliveries("&hold=breaker").await;
        (held.len() > MANY / 2).then_some(held)
    })
    .await;
    // Ten failures and some probes, for sixty deliveries.
    let sent = receiver.requests("/ok").len();
    assert!((10..20).contains(&sent), "{sent} requests");
    let parked = metric(
        &up,
        "posthaste_deliveries_parked_total{held_by=\"breaker\"}",
    );
    assert!(
        parked
            .await
            .is_some_and(|parked| parked > MANY as f64 / 2.0)
    );
    let explained = eventually("what is held says what by", async || {
        let one = held[held.len() - 1]["id"].as_str().unwrap();
        let explained = api.get(&format!("/v1/deliveries/{one}/explain")).await;
        let summary = explained["summary"].as_str().unwrap().to_owned();
        summary.contains("failed").then_some(summary)
    })
    .await;
    assert!(
        explained.contains("its endpoint has failed") && explained.contains("before it"),
        "{explained}"
    );
    let shown = api.get(&format!("/v1/endpoints/{id}")).await;
    let failures = shown["health"]["unhealthy"]["failures"].as_u64();
    assert!(failures.is_some_and(|failures| failures >= 10), "{shown}");
    let listed = api.get("/v1/endpoints").await;
    assert!(
        listed["items"][0]["health"]["unhealthy"].is_object(),
        "{listed}"
    );
    let unhealthy = eventually("an event that the endpoint fails", async || {
        api.events("endpoint.unhealthy", id).await.pop()
    })
    .await;
    assert_eq!(unhealthy["data"]["endpoint"]["id"], endpoint["id"]);
    assert!(
        unhealthy["data"]["last_error"]
            .as_str()
            .unwrap()
            .contains("503"),
        "{unhealthy}"
    );
    eventually("the metric shows an open breaker", async || {
        let open = metric(&up, "posthaste_endpoints{state=\"open\"}").await;
        (open == Some(1.0)).then_some(())
    })
    .await;

    receiver.set_down(false);
    within(
        Duration::from_secs(60),
        "everything is delivered",
        async || {
            let delivered = api.all_deliveries("&status=delivered").await;
            (delivered.len() == MANY).then_some(())
        },
    )
    .await;
    eventually("an event that the endpoint answers again", async || {
        api.events("endpoint.recovered", id).await.pop()
    })
    .await;
    eventually("no breaker is open", async || {
        let open = metric(&up, "posthaste_endpoints{state=\"open\"}").await;
        (open == Some(0.0)).then_some(())
    })
    .await;
    let shown = api.get(&format!("/v1/endpoints/{id}")).await;
    assert!(shown.get("health").is_none(), "{shown}");
    // Nobody's attempts were used up while it was down.
    let all = api.all_deliveries("").await;
    let tried = all.iter().map(|one| one["attempt_count"].as_u64().unwrap());
    assert!(tried.sum::<u64>() < 2 * MANY as u64);
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone_on_rabbitmq_and_postgres() {
    an_endpoint_that_fails_is_left_alone(Backend::RabbitPostgres).await;
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone_on_the_embedded_default() {
    an_endpoint_that_fails_is_left_alone(Backend::EmbeddedSqlite).await;
}

#[tokio::test]
async fn a_pause_that_an_endpoint_asks_for_holds_on_every_worker() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    let _workers = [
        Process::start(&place, &["worker"]).await,
        Process::start(&place, &["worker"]).await,
    ];
    let api = Api::of(&api_process);
    let endpoint = api.endpoint(&receiver.url("/pause/10"), json!({})).await;
    enqueue(&api, &endpoint, 1).await;
    let first = receiver.wait_for("/pause", 1).await[0].at;
    // The other worker hears of it within half a second, or somewhat later on a busy machine.
    tokio::time::sleep_until((first + Duration::from_secs(4)).into()).await;
    enqueue(&api, &endpoint, 40).await;
    eventually("deliveries wait for the end of the pause", async || {
        let held = api.all_deliveries("&hold=retry_after").await;
        (held.len() >= 40).then_some(())
    })
    .await;
    if first.elapsed() < Duration::from_secs(9) {
        assert_eq!(receiver.requests("/pause").len(), 1);
    }
    let requests = receiver.wait_for("/pause", 42).await;
    let second = requests[1].at - first;
    assert!(second >= Duration::from_millis(9_900), "{second:?}");
}

#[tokio::test]
async fn an_endpoint_that_somebody_mends_is_called_at_once() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api
        .endpoint(&receiver.url("/pause/900"), json!({"max_in_flight": 1}))
        .await;
    enqueue(&api, &endpoint, MANY).await;
    // One was tried and told to come again in a quarter of an hour. The others wait for that, too.
    eventually("deliveries wait for the end of the pause", async || {
        let held = api.all_deliveries("&hold=retry_after").await;
        (held.len() == MANY - 1).then_some(())
    })
    .await;
    let id = endpoint["id"].as_str().unwrap();
    let elsewhere = json!({"url": receiver.url("/ok")});
    let path = format!("/v1/endpoints/{id}");
    let (status, _) = api.call(Method::PATCH, &path, Some(elsewhere)).await;
    assert_eq!(status, 200);
    eventually("the others are delivered", async || {
        let delivered = api.all_deliveries("&status=delivered").await;
        (delivered.len() == MANY - 1).then_some(())
    })
    .await;
    assert_eq!(receiver.requests("/pause").len(), 1);
}
