//! The documentation's consumers of events, in Python and in JavaScript.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::{Api, Backend, DEADLINE, Place, Process, Receiver, required};

#[tokio::test]
async fn the_consumers_of_the_documentation_get_events() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let mut python = Command::new(required("POSTHASTE_TEST_PYTHON"));
    python.arg(examples.join("consume_events.py"));
    let mut node = Command::new("node");
    node.arg(examples.join("consume_events.js"))
        .env("NODE_PATH", required("POSTHASTE_TEST_NODE_PATH"));

    let place = Place::new(Backend::RabbitSqlite).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api.endpoint(&receiver.url("/status/400"), json!({})).await;
    let mut seen = Vec::new();
    // One after the other, on the same durable queue.
    for mut consumer in [python, node] {
        consumer
            .env("AMQP_URL", &place.broker_url)
            .env("EXCHANGE", format!("{}.events", place.prefix))
            .env("QUEUE", format!("{}.test-events", place.prefix))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = consumer.spawn().expect("the interpreter starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let mut next = async || {
            tokio::time::timeout(DEADLINE, lines.next_line())
                .await
                .expect("in time")
                .unwrap()
        };
        // What the consumer before took and could not acknowledge any more comes again.
        let known = |line: &str| seen.iter().any(|id: &String| line.contains(id.as_str()));
        let mut news = async || {
            loop {
                let line = next().await.expect("a line");
                if !known(&line) {
                    return line;
                }
            }
        };
        assert_eq!(news().await, "waiting for events");
        let notification = api.enqueue_to(&endpoint, json!({})).await;
        let delivery = api.finished(&notification, 1).await.remove(0);
        let line = news().await;
        let words: Vec<&str> = line.split(' ').collect();
        let id = delivery["id"].as_str().unwrap();
        assert_eq!((words[1], words[2]), ("delivery.failed", id), "{line}");
        assert!(
            line.ends_with("the endpoint answered 400 Bad Request"),
            "{line}"
        );
        seen.push(id.to_owned());
    }
}
