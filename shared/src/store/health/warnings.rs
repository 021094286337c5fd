//! Warnings before an endpoint that only fails is disabled: at half of the time, at 70 and at 90 %.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{known, subjects};
use crate::domain::event::{Event, HealthNews};
use crate::domain::health::Unhealthy;
use crate::domain::id::EndpointId;
use crate::domain::time::Timestamp;
use crate::store::db::{Batch, Kind, Param, Transaction};
use crate::store::events::insert_events;
use crate::store::{Store, StoreError};

/// How much of the time is over when an event says so, in percent.
const WARN_AT: [u8; 3] = [90, 70, 50];

impl Store {
    /// Writes an event for each of the enabled endpoints `failing_now` that has only failed for
    /// 50, 70 or 90 % of the time `disable_after`, once for each of these, whichever workers look.
    /// Returns how many events there are to publish.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn warn_of_disabling(
        &self,
        disable_after: Duration,
        failing_now: &[EndpointId],
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        const SQL: &str = "-- endpoints.failing_for_long
            SELECT e.id FROM {rows} JOIN endpoints e ON e.id = u.key
            WHERE e.failing_since <= u.since AND e.status = 'enabled' AND e.deleted_at IS NULL";
        let since = now.before(part(disable_after, WARN_AT[WARN_AT.len() - 1]));
        let mut candidates = Batch::new(&[("key", Kind::Text), ("since", Kind::Int)]);
        for id in failing_now.iter().collect::<BTreeSet<_>>() {
            candidates.push([Param::text(id.as_str()), Param::time(since)]);
        }
        if candidates.is_empty() {
            return Ok(0);
        }
        let mut tx = self.driver.begin().await?;
        let mut long = BTreeSet::new();
        for row in tx.run_batch(SQL, candidates).await?.rows {
            let id = row
                .reader("endpoints")
                .word(|text| EndpointId::parse(text).ok());
            long.insert(id?);
        }
        if long.is_empty() {
            return Ok(0);
        }
        let long = long.iter().collect();
        let known = known(tx.as_mut(), &long).await?;
        let mut events = Vec::new();
        for (id, subject) in subjects(tx.as_mut(), &long).await? {
            let Some(since) = subject.failing_since else {
                continue;
            };
            let reached = |percent: &&u8| now.since(since) >= part(disable_after, **percent);
            let Some(percent) = WARN_AT.iter().find(reached) else {
                continue;
            };
            let unhealthy = known.get(&id).and_then(|health| health.unhealthy.clone());
            // Where breakers are turned off nobody has counted.
            let unhealthy = unhealthy.unwrap_or_else(|| Unhealthy {
                since,
                open_until: now,
                failures: 0,
                last_error: String::new(),
                types: Vec::new(),
            });
            let news = HealthNews::DisabledSoon {
                disable_at: since.after(disable_after),
                percent: *percent,
            };
            events.push(subject.news(&unhealthy, news, now));
        }
        let events = unwritten(tx.as_mut(), events).await?;
        insert_events(tx.as_mut(), &events.iter().collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(events.len())
    }
}

fn part(whole: Duration, percent: u8) -> Duration {
    whole * u32::from(percent) / 100
}

/// Those that were not written before: this is asked every few seconds, for days.
async fn unwritten(
    tx: &mut dyn Transaction,
    mut events: Vec<Event>,
) -> Result<Vec<Event>, StoreError> {
    const SQL: &str = "-- events.which_are_there
        SELECT e.id FROM {rows} JOIN events e ON e.id = u.key";
    let mut ids = Batch::new(&[("key", Kind::Uuid)]);
    for event in &events {
        ids.push([Param::uuid(event.id.0)]);
    }
    if ids.is_empty() {
        return Ok(events);
    }
    for row in tx.run_batch(SQL, ids).await?.rows {
        let there = row.reader("events").uuid()?;
        events.retain(|event| event.id.0 != there);
    }
    Ok(events)
}
