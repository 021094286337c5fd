//! What somebody on call looks at first: which endpoints fail, and what failed lately.

use serde::{Deserialize, Serialize};

use super::delivery::FailureReason;
use super::id::{EndpointId, TenantId};
use super::time::Timestamp;

/// An endpoint whose circuit breaker is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailingEndpoint {
    /// The id of the endpoint, `ep_…`.
    pub endpoint_id: EndpointId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// Where requests to it go.
    pub url: String,
    /// Since when it fails.
    pub since: Timestamp,
    /// The failures that followed each other, as far as workers reported them.
    pub failures: u32,
    /// Why the last attempt failed, at most 500 characters.
    pub last_error: String,
}

/// Deliveries to one endpoint that failed for the same reason, of the newest 1,000 that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailureGroup {
    /// The endpoint that they were for.
    pub endpoint_id: EndpointId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// Why they failed, in a word.
    pub reason: FailureReason,
    /// The error of their last attempt, in a sentence; null where there was none.
    pub last_error: Option<String>,
    /// How many they are.
    pub count: u64,
    /// When the first of them was accepted.
    pub oldest: Timestamp,
    /// When the last of them was accepted.
    pub newest: Timestamp,
}
