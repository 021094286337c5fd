//! How things are shown: in the HTTP API, in events and on the command line. Everything here may be
//! seen by whoever may read it: no secret comes this way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, AttemptError, AttemptResult, Phases};
use super::delivery::{Delivery, DeliveryState, FailureReason, Hold, Status, Wait};
use super::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use super::health::{EndpointHealth, Unhealthy};
use super::id::{DeliveryId, EndpointId, EndpointUid, NotificationId, NotificationType, TenantId};
use super::notification::{Notification, Priority};
use super::raw_json::RawJson;
use super::retry::RetryPolicy;
use super::secret::Secret;
use super::subscription::Subscription;
use super::time::Timestamp;
use super::wire_format::WireFormat;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// A delivery as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeliveryView {
    /// The delivery's id, which is also the `webhook-id` of its requests.
    pub id: DeliveryId,
    /// The id of the notification that is delivered.
    pub notification_id: NotificationId,
    /// The tenant that owns the delivery: 1 to 64 characters.
    pub tenant: TenantId,
    /// The notification's type, such as `message.phone.received`.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// The id of the endpoint that the delivery is for.
    pub endpoint_id: EndpointId,
    /// The endpoint's wire format when the delivery was created.
    pub wire_format: WireFormat,
    /// The one recipient that the delivery is for, where the wire format creates a delivery for
    /// each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The delivery's status: `pending`, or how it finished.
    pub status: Status,
    /// Why the delivery failed; null unless its status is `failed`.
    pub reason: Option<FailureReason>,
    /// What a pending delivery waits for: `in_flight`, `retry`, `scheduled` or `parked`; else null.
    pub waiting_for: Option<String>,
    /// The limit or switch that holds a parked delivery back; else null.
    pub held_by: Option<Hold>,
    /// The number of attempts so far, over all rounds.
    pub attempt_count: u32,
    /// The round, from 1; each replay starts the next.
    pub round: u32,
    /// When the next attempt is due; null unless the delivery waits for a retry or for its
    /// `deliver_at`.
    pub next_attempt_at: Option<Timestamp>,
    /// The time after which no attempt is made; null: never expires.
    pub expires_at: Option<Timestamp>,
    /// The provider's id of the message, where its response has one.
    pub provider_message_id: Option<String>,
    /// The time at which the provider accepted the message, as its response has it.
    pub provider_message_date: Option<String>,
    /// The provider's code of the failure, where its response has one.
    pub provider_error_code: Option<String>,
    /// Why the last attempt failed, or why none was made, as a sentence.
    pub last_error: Option<String>,
    /// When the notification was accepted.
    pub created_at: Timestamp,
    /// When the delivery finished; null while it is pending.
    pub finished_at: Option<Timestamp>,
}

impl From<&Delivery> for DeliveryView {
    fn from(delivery: &Delivery) -> Self {
        let reason = match delivery.state {
            DeliveryState::Failed { reason, .. } => Some(reason),
            _ => None,
        };
        let (waiting_for, held_by) = match &delivery.state {
            DeliveryState::Pending(Wait::Parked { why }) => (Some("parked".to_owned()), Some(*why)),
            DeliveryState::Pending(wait) => (Some(wait.as_str().to_owned()), None),
            _ => (None, None),
        };
        let next_attempt_at = match delivery.state {
            DeliveryState::Pending(Wait::Retry { due_at } | Wait::Scheduled { due_at }) => {
                Some(due_at)
            }
            _ => None,
        };
        Self {
            id: delivery.id,
            notification_id: delivery.notification_id.clone(),
            tenant: delivery.tenant.clone(),
            kind: delivery.kind.clone(),
            endpoint_id: delivery.endpoint_id.clone(),
            wire_format: delivery.wire_format,
            recipient: delivery.recipient.clone(),
            status: delivery.state.status(),
            reason,
            waiting_for,
            held_by,
            attempt_count: delivery.attempt_count,
            round: delivery.round,
            next_attempt_at,
            expires_at: delivery.expires_at,
            provider_message_id: delivery.provider_message_id.clone(),
            provider_message_date: delivery.provider_message_date.clone(),
            provider_error_code: delivery.provider_error_code.clone(),
            last_error: delivery.last_error.clone(),
            created_at: delivery.created_at,
            finished_at: delivery.state.finished_at(),
        }
    }
}

/// An attempt as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptView {
    /// The attempt's number, from 1, over all rounds of the delivery.
    pub number: u32,
    /// The round of the delivery that the attempt belongs to, from 1.
    pub round: u32,
    /// When the attempt began, by the worker's clock.
    pub started_at: Timestamp,
    /// How long the attempt took, in milliseconds: from the look-up of the name to the last byte,
    /// or to the failure.
    pub duration_ms: f64,
    /// Where the time went, in milliseconds.
    pub phases_ms: Phases,
    /// The result of the attempt, in one word.
    pub result: AttemptResult,
    /// The response's HTTP status code; null without a response.
    pub status_code: Option<u16>,
    /// What went wrong; null if nothing did.
    pub error: Option<AttemptError>,
    /// The beginning of the response's body, up to 4 KiB, as text.
    pub response_body: Option<String>,
    /// The IP address that was called; null if none was.
    pub resolved_address: Option<String>,
    /// Request headers as sent, each an array of name and value; secrets are redacted.
    #[schema(value_type = Vec<Vec<String>>)]
    pub request_headers: Vec<(String, String)>,
    /// The name of the worker that made the attempt.
    pub worker: String,
    /// What a script wrote to its console, up to 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
}

