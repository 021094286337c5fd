//! API keys and whose they are. A key is `ph_` and 256 random bits; the store has its SHA-256.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use posthaste_shared::clock::Clock;
use posthaste_shared::domain::id::KeyId;
use posthaste_shared::domain::key::{ApiKey, Unusable};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::Store;
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::http::callers::Caller;
use crate::http::problem::{Code, Problem};

/// How long a key that was found is believed: a revoked key works no longer than this in other
/// processes.
const TRUST: Duration = Duration::from_secs(1);
/// How long it is believed while the store is away, so that accepting goes on as long as the broker
/// is there.
const TRUST_WITHOUT_STORE: Duration = Duration::from_secs(60);
/// How long after the store was found away it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How exactly it is kept when a key was last used: each process writes this seldom.
const LAST_USED_EVERY: Duration = Duration::from_secs(60);
/// The most keys remembered.
const MAX_REMEMBERED: usize = 10_000;

/// A new API key and its hash. The key itself is shown once and kept nowhere.
#[must_use]
pub fn new_key() -> (Secret, [u8; 32]) {
    let mut random = [0_u8; 32];
    rand::rng().fill_bytes(&mut random);
    let key = format!("ph_{}", URL_SAFE_NO_PAD.encode(random));
    let hash = hash_key(&key);
    (Secret::new(key), hash)
}

