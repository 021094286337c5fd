//! The keys of Standard Webhooks: `whsec_` for HMAC-SHA256 (signature `v1`), `whsk_` for ed25519
//! (`v1a`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use posthaste_shared::domain::secret::Secret;
use sha2::Sha256;

/// What a secret for HMAC-SHA256 begins with.
const SYMMETRIC: &str = "whsec_";
/// What a secret for ed25519 begins with.
const ASYMMETRIC: &str = "whsk_";
/// Length of a symmetric secret's bytes, by the Standard Webhooks specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What a secret must be.
const RULE: &str = "must be whsec_ and the base64 of 24 to 64 random bytes, \
                    or whsk_ and the base64 of an ed25519 seed of 32 bytes and its public key";

/// A signing secret, decoded from the text that the endpoint has.
pub(super) enum Key {
    /// For HMAC-SHA256: 24 to 64 bytes.
    Symmetric(Vec<u8>),
    /// For ed25519, as the scheme `v1a` of Standard Webhooks has it.
    Asymmetric(Box<SigningKey>),
}

impl Key {
    /// Reads a secret as `endpoint add` shows it.
    ///
    /// # Errors
    /// What it must be.
    pub(super) fn read(secret: &Secret) -> Result<Self, String> {
        let decoded = |encoded: &str| STANDARD.decode(encoded).map_err(|_| RULE.to_owned());
        if let Some(encoded) = secret.expose().strip_prefix(SYMMETRIC) {
            let bytes = decoded(encoded)?;
            return if SECRET_BYTES.contains(&bytes.len()) {
                Ok(Self::Symmetric(bytes))
            } else {
                Err(RULE.to_owned())
            };
        }
        let encoded = secret
            .expose()
            .strip_prefix(ASYMMETRIC)
            .ok_or_else(|| RULE.to_owned())?;
        let bytes: [u8; 64] = decoded(encoded)?.try_into().map_err(|_| RULE.to_owned())?;
        // Both halves are kept, as the specification has it, and compared: with a public key of
        // another pair, receivers would refuse every signature, and nothing here would show why.
        let pair = SigningKey::from_keypair_bytes(&bytes).map_err(|_| {
            "has a public key that does not belong to its seed: the last 32 bytes behind whsk_"
                .to_owned()
        })?;
        Ok(Self::Asymmetric(Box::new(pair)))
    }

    /// `v1,…` or `v1a,…` over `<id>.<timestamp>.<body>`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // Id and time are signed with the body, so that a request that was recorded cannot be sent
        // again under another id or at another time.
        let signed = [id.as_bytes(), format!(".{timestamp}.").as_bytes(), body].concat();
        match self {
            Self::Symmetric(key) => {
                #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
                mac.update(&signed);
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            }
            Self::Asymmetric(key) => {
                format!("v1a,{}", STANDARD.encode(key.sign(&signed).to_bytes()))
            }
        }
    }
}

/// A new secret for HMAC-SHA256, of 32 bytes.
pub(super) fn new_symmetric() -> Secret {
    Secret::new(format!(
        "{SYMMETRIC}{}",
        STANDARD.encode(rand::random::<[u8; 32]>())
    ))
}

/// A new pair of keys for ed25519.
pub(super) fn new_asymmetric() -> Secret {
    let pair = SigningKey::from_bytes(&rand::random::<[u8; 32]>());
    Secret::new(format!(
        "{ASYMMETRIC}{}",
        STANDARD.encode(pair.to_keypair_bytes())
    ))
}
