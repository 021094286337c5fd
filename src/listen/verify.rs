//! Whether a request is signed as its wire format says. A wire format is a variant of [`Format`] and a function here.

use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use sha2::Sha256;

/// How far a timestamp may be off, either way (Standard Webhooks recommends 5 minutes).
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Which wire format's signatures are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Told by the request's headers.
    Auto,
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    Standard,
    /// None are.
    None,
}

impl Format {
    /// The format of that name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "standard" => Ok(Self::Standard),
            "none" => Ok(Self::None),
            _ => Err("must be auto, standard or none".to_owned()),
        }
    }

    /// The format that a request's headers show.
    fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key("webhook-signature") { Self::Standard } else { Self::None }
    }
}

/// What came of verifying a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verified {
    /// It is signed with one of the secrets, just now.
    Good,
    /// It is not; says why.
    Bad(String),
    /// Nobody asked: no secret was given.
    Unchecked,
}

/// What is wrong with a secret that cannot be used.
const INVALID_SECRET: &str = "--secret must be whsec_ and base64, as `endpoint add` printed it";

/// Verifies requests.
#[derive(Clone)]
pub(crate) struct Verifier {
    format: Format,
    keys: Vec<Vec<u8>>,
}

impl Verifier {
    /// With these secrets, each of which may fit.
    pub(crate) fn new(format: Format, secrets: &[Secret]) -> Result<Self, &'static str> {
        let key = |secret: &Secret| {
            let text = secret.expose().trim();
            let encoded = text.strip_prefix("whsec_").ok_or(INVALID_SECRET)?;
            STANDARD.decode(encoded).ok().filter(|key| !key.is_empty()).ok_or(INVALID_SECRET)
        };
        Ok(Self { format, keys: secrets.iter().map(key).collect::<Result<_, _>>()? })
    }

    /// Whether requests are verified at all.
    pub(crate) fn is_checking(&self) -> bool {
        self.format != Format::None && !self.keys.is_empty()
    }

    /// Verifies a request that came at `now`.
    pub(crate) fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Verified {
        if !self.is_checking() {
            return Verified::Unchecked;
        }
        let format = if self.format == Format::Auto { Format::of(headers) } else { self.format };
        let checked = match format {
            Format::Standard => self.standard(headers, body, now),
            Format::Auto | Format::None => Err("it has no signature".to_owned()),
        };
        checked.map_or_else(Verified::Bad, |()| Verified::Good)
    }

    /// HMAC-SHA256 over `id.timestamp.body`; any of several `v1,` signatures, with any of the secrets.
    fn standard(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), String> {
        let header = |name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).ok_or_else(|| format!("there is no header {name}"))
        };
        let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
        let seconds: i64 = timestamp.parse().map_err(|_| "webhook-timestamp is not a number of seconds".to_owned())?;
        let off = now.as_seconds().abs_diff(seconds);
        if off > TOLERANCE.as_secs() {
            return Err(format!("webhook-timestamp is {off} s off, more than {} s", TOLERANCE.as_secs()));
        }
        let mut versions = 0;
        for entry in header("webhook-signature")?.split(' ') {
            let Some(encoded) = entry.strip_prefix("v1,") else { continue };
            versions += 1;
            let Ok(signature) = STANDARD.decode(encoded) else { continue };
            if self
                .keys
                .iter()
                .any(|key| is_signed(key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body], &signature))
            {
                return Ok(());
            }
        }
        Err(if versions == 0 { "webhook-signature has no v1 signature" } else { "the signature does not fit" }
            .to_owned())
    }
}

/// In constant time.
fn is_signed(key: &[u8], parts: &[&[u8]], signature: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str =
        r#"{"type":"message.phone.received","timestamp":"2026-01-01T00:00:00Z","data":{"content":"Olá"}}"#;
    const SECRET: &str = "whsec_cGVlci12ZXJpZnktc3RhbmRhcmQta2V5LTMyYnl0ZXM=";
    const SIGNATURE: &str = "v1,wbPmoG7EhTLCB9am04JP3vmjmMX2MceV3qmpfLo8ais=";
    const OTHER: &str = "v1,hmUy7+K90tz8LEUJGkmbryCJSxKfPg2SCF+m7lB+8Wk=";

    fn headers(signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W".parse().unwrap());
        headers.insert("webhook-timestamp", "1767225600".parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    fn verify(signature: &str, body: &str, after: i64) -> Verified {
        let verifier = Verifier::new(Format::Auto, &[Secret::new(SECRET)]).unwrap();
        let now = Timestamp::from_micros((1_767_225_600 + after) * 1_000_000);
        verifier.verify(&headers(signature), body.as_bytes(), now)
    }

    #[test]
    fn one_of_several_signatures_suffices() {
        assert_eq!(verify(SIGNATURE, BODY, 0), Verified::Good);
        assert_eq!(verify(&format!("{OTHER} {SIGNATURE}"), BODY, 299), Verified::Good);
        assert_eq!(verify(SIGNATURE, BODY, -300), Verified::Good);
    }

    #[test]
    fn says_why_not() {
        let why = |verified| match verified {
            Verified::Bad(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(verify(OTHER, BODY, 0)).contains("does not fit"));
        assert!(why(verify(SIGNATURE, "{}", 0)).contains("does not fit"));
        assert!(why(verify(SIGNATURE, BODY, 301)).contains("301 s off"));
        assert!(why(verify("v1a,AAAA", BODY, 0)).contains("no v1 signature"));
        assert!(why(verify("v1,!!", BODY, 0)).contains("does not fit"));
        let verifier = Verifier::new(Format::Auto, &[Secret::new(SECRET)]).unwrap();
        assert!(why(verifier.verify(&HeaderMap::new(), b"", Timestamp::from_micros(0))).contains("no signature"));
        assert!(Verifier::new(Format::Standard, &[Secret::new("hello")]).is_err());
    }
}
