//! The closed set of wire formats. What each does lives in the worker; here they only have names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a notification becomes an HTTP request, and how the answer is read.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum WireFormat {
    /// Standard Webhooks: an envelope of type, timestamp and data, signed with HMAC-SHA256 or
    /// ed25519.
    #[default]
    Standard,
    /// CloudEvents 1.0 over HTTP, structured or binary.
    Cloudevents,
    /// httpSMS's webhooks, signed with a JSON Web Token.
    Httpsms,
    /// Novu's SMS Webhook provider.
    NovuSms,
    /// Novu's Push Webhook provider.
    NovuPush,
    /// Authgear's custom SMS gateway, as a webhook.
    AuthgearSms,
    /// Authgear's custom SMS gateway, as a script.
    AuthgearScript,
    /// CometChat's custom SMS provider.
    CometchatSms,
    /// The payload's bytes as given, with static headers and no signature.
    Raw,
}

impl WireFormat {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 9] = [
        Self::Standard,
        Self::Cloudevents,
        Self::Httpsms,
        Self::NovuSms,
        Self::NovuPush,
        Self::AuthgearSms,
        Self::AuthgearScript,
        Self::CometchatSms,
        Self::Raw,
    ];

    /// The name in JSON, in metrics' labels and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Cloudevents => "cloudevents",
            Self::Httpsms => "httpsms",
            Self::NovuSms => "novu-sms",
            Self::NovuPush => "novu-push",
            Self::AuthgearSms => "authgear-sms",
            Self::AuthgearScript => "authgear-script",
            Self::CometchatSms => "cometchat-sms",
            Self::Raw => "raw",
        }
    }

    /// The wire format of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// Whether its endpoints are called at a URL. A script calls whom it likes.
    #[must_use]
    pub const fn has_url(self) -> bool {
        !matches!(self, Self::AuthgearScript)
    }
}

impl fmt::Display for WireFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_names_agree() {
        for format in WireFormat::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.as_str());
            assert_eq!(WireFormat::parse(format.as_str()), Some(format));
        }
    }
}
