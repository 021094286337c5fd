//! Encryption of what is confidential: ChaCha20-Poly1305 (RFC 8439) with a key that HKDF-SHA256
//! (RFC 5869) derives from the master key. Whose secret it is goes in as associated data, so that
//! one row's secret cannot be put into another.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

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
        /// The length of the key in characters.
        length: usize,
    },
    /// The store's secrets are encrypted with another key.
    #[error(
        "POSTHASTE_MASTER_KEY is not the master key of this store: give every process the key \
         that its secrets are \
         encrypted with. To change it, see docs/operating.md, `The master key`"
    )]
    NotOfStore,
    /// It was encrypted with another key, or the bytes were changed.
    #[error(
        "the secrets of {name} cannot be decrypted: POSTHASTE_MASTER_KEY is not the key they were \
         encrypted with"
    )]
    WrongKey {
        /// What the secrets belong to, such as an endpoint.
        name: String,
    },
}

/// What the store's check value is, and whom it belongs to.
const CHECK: (&str, &[u8]) = ("the store", b"posthaste");

/// Encrypts with one master key; decrypts with that one and, while the key is changed, with
/// another.
///
/// Which of the two encrypts the store decides, not the process: its check value is encrypted with
/// that key. So while some processes have both keys and some only the old one, all write what all
/// can read.
pub struct Cipher {
    /// The configured key, then the previous one, if there is one.
    keys: Vec<ChaCha20Poly1305>,
    /// Which of them encrypts.
    current: AtomicUsize,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// A cipher of that master key, which also reads what `previous` encrypted.
    ///
    /// # Errors
    /// [`CipherError::ShortKey`].
    pub fn new(master_key: &Secret, previous: Option<&Secret>) -> Result<Self, CipherError> {
        let keys = [Some(master_key), previous]
            .into_iter()
            .flatten()
            .map(derive)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            keys,
            current: AtomicUsize::new(0),
        })
    }

    /// Encrypts `plain`, which belongs to `name`.
    #[must_use]
    pub fn seal(&self, name: &str, plain: &[u8]) -> Vec<u8> {
        seal(self.current(), name, plain)
    }

    /// Decrypts what [`Cipher::seal`] made, with either key.
    ///
    /// # Errors
    /// [`CipherError::WrongKey`].
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        let opened = open(self.current(), name, sealed);
        // While the master key is being changed, rows under either key lie side by side, and this
        // process may have started before the other ones.
        let opened = opened.or_else(|| self.keys.iter().find_map(|key| open(key, name, sealed)));
        opened.ok_or_else(|| CipherError::WrongKey {
            name: name.to_owned(),
        })
    }

    /// A check value of the key that encrypts now.
    pub(super) fn check_value(&self) -> Vec<u8> {
        self.seal(CHECK.0, CHECK.1)
    }

    /// Encrypts from now on with the key that this check value is encrypted with.
    ///
    /// # Errors
    /// [`CipherError::NotOfStore`]: it is neither.
    pub(super) fn adopt(&self, check_value: &[u8]) -> Result<(), CipherError> {
        self.adopt_what_opens(CHECK.0, check_value)
            .then_some(())
            .ok_or(CipherError::NotOfStore)
    }

    /// Encrypts from now on with the key that opens this; `false` where none does.
    pub(super) fn adopt_what_opens(&self, name: &str, sealed: &[u8]) -> bool {
        let opens = self
            .keys
            .iter()
            .position(|key| open(key, name, sealed).is_some());
        if let Some(index) = opens {
            // From now on it also encrypts: what this process writes must be readable by those that
            // do not know the other key yet.
            self.current.store(index, Ordering::Relaxed);
        }
        opens.is_some()
    }

    /// Encrypts from now on with the configured key, not the previous one.
    pub(super) fn adopt_configured(&self) {
        self.current.store(0, Ordering::Relaxed);
    }

    /// The same secret, encrypted with the configured key; `None` where it is already.
    ///
    /// # Errors
    /// [`CipherError::WrongKey`].
    pub(super) fn renewed(
        &self,
        name: &str,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, CipherError> {
        if self
            .keys
            .first()
            .is_some_and(|key| open(key, name, sealed).is_some())
        {
            return Ok(None);
        }
        let plain = self.open(name, sealed)?;
        Ok(self.keys.first().map(|key| seal(key, name, &plain)))
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "`current` is only ever an index of `keys`, which has at least one"
    )]
    fn current(&self) -> &ChaCha20Poly1305 {
        &self.keys[self.current.load(Ordering::Relaxed)]
    }
}

