//! Encryption of what is confidential: ChaCha20-Poly1305 with a key made from the master key.

/// Why a secret cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// No master key is set.
    #[error("there is no master key to encrypt secrets with: set POSTHASTE_MASTER_KEY")]
    NoKey,
    /// The master key is too short.
    #[error("POSTHASTE_MASTER_KEY has {length} characters: it must have at least 32")]
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

/// Encrypts and decrypts.
pub struct Cipher {}
