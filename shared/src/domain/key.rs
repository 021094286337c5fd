//! API keys and what they may do.

use serde::{Deserialize, Serialize};

use super::id::{KeyId, TenantId};
use super::time::Timestamp;

/// What a key may do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// May enqueue notifications, and nothing else.
    Enqueue,
    /// Read notifications, deliveries, endpoints and events.
    Read,
    /// Everything, also managing endpoints, deliveries and dead letters.
    Admin,
}

impl Scope {
    /// Every scope that a key can have.
    pub const ALL: [Self; 3] = [Self::Enqueue, Self::Read, Self::Admin];

    /// The name in JSON and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// The scope of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// A stored API key; of the key itself only its SHA-256 is kept (it has 256 random bits, so a plain
/// hash cannot be searched).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiKey {
    /// The key's id, `key_…`, which is not secret.
    pub id: KeyId,
    /// What its owner calls it.
    pub name: String,
    /// The tenant that it is bound to; none: every tenant.
    pub tenant: Option<TenantId>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it stops working by itself. Null: it works until it is revoked.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, exact to a minute. Null: never.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked. Null: it was not.
    pub revoked_at: Option<Timestamp>,
}

/// Why a key does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Revoked through the API or the command line.
    Revoked,
    /// The key expired then.
    Expired(Timestamp),
}

impl ApiKey {
    /// Why the key does not work at `now`, if it does not.
    #[must_use]
    pub fn unusable(&self, now: Timestamp) -> Option<Unusable> {
        // Before the expiry: that somebody revoked it is the more useful answer where both are so.
        if self.revoked_at.is_some() {
            return Some(Unusable::Revoked);
        }
        self.expires_at
            .filter(|at| *at <= now)
            .map(Unusable::Expired)
    }

    /// Whether the key may do what `scope` names. `admin` may do everything.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes
            .iter()
            // `admin` includes the others, so that an operator needs one key. `read` and `enqueue`
            // do not include each other.
            .any(|held| *held == scope || *held == Scope::Admin)
    }
}
