//! Each wire format from the HTTP API to the receiver's socket and back: what goes out, how the
//! answer is read, what becomes of the delivery.

mod authgear;
mod cometchat;
mod httpsms;
mod novu_push;
mod novu_sms;
mod novu_token;
mod refused;
mod samples;
mod standard;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::receiver::Received;
use crate::support::{Api, Backend, Place, Process, Receiver};

/// The program, a receiver, a client.
pub(crate) struct Scene {
    pub(crate) api: Api,
    pub(crate) receiver: Receiver,
    pub(crate) up: Process,
    _place: Place,
}

impl Scene {
    pub(crate) async fn start() -> Self {
        Self::on(Backend::EmbeddedSqlite).await
    }

    pub(crate) async fn on(backend: Backend) -> Self {
        Self::with(backend, &[]).await
    }

    /// With further environment.
    pub(crate) async fn with(backend: Backend, environment: &[(&str, &str)]) -> Self {
        let place = Place::new(backend).await;
        let up = Process::start_with(&place, &["up"], environment).await;
        Self {
            api: Api::of(&up),
            receiver: Receiver::start().await,
            up,
            _place: place,
        }
    }

    /// An endpoint that calls this path of the receiver.
    pub(crate) async fn endpoint(
        &self,
        format: &str,
        path: &str,
        settings: Value,
        more: Value,
    ) -> Value {
        let mut members = json!({ "wire_format": format, "settings": settings });
        merge(&mut members, more);
        self.api.endpoint(&self.receiver.url(path), members).await
    }

    /// Enqueues a notification for one endpoint; its deliveries with their attempts, at their end.
    pub(crate) async fn deliver(
        &self,
        endpoint: &Value,
        notification: Value,
        count: usize,
    ) -> Vec<Value> {
        let id = self.api.enqueue_to(endpoint, notification).await;
        let mut details = Vec::new();
        for delivery in self.api.finished(&id, count).await {
            details.push(self.api.delivery(&delivery).await);
        }
        assert_eq!(details.len(), count);
        details
    }

    /// The same, of one delivery.
    pub(crate) async fn outcome(&self, endpoint: &Value, notification: Value) -> Value {
        self.deliver(endpoint, notification, 1).await.remove(0)
    }

    /// What is wrong with a body: each member with what is said of it.
    pub(crate) async fn refused(&self, path: &str, body: Value) -> Vec<(String, String)> {
        let (status, problem) = self.api.call(Method::POST, path, Some(body)).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (422, &json!("invalid")),
            "{problem}"
        );
        members(&problem)
    }
}

/// The members that a problem names, each with what is said of it.
pub(crate) fn members(problem: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let errors = problem["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("no members in {problem}"));
    errors
        .iter()
        .map(|error| (text(&error["field"]), text(&error["problem"])))
        .collect()
}

pub(crate) fn merge(members: &mut Value, more: Value) {
    let (Value::Object(members), Value::Object(more)) = (members, more) else {
        panic!("objects only")
    };
    members.extend(more);
}

/// One attempt, and no other.
pub(crate) fn once() -> Value {
    json!({ "retry": { "max_retries": 0 } })
}

/// A delivery's status and reason.
pub(crate) fn end(delivery: &Value) -> (&str, &str) {
    (
        delivery["status"].as_str().expect("a status"),
        delivery["reason"].as_str().unwrap_or_default(),
    )
}

/// A member of an attempt's error.
pub(crate) fn error<'a>(delivery: &'a Value, attempt: usize, member: &str) -> &'a str {
    delivery["attempts"][attempt]["error"][member]
        .as_str()
        .unwrap_or_else(|| panic!("no {member} in {delivery}"))
}

/// A header as the API shows it in a delivery's last attempt.
pub(crate) fn shown<'a>(delivery: &'a Value, name: &str) -> &'a str {
    let attempt = delivery["attempts"]
        .as_array()
        .and_then(|attempts| attempts.last())
        .expect("an attempt");
    let headers = attempt["request_headers"].as_array().expect("headers");
    let header = headers.iter().find(|header| {
        header[0]
            .as_str()
            .is_some_and(|own| own.eq_ignore_ascii_case(name))
    });
    header.unwrap_or_else(|| panic!("no {name} in {headers:?}"))[1]
        .as_str()
        .expect("text")
}

/// A request's body as text.
pub(crate) fn body(request: &Received) -> &str {
    std::str::from_utf8(&request.body).expect("text")
}

/// Lower-case hex HMAC-SHA256.
pub(crate) fn hmac_hex(key: &str, message: &[u8]) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("any key");
    mac.update(message);
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
