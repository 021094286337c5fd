//! Whether a request proves where it comes from, as its wire format says. A scheme is a variant of
//! [`Format`] and a file here.

mod api_key;
mod basic;
mod body_hmac;
mod cloudevents;
mod httpsms;
mod standard;

use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use sha2::Sha256;

/// Which wire format's proof is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Whichever the headers of the request show.
    Auto,
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`, or the same of
    /// Svix.
    Standard,
    /// The attributes that a `CloudEvent` must have.
    Cloudevents,
    /// A JWT signed with HS256, in `Authorization`.
    Httpsms,
    /// An API key in a header.
    NovuSms,
    /// The HMAC of the body in `X-Novu-Signature`.
    NovuPush,
    /// The HMAC of the body in `X-Authgear-Body-Signature`.
    AuthgearSms,
    /// User and password by HTTP Basic authentication.
    CometchatSms,
    /// Nothing is verified.
    None,
}

/// The result of verifying a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verified {
    /// It fits, just now.
    Good,
    /// It does not; says why.
    Bad(String),
    /// There was nothing to verify it with.
    Unchecked,
}

/// A request, as it came, and when.
#[derive(Clone, Copy)]
struct Came<'a> {
    headers: &'a HeaderMap,
    body: &'a [u8],
    now: Timestamp,
}

/// Verifies requests with the secrets that the user gave.
#[derive(Clone)]
pub(crate) struct Verifier {
    format: Format,
    secrets: Vec<Secret>,
}

impl Format {
    /// Those that a request can be verified by, with their names.
    const SCHEMES: [(&'static str, Self); 7] = [
        ("standard", Self::Standard),
        ("cloudevents", Self::Cloudevents),
        ("httpsms", Self::Httpsms),
        ("novu-sms", Self::NovuSms),
        ("novu-push", Self::NovuPush),
        ("authgear-sms", Self::AuthgearSms),
        ("cometchat-sms", Self::CometchatSms),
    ];

    /// What [`Self::parse`] knows. `raw` has no proof, so it is the same as `none`.
    pub(crate) const NAMES: [&'static str; 10] = [
        "auto",
        "none",
        "standard",
        "cloudevents",
        "raw",
        "httpsms",
        "novu-sms",
        "novu-push",
        "authgear-sms",
        "cometchat-sms",
    ];

    /// The format of that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => return Some(Self::Auto),
            "none" | "raw" => return Some(Self::None),
            _ => {}
        }
        let found = Self::SCHEMES.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, format)| format)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Standard => "standard",
            Self::Cloudevents => "cloudevents",
            Self::Httpsms => "httpsms",
            Self::NovuSms => "novu-sms",
            Self::NovuPush => "novu-push",
            Self::AuthgearSms => "authgear-sms",
            Self::CometchatSms => "cometchat-sms",
            Self::None => "none",
        }
    }

    /// What its secrets look like.
    const fn secret(self) -> &'static str {
        match self {
            Self::Standard => standard::SECRET,
            Self::NovuSms => api_key::SECRET,
            Self::CometchatSms => basic::SECRET,
            Self::Httpsms => "the signing key",
            Self::NovuPush | Self::AuthgearSms => "the key of the signature",
            Self::Auto | Self::Cloudevents | Self::None => "any",
        }
    }

    /// Whether a secret is one of its kind.
    fn takes(self, secret: &Secret) -> bool {
        let text = secret.expose();
        match self {
            Self::Standard => standard::Key::read(secret).is_some(),
            Self::NovuSms => api_key::read(text).is_some(),
            Self::CometchatSms => text.contains(':'),
            Self::Httpsms | Self::NovuPush | Self::AuthgearSms => !text.trim().is_empty(),
            Self::Auto | Self::Cloudevents | Self::None => true,
        }
    }

    /// Whether a request's headers show it.
    fn shows(self, came: &Came<'_>, secrets: &[Secret]) -> bool {
        let has = |name: &str| came.headers.contains_key(name);
        match self {
            Self::Standard => has("webhook-signature") || has("svix-signature"),
            Self::Cloudevents => cloudevents::shows(came.headers),
            Self::Httpsms => has("x-event-type") && came.authorization("Bearer ").is_some(),
            Self::NovuSms => secrets
                .iter()
                .any(|secret| api_key::shows(came.headers, secret)),
            Self::NovuPush => has(body_hmac::NOVU),
            Self::AuthgearSms => has(body_hmac::AUTHGEAR),
            Self::CometchatSms => came.authorization("Basic ").is_some(),
            Self::Auto | Self::None => false,
        }
    }

    fn check(self, came: &Came<'_>, secrets: &[Secret]) -> Result<(), String> {
        match self {
            Self::Standard => standard::check(came, secrets),
            Self::Cloudevents => cloudevents::check(came),
            Self::Httpsms => httpsms::check(came, secrets),
            Self::NovuSms => api_key::check(came, secrets),
            Self::NovuPush => body_hmac::check(came, body_hmac::NOVU, secrets),
            Self::AuthgearSms => body_hmac::check(came, body_hmac::AUTHGEAR, secrets),
            Self::CometchatSms => basic::check(came, secrets),
            Self::Auto | Self::None => Ok(()),
        }
    }
}

impl Verifier {
    /// With these secrets, one of which must fit.
    ///
    /// # Errors
    /// A secret that the format cannot use, and what it must be.
    pub(crate) fn new(format: Format, secrets: &[Secret]) -> Result<Self, String> {
        let secrets: Vec<Secret> = secrets.to_vec();
        for secret in &secrets {
            let text = secret.expose().trim();
            // What says that it is a key of Standard Webhooks must be one.
            let of_standard = ["whsec_", "whsk_", "whpk_"]
                .iter()
                .any(|prefix| text.starts_with(prefix));
            let expected = if format == Format::Auto && of_standard {
                Format::Standard
            } else {
                format
            };
            if text.is_empty() || !expected.takes(secret) {
                return Err(format!(
                    "--secret must be {} (format {})",
                    expected.secret(),
                    expected.name()
                ));
            }
        }
        if secrets.is_empty()
            && !matches!(format, Format::Auto | Format::None | Format::Cloudevents)
        {
            return Err(format!(
                "--format {} needs --secret: {}",
                format.name(),
                format.secret()
            ));
        }
        Ok(Self { format, secrets })
    }

    /// Whether there is anything to verify requests with.
    pub(crate) fn is_checking(&self) -> bool {
        self.format == Format::Cloudevents
            || self.format != Format::None && !self.secrets.is_empty()
    }

    /// Verifies a request that came at `now`.
    pub(crate) fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Verified {
        let came = Came { headers, body, now };
        let checked = match self.format {
            Format::None => return Verified::Unchecked,
            Format::Auto => match self.auto(&came) {
                Some(checked) => checked,
                None => return Verified::Unchecked,
            },
            format => format.check(&came, &self.secrets),
        };
        checked.map_or_else(Verified::Bad, |()| Verified::Good)
    }

    /// By all that the request shows and the secrets are for. A `CloudEvent` needs none.
    fn auto(&self, came: &Came<'_>) -> Option<Result<(), String>> {
        let shown = Format::SCHEMES
            .map(|(_, format)| format)
            .into_iter()
            .filter(|format| format.shows(came, &self.secrets));
        let mut of_no_use = None;
        let mut good = false;
        let mut proven = self.secrets.is_empty();
        for format in shown {
            let secrets: Vec<Secret> = self
                .secrets
                .iter()
                .filter(|secret| format.takes(secret))
                .cloned()
                .collect();
            if secrets.is_empty() && format != Format::Cloudevents {
                // Remembered for the answer: a request that is signed for another secret should not
                // be told that it has no signature.
                of_no_use = Some(format);
                continue;
            }
            // A request that shows several proofs must pass them all: one does not make up for
            // another.
            if let Err(why) = format.check(came, &secrets) {
                return Some(Err(why));
            }
            // That something is a well-formed CloudEvent says nothing of its sender.
            proven |= format != Format::Cloudevents;
            good = true;
        }
        match (good && proven, of_no_use) {
            (true, _) => Some(Ok(())),
            (false, _) if self.secrets.is_empty() => None,
            (false, Some(format)) => Some(Err(format!(
                "it is signed in the way of {}, but no --secret is of that kind: give {}",
                format.name(),
                format.secret()
            ))),
            (false, None) => Some(Err("it has no signature".to_owned())),
        }
    }
}

impl<'a> Came<'a> {
    /// The text of a header, which must be there.
    fn header(&self, name: &str) -> Result<&'a str, String> {
        let value = self
            .headers
            .get(name)
            .ok_or_else(|| format!("there is no header {name}"))?;
        value
            .to_str()
            .map_err(|_| format!("{name} is not plain ASCII"))
    }

    /// What stands behind the scheme in `Authorization`.
    fn authorization(&self, scheme: &str) -> Option<&'a str> {
        let value = self.headers.get("authorization")?.to_str().ok()?;
        // The header may be shorter than the scheme.
        let (head, rest) = value.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    }
}

/// HMAC-SHA256, compared in constant time.
fn is_hmac(key: &[u8], parts: &[&[u8]], signature: &[u8]) -> bool {
    // HMAC takes keys of any length, so this does not fail; `verify_slice` takes constant time.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return false;
    };
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(signature).is_ok()
}

#[cfg(test)]
mod tests;