impl From<&Attempt> for AttemptView {
    fn from(attempt: &Attempt) -> Self {
        Self {
            number: attempt.number,
            round: attempt.round,
            started_at: attempt.started_at,
            duration_ms: attempt.duration.as_secs_f64() * 1e3,
            phases_ms: attempt.phases,
            result: attempt.result,
            status_code: attempt.status_code,
            error: attempt.error.clone(),
            response_body: attempt.response_body.clone(),
            resolved_address: attempt.resolved_address.clone(),
            request_headers: attempt.request_headers.clone(),
            worker: attempt.worker.clone(),
            console: attempt.console.clone(),
        }
    }
}

/// A delivery with its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeliveryDetail {
    /// The delivery, whose members stand beside `attempts`.
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// The attempts over all rounds, the first one first.
    pub attempts: Vec<AttemptView>,
}

/// A notification as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotificationView {
    /// The notification's id, unique in its tenant.
    pub id: NotificationId,
    /// The tenant that owns the notification: 1 to 64 characters.
    pub tenant: TenantId,
    /// The notification's type, such as `message.phone.received`.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// The id of the one endpoint that it was for; null: all whose subscription matched.
    pub endpoint_id: Option<EndpointId>,
    /// The payload as it was enqueued: any JSON.
    pub payload: RawJson,
    /// The recipient as it was enqueued: an object; null if there was none.
    #[schema(value_type = Option<Object>)]
    pub recipient: Option<RawJson>,
    /// The overrides as they were enqueued: an object by wire format; null if there were none.
    #[schema(value_type = Option<Object>)]
    pub overrides: Option<RawJson>,
    /// When the notification was accepted, by the clock of the process that accepted it.
    pub accepted_at: Timestamp,
    /// The time before which no attempt is made; null: at once.
    pub deliver_at: Option<Timestamp>,
    /// The time after which no attempt is made; null: never expires.
    pub expires_at: Option<Timestamp>,
    /// `high` goes ahead of `normal` on the way to the first attempt, where the broker can order.
    pub priority: Priority,
    /// The deliveries of the notification, one for each endpoint or recipient.
    pub deliveries: Vec<DeliveryView>,
}

impl NotificationView {
    /// The notification with its deliveries.
    #[must_use]
    pub fn of(notification: &Notification, deliveries: &[Delivery]) -> Self {
        Self {
            id: notification.id.clone(),
            tenant: notification.tenant.clone(),
            kind: notification.kind.clone(),
            endpoint_id: notification.target.clone(),
            payload: notification.payload.clone(),
            recipient: notification.recipient.clone(),
            overrides: notification.overrides.clone(),
            accepted_at: notification.accepted_at,
            deliver_at: notification.deliver_at,
            expires_at: notification.expires_at,
            priority: notification.priority,
            deliveries: deliveries.iter().map(DeliveryView::from).collect(),
        }
    }
}

/// An endpoint as it is shown: header values and settings that may be secret are redacted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointView {
    /// The endpoint's id, `ep_…`, unique over all tenants.
    pub id: EndpointId,
    /// The id that the endpoint's owner chose, if any; unique in the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<EndpointUid>,
    /// The tenant that owns the endpoint: 1 to 64 characters.
    pub tenant: TenantId,
    /// The URL that requests are sent to.
    pub url: String,
    /// The wire format that requests are written in.
    pub wire_format: WireFormat,
    /// A description for people: up to 1,000 characters.
    pub description: String,
    /// The notifications that the endpoint gets.
    pub subscription: Subscription,
    /// Whether the endpoint has a signing secret, which is never shown.
    pub has_secret: bool,
    /// The number of older secrets that still sign, until their overlap ends.
    pub retiring_secrets: usize,
    /// The public keys (`whpk_…`) of secrets that sign with ed25519, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    /// Static headers; values whose names look like secrets are redacted.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub headers: serde_json::Map<String, serde_json::Value>,
    /// Settings of the wire format; those whose names look like secrets are redacted.
    #[schema(value_type = Object)]
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// The time limit of one request in milliseconds, from connecting to the last byte of the
    /// response: 1,000 to 60,000, by default 5,000.
    pub timeout_ms: u64,
    /// Which failures are retried, how often and when.
    pub retry: RetryPolicy,
    /// The most requests in flight at once, over all workers: 1 to 10,000, by default 32.
    pub max_in_flight: u32,
    /// The most requests a second, over all workers; null: no limit.
    pub rate_limit_per_second: Option<f64>,
    /// Whether deliveries are sent to the endpoint; while not, they are parked.
    pub enabled: bool,
    /// Why the endpoint is disabled; null while it is enabled.
    pub disabled_reason: Option<DisabledReason>,
    /// What keeps an enabled endpoint from being called; left out while nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthView>,
    /// When the endpoint was created.
    pub created_at: Timestamp,
    /// When the endpoint was last changed.
    pub updated_at: Timestamp,
}

