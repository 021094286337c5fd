//! Names of things. Each is its own type, so that one cannot be passed for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::time::Timestamp;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct InvalidId {
    what: &'static str,
    rule: &'static str,
}

macro_rules! text_id {
    (
        $(#[doc = $doc:literal])* $name:ident, $what:literal, $max:literal, $rule:literal,
        $pattern:literal, $allowed:expr
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`InvalidId`], which says the rule.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let allowed: fn(char) -> bool = $allowed;
                // Bytes and characters are the same here: every rule allows ASCII alone.
                if text.is_empty() || text.len() > $max || !text.chars().all(allowed) {
                    return Err(InvalidId { what: $what, rule: $rule });
                }
                Ok(Self(text.into()))
            }

            /// The id as a string.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some([$($doc),*].concat().trim()))
                    .min_length(Some(1))
                    .max_length(Some($max))
                    .pattern(Some($pattern))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

text_id!(
    /// Whose notifications and endpoints these are. Default `default`.
    TenantId, "tenant", 64, "1 to 64 letters, digits, '_', '-' or '.'", r"^[A-Za-z0-9_.-]+$",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
);
text_id!(
    /// A notification's name: chosen by the producer, unique in its tenant, or a UUIDv7.
    NotificationId, "id", 128, "1 to 128 visible ASCII characters", r"^[!-~]+$",
    |c| c.is_ascii_graphic()
);
text_id!(
    /// What a notification reports, such as `message.phone.received`.
    NotificationType, "type", 128, "1 to 128 letters, digits, '_', '-', '.', ':' or \
                                    '/'", r"^[A-Za-z0-9_.:/-]+$",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/')
);
text_id!(
    /// An endpoint's name, `ep_…`.
    EndpointId, "endpoint_id", 64, "1 to 64 letters, digits, '_' or '-' (such as \
                                    ep_0192…)", r"^[A-Za-z0-9_-]+$",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
);
text_id!(
    /// An API key's public name, `key_…`.
    KeyId, "key id", 64, "1 to 64 letters, digits or '_' (such as key_0192…)", r"^[A-Za-z0-9_]+$",
    |c| c.is_ascii_alphanumeric() || c == '_'
);

text_id!(
    /// An id that an endpoint's owner chose, unique in its tenant.
    EndpointUid, "uid", 64, "1 to 64 letters, digits, '_' or '-'", r"^[A-Za-z0-9_-]+$",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
);

impl Default for TenantId {
    fn default() -> Self {
        Self("default".into())
    }
}

/// A UUIDv7 for `now`: sorts by time.
#[must_use]
pub fn uuid_v7(now: Timestamp) -> Uuid {
    let micros = u64::try_from(now.as_micros()).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
    // From `now`, which comes in, and not from the system's clock: a test that moves the time gets
    // ids in that order.
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        micros / 1_000_000,
        nanos,
    ))
}

impl NotificationId {
    /// Generates a UUIDv7, whose first bits are the time.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(uuid_v7(now).to_string().into())
    }
}

impl EndpointId {
    /// A new id, sorted by time.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(format!("ep_{}", uuid_v7(now).simple()).into())
    }
}

impl KeyId {
    /// A new id, sorted by time.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(format!("key_{}", uuid_v7(now).simple()).into())
    }
}

/// The namespace of delivery and event ids: UUIDv5 of the DNS namespace and `posthaste.delivery`,
/// so that anybody can compute it again.
fn namespace() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"posthaste.delivery")
}

/// A delivery's name: the same notification to the same endpoint (and recipient) is the same
/// delivery.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = String, format = "uuid")]
pub struct DeliveryId(pub Uuid);

impl DeliveryId {
    /// UUIDv5 of notification id, endpoint id and, where the wire format creates a delivery for
    /// each of several recipients, the recipient. The parts are separated by a byte that none of
    /// them can hold.
    #[must_use]
    pub fn of(
        notification: &NotificationId,
        endpoint: &EndpointId,
        recipient: Option<&str>,
    ) -> Self {
        let mut name = Vec::with_capacity(160);
        name.extend_from_slice(notification.as_str().as_bytes());
        // Without the separator `a` and `bc` would be the same delivery as `ab` and `c`.
        name.push(0);
        name.extend_from_slice(endpoint.as_str().as_bytes());
        if let Some(recipient) = recipient {
            name.push(0);
            name.extend_from_slice(recipient.as_bytes());
        }
        Self(Uuid::new_v5(&namespace(), &name))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for DeliveryId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::parse_str(text).map(Self).map_err(|_| InvalidId {
            what: "a delivery's id",
            rule: "a UUID, such as 0192f0c1-7d3a-5c1e-9f00-3b2a1c4d5e6f, whole",
        })
    }
}

/// An event's name; the same outcome of the same delivery has the same event id, however often it
/// is published.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = String, format = "uuid")]
pub struct EventId(pub Uuid);

impl EventId {
    /// UUIDv5 of what the event is about and a discriminator (event type and round, or time).
    #[must_use]
    pub fn of(subject: &str, discriminator: &str) -> Self {
        Self(Uuid::new_v5(
            &namespace(),
            format!("event\0{subject}\0{discriminator}").as_bytes(),
        ))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fan_out_makes_the_same_deliveries() {
        let notification = NotificationId::parse("order-1").unwrap();
        let endpoint = EndpointId::parse("ep_1").unwrap();
        let once = DeliveryId::of(&notification, &endpoint, None);
        assert_eq!(once, DeliveryId::of(&notification, &endpoint, None));
        assert_ne!(
            once,
            DeliveryId::of(&notification, &endpoint, Some("+18005550199"))
        );
        assert_eq!(once.0.get_version_num(), 5);
    }

    #[test]
    fn refuses_names_outside_their_rule() {
        assert!(TenantId::parse("").is_err());
        assert!(TenantId::parse(&"x".repeat(65)).is_err());
        assert!(NotificationId::parse("with space").is_err());
        assert!(NotificationType::parse("message.*").is_err());
    }
}
