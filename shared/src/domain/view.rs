//! How things are shown: in the HTTP API, in events and on the command line. Everything here may be
//! seen by whoever may read it: no secret comes this way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, AttemptError, AttemptResult, Phases};
use super::delivery::{Delivery, DeliveryState, FailureReason, Hold, Status, Wait};
use super::endpoint::{DisabledReason, Endpoint, EndpointStatus};
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
    /// Name; also the `webhook-id` of its requests.
    pub id: DeliveryId,
    /// Of what.
    pub notification_id: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// The notification's type.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// Where to.
    pub endpoint_id: EndpointId,
    /// How.
    pub wire_format: WireFormat,
    /// The one recipient it is for, where the wire format makes a delivery for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// Why it failed.
    pub reason: Option<FailureReason>,
    /// What a pending delivery waits for: `in_flight`, `retry`, `scheduled` or `parked`.
    pub waiting_for: Option<String>,
    /// What holds a parked delivery.
    pub held_by: Option<Hold>,
    /// Attempts made.
    pub attempt_count: u32,
    /// From 1; each replay starts the next.
    pub round: u32,
    /// When the next attempt is due, where that is known.
    pub next_attempt_at: Option<Timestamp>,
    /// Never sent after this.
    pub expires_at: Option<Timestamp>,
    /// What the provider calls the message.
    pub provider_message_id: Option<String>,
    /// When the provider says that it took the message, as its answer says it.
    pub provider_message_date: Option<String>,
    /// The provider's code for a failure.
    pub provider_error_code: Option<String>,
    /// Why the last attempt failed, or why none was made.
    pub last_error: Option<String>,
    /// When the notification was accepted.
    pub created_at: Timestamp,
    /// When it came to its end.
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
    /// From 1, over all rounds.
    pub number: u32,
    /// The round it belongs to.
    pub round: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// Where the time went, in milliseconds.
    pub phases_ms: Phases,
    /// What came of it, in one word.
    pub result: AttemptResult,
    /// The answer's status.
    pub status_code: Option<u16>,
    /// What went wrong.
    pub error: Option<AttemptError>,
    /// The beginning of the answer's body.
    pub response_body: Option<String>,
    /// The address that was called.
    pub resolved_address: Option<String>,
    /// Request headers as sent, each an array of name and value; secrets are redacted.
    #[schema(value_type = Vec<Vec<String>>)]
    pub request_headers: Vec<(String, String)>,
    /// The worker that made it.
    pub worker: String,
    /// What a script wrote to its console.
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
    /// The delivery.
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// Its attempts, the first first.
    pub attempts: Vec<AttemptView>,
}

/// A notification as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotificationView {
    /// Name.
    pub id: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// What it tells of.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// The one endpoint it was for.
    pub endpoint_id: Option<EndpointId>,
    /// As it was given.
    pub payload: RawJson,
    /// As it was given: an object.
    #[schema(value_type = Option<Object>)]
    pub recipient: Option<RawJson>,
    /// As it was given: an object.
    #[schema(value_type = Option<Object>)]
    pub overrides: Option<RawJson>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Not before.
    pub deliver_at: Option<Timestamp>,
    /// Never after.
    pub expires_at: Option<Timestamp>,
    /// Whether it went first.
    pub priority: Priority,
    /// Its deliveries.
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
    /// The endpoint's id, `ep_…`.
    pub id: EndpointId,
    /// The id that its owner chose, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<EndpointUid>,
    /// Whose.
    pub tenant: TenantId,
    /// Where requests go.
    pub url: String,
    /// How requests look.
    pub wire_format: WireFormat,
    /// What its owner says of it.
    pub description: String,
    /// Which notifications it wants.
    pub subscription: Subscription,
    /// Whether it has a signing secret (never shown).
    pub has_secret: bool,
    /// How many older secrets still sign, in their overlap.
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
    /// Time for the whole exchange.
    pub timeout_ms: u64,
    /// When failures are retried.
    pub retry: RetryPolicy,
    /// The most requests under way at once, for each worker.
    pub max_in_flight: u32,
    /// The most requests a second, for each worker.
    pub rate_limit_per_second: Option<f64>,
    /// Whether it is called.
    pub enabled: bool,
    /// Why it is not.
    pub disabled_reason: Option<DisabledReason>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl EndpointView {
    /// What may be shown of an endpoint at `now`.
    #[must_use]
    pub fn of(endpoint: &Endpoint, now: Timestamp) -> Self {
        let confidential = &endpoint.confidential;
        let headers = confidential.headers.iter().map(|(name, value)| {
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
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
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
    Some(format!("whpk_{}", STANDARD.encode(bytes.get(32..64)?)))
}

/// Whether a setting of that name is shown to nobody. Scripts are among them: many have keys of
/// their provider written in. `signature` is none: it says which kind is made.
fn is_hidden(name: &str) -> bool {
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