fn derive(master_key: &Secret) -> Result<ChaCha20Poly1305, CipherError> {
    // A file's line break at the end must not make another key of it than the environment variable
    // has.
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
    Ok(ChaCha20Poly1305::new(&Key::from(key)))
}

fn seal(key: &ChaCha20Poly1305, name: &str, plain: &[u8]) -> Vec<u8> {
    // At random: no counter survives a restored backup or is shared by several processes. 12 bytes
    // do for the number of times that endpoints are saved.
    let nonce: [u8; NONCE_BYTES] = rand::rng().random();
    let payload = Payload {
        msg: plain,
        aad: name.as_bytes(),
    };
    #[expect(clippy::expect_used, reason = "fails only for texts of 256 GiB")]
    let sealed = key
        .encrypt(&Nonce::from(nonce), payload)
        .expect("a short text");
    [&[VERSION][..], &nonce, &sealed].concat()
}

fn open(key: &ChaCha20Poly1305, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed
        // The version comes first, so that another algorithm can be told from a wrong key.
        .strip_prefix(&[VERSION])?
        .split_first_chunk::<NONCE_BYTES>()?;
    key.decrypt(
        &Nonce::from(*nonce),
        Payload {
            msg: text,
            aad: name.as_bytes(),
        },
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(key: &str) -> Cipher {
        Cipher::new(&Secret::new(key), None).unwrap()
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let cipher = cipher("0123456789abcdef0123456789abcdef");
        let sealed = cipher.seal("ep_1", b"whsec_x");
        assert_eq!(cipher.open("ep_1", &sealed).unwrap(), b"whsec_x");
        assert!(cipher.open("ep_2", &sealed).is_err());
        assert!(
            self::cipher("another-master-key-of-32-characters")
                .open("ep_1", &sealed)
                .is_err()
        );
        assert_ne!(
            sealed,
            cipher.seal("ep_1", b"whsec_x"),
            "a fresh nonce each time"
        );
        assert!(cipher.open("ep_1", &[]).is_err());
    }

    #[test]
    fn a_short_master_key_is_refused() {
        assert!(matches!(
            Cipher::new(&Secret::new("short"), None),
            Err(CipherError::ShortKey { length: 5 })
        ));
    }

    #[test]
    fn the_store_says_which_of_two_keys_encrypts() {
        let old_key = Secret::new("o".repeat(32));
        let new_key = Secret::new("n".repeat(32));
        let old = Cipher::new(&old_key, None).unwrap();
        let both = Cipher::new(&new_key, Some(&old_key)).unwrap();
        let new = Cipher::new(&new_key, None).unwrap();
        both.adopt(&old.check_value()).unwrap();
        let sealed = both.seal("ep_1", b"x");
        assert_eq!(
            old.open("ep_1", &sealed).unwrap(),
            b"x",
            "processes with the old key alone read it"
        );
        assert_eq!(new.adopt(&old.check_value()), Err(CipherError::NotOfStore));

        both.adopt_configured();
        let renewed = both.renewed("ep_1", &sealed).unwrap().unwrap();
        assert_eq!(new.open("ep_1", &renewed).unwrap(), b"x");
        assert_eq!(both.renewed("ep_1", &renewed), Ok(None));
        assert!(
            new.open("ep_1", &both.check_value()).is_err(),
            "a check value is nobody's secret"
        );
        assert_eq!(new.adopt(&both.check_value()), Ok(()));
    }
}
