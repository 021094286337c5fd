//! Endpoints. Each change of any of them takes the next change number, by which workers follow.

use super::page::{Page, PageRequest};
use super::{Store, StoreError};
use crate::domain::endpoint::Endpoint;
use crate::domain::event::Event;
use crate::domain::id::{EndpointId, TenantId};
use crate::domain::time::Timestamp;

/// One endpoint that changed.
#[derive(Debug, Clone)]
pub enum EndpointChange {
    /// It is now so.
    Saved(Box<Endpoint>),
    /// It is gone.
    Deleted(EndpointId),
}

/// What changed since a change number.
#[derive(Debug, Clone)]
pub struct EndpointChanges {
    /// The change number to ask from next time.
    pub version: i64,
    /// The last state of each endpoint that changed.
    pub changes: Vec<EndpointChange>,
}

/// Which endpoints are wanted. The default is all.
#[derive(Debug, Clone, Default)]
pub struct EndpointFilter {
    /// Whose.
    pub tenant: Option<TenantId>,
    /// Whether they are called.
    pub enabled: Option<bool>,
}

/// What became of a change of an endpoint.
#[derive(Debug, Clone)]
pub enum Saved {
    /// It is durable; the endpoint has its new version.
    Saved(Endpoint),
    /// Somebody else changed it in between: read it again.
    Conflict,
    /// There is none of that name.
    NotFound,
}

impl Store {
    /// The endpoints' change number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoints_version(&self) -> Result<i64, StoreError> {
        todo!()
    }

    /// What changed after `since_version`; 0 for all that there is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_changes(&self, since_version: i64) -> Result<EndpointChanges, StoreError> {
        let _ = since_version;
        todo!()
    }

    /// Keeps a new endpoint; returns it with its version.
    ///
    /// # Errors
    /// [`StoreError`], also when there is one of that name.
    pub async fn insert_endpoint(&self, endpoint: &Endpoint) -> Result<Endpoint, StoreError> {
        let _ = endpoint;
        todo!()
    }

    /// One endpoint; `None` also when it was deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint(&self, id: &EndpointId) -> Result<Option<Endpoint>, StoreError> {
        let _ = id;
        todo!()
    }

    /// Endpoints that match, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoints(&self, filter: &EndpointFilter, page: &PageRequest) -> Result<Page<Endpoint>, StoreError> {
        let _ = (filter, page);
        todo!()
    }

    /// Saves all members, if nobody changed it since `endpoint.version`, with the event in the same transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn update_endpoint(&self, endpoint: &Endpoint, event: Option<&Event>) -> Result<Saved, StoreError> {
        let _ = (endpoint, event);
        todo!()
    }

    /// Deletes an endpoint and wipes what was confidential; its name stays, so that workers learn of it.
    /// Returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_endpoint(&self, id: &EndpointId, now: Timestamp) -> Result<bool, StoreError> {
        let _ = (id, now);
        todo!()
    }

    /// Notes since when endpoints only fail (the first time stays), and which had a success.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_health(
        &self,
        failing: &[(EndpointId, Timestamp)],
        healthy: &[EndpointId],
    ) -> Result<(), StoreError> {
        let _ = (failing, healthy);
        todo!()
    }

    /// Disables enabled endpoints that only failed since `before` or longer, with events. Returns them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn disable_failing(&self, before: Timestamp, now: Timestamp) -> Result<Vec<Endpoint>, StoreError> {
        let _ = (before, now);
        todo!()
    }

    /// How many endpoints are enabled, and how many disabled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_counts(&self) -> Result<(u64, u64), StoreError> {
        todo!()
    }
}
