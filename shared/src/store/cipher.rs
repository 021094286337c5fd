//! Encryption of what is confidential: ChaCha20-Poly1305 (RFC 8439) with a key that HKDF-SHA256
//! (RFC 5869) makes of the master key. Whose secret it is goes in as associated data, so that one
//! row's secret cannot be put into another.

use std::fmt;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use rand::RngExt as _;
use sha2::Sha256;

use crate::domain::secret::Secret;

/// The shortest master key, in characters.
pub const MIN_MASTER_KEY: usize = 32;
/// The first byte of everything encrypted: how it was encrypted.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;

/// Why a secret cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// No master key is set.
    #[error("there is no master key to encrypt secrets with: set POSTHASTE_MASTER_KEY")]
    NoKey,
    /// The master key is too short.
    #[error("POSTHASTE_MASTER_KEY has {length} characters: it must have at least {MIN_MASTER_KEY}")]
    ShortKey {
        /// Its length.
        length: usize,
    },
    /// It was encrypted with another key, or the bytes were changed.
    #[error("the secrets of {name} cannot be decrypted: POSTHASTE_MASTER_KEY is not the key they were encrypted with")]
    WrongKey {
        /// Whose secrets.
        name: String,
    },
}

/// Encrypts and decrypts with one master key.
pub struct Cipher(ChaCha20Poly1305);

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// A cipher of that master key.
    ///
    /// # Errors
    /// [`CipherError::ShortKey`].
    pub fn new(master_key: &Secret) -> Result<Self, CipherError> {
        let text = master_key.expose().trim();
        let length = text.chars().count();
        if length < MIN_MASTER_KEY {
            return Err(CipherError::ShortKey { length });
        }
        let mut key = [0_u8; 32];
        #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes")]
        Hkdf::<Sha256>::new(Some(b"posthaste"), text.as_bytes())
            .expand(b"endpoint confidential v1", &mut key)
            .expect("32 bytes of key material");
        Ok(Self(ChaCha20Poly1305::new(&Key::from(key))))
    }

    /// Encrypts `plain`, which belongs to `name`.
    #[must_use]
    pub fn seal(&self, name: &str, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::rng().random();
        let payload = Payload { msg: plain, aad: name.as_bytes() };
        #[expect(clippy::expect_used, reason = "fails only for texts of 256 GiB")]
        let sealed = self.0.encrypt(&Nonce::from(nonce), payload).expect("a short text");
        [&[VERSION][..], &nonce, &sealed].concat()
    }

    /// Decrypts what [`Cipher::seal`] made.
    ///
    /// # Errors
    /// [`CipherError::WrongKey`].
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        let wrong = || CipherError::WrongKey { name: name.to_owned() };
        let rest = sealed.strip_prefix(&[VERSION]).ok_or_else(wrong)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(wrong)?;
        let payload = Payload { msg: text, aad: name.as_bytes() };
        self.0.decrypt(&Nonce::from(*nonce), payload).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(key: &str) -> Cipher {
        Cipher::new(&Secret::new(key)).unwrap()
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let cipher = cipher("0123456789abcdef0123456789abcdef");
        let sealed = cipher.seal("ep_1", b"whsec_x");
        assert_eq!(cipher.open("ep_1", &sealed).unwrap(), b"whsec_x");
        assert!(cipher.open("ep_2", &sealed).is_err());
        assert!(self::cipher("another-master-key-of-32-characters").open("ep_1", &sealed).is_err());
        assert_ne!(sealed, cipher.seal("ep_1", b"whsec_x"), "a fresh nonce each time");
        assert!(cipher.open("ep_1", &[]).is_err());
    }

    #[test]
    fn a_short_master_key_is_refused() {
        assert!(matches!(Cipher::new(&Secret::new("short")), Err(CipherError::ShortKey { length: 5 })));
    }
}