/// What keeps an endpoint from being called, as the workers report it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthView {
    /// The endpoint fails, and its circuit breaker is open; null while it is closed.
    pub unhealthy: Option<Unhealthy>,
    /// The end of the pause that the endpoint asked for by `Retry-After`; null without one.
    pub paused_until: Option<Timestamp>,
}

impl From<EndpointHealth> for HealthView {
    fn from(health: EndpointHealth) -> Self {
        Self {
            unhealthy: health.unhealthy,
            paused_until: health.paused_until,
        }
    }
}

impl EndpointView {
    /// What may be shown of an endpoint at `now`.
    #[must_use]
    pub fn of(endpoint: &Endpoint, now: Timestamp) -> Self {
        let confidential = &endpoint.confidential;
        let headers = confidential.headers.iter().map(|(name, value)| {
            // By a list of what is known to be harmless: a header's name says little about what is
            // in it, and a wrong guess would show a credential.
            let shown = if is_harmless_header(name) {
                value.expose()
            } else {
                REDACTED
            };
            (name.clone(), shown.into())
        });
        let live = confidential.live_secrets(now).count();
        Self {
            id: endpoint.id.clone(),
            uid: endpoint.uid.clone(),
            tenant: endpoint.tenant.clone(),
            url: endpoint.url.to_string(),
            wire_format: endpoint.wire_format,
            description: endpoint.description.clone(),
            subscription: endpoint.subscription.clone(),
            has_secret: live > 0,
            // All but the newest have a date on which they end.
            retiring_secrets: live.saturating_sub(1),
            public_keys: confidential
                .live_secrets(now)
                .filter_map(public_key)
                .collect(),
            headers: headers.collect(),
            settings: redacted_settings(&confidential.settings),
            timeout_ms: u64::try_from(endpoint.timeout.as_millis()).unwrap_or(u64::MAX),
            retry: endpoint.retry.clone(),
            max_in_flight: endpoint.max_in_flight,
            rate_limit_per_second: endpoint.rate_limit_per_second,
            enabled: endpoint.is_enabled(),
            disabled_reason: match endpoint.status {
                EndpointStatus::Enabled => None,
                EndpointStatus::Disabled(reason) => Some(reason),
            },
            health: None,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }

    /// The same with what keeps it from being called.
    #[must_use]
    pub fn with(mut self, health: Option<EndpointHealth>) -> Self {
        self.health = health.map(HealthView::from);
        self
    }
}

/// Whether the value of a header that somebody set tells nothing that is secret. Only these are
/// shown and kept: a secret may have any name.
#[must_use]
pub fn is_harmless_header(name: &str) -> bool {
    const NAMES: [&str; 16] = [
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "date",
        "pragma",
        "prefer",
        "traceparent",
        "user-agent",
        "x-correlation-id",
        "x-request-id",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a header or setting of that name is likely to hold a secret. Errs on the safe side.
#[must_use]
pub fn looks_secret(name: &str) -> bool {
    const WORDS: [&str; 9] = [
        "auth",
        "key",
        "token",
        "secret",
        "password",
        "passwd",
        "cookie",
        "signature",
        "credential",
    ];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// The public key of a Standard Webhooks secret for ed25519: `whsk_` and the base64 of seed and
/// public key.
fn public_key(secret: &Secret) -> Option<String> {
    let bytes = STANDARD
        .decode(secret.expose().strip_prefix("whsk_")?)
        .ok()?;
    // Seed and public key lie behind one another, 32 bytes each: only the second half may be seen.
    Some(format!("whpk_{}", STANDARD.encode(bytes.get(32..64)?)))
}

/// Whether a setting of that name is shown to nobody. Scripts are among them: many have keys of
/// their provider written in. `signature` is none: it says which kind is made.
fn is_hidden(name: &str) -> bool {
    // Scripts may have credentials in their text. `signature` is the name of a setting of
    // `standard`, which says `v1` or `v1a`.
    name == "script" || name == "transform" || (looks_secret(name) && name != "signature")
}

fn redacted_settings(
    settings: &serde_json::Map<String, serde_json::Value>,
) -> serde_json::Map<String, serde_json::Value> {
    let redact = |(name, value): (&String, &serde_json::Value)| {
        let shown = match value {
            serde_json::Value::Object(inner) => redacted_settings(inner).into(),
            serde_json::Value::String(_) if is_hidden(name) => REDACTED.into(),
            other => other.clone(),
        };
        (name.clone(), shown)
    };
    settings.iter().map(redact).collect()
}
