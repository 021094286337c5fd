//! An endpoint: where notifications go, how, and within which limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::id::{EndpointId, EndpointUid, TenantId};
use super::retry::RetryPolicy;
use super::secret::Secret;
use super::subscription::Subscription;
use super::time::Timestamp;
use super::wire_format::WireFormat;

/// Bounds of `timeout_ms`: 1 to 60 s, the whole exchange. The default of 5 s is that of httpSMS,
/// the first system whose webhooks Posthaste sent.
pub const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1_000..=60_000;
/// The default of `timeout_ms`: 5 s.
pub const DEFAULT_TIMEOUT_MS: u64 = 5_000;
/// Bounds of `max_in_flight`, over all workers.
pub const MAX_IN_FLIGHT: std::ops::RangeInclusive<u32> = 1..=10_000;
/// The default of `max_in_flight`, over all workers.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 32;
/// The most live signing secrets of an endpoint (the newest and those in their overlap).
pub const MAX_SECRETS: usize = 5;

/// A webhook with all that is needed to call it. Holds secrets: never serialised as it is; what is
/// shown of it is [`super::view::EndpointView`].
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// The endpoint's id, `ep_…`: given by Posthaste, and unique over all tenants.
    pub id: EndpointId,
    /// The id that its owner chose, if it did; unique in the tenant, and never changed.
    pub uid: Option<EndpointUid>,
    /// The tenant that owns the endpoint.
    pub tenant: TenantId,
    /// Where requests go. Has no user or password in it, but may have a secret in its query: not
    /// logged.
    pub url: Url,
    /// The wire format that its requests are written in.
    pub wire_format: WireFormat,
    /// What its owner says of it, up to 1,000 characters.
    pub description: String,
    /// Which notifications it wants.
    pub subscription: Subscription,
    /// What may not be shown: secrets, headers and settings, stored encrypted.
    pub confidential: Confidential,
    /// Time for the whole exchange: connect, send, response head and body.
    pub timeout: Duration,
    /// When failures are retried.
    pub retry: RetryPolicy,
    /// The most requests in flight at once, over all workers: 1 to 10,000.
    pub max_in_flight: u32,
    /// The most requests a second, over all workers. `None`: no limit.
    pub rate_limit_per_second: Option<f64>,
    /// Whether it is called at all.
    pub status: EndpointStatus,
    /// When the endpoint was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The store's change number at its last change; grows with every change of any endpoint.
    pub version: i64,
}

/// The part of an endpoint that is stored encrypted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Confidential {
    /// Signing secrets, the newest first. Those that were rotated out sign too until they retire.
    pub secrets: Vec<SigningSecret>,
    /// Static headers, sent with every request, in order.
    pub headers: Vec<(String, Secret)>,
    /// Settings of the wire format.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// The URL as it was written, where that is not how a URL is spelt in full
    /// (`https://example.com`, without the slash): tokens that name their audience name it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_url: Option<String>,
}

/// A signing secret, with the time in which it signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningSecret {
    /// As the wire format spells it, such as `whsec_…`.
    pub secret: Secret,
    /// When the secret was created.
    pub created_at: Timestamp,
    /// When it stops signing; `None` for the newest.
    pub retires_at: Option<Timestamp>,
}

/// Whether an endpoint is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointStatus {
    /// Deliveries are sent to it.
    Enabled,
    /// It is not; deliveries to it wait, until they expire or it is enabled again.
    Disabled(DisabledReason),
}

/// Why an endpoint is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// Disabled through the API or the command line.
    Manual,
    /// It answered 410 Gone.
    Gone,
    /// All its attempts failed for too long (default 5 days).
    Failing,
}

impl DisabledReason {
    /// The name in JSON and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Manual, Self::Gone, Self::Failing]
            .into_iter()
            .find(|reason| reason.as_str() == name)
    }
}

impl Endpoint {
    /// The URL as it was written.
    #[must_use]
    pub fn written_url(&self) -> &str {
        self.confidential
            .written_url
            .as_deref()
            .unwrap_or(self.url.as_str())
    }

    /// Gives it another URL, which was written as `text`.
    pub fn set_url(&mut self, url: Url, text: &str) {
        // Kept only where it differs. Beside the secrets, since a URL may hold a credential, and
        // both are encrypted together.
        self.confidential.written_url = (text != url.as_str()).then(|| text.to_owned());
        self.url = url;
    }

    /// Whether it is called.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        matches!(self.status, EndpointStatus::Enabled)
    }
}

impl Confidential {
    /// The secrets that sign at `now`: the newest, and older ones in their overlap.
    pub fn live_secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        self.secrets
            .iter()
            .filter(move |secret| secret.retires_at.is_none_or(|at| at > now))
            .map(|secret| &secret.secret)
    }

    /// Makes `secret` the newest; the others sign on until `retire_at`, those that are past it and
    /// those over [`MAX_SECRETS`] are dropped.
    pub fn rotate(&mut self, secret: Secret, now: Timestamp, retire_at: Timestamp) {
        self.secrets
            .retain(|old| old.retires_at.is_none_or(|at| at > now));
        // An earlier rotation's date stays if it is sooner: rotating again must not give a leaked
        // secret more time.
        for old in &mut self.secrets {
            old.retires_at = Some(old.retires_at.map_or(retire_at, |at| at.min(retire_at)));
        }
        // First, as the newest: wire formats that have room for one signature take the first.
        self.secrets.insert(
            0,
            SigningSecret {
                secret,
                created_at: now,
                retires_at: None,
            },
        );
        self.secrets
            .retain(|old| old.retires_at.is_none_or(|at| at > now));
        // The oldest are dropped. Each live one is a signature more in a header of every request.
        self.secrets.truncate(MAX_SECRETS);
    }
}
