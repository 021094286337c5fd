//! Which endpoints fail, and since when; disabling those that have for too long.

use std::collections::{BTreeMap, BTreeSet};

use super::next_version;
use crate::domain::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use crate::domain::event::Event;
use crate::domain::id::EndpointId;
use crate::domain::time::Timestamp;
use crate::store::db::{Batch, Kind, Param};
use crate::store::events::insert_events;
use crate::store::{Store, StoreError};

impl Store {
    /// Notes since when endpoints only fail (the first time stays), and which had a success.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_health(
        &self,
        failing: &[(EndpointId, Timestamp)],
        healthy: &[EndpointId],
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- endpoints.note_health
            UPDATE endpoints SET failing_since = u.since
            FROM {rows}
            WHERE endpoints.id = u.key AND endpoints.deleted_at IS NULL
                AND (endpoints.failing_since IS NULL) <> (u.since IS NULL)";
        // One that is in both lists had a success: it is healthy.
        let mut each: BTreeMap<&EndpointId, Option<Timestamp>> = BTreeMap::new();
        each.extend(failing.iter().map(|(id, since)| (id, Some(*since))));
        each.extend(healthy.iter().map(|id| (id, None)));
        let mut batch = Batch::new(&[("key", Kind::Text), ("since", Kind::Int)]);
        for (id, since) in each {
            batch.push([Param::text(id.as_str()), Param::time_opt(since)]);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let mut tx = self.driver.begin().await?;
        tx.run_batch(SQL, batch).await?;
        tx.commit().await
    }

    /// Disables those of the enabled endpoints `failing_now` that only failed since `before` or
    /// longer, with events. Returns them. `failing_now` are those that only failed in the time that
    /// was looked at last: an endpoint that failed once and was not called since is not a failing
    /// one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn disable_failing(
        &self,
        before: Timestamp,
        failing_now: &[EndpointId],
        now: Timestamp,
    ) -> Result<Vec<Endpoint>, StoreError> {
        const SQL: &str = concat!(
            "-- endpoints.failing
            SELECT ",
            columns!("d"),
            " FROM {rows} JOIN endpoints d ON d.id = u.key
            WHERE d.failing_since IS NOT NULL AND d.failing_since <= u.since
                AND d.status = 'enabled' AND d.deleted_at IS NULL
            {skip_locked}"
        );
        const DISABLE: &str = "-- endpoints.disable_failing
            UPDATE endpoints SET status = 'disabled', disabled_reason = 'failing',
                failing_since = NULL, updated_at = u.updated_at
            FROM {rows} WHERE endpoints.id = u.key";
        let mut tx = self.driver.begin().await?;
        let mut candidates = Batch::new(&[("key", Kind::Text), ("since", Kind::Int)]);
        for id in failing_now.iter().collect::<BTreeSet<_>>() {
            candidates.push([Param::text(id.as_str()), Param::time(before)]);
        }
        let mut endpoints = self.read_readable(tx.run_batch(SQL, candidates).await?)?;
        if endpoints.is_empty() {
            return Ok(endpoints);
        }
        let mut batch = Batch::new(&[("key", Kind::Text), ("updated_at", Kind::Int)]);
        for endpoint in &mut endpoints {
            endpoint.status = EndpointStatus::Disabled(DisabledReason::Failing);
            endpoint.updated_at = now;
            batch.push([Param::text(endpoint.id.as_str()), Param::time(now)]);
        }
        tx.run_batch(DISABLE, batch).await?;
        let version =
            next_version(tx.as_mut(), endpoints.iter().map(|endpoint| &endpoint.id)).await?;
        for endpoint in &mut endpoints {
            endpoint.version = version;
        }
        let events: Vec<Event> = endpoints
            .iter()
            .map(|endpoint| Event::of_endpoint(endpoint, now))
            .collect();
        insert_events(tx.as_mut(), &events.iter().collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(endpoints)
    }
}
