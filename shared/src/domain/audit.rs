//! Who did what to what.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::id::{KeyId, TenantId};
use super::time::Timestamp;

/// Something that somebody did by the API or the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Action {
    /// An endpoint was created.
    #[serde(rename = "endpoint.create")]
    EndpointCreate,
    /// An endpoint was changed, enabled or disabled.
    #[serde(rename = "endpoint.change")]
    EndpointChange,
    /// An endpoint was enabled.
    #[serde(rename = "endpoint.enable")]
    EndpointEnable,
    /// An endpoint was disabled.
    #[serde(rename = "endpoint.disable")]
    EndpointDisable,
    /// An endpoint got a new signing secret.
    #[serde(rename = "endpoint.rotate_secret")]
    EndpointRotateSecret,
    /// A test request was sent to an endpoint.
    #[serde(rename = "endpoint.test")]
    EndpointTest,
    /// An endpoint was deleted.
    #[serde(rename = "endpoint.delete")]
    EndpointDelete,
    /// A delivery was made due now.
    #[serde(rename = "delivery.retry")]
    DeliveryRetry,
    /// A delivery was cancelled.
    #[serde(rename = "delivery.cancel")]
    DeliveryCancel,
    /// A replay was begun.
    #[serde(rename = "replay.start")]
    ReplayStart,
    /// A replay was stopped.
    #[serde(rename = "replay.cancel")]
    ReplayCancel,
    /// Dead letters were put back on the work queue.
    #[serde(rename = "dead_letters.redrive")]
    DeadLettersRedrive,
    /// A redrive of all dead letters was begun.
    #[serde(rename = "redrive.start")]
    RedriveStart,
    /// A redrive was stopped.
    #[serde(rename = "redrive.cancel")]
    RedriveCancel,
    /// An API key was created.
    #[serde(rename = "key.create")]
    KeyCreate,
    /// An API key was revoked.
    #[serde(rename = "key.revoke")]
    KeyRevoke,
    /// A link that signs in to the console was created.
    #[serde(rename = "console_link.create")]
    ConsoleLinkCreate,
    /// Somebody signed in to the console.
    #[serde(rename = "console.sign_in")]
    ConsoleSignIn,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 18] = [
        Self::EndpointCreate,
        Self::EndpointChange,
        Self::EndpointEnable,
        Self::EndpointDisable,
        Self::EndpointRotateSecret,
        Self::EndpointTest,
        Self::EndpointDelete,
        Self::DeliveryRetry,
        Self::DeliveryCancel,
        Self::ReplayStart,
        Self::ReplayCancel,
        Self::DeadLettersRedrive,
        Self::RedriveStart,
        Self::RedriveCancel,
        Self::KeyCreate,
        Self::KeyRevoke,
        Self::ConsoleLinkCreate,
        Self::ConsoleSignIn,
    ];

    /// The name in JSON and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EndpointCreate => "endpoint.create",
            Self::EndpointChange => "endpoint.change",
            Self::EndpointEnable => "endpoint.enable",
            Self::EndpointDisable => "endpoint.disable",
            Self::EndpointRotateSecret => "endpoint.rotate_secret",
            Self::EndpointTest => "endpoint.test",
            Self::EndpointDelete => "endpoint.delete",
            Self::DeliveryRetry => "delivery.retry",
            Self::DeliveryCancel => "delivery.cancel",
            Self::ReplayStart => "replay.start",
            Self::ReplayCancel => "replay.cancel",
            Self::DeadLettersRedrive => "dead_letters.redrive",
            Self::RedriveStart => "redrive.start",
            Self::RedriveCancel => "redrive.cancel",
            Self::KeyCreate => "key.create",
            Self::KeyRevoke => "key.revoke",
            Self::ConsoleLinkCreate => "console_link.create",
            Self::ConsoleSignIn => "console.sign_in",
        }
    }

    /// The action of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// An action with who does it and why it is known: what is written when it is done.
#[derive(Debug, Clone)]
pub struct Act {
    /// What is done.
    pub action: Action,
    /// The API key that it is done with.
    pub key_id: KeyId,
    /// The name of that key.
    pub key_name: String,
    /// The id of what it is done to; `None` where it has none, or gets it only now.
    pub object: Option<String>,
    /// The tenant that this belongs to; `None`: none, or all.
    pub tenant: Option<TenantId>,
    /// The id of the request.
    pub request_id: Option<String>,
    /// When it is done.
    pub at: Timestamp,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// The id of the entry, a UUIDv7.
    pub id: Uuid,
    /// When it was done.
    pub at: Timestamp,
    /// The API key that it was done with; `key_bootstrap` is the one of `POSTHASTE_ADMIN_KEY`.
    pub key_id: KeyId,
    /// The name of that key.
    pub key_name: String,
    /// What was done, such as `endpoint.create`.
    pub action: Action,
    /// The id of what it was done to; null where it has none.
    pub object: Option<String>,
    /// The tenant that this belongs to; null for what belongs to none, or to all.
    pub tenant: Option<TenantId>,
    /// The id of the request, as in the log; null where there was none.
    pub request_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_json_is_the_one_in_the_store() {
        for action in Action::ALL {
            let json = serde_json::to_value(action).unwrap();
            assert_eq!(json, action.as_str());
            assert_eq!(Action::parse(action.as_str()), Some(action));
        }
    }
}