/// What the store keeps of a key.
#[must_use]
pub fn hash_key(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The keys seen lately, so that not every request asks the store. Misses are not remembered.
pub(in crate::http) struct Keys {
    admin: Option<([u8; 32], Caller)>,
    seen: RwLock<HashMap<[u8; 32], (Caller, Instant)>>,
    away: Away,
}

/// Whether the store was away when it was last asked. One that hangs costs whoever asks it some ten
/// seconds, so while it is away only one request a second asks; the others know at once.
#[derive(Default)]
struct Away(Mutex<Option<Instant>>);

impl Away {
    /// Whether to ask the store: it is not away, or nobody has asked for [`ASK_AGAIN`].
    fn may_ask(&self) -> bool {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *asked {
            Some(at) if at.elapsed() < ASK_AGAIN => false,
            // Noted before the answer is there, or everybody who comes meanwhile would wait, too.
            Some(_) => {
                *asked = Some(Instant::now());
                true
            }
            None => true,
        }
    }

    fn failed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Keys {
    /// Nothing seen yet; `admin` is the bootstrap key with every scope and tenant.
    pub(in crate::http) fn new(admin: Option<&Secret>) -> Self {
        Self {
            admin: admin.map(|key| (hash_key(key.expose()), Caller::bootstrap())),
            seen: RwLock::default(),
            away: Away::default(),
        }
    }

    /// Who holds the key.
    ///
    /// # Errors
    /// The key is not known, was revoked or has expired, or the store cannot say.
    pub(in crate::http) async fn look_up(
        &self,
        store: &Store,
        clock: &dyn Clock,
        key: &str,
    ) -> Result<Caller, Problem> {
        self.look_up_hash(store, clock, hash_key(key)).await
    }

    /// [`Keys::look_up`] of a key that is known by its hash alone, as a session of the console
    /// knows it.
    ///
    /// # Errors
    /// Those of [`Keys::look_up`].
    pub(in crate::http) async fn look_up_hash(
        &self,
        store: &Store,
        clock: &dyn Clock,
        hash: [u8; 32],
    ) -> Result<Caller, Problem> {
        // Hashes are compared, and in constant time: how long it takes says nothing about the key.
        if let Some((admin, caller)) = &self.admin
            && bool::from(admin.ct_eq(&hash))
        {
            return Ok(caller.clone());
        }
        let now = clock.now();
        // That it has not expired is checked each time: that needs no store.
        if let Some(caller) = self.remembered(&hash, TRUST) {
            return usable(caller, now);
        }
        if !self.away.may_ask() {
            return match self.remembered(&hash, TRUST_WITHOUT_STORE) {
                Some(caller) => usable(caller, now),
                None => Err(Problem::store_away()),
            };
        }
        // Unknown keys are asked for each time: remembered, a stranger's could push out those that
        // work.
        let found = store.key_by_hash(&hash).await;
        match &found {
            Err(error) if error.is_transient() => self.away.failed(),
            _ => self.away.answered(),
        }
        match found {
            Ok(Some(key)) => {
                // Remembered before it is judged: a revoked key that keeps coming costs one query a
                // second.
                let caller = usable(self.remember(hash, Caller::of(key)), now)?;
                note_use(store, caller.key(), now);
                Ok(caller)
            }
            Ok(None) => {
                // Else it would be good for another minute if the store went away now.
                self.forget(&hash);
                Err(Problem::new(Code::InvalidKey, "the API key is not known"))
            }
            // Only while the store cannot answer: when it says no, nothing remembered helps.
            Err(error) if error.is_transient() => match self.remembered(&hash, TRUST_WITHOUT_STORE)
            {
                Some(caller) => usable(caller, now),
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    fn remembered(&self, hash: &[u8; 32], trust: Duration) -> Option<Caller> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.get(hash)
            .filter(|(_, at)| at.elapsed() < trust)
            .map(|(caller, _)| caller.clone())
    }

    fn remember(&self, hash: [u8; 32], caller: Caller) -> Caller {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        // Forgetting all costs one query for each key that comes next, and needs no order of use.
        if seen.len() >= MAX_REMEMBERED {
            seen.clear();
        }
        seen.insert(hash, (caller.clone(), Instant::now()));
        caller
    }

    /// A key that was revoked here stops at once.
    pub(in crate::http) fn forget_id(&self, id: &KeyId) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, (caller, _)| caller.key().id != *id);
    }

    fn forget(&self, hash: &[u8; 32]) {
        self.seen
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(hash);
    }
}

/// The caller, if the key works at `now`.
fn usable(caller: Caller, now: Timestamp) -> Result<Caller, Problem> {
    let what = match caller.key().unusable(now) {
        None => return Ok(caller),
        Some(Unusable::Revoked) => "was revoked".to_owned(),
        Some(Unusable::Expired(at)) => format!("expired at {at}"),
    };
    Err(Problem::new(
        Code::InvalidKey,
        format!("the API key {what}"),
    ))
}

/// Keeps that the key is used, in a task of its own: no request waits for it, and one that fails is
/// made up for by the next use.
fn note_use(store: &Store, key: &ApiKey, now: Timestamp) {
    // A write for each request would make the key's row the busiest of the store.
    let due = now.before(LAST_USED_EVERY);
    if key.last_used_at.is_some_and(|at| at > due) {
        return;
    }
    let store = store.clone();
    let id = key.id.clone();
    tokio::spawn(async move {
        // The store compares the time again: other processes see the same key.
        if let Err(error) = store.note_key_use(&id, now, due).await {
            tracing::debug!(key = %id, %error, "the last use of an API key could not be kept");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_is_asked_once_a_second() {
        let away = Away::default();
        assert!(away.may_ask() && away.may_ask(), "it is there");
        away.failed();
        assert!(!away.may_ask());
        tokio::time::advance(ASK_AGAIN).await;
        assert!(away.may_ask());
        assert!(!away.may_ask(), "one request asks, the others do not wait");
        away.answered();
        assert!(away.may_ask() && away.may_ask());
    }

    #[test]
    fn keys_are_random_and_known_by_their_hash() {
        let (key, hash) = new_key();
        let (other, _) = new_key();
        assert_ne!(key, other);
        assert_eq!(hash_key(key.expose()), hash);
        assert!(
            key.expose().starts_with("ph_") && key.expose().len() == 46,
            "{}",
            key.expose()
        );
    }
}
