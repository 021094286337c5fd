//! Standard Webhooks: one of several signatures over `id.timestamp.body`, by HMAC-SHA256 (`v1`) or
//! ed25519 (`v1a`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use posthaste_shared::domain::secret::Secret;

use super::{Came, is_hmac};

/// What its secrets look like.
pub(super) const SECRET: &str = "whsec_ and base64, or whsk_ or whpk_ and the base64 of an \
                                 ed25519 key, as `endpoint add` printed it";
/// How far a timestamp may be off, either way (Standard Webhooks recommends 5 minutes).
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// A key that verifies.
pub(super) enum Key {
    Symmetric(Vec<u8>),
    Asymmetric(VerifyingKey),
}

impl Key {
    /// Reads `whsec_`, `whsk_` (of which the public half counts) or `whpk_`.
    pub(super) fn read(secret: &Secret) -> Option<Self> {
        let (kind, encoded) = secret.expose().trim().split_once('_')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        match kind {
            "whsec" => Some(Self::Symmetric(bytes)).filter(|_| encoded.len() > 1),
            "whsk" => {
                let pair = SigningKey::from_keypair_bytes(&bytes.try_into().ok()?).ok()?;
                Some(Self::Asymmetric(pair.verifying_key()))
            }
            "whpk" => VerifyingKey::from_bytes(&bytes.try_into().ok()?)
                .ok()
                .map(Self::Asymmetric),
            _ => None,
        }
    }

    const fn version(&self) -> &'static str {
        match self {
            Self::Symmetric(_) => "v1",
            Self::Asymmetric(_) => "v1a",
        }
    }

    fn fits(&self, signed: &[&[u8]], signature: &[u8]) -> bool {
        match self {
            Self::Symmetric(key) => is_hmac(key, signed, signature),
            // Strict: it refuses weak public keys as well, under which signatures can be forged.
            Self::Asymmetric(key) => Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(&signed.concat(), &signature).is_ok()),
        }
    }
}

/// One of the signatures fits one of the secrets, and the timestamp is of now.
pub(super) fn check(came: &Came<'_>, secrets: &[Secret]) -> Result<(), String> {
    // Where both sets of headers are there, the standard ones count.
    let svix = came.headers.contains_key("svix-signature")
        && !came.headers.contains_key("webhook-signature");
    let prefix = if svix { "svix" } else { "webhook" };
    let id = came.header(&format!("{prefix}-id"))?;
    let timestamp = came.header(&format!("{prefix}-timestamp"))?;
    let signatures = came.header(&format!("{prefix}-signature"))?;
    let seconds: i64 = timestamp
        .parse()
        .map_err(|_| format!("{prefix}-timestamp is not a number of seconds"))?;
    let off = came.now.as_seconds().abs_diff(seconds);
    if off > TOLERANCE.as_secs() {
        return Err(format!(
            "{prefix}-timestamp is {off} s off, more than {} s",
            TOLERANCE.as_secs()
        ));
    }
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", came.body];
    let keys: Vec<Key> = secrets.iter().filter_map(Key::read).collect();
    let mut compared = false;
    for (version, encoded) in signatures
        .split(' ')
        .filter_map(|entry| entry.split_once(','))
    {
        // A key is only tried on signatures of its own kind. Several may come while a secret is
        // being rotated: one that verifies is enough.
        for key in keys.iter().filter(|key| key.version() == version) {
            compared = true;
            if STANDARD
                .decode(encoded)
                .is_ok_and(|signature| key.fits(&signed, &signature))
            {
                return Ok(());
            }
        }
    }
    if compared {
        return Err(format!(
            "the signature does not match: no entry of {prefix}-signature verifies with a --secret \
             over these bytes"
        ));
    }
    let mut versions: Vec<&str> = keys.iter().map(Key::version).collect();
    versions.dedup();
    Err(format!(
        "{prefix}-signature has no {} signature",
        versions.join(" or ")
    ))
}
