//! The closed set of wire formats. What each does lives in the worker; here they only have names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a notification becomes an HTTP request, and how the answer is read.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum WireFormat {
    /// Standard Webhooks: an envelope of type, timestamp and data, signed with HMAC-SHA256.
    #[default]
    Standard,
    /// The payload's bytes as given, with static headers and no signature.
    Raw,
}

impl WireFormat {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 2] = [Self::Standard, Self::Raw];

    /// The name in JSON, in metrics' labels and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Raw => "raw",
        }
    }

    /// The wire format of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}

impl fmt::Display for WireFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
