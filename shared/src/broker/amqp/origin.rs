//! That a message is of an event of Posthaste's own, proved. The header alone could be set by
//! whoever may publish, and would keep a delivery out of the accounting and its failure out of the
//! events.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::broker::Message;
use crate::domain::secret::Secret;

/// The keys of one installation: one, or two while the master key is changed.
#[derive(Clone, Default)]
pub(super) struct OriginKeys(Vec<[u8; 32]>);

impl OriginKeys {
    /// Of the installation's master keys. Without any, nothing can be proved.
    pub(super) fn of(master_keys: &[Secret]) -> Self {
        let derive = |master: &Secret| {
            let mut key = [0_u8; 32];
            #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes")]
            Hkdf::<Sha256>::new(Some(b"posthaste"), master.expose().trim().as_bytes())
                // A label of its own, so that no key that is derived from the master key elsewhere
                // can stand in for this one.
                .expand(b"origin of messages v1", &mut key)
                .expect("32 bytes of key material");
            key
        };
        Self(master_keys.iter().map(derive).collect())
    }

    /// The header's value for this message: one proof for each key, so that whoever has one of them
    /// can check it.
    pub(super) fn prove(&self, message: &Message) -> String {
        self.0
            .iter()
            .map(|key| hex::encode(mac(key, message)))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Whether one of the proofs is of one of the keys.
    pub(super) fn is_proved(&self, message: &Message, proofs: &str) -> bool {
        let expected: Vec<String> = self
            .0
            .iter()
            .map(|key| hex::encode(mac(key, message)))
            .collect();
        proofs.split(',').any(|proof| {
            expected
                .iter()
                .any(|own| bool::from(own.as_bytes().ct_eq(proof.as_bytes())))
        })
    }
}

fn mac(key: &[u8; 32], message: &Message) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
    let id = message.id.as_deref().unwrap_or_default();
    // The length keeps id and body apart: without it, characters could be moved from one to the
    // other under the same proof.
    mac.update(&(id.len() as u64).to_be_bytes());
    mac.update(id.as_bytes());
    mac.update(&message.body);
    mac.finalize().into_bytes().into()
}
