//! What programs of an earlier schema left in a store: something in every table, and deliveries in
//! every state.

use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::domain::id::{DeliveryId, EndpointId, EventId, NotificationId};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::cipher::Cipher;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::old_store::{Cell, OldStore, Schema};

const SECOND: i64 = 1_000_000;
/// When everything was accepted, in seconds from now: before the day of the first attempts.
pub(super) const ACCEPTED: i64 = -4 * 24 * 3600;
/// When each delivery's first attempt was: on a day that is another partition than today's.
const FIRST_ATTEMPT: i64 = -3 * 24 * 3600;

/// What has to become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is sent, once, and delivered.
    Sent,
    /// It is finished and stays as it is: this status, this number of attempts.
    Stays(&'static str, i64),
    /// It expires without being sent.
    Expires,
    /// It fails without being sent.
    Fails,
    /// It goes on waiting.
    Waits,
    /// It waits until its endpoint is enabled, and is sent then.
    SentWhenEnabled,
}

/// A delivery that is left, or a message or letter that becomes one.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) notification: String,
    pub(super) id: Uuid,
    pub(super) outcome: Outcome,
    /// How many attempts it had.
    pub(super) attempts: i64,
}

/// Where a delivery stood.
enum Stood {
    Retry,
    Scheduled { ahead: i64 },
    Parked(&'static str),
    InFlight { ends_in: i64 },
    Delivered,
    Failed(&'static str),
    Expired,
    Cancelled,
}

/// Name, endpoint, where it stood, its attempts, what has to become of it.
const DELIVERIES: &[(&str, &str, Stood, i64, Outcome)] = {
    use Outcome::{Expires, Fails, Sent, SentWhenEnabled, Stays, Waits};
    use Stood::{Cancelled, Delivered, Expired, Failed, InFlight, Parked, Retry, Scheduled};
    &[
        ("retry", "open", Retry, 1, Sent),
        ("scheduled", "open", Scheduled { ahead: -60 }, 0, Sent),
        ("later", "open", Scheduled { ahead: 86_400 }, 0, Waits),
        ("parked", "open", Parked("max_in_flight"), 0, Sent),
        ("limited", "limited", Parked("slots"), 0, Sent),
        ("held", "disabled", Parked("disabled"), 1, SentWhenEnabled),
        ("of-a-sick-one", "sick", Retry, 3, Sent),
        ("lease-ended", "open", InFlight { ends_in: -300 }, 0, Sent),
        ("lease-ends", "open", InFlight { ends_in: 1 }, 1, Sent),
        ("overdue", "open", Retry, 1, Expires),
        ("of-a-deleted-one", "deleted", Retry, 1, Fails),
        ("delivered", "open", Delivered, 1, Stays("delivered", 1)),
        (
            "delivered-late",
            "open",
            Delivered,
            3,
            Stays("delivered", 3),
        ),
        ("failed", "open", Failed("rejected"), 1, Stays("failed", 1)),
        (
            "given-up",
            "open",
            Failed("retries_exhausted"),
            2,
            Stays("failed", 2),
        ),
        ("replayed", "open", Failed("retries_exhausted"), 2, Sent),
        ("expired", "open", Expired, 0, Stays("expired", 0)),
        ("cancelled", "open", Cancelled, 1, Stays("cancelled", 1)),
    ]
};

/// Writes as programs of the schema `known` did.
pub(super) struct Writer<'a> {
    store: &'a mut OldStore,
    known: &'a Schema,
    /// Goes before every name, so that there may be two of these.
    pub(super) prefix: &'a str,
    /// Where endpoints are.
    url: &'a str,
    now: Timestamp,
    pub(super) cipher: Cipher,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        store: &'a mut OldStore,
        known: &'a Schema,
        prefix: &'a str,
        master_key: &'a str,
        url: &'a str,
    ) -> Self {
        let cipher = Cipher::new(&Secret::new(master_key), None).unwrap();
        let now = SystemClock.now();
        Self {
            store,
            known,
            prefix,
            url,
            now,
            cipher,
        }
    }

    pub(super) fn has(&self, table: &str, column: &str) -> bool {
        self.known
            .contains_key(&(table.to_owned(), column.to_owned()))
    }

