//! A row in every table in which no delivery is.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::left::{Left, Writer, id, text};
use crate::support::old_store::Cell;

/// An API key of then.
pub(super) const KEY: &str = "ph_an-api-key-that-a-program-of-then-handed-out";
/// An idempotency key of then.
pub(super) const IDEMPOTENCY_KEY: &str = "a-key-of-then";
/// The replay that is under way.
pub(super) const REPLAY: Uuid = Uuid::from_u128(3);

impl Writer<'_> {
    /// A row in each of the other tables: of these a store has one set.
    pub(super) async fn everything_else(&mut self) -> Vec<Left> {
        let mut left = Vec::new();
        let dead = Uuid::from_u128(1);
        let seen = self.at(-600);
        self.insert("queue_consumers", &[("id", id(dead)), ("seen_at", seen)])
            .await;
        left.push(self.message("taken-by-the-dead", Some(dead)).await);
        // A message that was handled but not acknowledged: it comes again, and is not sent again.
        self.message("delivered", None).await;
        left.extend(self.dead_letter().await);
        self.keys().await;
        self.jobs().await;
        self.agreements().await;
        self.sessions().await;
        self.books().await;
        left
    }

    /// A dead letter and, since there are redrives, one that is under way and takes it.
    async fn dead_letter(&mut self) -> Option<Left> {
        let (notification, body) = self.draft("dead");
        let row = [
            ("id", text("0192d3c4-0000-7000-8000-000000000001")),
            ("reason", text("poisonous")),
            ("detail", text("of then")),
            ("died_at", self.at(-600)),
            ("priority", Cell::Int(0)),
            ("message_id", text(&notification)),
            ("body", Cell::Bytes(body)),
            ("accepted_at", self.at(-3600)),
            ("origin", text("producer")),
            ("hops", Cell::Int(1)),
        ];
        self.insert("dead_letters", &row).await;
        let row = [
            ("id", id(Uuid::from_u128(2))),
            ("state", text("running")),
            ("total", Cell::Int(1)),
            ("lease_until", self.at(-60)),
            ("created_at", self.at(-300)),
        ];
        self.insert("redrives", &row).await;
        self.has("redrives", "id").then(|| self.sent(notification))
    }

    async fn keys(&mut self) {
        let row = [
            ("id", text("key_of_then")),
            ("hash", Cell::Bytes(sha256(KEY.as_bytes()))),
            ("name", text("of then")),
            ("tenant", text("default")),
            ("scopes", text("read,enqueue")),
            ("created_at", self.at(-7200)),
            ("last_used_at", self.at(-3600)),
        ];
        self.insert("api_keys", &row).await;
        let asked = self.asked_under_key();
        let row = [
            ("tenant", text("default")),
            ("name", text(&format!("key:{IDEMPOTENCY_KEY}"))),
            ("fingerprint", Cell::Bytes(sha256(asked.as_bytes()))),
            (
                "notification_id",
                text(&format!("{}-delivered", self.prefix)),
            ),
            ("accepted_at", self.at(-3600)),
            ("state", text("done")),
        ];
        self.insert("idempotency_keys", &row).await;
        let row = [
            ("caller", text("key_of_then")),
            ("name", text("of then")),
            ("fingerprint", Cell::Bytes(sha256(b"of then"))),
            ("claimed_at", self.at(-600)),
        ];
        self.insert("idempotent_answers", &row).await;
        let row = [
            ("tenant", text("default")),
            ("id", text("used-twice")),
            ("seen_at", self.at(-600)),
        ];
        self.insert("id_conflicts", &row).await;
        let check = self.cipher.seal("the store", b"posthaste");
        let row = [("id", Cell::Int(1)), ("check_value", Cell::Bytes(check))];
        self.insert("master_key", &row).await;
    }

    /// The request that was made under [`IDEMPOTENCY_KEY`], with its members in the order in which
    /// they are written.
    fn asked_under_key(&self) -> String {
        let endpoint = self.endpoint_id("open");
        format!(
            r#"{{"tenant":"default","type":"drill.old","endpoint_id":"{endpoint}","payload":1}}"#
        )
    }

    async fn jobs(&mut self) {
        let row = [
            ("id", id(REPLAY)),
            (
                "filter",
                text(r#"{"status":"failed","type":"drill.replayed"}"#),
            ),
            ("state", text("running")),
            ("matched", Cell::Int(0)),
            ("replayed", Cell::Int(0)),
            ("skipped", Cell::Int(0)),
            ("created_at", self.at(-300)),
        ];
        self.insert("replays", &row).await;
    }

    /// What workers agree on: one that is dead, an endpoint's last turns, and one that is sick.
    async fn agreements(&mut self) {
        if self.has("workers", "id") {
            self.number("workers", 1).await;
        }
        let row = [
            ("id", id(Uuid::from_u128(4))),
            ("name", text("worker-of-then")),
            ("joined", Cell::Int(1)),
            ("acknowledged", Cell::Int(1)),
            ("except_at", text("[]")),
            ("lease_until", self.at(-60)),
            ("was_late", Cell::Int(0)),
        ];
        self.insert("workers", &row).await;
        let limited = text(&self.endpoint_id("limited"));
        let row = [
            ("endpoint_id", limited),
            ("first_turn", self.at(-60)),
            ("turns", Cell::Int(1)),
            ("spacing_ns", Cell::Int(20_000_000)),
            ("taken_at", self.at(-60)),
        ];
        self.insert("rate_turns", &row).await;
        let version = if self.has("endpoint_health", "version") {
            self.number("endpoint_health", 1).await
        } else {
            0
        };
        let sick = text(&self.endpoint_id("sick"));
        let row = [
            ("endpoint_id", sick),
            ("unhealthy_since", self.at(-600)),
            ("open_until", self.at(-1)),
            ("failures", Cell::Int(20)),
            ("last_error", text("it answered 503")),
            ("types", text(r#"["drill.old"]"#)),
            ("changed_at", self.at(-60)),
            ("version", Cell::Int(version)),
        ];
        self.insert("endpoint_health", &row).await;
    }

    /// What was counted, and who did what.
    async fn books(&mut self) {
        const MINUTE: i64 = 60_000_000;
        let Cell::Int(hour_ago) = self.at(-3600) else {
            unreachable!("times are numbers")
        };
        let row = [
            ("step_s", Cell::Int(60)),
            ("begins_at", Cell::Int(hour_ago / MINUTE * MINUTE)),
            ("endpoint_id", text(&self.endpoint_id("open"))),
            ("r_2xx", Cell::Int(1)),
            ("succeeded", Cell::Int(1)),
            ("b03", Cell::Int(1)),
        ];
        self.insert("stats", &row).await;
        let row = [
            ("worker_id", id(Uuid::from_u128(4))),
            ("name", text("of then")),
            ("version", text("0.0.1")),
            ("slots", Cell::Int(8)),
            ("in_flight", Cell::Int(1)),
            ("at_limit", text("[]")),
            ("started_at", self.at(-7200)),
            ("reported_at", self.at(-3600)),
            ("sequence", Cell::Int(7)),
        ];
        self.insert("worker_reports", &row).await;
        let row = [
            ("id", id(Uuid::from_u128(5))),
            ("at", self.at(-3600)),
            ("key_id", text("key_of_then")),
            ("key_name", text("of then")),
            ("action", text("endpoint.create")),
            ("object", text(&self.endpoint_id("open"))),
            ("tenant", text("default")),
        ];
        self.insert("audit", &row).await;
    }

    async fn sessions(&mut self) {
        let row = [
            ("id_hash", Cell::Bytes(sha256(b"a session"))),
            ("key_id", text("key_of_then")),
            ("key_hash", Cell::Bytes(sha256(KEY.as_bytes()))),
            ("look_only", Cell::Int(1)),
            ("created_at", self.at(-60)),
            ("used_at", self.at(-60)),
        ];
        self.insert("console_sessions", &row).await;
        let row = [
            ("hash", Cell::Bytes(sha256(b"a link"))),
            ("key_hash", Cell::Bytes(sha256(KEY.as_bytes()))),
            ("created_at", self.at(-60)),
        ];
        self.insert("console_links", &row).await;
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}
