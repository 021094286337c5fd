//! More workers do more at once, and one that is killed takes nothing with it. What is asserted
//! does not depend on how fast the machine is: how many requests the receiver has at the same time.
//! `--nocapture` shows rates, too.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::slow_receiver::SlowReceiver;
use crate::support::{Api, Backend, Place, Process, eventually, process, within};

/// Slots of each worker.
const SLOTS: usize = 8;
/// Many, as one endpoint alone gets no more than three eighths of a worker's slots.
const ENDPOINTS: usize = 40;
/// How many accepted notifications wait at least, as long as the test wants load.
const BACKLOG: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_worker_adds_its_slots_and_one_that_is_killed_takes_nothing_with_it() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let receiver = Arc::new(SlowReceiver::start(Duration::from_millis(200)).await);
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    let api = Api::of(&api_process);
    let stop = Arc::new(AtomicBool::new(false));
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let load = Load {
        endpoints: endpoints(&api, &receiver).await,
        receiver: Arc::clone(&receiver),
        stop: Arc::clone(&stop),
        accepted: Arc::clone(&accepted),
    };
    let load = tokio::spawn(load.keep_up(Api::of(&api_process)));

    let mut workers = Vec::new();
    let mut steps = Vec::new();
    for count in 1..=3 {
        let arguments = ["worker", "--slots", &SLOTS.to_string()];
        workers.push(Process::start(&place, &arguments).await);
        steps.push((format!("{count}"), measure(&receiver, &workers).await));
        receiver.hold(true);
        all_slots_are_full(&receiver, &workers).await;
        receiver.hold(false);
    }

    receiver.hold(true);
    all_slots_are_full(&receiver, &workers).await;
    let killed = workers.pop().expect("the third worker");
    let counted_by_killed = number(&metrics(&killed).await, "posthaste_deliveries_total");
    killed.kill().await;
    // The other two have no slot free for what comes back.
    all_slots_are_full(&receiver, &workers).await;
    receiver.hold(false);
    steps.push((
        "2, one killed".to_owned(),
        measure(&receiver, &workers).await,
    ));
    stop.store(true, Ordering::Relaxed);
    load.await.expect("the load");
    print(&steps);

    let accepted: BTreeSet<String> = accepted.lock().unwrap().iter().cloned().collect();
    // What the killed worker had parked waits for the end of its lease.
    let delivered = within(
        Duration::from_secs(180),
        "everything is delivered",
        async || {
            let delivered = api.all_deliveries("&status=delivered").await;
            (delivered.len() >= accepted.len()).then_some(delivered)
        },
    )
    .await;
    let ids: Vec<&str> = delivered
        .iter()
        .map(|delivery| delivery["notification_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), accepted.len(), "each is recorded once");
    assert_eq!(
        ids.iter()
            .map(|id| (*id).to_owned())
            .collect::<BTreeSet<_>>(),
        accepted
    );
    only_what_the_killed_one_had_was_sent_twice(&receiver, &delivered);
    let counted = metrics_of(&workers, "posthaste_deliveries_total").await;
    assert!(
        counted + counted_by_killed <= ids.len() as f64,
        "{counted} + {counted_by_killed} of {}",
        ids.len()
    );
    let reconciled = process::run(&place, &["reconcile"], &[], None).await;
    assert!(
        reconciled.status.success(),
        "{}",
        String::from_utf8_lossy(&reconciled.stdout)
    );
}

async fn endpoints(api: &Api, receiver: &SlowReceiver) -> Vec<Value> {
    let mut endpoints = Vec::new();
    for n in 0..ENDPOINTS {
        let more = json!({"wire_format": "raw", "timeout_ms": 60_000});
        endpoints.push(api.endpoint(&receiver.url(&format!("/{n}")), more).await["id"].clone());
    }
    endpoints
}

/// Enqueues so much that there is always a backlog.
struct Load {
    endpoints: Vec<Value>,
    receiver: Arc<SlowReceiver>,
    stop: Arc<AtomicBool>,
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Load {
    async fn keep_up(self, api: Api) {
        while !self.stop.load(Ordering::Relaxed) {
            let waiting = self
                .accepted
                .lock()
                .unwrap()
                .len()
                .saturating_sub(self.receiver.answered());
            if waiting < BACKLOG {
                let item =
                    |endpoint: &Value| json!({"type": "a", "payload": {}, "endpoint_id": endpoint});
                let answer = api.post(
                    "/v1/notifications/batch",
                    self.endpoints.iter().cycle().take(200).map(item).collect(),
                );
                for item in answer.await["items"].as_array().expect("items") {
                    self.accepted
                        .lock()
                        .unwrap()
                        .push(item["id"].as_str().expect("an id").to_owned());
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// While the receiver answers nothing, it comes to have just as many requests as the workers have
/// slots, and each worker says that its slots are full.
async fn all_slots_are_full(receiver: &SlowReceiver, workers: &[Process]) {
    eventually("the receiver has a request for each slot", async || {
        (receiver.under_way() == workers.len() * SLOTS).then_some(())
    })
    .await;
    for worker in workers {
        eventually("a worker's slots are full", async || {
            let metrics = metrics(worker).await;
            assert!((number(&metrics, "posthaste_worker_slots") - SLOTS as f64).abs() < 0.5);
            (number(&metrics, "posthaste_deliveries_in_flight") as usize == SLOTS).then_some(())
        })
        .await;
        eventually("a worker counts what it delivered", async || {
            (number(&metrics(worker).await, "posthaste_deliveries_total") > 0.0).then_some(())
        })
        .await;
    }
}

struct Step {
    at_once: usize,
    per_second: f64,
    /// Deliveries that each worker counted meanwhile.
    counted: Vec<f64>,
}

/// Over some answers of the receiver: the most requests at once, which are never more than the
/// workers' slots.
async fn measure(receiver: &SlowReceiver, workers: &[Process]) -> Step {
    receiver.peak();
    let mut counted = Vec::new();
    for worker in workers {
        counted.push(-number(
            &metrics(worker).await,
            "posthaste_deliveries_total",
        ));
    }
    let from = receiver.answered();
    let to = from + 15 * SLOTS * workers.len();
    eventually("further answers", async || {
        (receiver.answered() >= to).then_some(())
    })
    .await;
    for (counted, worker) in counted.iter_mut().zip(workers) {
        *counted += number(&metrics(worker).await, "posthaste_deliveries_total");
        assert!(*counted > 0.0, "a worker delivered nothing");
    }
    let at_once = receiver.peak();
    assert!(
        at_once <= workers.len() * SLOTS,
        "{at_once} requests at once"
    );
    Step {
        at_once,
        per_second: receiver.rate(from, to),
        counted,
    }
}

fn print(steps: &[(String, Step)]) {
    println!(
        "{:<14} {:>8} {:>13} {:>13}   counted by each worker",
        "workers", "at once", "deliveries/s", "to one worker"
    );
    for (workers, step) in steps {
        let ratio = step.per_second / steps[0].1.per_second;
        println!(
            "{workers:<14} {:>8} {:>13.1} {ratio:>13.2}   {:?}",
            step.at_once, step.per_second, step.counted
        );
    }
}

/// Whose request was cut off got another; and what was answered twice was in the killed worker's
/// hands, which are at most its prefetched messages (twice its slots).
fn only_what_the_killed_one_had_was_sent_twice(receiver: &SlowReceiver, delivered: &[Value]) {
    let calls = receiver.calls();
    assert_eq!(
        calls.len(),
        delivered.len(),
        "each has a webhook-id of its own"
    );
    let cut_off: Vec<_> = calls
        .iter()
        .filter(|(_, calls)| calls.cut_off > 0)
        .collect();
    assert_eq!(cut_off.len(), SLOTS, "{cut_off:?}");
    assert!(
        calls.values().all(|calls| calls.answered >= 1),
        "one was never answered"
    );
    let repeated: Vec<_> = calls
        .iter()
        .filter(|(_, calls)| calls.answered + calls.cut_off > 1)
        .collect();
    println!(
        "killed with {} requests under way; {} were sent twice",
        cut_off.len(),
        repeated.len()
    );
    assert!(repeated.len() <= 2 * SLOTS, "{repeated:?}");
    assert!(
        repeated
            .iter()
            .all(|(_, calls)| calls.answered + calls.cut_off == 2),
        "{repeated:?}"
    );
}

async fn metrics(process: &Process) -> String {
    let answer = reqwest::get(format!("{}/metrics", process.url))
        .await
        .expect("metrics");
    answer.text().await.expect("text")
}

async fn metrics_of(processes: &[Process], name: &str) -> f64 {
    let mut sum = 0.0;
    for process in processes {
        sum += number(&metrics(process).await, name);
    }
    sum
}

/// The sum of a metric's series.
fn number(metrics: &str, name: &str) -> f64 {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with('{') || rest.starts_with(' '))
            .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    };
    metrics.lines().filter_map(of).sum()
}
