//! `max_in_flight` and `rate_limit_per_second` hold over all workers, also while workers come, go
//! and are killed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::slow_receiver::SlowReceiver;
use crate::support::{Api, Backend, Place, Process, eventually, process, within};

struct Fleet {
    place: Place,
    _api_process: Process,
    api: Api,
    workers: Vec<Process>,
}

impl Fleet {
    async fn start() -> Self {
        let place = Place::new(Backend::RabbitPostgres).await;
        let migrated = process::run(&place, &["migrate"], &[], None).await;
        assert!(migrated.status.success());
        let api_process = Process::start(&place, &["api"]).await;
        Self {
            api: Api::of(&api_process),
            _api_process: api_process,
            place,
            workers: Vec::new(),
        }
    }

    async fn add(&mut self) {
        self.workers
            .push(Process::start(&self.place, &["worker"]).await);
    }

    async fn enqueue(&self, endpoint: &Value, many: usize) {
        let item = |n: usize| json!({"type": "a", "payload": n, "endpoint_id": endpoint["id"]});
        self.api
            .post("/v1/notifications/batch", (0..many).map(item).collect())
            .await;
    }

    async fn all_are_delivered(&self, many: usize) {
        within(Duration::from_secs(120), "all are delivered", async || {
            let delivered = self.api.all_deliveries("&status=delivered").await;
            (delivered.len() == many).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_are_in_flight_than_one_worker_alone_may_have() {
    const LIMIT: usize = 6;
    const MANY: usize = 600;
    let mut fleet = Fleet::start().await;
    let receiver = SlowReceiver::start(Duration::from_millis(150)).await;
    let endpoint = fleet
        .api
        .endpoint(
            &receiver.url("/"),
            json!({"wire_format": "raw", "max_in_flight": LIMIT}),
        )
        .await;
    fleet.add().await;
    fleet.enqueue(&endpoint, MANY).await;
    // One after the other gets a part of what the first has had; together they have all of it.
    for _ in 0..2 {
        fleet.add().await;
        let answered = receiver.answered();
        eventually("there is progress", async || {
            (receiver.answered() >= answered + 60).then_some(())
        })
        .await;
    }
    assert_eq!(receiver.peak(), LIMIT);
    fleet.workers.remove(0).kill().await;
    fleet.add().await;
    let stopped = fleet.workers.remove(0);
    assert!(stopped.stop().await.success());
    let answered = receiver.answered();
    eventually("those that are left have all of it", async || {
        (receiver.answered() >= answered + 60 && receiver.under_way() == LIMIT).then_some(())
    })
    .await;
    fleet.all_are_delivered(MANY).await;
    assert_eq!(receiver.peak(), LIMIT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_are_sent_a_second_than_one_worker_alone_may_send() {
    const RATE: usize = 20;
    const MANY: usize = 200;
    let mut fleet = Fleet::start().await;
    let receiver = SlowReceiver::start(Duration::ZERO).await;
    let endpoint = fleet
        .api
        .endpoint(
            &receiver.url("/"),
            json!({"wire_format": "raw", "rate_limit_per_second": RATE}),
        )
        .await;
    for _ in 0..3 {
        fleet.add().await;
    }
    fleet.enqueue(&endpoint, MANY).await;
    eventually("a part is delivered", async || {
        (receiver.answered() >= 2 * RATE).then_some(())
    })
    .await;
    fleet.workers.remove(0).kill().await;
    fleet.add().await;
    // The newest: the oldest may have its turn before it is explained.
    eventually("something waits for its turn, and says so", async || {
        let waiting = fleet.api.all_deliveries("&hold=rate_limit").await;
        let id = waiting.first()?["id"].as_str()?.to_owned();
        let explained = fleet.api.get(&format!("/v1/deliveries/{id}/explain")).await;
        let summary = explained["summary"].as_str()?;
        summary
            .contains("rate limit of 20/s over all workers")
            .then_some(())
    })
    .await;
    fleet.all_are_delivered(MANY).await;
    // A busy machine delivers requests late, in twos and threes. Three workers that do not know of
    // each other would send 60.
    let most = receiver.most_within(Duration::from_secs(1));
    assert!(most <= RATE + 5, "{most} within a second");
}
