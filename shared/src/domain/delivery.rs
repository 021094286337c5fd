//! A delivery: one notification on its way to one endpoint. The unit of state and of retry.
//!
//! ```text
//! pending: scheduled ─┐             ┌─► delivered | failed | expired | cancelled
//!          parked ────┼─► in flight ┤
//!          retry ─────┘             └─► parked | retry
//! ```
//!
//! A notification that a worker takes from the queue has no deliveries in the store yet: the
//! message stands for them until the first result of each is recorded, and is acknowledged after
//! that. A worker that dies before leaves the message to another one. From the first record on, the
//! store's row is what counts, and [`Wait`] says who looks at it next.
//!
//! A finished delivery leaves its state only by an explicit retry or replay, which starts a new
//! round. The guard of every change is that status, round and number of attempts are still those
//! that were read, so that of two workers with the same delivery only the first one records.

use serde::{Deserialize, Serialize};

use super::id::{DeliveryId, EndpointId, NotificationId, NotificationType, TenantId};
use super::notification::Origin;
use super::time::Timestamp;
use super::wire_format::WireFormat;

/// One notification on its way to one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The delivery's id, which is also the `webhook-id` of its requests.
    pub id: DeliveryId,
    /// The notification that is delivered.
    pub notification_id: NotificationId,
    /// The tenant that owns the delivery.
    pub tenant: TenantId,
    /// The type of the notification.
    pub kind: NotificationType,
    /// The endpoint that the delivery is for.
    pub endpoint_id: EndpointId,
    /// The endpoint's wire format when the delivery was created.
    pub wire_format: WireFormat,
    /// The one recipient that the delivery is for, where the wire format creates a delivery for
    /// each.
    pub recipient: Option<String>,
    /// Its state: pending, with what it waits for, or how it finished.
    pub state: DeliveryState,
    /// From 1; each replay starts the next.
    pub round: u32,
    /// The number of attempts so far, over all rounds.
    pub attempt_count: u32,
    /// `attempt_count` when the round began: retries are counted from here.
    pub round_base: u32,
    /// When the notification was accepted.
    pub created_at: Timestamp,
    /// Never sent after this.
    pub expires_at: Option<Timestamp>,
    /// What the provider calls the message, where its answer says so.
    pub provider_message_id: Option<String>,
    /// When the provider says that it took the message, as its answer says it.
    pub provider_message_date: Option<String>,
    /// The provider's code for a failure, where its answer has one.
    pub provider_error_code: Option<String>,
    /// Why the last attempt failed, or why none was made, as a sentence.
    pub last_error: Option<String>,
    /// Where the notification comes from.
    pub origin: Origin,
}

/// The state of a delivery, with what only that state has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// Not finished: it waits for what [`Wait`] says. Moved in by the worker that took the
    /// notification up, or by a retry or replay of a finished delivery.
    Pending(Wait),
    /// The endpoint accepted it. Moved in by the worker that recorded the attempt. A crash between
    /// the response and the record leaves it pending, and it is sent again: at least once.
    Delivered {
        /// When the endpoint accepted it.
        at: Timestamp,
    },
    /// It will not be tried again. Moved in by the worker that recorded the last attempt or could
    /// not make one, or by any worker's scheduler when the endpoint was deleted.
    Failed {
        /// When the delivery was given up.
        at: Timestamp,
        /// Why the delivery was given up.
        reason: FailureReason,
    },
    /// Its `expires_at` passed before it was delivered. Moved in by the worker that holds it, or by
    /// any worker's scheduler when nobody does.
    Expired {
        /// When its expiry was recorded.
        at: Timestamp,
    },
    /// Cancelled through the API or the command line, or skipped because there was nobody to send
    /// it to. One under a running lease cannot be cancelled.
    Cancelled {
        /// When the delivery was cancelled.
        at: Timestamp,
    },
}

/// What a pending delivery waits for. Each except `Parked` has a time at which somebody looks at it
/// again, so that none is ever forgotten; parked ones are looked at endpoint by endpoint, several
/// times a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Leased by one worker. Moved in by a claim of the scheduler (what is due, or was parked),
    /// moved on by the record of that worker's result, or by its release when it shuts down. After
    /// a crash nobody moves it: once the lease has ended it is due, and any worker claims it.
    InFlight {
        /// When the lease ends: the endpoint's timeout after the claim, and a margin.
        lease_until: Timestamp,
    },
    /// For the next attempt. Moved in by the record of an attempt that failed, by a retry or
    /// replay, or by the release of a lease; moved on by the claim of any worker once it is due. A
    /// crash changes nothing.
    Retry {
        /// When it is due.
        due_at: Timestamp,
    },
    /// For the notification's `deliver_at`. Moved in by the worker that took the notification up,
    /// moved on by the claim of any worker once it is due. A crash changes nothing.
    Scheduled {
        /// When it is due.
        due_at: Timestamp,
    },
    /// For its endpoint to admit it. Moved in by the worker that could not send it at once, moved
    /// on by the claim of any worker that sees room at the endpoint, the oldest first. A crash
    /// changes nothing.
    Parked {
        /// The limit or switch that holds it back.
        why: Hold,
    },
}

