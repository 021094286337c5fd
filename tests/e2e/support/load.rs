//! A steady load through the API.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Api, Place, eventually, process, within};

/// Enqueues one after the other, whatever happens, until told to stop; remembers what was accepted.
pub struct Load {
    accepted: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    enqueueing: JoinHandle<()>,
}

impl Load {
    pub fn start(api: Api, endpoint: &Value) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::clone(&stop);
        let noted = Arc::clone(&accepted);
        let endpoint = endpoint["id"].clone();
        let enqueueing = tokio::spawn(async move {
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                n += 1;
                let id = format!("n-{n}");
                let body = json!({"id": id, "type": "a", "payload": n, "endpoint_id": endpoint});
                let (status, answer) = api
                    .call(Method::POST, "/v1/notifications", Some(body))
                    .await;
                match status.as_u16() {
                    202 => noted.lock().unwrap().push(id),
                    503 => assert!(answer["code"] == "unavailable", "{answer}"),
                    other => panic!("{other}: {answer}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self {
            accepted,
            stop,
            enqueueing,
        }
    }

    /// Waits until 50 more are accepted.
    pub async fn goes_on(&self) {
        let count = || self.accepted.lock().unwrap().len();
        let before = count();
        eventually("enqueueing goes on", async || {
            (count() > before + 50).then_some(())
        })
        .await;
    }

    /// Stops, and waits until everything accepted is delivered and the books are in order.
    pub async fn ends_without_loss(self, place: &Place, api: &Api) {
        self.stop.store(true, Ordering::Relaxed);
        self.enqueueing.await.unwrap();
        let accepted = self.accepted.lock().unwrap().clone();
        // What was claimed when a store went away comes back with the end of its lease.
        within(
            Duration::from_secs(180),
            "everything accepted is delivered",
            async || {
                let delivered = api.all_deliveries("&status=delivered").await;
                let ids: std::collections::BTreeSet<_> = delivered
                    .iter()
                    .map(|delivery| delivery["notification_id"].as_str().unwrap().to_owned())
                    .collect();
                accepted.iter().all(|id| ids.contains(id)).then_some(())
            },
        )
        .await;
        let reconciled = process::run(place, &["reconcile"], &[], None).await;
        assert!(
            reconciled.status.success(),
            "{}",
            String::from_utf8_lossy(&reconciled.stdout)
        );
    }
}
