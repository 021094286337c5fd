//! Who asks, and what they may do. A key is `ph_` and 256 random bits; the store has its SHA-256.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::extract::FromRequestParts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header;
use http::request::Parts;
use posthaste_shared::domain::id::{KeyId, TenantId};
use posthaste_shared::domain::key::{ApiKey, Scope};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::problem::{Code, Problem};
use super::state::Api;

/// How long a key that was found is believed: a revoked key works no longer than this.
const TRUST: Duration = Duration::from_secs(5);
/// How long it is believed while the store is away, so that accepting goes on as long as the broker is there.
const TRUST_WITHOUT_STORE: Duration = Duration::from_secs(60);
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

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller(Arc<ApiKey>);

impl Caller {
    /// The tenant that the key is bound to.
    pub(super) fn bound_to(&self) -> Option<&TenantId> {
        self.0.tenant.as_ref()
    }

    /// Whether things of `tenant` exist for this key.
    pub(super) fn sees(&self, tenant: &TenantId) -> bool {
        self.bound_to().is_none_or(|own| own == tenant)
    }

    /// The tenant that a request is about: the one it names, else the key's own, else `default`.
    pub(super) fn tenant_or_default(&self, named: Option<&TenantId>) -> Result<TenantId, Problem> {
        Ok(self.tenant(named)?.unwrap_or_default())
    }

    /// The tenant that a request is about: the one it names, else the key's own; none: all.
    pub(super) fn tenant(&self, named: Option<&TenantId>) -> Result<Option<TenantId>, Problem> {
        match (self.bound_to(), named) {
            (Some(own), Some(named)) if own != named => {
                Err(Problem::new(Code::OtherTenant, format!("the API key is bound to the tenant {own}")))
            }
            (Some(own), _) => Ok(Some(own.clone())),
            (None, named) => Ok(named.cloned()),
        }
    }

    /// Refuses keys that are bound to a tenant, for what is about all tenants.
    pub(super) fn must_be_unbound(&self) -> Result<(), Problem> {
        match self.bound_to() {
            None => Ok(()),
            Some(own) => Err(Problem::new(
                Code::OtherTenant,
                format!("this is about every tenant, and the API key is bound to the tenant {own}"),
            )),
        }
    }
}

macro_rules! permission {
    ($(#[$doc:meta])* $name:ident, $scope:expr) => {
        $(#[$doc])*
        pub(super) struct $name(pub(super) Caller);

        impl FromRequestParts<Arc<Api>> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
                authorise(parts, api, $scope).await.map($name)
            }
        }
    };
}

permission!(
    /// A caller who may enqueue.
    Enqueuer, Scope::Enqueue
);
permission!(
    /// A caller who may look.
    Reader, Scope::Read
);
permission!(
    /// A caller who may manage.
    Admin, Scope::Admin
);

async fn authorise(parts: &Parts, api: &Api, scope: Scope) -> Result<Caller, Problem> {
    let key = bearer(parts)?;
    let caller = api.keys.look_up(api, key).await?;
    if caller.0.allows(scope) {
        return Ok(caller);
    }
    let held: Vec<&str> = caller.0.scopes.iter().map(|scope| scope.as_str()).collect();
    let detail = format!("this needs the scope {}; the API key has {}", scope.as_str(), held.join(", "));
    Err(Problem::new(Code::MissingScope, detail))
}

fn bearer(parts: &Parts) -> Result<&str, Problem> {
    let missing = || Problem::new(Code::MissingKey, "send the header Authorization: Bearer <API key>");
    let value = parts.headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let (scheme, key) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty() { Ok(key.trim()) } else { Err(missing()) }
}

/// The keys seen lately, so that not every request asks the store. Misses are not remembered.
pub(super) struct Keys {
    admin: Option<([u8; 32], Caller)>,
    seen: RwLock<HashMap<[u8; 32], (Caller, Instant)>>,
}

impl Keys {
    /// Nothing seen yet; `admin` is the bootstrap key with every scope and tenant.
    pub(super) fn new(admin: Option<&Secret>) -> Self {
        Self { admin: admin.map(|key| (hash_key(key.expose()), bootstrap_caller())), seen: RwLock::default() }
    }

    async fn look_up(&self, api: &Api, key: &str) -> Result<Caller, Problem> {
        let hash = hash_key(key);
        if let Some((admin, caller)) = &self.admin
            && bool::from(admin.ct_eq(&hash))
        {
            return Ok(caller.clone());
        }
        if let Some(caller) = self.remembered(&hash, TRUST) {
            return Ok(caller);
        }
        match api.store.key_by_hash(&hash).await {
            Ok(Some(key)) if key.revoked_at.is_none() => Ok(self.remember(hash, Caller(Arc::new(key)))),
            Ok(found) => {
                self.forget(&hash);
                let what = if found.is_some() { "was revoked" } else { "is not known" };
                Err(Problem::new(Code::InvalidKey, format!("the API key {what}")))
            }
            Err(error) if error.is_transient() => {
                self.remembered(&hash, TRUST_WITHOUT_STORE).ok_or_else(|| Problem::from(error))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn remembered(&self, hash: &[u8; 32], trust: Duration) -> Option<Caller> {
        let seen = self.seen.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.get(hash).filter(|(_, at)| at.elapsed() < trust).map(|(caller, _)| caller.clone())
    }

    fn remember(&self, hash: [u8; 32], caller: Caller) -> Caller {
        let mut seen = self.seen.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.len() >= MAX_REMEMBERED {
            seen.clear();
        }
        seen.insert(hash, (caller.clone(), Instant::now()));
        caller
    }

    /// A key that was revoked here stops at once.
    pub(super) fn forget_id(&self, id: &KeyId) {
        let mut seen = self.seen.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.retain(|_, (caller, _)| caller.0.id != *id);
    }

    fn forget(&self, hash: &[u8; 32]) {
        self.seen.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(hash);
    }
}

#[expect(clippy::expect_used, reason = "the literal fits the rule of key ids")]
fn bootstrap_caller() -> Caller {
    Caller(Arc::new(ApiKey {
        id: KeyId::parse("key_bootstrap").expect("a key id"),
        name: "bootstrap".to_owned(),
        tenant: None,
        scopes: vec![Scope::Admin],
        created_at: Timestamp::from_micros(0),
        revoked_at: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_random_and_known_by_their_hash() {
        let (key, hash) = new_key();
        let (other, _) = new_key();
        assert_ne!(key, other);
        assert_eq!(hash_key(key.expose()), hash);
        assert!(key.expose().starts_with("ph_") && key.expose().len() == 46, "{}", key.expose());
    }
}