/// What keeps a delivery from its endpoint now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The endpoint has as many requests in flight as its `max_in_flight` allows.
    MaxInFlight,
    /// The endpoint is disabled.
    Disabled,
    /// The endpoint has had as many requests as it may have in this moment.
    RateLimit,
    /// All slots of the worker were taken.
    Slots,
    /// The tenant has as many requests in flight as `tenant_max_in_flight` allows, or this endpoint
    /// its share of them.
    Tenant,
    /// The endpoint's script could not be run: its tenant, or all tenants together, run as many as
    /// they may, or it is still being compiled.
    Scripts,
    /// The endpoint fails, and its circuit breaker is open.
    Breaker,
    /// The endpoint asked for a pause, by `Retry-After`.
    RetryAfter,
}

impl Hold {
    /// Everything that can hold a delivery back.
    pub const ALL: [Self; 8] = [
        Self::MaxInFlight,
        Self::Disabled,
        Self::RateLimit,
        Self::Slots,
        Self::Tenant,
        Self::Scripts,
        Self::Breaker,
        Self::RetryAfter,
    ];

    /// The name in JSON and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxInFlight => "max_in_flight",
            Self::Disabled => "disabled",
            Self::RateLimit => "rate_limit",
            Self::Slots => "slots",
            Self::Tenant => "tenant",
            Self::Scripts => "scripts",
            Self::Breaker => "breaker",
            Self::RetryAfter => "retry_after",
        }
    }

    /// The hold of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hold| hold.as_str() == name)
    }
}

/// Why a delivery failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The endpoint said no: a 4xx or a redirect.
    Rejected,
    /// The last retry failed too.
    RetriesExhausted,
    /// The endpoint's address is forbidden by the egress policy.
    Blocked,
    /// The endpoint answered 410 Gone.
    Gone,
    /// The notification cannot be written in the endpoint's wire format.
    RenderError,
    /// The endpoint does not exist (any more).
    EndpointDeleted,
    /// The provider behind the endpoint refused the message for good.
    ProviderRejected,
    /// A fault of Posthaste itself: handling the delivery panicked, or the store refuses to keep
    /// its result. Neither the endpoint nor the notification is to blame.
    Internal,
}

impl FailureReason {
    /// Every reason that a delivery can fail for.
    pub const ALL: [Self; 8] = [
        Self::Rejected,
        Self::RetriesExhausted,
        Self::Blocked,
        Self::Gone,
        Self::RenderError,
        Self::EndpointDeleted,
        Self::ProviderRejected,
        Self::Internal,
    ];

    /// The name in JSON and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Blocked => "blocked",
            Self::Gone => "gone",
            Self::RenderError => "render_error",
            Self::EndpointDeleted => "endpoint_deleted",
            Self::ProviderRejected => "provider_rejected",
            Self::Internal => "internal",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// A delivery's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not at its end.
    Pending,
    /// The endpoint took it.
    Delivered,
    /// It will not be tried again.
    Failed,
    /// Its time ran out.
    Expired,
    /// Cancelled on request, before it was delivered.
    Cancelled,
}

impl Status {
    /// Every status that a delivery can have.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Delivered,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
    ];

    /// The name in JSON, in the store and in metrics' labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl DeliveryState {
    /// The state in one word.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Pending(_) => Status::Pending,
            Self::Delivered { .. } => Status::Delivered,
            Self::Failed { .. } => Status::Failed,
            Self::Expired { .. } => Status::Expired,
            Self::Cancelled { .. } => Status::Cancelled,
        }
    }

    /// When the delivery finished; `None` while it is pending.
    #[must_use]
    pub const fn finished_at(&self) -> Option<Timestamp> {
        match self {
            Self::Pending(_) => None,
            Self::Delivered { at }
            | Self::Failed { at, .. }
            | Self::Expired { at }
            | Self::Cancelled { at } => Some(*at),
        }
    }

    /// When somebody looks at it again; `None` for parked and finished ones.
    #[must_use]
    pub const fn due_at(&self) -> Option<Timestamp> {
        match self {
            Self::Pending(
                Wait::InFlight { lease_until: at }
                | Wait::Retry { due_at: at }
                | Wait::Scheduled { due_at: at },
            ) => Some(*at),
            // Parked ones have no time of their own: `claim_parked` looks at them endpoint by
            // endpoint, as room comes up.
            _ => None,
        }
    }
}

impl Wait {
    /// The name in JSON and in the store.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::InFlight { .. } => "in_flight",
            Self::Retry { .. } => "retry",
            Self::Scheduled { .. } => "scheduled",
            Self::Parked { .. } => "parked",
        }
    }
}

impl Delivery {
    /// The number of the next attempt within the round, from 1.
    #[must_use]
    pub const fn next_attempt_in_round(&self) -> u32 {
        self.attempt_count.saturating_sub(self.round_base) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hold_is_read_by_its_name() {
        for hold in Hold::ALL {
            assert_eq!(Hold::parse(hold.as_str()), Some(hold));
            let json = serde_json::to_string(&hold).unwrap();
            assert_eq!(json, format!("\"{}\"", hold.as_str()));
        }
    }
}
