//! Receivers written with other people's libraries accept what arrives, and refuse it when it was
//! tampered with. Each check makes real deliveries and hands the request as it came to the library.

mod cloudevents;
mod cometchat;
mod events;
mod hmac;
mod httpsms;
mod novu;
mod standard;

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::receiver::Received;
use crate::support::{Api, Backend, DEADLINE, Place, Process, Receiver, required};

/// Runs a Python script with the test libraries; panics when it fails.
pub(crate) async fn python(script: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(required("POSTHASTE_TEST_PYTHON"));
    command.arg("-c").arg(script).args(arguments);
    run(command, input).await
}

/// Runs a JavaScript with the test libraries; panics when it fails.
pub(crate) async fn node(script: &str, arguments: &[&str], input: &str) -> String {
    let libraries = required("POSTHASTE_TEST_NODE_PATH");
    let mut command = Command::new("node");
    command
        .env("NODE_PATH", &libraries)
        .arg("-e")
        .arg(script)
        .arg("--")
        .args(arguments);
    // Imports of ES modules heed the directory, not the variable.
    command.current_dir(Path::new(&libraries).parent().expect("a parent"));
    run(command, input).await
}

async fn run(mut command: Command, input: &str) -> String {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("the interpreter starts");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(input.as_bytes())
        .await
        .expect("writing stdin");
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// `judge(check, refusals)`: what `check` returns for each request, or by which of its errors it
/// refuses it. Any other error fails the test.
const PYTHON_JUDGE: &str = "
import json, sys
given = json.load(sys.stdin)
def judge(check, refusals):
    verdicts = {}
    for request in given['requests']:
        try:
            verdicts[request['name']] = check(request['headers'], request['body'].encode())
        except refusals as error:
            verdicts[request['name']] = {'refused': type(error).__name__}
    print(json.dumps(verdicts))
";

/// The same in JavaScript; `refusals` are names of classes.
const NODE_JUDGE: &str = "
const given = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const judge = (check, refusals) => {
  const verdicts = {};
  for (const { name, headers, body } of given.requests) {
    try {
      verdicts[name] = check(headers, Buffer.from(body, 'utf8'));
    } catch (error) {
      if (!refusals.includes(error.constructor.name)) throw error;
      verdicts[name] = { refused: error.constructor.name };
    }
  }
  console.log(JSON.stringify(verdicts));
};
";

/// What a Python script says of each request of `given`.
async fn judged_by_python(script: &str, given: &Value) -> Value {
    let said = python(&format!("{PYTHON_JUDGE}{script}"), &[], &given.to_string()).await;
    serde_json::from_str(&said).expect("verdicts")
}

/// What a JavaScript says of each request of `given`.
async fn judged_by_node(script: &str, given: &Value) -> Value {
    let said = node(&format!("{NODE_JUDGE}{script}"), &[], &given.to_string()).await;
    serde_json::from_str(&said).expect("verdicts")
}

/// A request for the judges.
fn named(name: &str, headers: &[(String, String)], body: &str) -> Value {
    let headers: serde_json::Map<String, Value> = headers
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    json!({"name": name, "headers": headers, "body": body})
}

/// The request as it came, with another body, and with each of the headers that prove it changed or
/// left out.
fn with_tampered(request: &Received, proof: &[&str]) -> Vec<Value> {
    let headers = request.header_list();
    let body = request.text();
    let mut requests = vec![
        named("as sent", &headers, body),
        named("changed body", &headers, &format!("{body} ")),
    ];
    for proof in proof {
        assert!(
            headers.iter().any(|(name, _)| name == proof),
            "no {proof} in {headers:?}"
        );
        let mut changed = headers.clone();
        changed
            .iter_mut()
            .filter(|(name, _)| name == proof)
            .for_each(|(_, value)| *value = tampered(value));
        requests.push(named(&format!("changed {proof}"), &changed, body));
        let without: Vec<_> = headers
            .iter()
            .filter(|(name, _)| name != proof)
            .cloned()
            .collect();
        requests.push(named(&format!("no {proof}"), &without, body));
    }
    requests
}

/// A header's value with one character of each long word, such as each signature, changed to
/// another that may stand there.
pub(crate) fn tampered(value: &str) -> String {
    value
        .split(' ')
        .map(tampered_word)
        .collect::<Vec<_>>()
        .join(" ")
}

fn tampered_word(word: &str) -> String {
    let Some(at) = word.len().checked_sub(8) else {
        return word.to_owned();
    };
    let other = if &word[at..=at] == "1" { "2" } else { "1" };
    format!("{}{other}{}", &word[..at], &word[at + 1..])
}

/// The request as it came is accepted, with this to say; all others are refused, by this error.
fn assert_only_genuine(verdicts: &Value, accepted: &Value, refusal: &str) {
    let verdicts = verdicts.as_object().expect("an object");
    assert!(verdicts.len() > 2, "{verdicts:?}");
    for (name, verdict) in verdicts {
        let expected = if name == "as sent" {
            accepted.clone()
        } else {
            json!({"refused": refusal})
        };
        assert_eq!(*verdict, expected, "{name}");
    }
}

/// The program, running, and a receiver.
pub(crate) struct Scene {
    up: Process,
    pub(crate) api: Api,
    pub(crate) receiver: Receiver,
    made: AtomicUsize,
    _place: Place,
}

impl Scene {
    pub(crate) async fn start() -> Self {
        let place = Place::new(Backend::EmbeddedSqlite).await;
        let receiver = Receiver::start().await;
        let up = Process::start(&place, &["up"]).await;
        Self {
            api: Api::of(&up),
            up,
            receiver,
            made: AtomicUsize::new(0),
            _place: place,
        }
    }

    /// A path that no other endpoint has; the receiver answers as its first word says.
    fn path(&self, word: &str) -> String {
        format!("/{word}/{:03}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// Delivers a notification to a new endpoint; gives the endpoint and the request as it came.
    pub(crate) async fn deliver(&self, endpoint: Value, notification: Value) -> (Value, Received) {
        let path = self.path("ok");
        let endpoint = self.api.endpoint(&self.receiver.url(&path), endpoint).await;
        let request = self.deliver_to(&endpoint, &path, notification).await;
        (endpoint, request)
    }

    /// Delivers a notification to an endpoint at this path; gives the latest request.
    pub(crate) async fn deliver_to(
        &self,
        endpoint: &Value,
        path: &str,
        notification: Value,
    ) -> Received {
        let id = self.api.enqueue_to(endpoint, notification).await;
        let deliveries = self.api.finished(&id, 1).await;
        let fine = deliveries
            .iter()
            .all(|delivery| delivery["status"] == "delivered");
        assert!(fine, "{deliveries:?}\n{}", self.up.log());
        self.receiver.requests(path).pop().expect("a request")
    }
}

/// The official Standard Webhooks libraries verify a request.
pub(crate) async fn verify_by_libraries(request: &Received, secret: &str) {
    standard::verify(request, "webhook", secret, &request.json()).await;
}
