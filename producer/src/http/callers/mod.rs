//! Who asks, and which tenants exist for them.

pub(super) mod key_cache;

use std::sync::Arc;

use posthaste_shared::domain::audit::{Act, Action};
use posthaste_shared::domain::id::{KeyId, TenantId};
use posthaste_shared::domain::key::{ApiKey, Scope};
use posthaste_shared::domain::time::Timestamp;

use crate::http::problem::{Code, Problem, request_id};

/// Who sent a request: the holder of an API key. Only a key that works makes one.
#[derive(Debug, Clone)]
pub struct Caller(Arc<ApiKey>);

impl Caller {
    /// Whoever holds this key.
    pub(in crate::http) fn of(key: ApiKey) -> Self {
        Self(Arc::new(key))
    }

    /// Whoever holds the bootstrap key: every scope and tenant.
    #[expect(clippy::expect_used, reason = "the literal fits the rule of key ids")]
    pub(in crate::http) fn bootstrap() -> Self {
        Self::of(ApiKey {
            id: KeyId::parse("key_bootstrap").expect("a key id"),
            name: "bootstrap".to_owned(),
            tenant: None,
            scopes: vec![Scope::Admin],
            created_at: Timestamp::from_micros(0),
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        })
    }

    /// The API key as the store has it.
    #[must_use]
    pub fn key(&self) -> &ApiKey {
        &self.0
    }

    /// The same caller without the right to change anything: of the scope `admin` only `read` is
    /// left.
    #[must_use]
    pub fn looking_only(&self) -> Self {
        let mut key = (*self.0).clone();
        let may_read = key.allows(Scope::Read);
        key.scopes = may_read.then_some(Scope::Read).into_iter().collect();
        Self::of(key)
    }

    /// Whether the caller may do what `scope` names.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.0.allows(scope)
    }

    /// Refuses a caller who may not do what `scope` names.
    ///
    /// # Errors
    /// `missing_scope`.
    pub(in crate::http) fn must(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) {
            return Ok(());
        }
        // Named, since whoever is refused can seldom look the key up.
        let held: Vec<&str> = self.0.scopes.iter().map(|held| held.as_str()).collect();
        let detail = format!(
            "this needs the scope {}; the API key has {}",
            scope.as_str(),
            if held.is_empty() {
                "none".to_owned()
            } else {
                held.join(", ")
            }
        );
        Err(Problem::new(Code::MissingScope, detail))
    }

    /// Something that the caller does at `now`, for the audit: to what, and to whose.
    pub(in crate::http) fn act(
        &self,
        action: Action,
        object: Option<&str>,
        tenant: Option<&TenantId>,
        now: Timestamp,
    ) -> Act {
        Act {
            action,
            key_id: self.0.id.clone(),
            key_name: self.0.name.clone(),
            object: object.map(str::to_owned),
            tenant: tenant.cloned(),
            request_id: request_id::current(),
            at: now,
        }
    }

    /// The tenant that the key is bound to.
    #[must_use]
    pub fn bound_to(&self) -> Option<&TenantId> {
        self.0.tenant.as_ref()
    }

    /// Whether things of `tenant` exist for this key.
    pub(in crate::http) fn sees(&self, tenant: &TenantId) -> bool {
        self.bound_to().is_none_or(|own| own == tenant)
    }

    /// The tenant that a request is about: the one it names, else the key's own, else `default`.
    pub(in crate::http) fn tenant_or_default(
        &self,
        named: Option<&TenantId>,
    ) -> Result<TenantId, Problem> {
        Ok(self.tenant(named)?.unwrap_or_default())
    }

    /// The tenant that a request is about: the one it names, else the key's own; none: all.
    pub(in crate::http) fn tenant(
        &self,
        named: Option<&TenantId>,
    ) -> Result<Option<TenantId>, Problem> {
        match (self.bound_to(), named) {
            // Refused and not ignored: a client that names another tenant is wrong about whom it
            // works for.
            (Some(own), Some(named)) if own != named => Err(Problem::new(
                Code::OtherTenant,
                format!("the API key is bound to the tenant {own}"),
            )),
            (Some(own), _) => Ok(Some(own.clone())),
            (None, named) => Ok(named.cloned()),
        }
    }

    /// Refuses keys that are bound to a tenant, for what is about all tenants.
    pub(in crate::http) fn must_be_unbound(&self) -> Result<(), Problem> {
        match self.bound_to() {
            None => Ok(()),
            Some(own) => Err(Problem::new(
                Code::OtherTenant,
                format!("this is about every tenant, and the API key is bound to the tenant {own}"),
            )),
        }
    }
}