    pub(super) fn at(&self, seconds: i64) -> Cell {
        Cell::Int(self.now.as_micros() + seconds * SECOND)
    }

    pub(super) async fn insert(&mut self, table: &str, row: &[(&str, Cell)]) {
        self.store.insert(self.known, table, row).await;
    }

    pub(super) fn endpoint_id(&self, name: &str) -> String {
        format!("ep_{}_{name}", self.prefix)
    }

    /// Endpoints and deliveries: what any number of programs may write at any time.
    pub(super) async fn deliveries(&mut self) -> Vec<Left> {
        for name in ["open", "limited", "disabled", "sick", "deleted"] {
            self.endpoint(name).await;
        }
        let mut left = Vec::new();
        for delivery in DELIVERIES {
            left.push(self.delivery(delivery).await);
        }
        // Nobody wanted it.
        self.notification("unmatched", "open", 0).await;
        left.push(self.message("queued", None).await);
        left
    }

    async fn endpoint(&mut self, name: &str) {
        let endpoint = self.endpoint_id(name);
        let secret = json!({
            "secrets": [{
                "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "created_at": "2026-01-14T10:30:00Z", "retires_at": null,
            }],
            "headers": [["x-of-then", "kept"]], "settings": {},
        });
        let sealed = self.cipher.seal(&endpoint, secret.to_string().as_bytes());
        let retry = json!({
            "max_retries": 5, "initial_delay_ms": 1000, "multiplier": 2.0,
            "max_delay_ms": 3_600_000, "jitter": 0.1, "delays_ms": null,
            "on": ["5xx", "408", "425", "429", "timeout", "network"],
        });
        let version = self.number("endpoints", 1).await;
        let mut row = vec![
            ("id", text(&endpoint)),
            ("tenant", text("default")),
            ("url", text(self.url)),
            ("wire_format", text("standard")),
            ("description", text("of then")),
            ("subscription", text(r#"{"types":["of-nobody.*"]}"#)),
            ("timeout_ms", Cell::Int(15_000)),
            ("retry", text(&retry.to_string())),
            ("max_in_flight", Cell::Int(32)),
            ("status", text("enabled")),
            ("created_at", self.at(-7200)),
            ("updated_at", self.at(-7200)),
            ("version", Cell::Int(version)),
            ("uid", text(&format!("uid-{endpoint}"))),
        ];
        match name {
            "deleted" => row.push(("deleted_at", self.at(-600))),
            _ => row.push(("confidential", Cell::Bytes(sealed))),
        }
        match name {
            "disabled" => {
                row.retain(|(name, _)| *name != "status");
                row.push(("status", text("disabled")));
                row.push(("disabled_reason", text("manual")));
            }
            "limited" => row.push(("rate_limit_per_second", Cell::Int(50))),
            "sick" => row.push(("failing_since", self.at(-600))),
            _ => {}
        }
        self.insert("endpoints", &row).await;
    }

    /// Raises a counter of the table `versions` and returns what it is then.
    pub(super) async fn number(&mut self, name: &str, by: i64) -> i64 {
        let sql = format!("UPDATE versions SET value = value + {by} WHERE name = '{name}'");
        self.store.run(&sql).await;
        let sql = format!("SELECT value FROM versions WHERE name = '{name}'");
        self.store.number(&sql).await
    }

    async fn notification(&mut self, name: &str, endpoint: &str, fan_out: i64) -> String {
        let notification = format!("{}-{name}", self.prefix);
        let endpoint = self.endpoint_id(endpoint);
        let mut row = vec![
            ("tenant", text("default")),
            ("id", text(&notification)),
            ("type", text(kind(name))),
            ("target", text(&endpoint)),
            ("payload", Cell::Bytes(payload(name))),
            ("accepted_at", self.at(ACCEPTED)),
            ("priority", text("normal")),
            ("origin", text("producer")),
            ("fan_out", Cell::Int(fan_out)),
            ("hops", Cell::Int(1)),
        ];
        if let Some(at) = self.expiry(name) {
            row.push(("expires_at", at));
        }
        self.insert("notifications", &row).await;
        notification
    }

    fn expiry(&self, name: &str) -> Option<Cell> {
        match name {
            "overdue" | "expired" => Some(self.at(-60)),
            "retry" => Some(self.at(86_400)),
            _ => None,
        }
    }

    async fn delivery(
        &mut self,
        (name, endpoint, stood, attempts, outcome): &(&str, &str, Stood, i64, Outcome),
    ) -> Left {
        let notification = self.notification(name, endpoint, 1).await;
        let endpoint = self.endpoint_id(endpoint);
        let delivery = delivery_id(&notification, &endpoint);
        let finished = self.at(-1800);
        let (status, more) = match stood {
            Stood::Retry => ("pending", waits("retry", self.at(-30))),
            Stood::Scheduled { ahead } => ("pending", waits("scheduled", self.at(*ahead))),
            Stood::InFlight { ends_in } => ("pending", waits("in_flight", self.at(*ends_in))),
            Stood::Parked(hold) => {
                let parked = vec![("wait", text("parked")), ("hold", text(hold))];
                ("pending", parked)
            }
            Stood::Delivered => ("delivered", vec![("finished_at", finished)]),
            Stood::Failed(reason) => {
                let failed = vec![("finished_at", finished), ("reason", text(reason))];
                ("failed", failed)
            }
            Stood::Expired => ("expired", vec![("finished_at", finished)]),
            Stood::Cancelled => ("cancelled", vec![("finished_at", finished)]),
        };
        let mut row = vec![
            ("id", id(delivery)),
            ("notification_id", text(&notification)),
            ("tenant", text("default")),
            ("type", text(kind(name))),
            ("endpoint_id", text(&endpoint)),
            ("wire_format", text("standard")),
            ("status", text(status)),
            ("round", Cell::Int(1)),
            ("attempt_count", Cell::Int(*attempts)),
            ("round_base", Cell::Int(0)),
            ("created_at", self.at(ACCEPTED)),
            ("origin", text("producer")),
            ("provider_message_date", text("2026-01-14T10:30:00Z")),
        ];
        row.extend(more);
        if let Some(at) = self.expiry(name) {
            row.push(("expires_at", at));
        }
        if *name == "retry" {
            row.push(("kept", Cell::Bytes(self.kept(delivery))));
        }
        // A delivery that its first attempt finished has it in its row, since there is room for it.
        let inside =
            self.has("deliveries", "first_attempt") && status != "pending" && *attempts == 1;
        let code = if status == "delivered" { 200 } else { 503 };
        if inside {
            row.push(("first_attempt", text(&self.first_attempt(code).to_string())));
            row.push(("first_status_code", Cell::Int(code)));
        }
        self.insert("deliveries", &row).await;
        for number in 1..=*attempts {
            if !inside {
                self.attempt(delivery, number, code).await;
            }
        }
        if matches!(status, "failed" | "expired") {
            self.event(delivery, &notification, &endpoint, status).await;
        }
        Left {
            notification,
            id: delivery,
            outcome: *outcome,
            attempts: *attempts,
        }
    }

    /// What a transform returned when the round began.
    fn kept(&self, delivery: Uuid) -> Vec<u8> {
        let mut kept = 1_u32.to_be_bytes().to_vec();
        let name = format!("kept of delivery {delivery}");
        kept.extend(
            self.cipher
                .seal(&name, br#"{"payload":{"of":"a transform of then"}}"#),
        );
        kept
    }

    fn first_attempt(&self, code: i64) -> Value {
        json!({
            "at": self.now.as_micros() - 1801 * SECOND, "us": 1500, "phases": {"wait": 1.0},
            "result": if code == 200 { "2xx" } else { "5xx" }, "code": code, "body": "of then",
            "address": "127.0.0.1", "headers": [["x-of-then", "kept"]], "worker": "worker-of-then",
        })
    }

    async fn attempt(&mut self, delivery: Uuid, number: i64, code: i64) {
        let started = self.at(if number == 1 { FIRST_ATTEMPT } else { -1900 });
        let row = [
            ("delivery_id", id(delivery)),
            ("number", Cell::Int(number)),
            ("round", Cell::Int(1)),
            ("started_at", started),
            ("duration_us", Cell::Int(1500)),
            (
                "phases",
                text(r#"{"dns":0.1,"connect":0.2,"wait":1.0,"body":0.1}"#),
            ),
            ("result", text(if code == 200 { "2xx" } else { "5xx" })),
            ("status_code", Cell::Int(code)),
            ("error_code", text("http_503")),
            ("error_text", text("it answered 503")),
            ("response_body", text("of then")),
            ("resolved_address", text("127.0.0.1")),
            ("request_headers", text(r#"[["x-of-then","kept"]]"#)),
            ("worker", text("worker-of-then")),
            ("console", text("a line of a script")),
        ];
        self.insert("attempts", &row).await;
    }

    /// The event of an outcome, still in the outbox.
    async fn event(&mut self, delivery: Uuid, notification: &str, endpoint: &str, status: &str) {
        let event = format!("delivery.{status}");
        let subject = delivery.to_string();
        let event_id = EventId::of(&subject, &format!("{event}\0{}", 1)).0;
        let at = Timestamp::from_micros(self.now.as_micros() - 1800 * SECOND);
        let body = json!({
            "specversion": "1.0", "id": event_id, "source": "/posthaste", "type": event,
            "subject": subject, "time": at, "datacontenttype": "application/json",
            "tenant": "default",
            "data": {
                "delivery": {
                    "id": delivery, "notification_id": notification, "tenant": "default",
                    "type": "drill.old", "endpoint_id": endpoint, "wire_format": "standard",
                    "status": status, "reason": null, "waiting_for": null, "held_by": null,
                    "attempt_count": 1, "round": 1, "next_attempt_at": null, "expires_at": null,
                    "provider_message_id": null, "provider_error_code": null, "last_error": null,
                    "created_at": at, "finished_at": at,
                },
                "last_attempt": null,
            },
        });
        let sequence = self.number("events", 1).await;
        let row = [
            ("sequence", Cell::Int(sequence)),
            ("id", id(event_id)),
            ("type", text(&event)),
            ("tenant", text("default")),
            ("at", Cell::Int(at.as_micros())),
            ("body", Cell::Bytes(body.to_string().into_bytes())),
            ("claimed_until", self.at(-1)),
        ];
        self.insert("events", &row).await;
    }

    /// A message of the embedded queue.
    pub(super) async fn message(&mut self, name: &str, taken_by: Option<Uuid>) -> Left {
        let (notification, body) = self.draft(name);
        let mut row = vec![
            ("priority", Cell::Int(0)),
            ("message_id", text(&notification)),
            ("body", Cell::Bytes(body)),
            ("accepted_at", self.at(ACCEPTED)),
            ("origin", text("producer")),
            ("hops", Cell::Int(1)),
        ];
        if let Some(consumer) = taken_by {
            row.push(("consumer", id(consumer)));
        }
        self.insert("queue", &row).await;
        self.sent(notification)
    }

    pub(super) fn draft(&self, name: &str) -> (String, Vec<u8>) {
        let notification = format!("{}-{name}", self.prefix);
        let payload: Value = serde_json::from_slice(&payload(name)).unwrap();
        let draft = json!({
            "id": notification, "tenant": "default", "type": kind(name),
            "endpoint_id": self.endpoint_id("open"), "payload": payload,
        });
        (notification, draft.to_string().into_bytes())
    }

    pub(super) fn sent(&self, notification: String) -> Left {
        Left {
            id: delivery_id(&notification, &self.endpoint_id("open")),
            notification,
            outcome: Outcome::Sent,
            attempts: 0,
        }
    }
}

fn kind(name: &str) -> &'static str {
    match name {
        "replayed" => "drill.replayed",
        _ => "drill.old",
    }
}

fn payload(name: &str) -> Vec<u8> {
    json!({"name": name}).to_string().into_bytes()
}

fn delivery_id(notification: &str, endpoint: &str) -> Uuid {
    let notification = NotificationId::parse(notification).unwrap();
    let endpoint = EndpointId::parse(endpoint).unwrap();
    DeliveryId::of(&notification, &endpoint, None).0
}

fn waits(wait: &str, due_at: Cell) -> Vec<(&'static str, Cell)> {
    vec![("wait", text(wait)), ("due_at", due_at)]
}

pub(super) fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

pub(super) fn id(id: Uuid) -> Cell {
    Cell::Id(id)
}
