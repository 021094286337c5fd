//! The health of endpoints, as the workers report it to each other and to the API: which circuit
//! breakers are open, and which endpoints asked for a pause. What a report changes is decided in
//! [`crate::domain::health`]; each change of any of them takes the next number, by which workers
//! follow.

mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::db::{Answer, Batch, Kind, Param, Reader, Transaction};
use super::events::insert_events;
use super::{Store, StoreError};
use crate::domain::endpoint::{DisabledReason, EndpointStatus};
use crate::domain::event::{EndpointSummary, Event, HealthNews};
use crate::domain::health::{Effect, EndpointHealth, HealthChange, Unhealthy};
use crate::domain::id::{EndpointId, TenantId};
use crate::domain::time::Timestamp;
use crate::domain::wire_format::WireFormat;

/// What changed since a change number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChanges {
    /// The change number to ask from next time.
    pub version: i64,
    /// The last state of each endpoint that changed; [clear](EndpointHealth::is_clear) for one that
    /// nothing keeps from being called any more.
    pub changes: Vec<EndpointHealth>,
}

/// The columns of an endpoint's health, as [`read`] reads them.
macro_rules! columns {
    () => {
        "h.endpoint_id, h.unhealthy_since, h.open_until, h.failures, h.last_error, h.types, \
         h.paused_until"
    };
}

impl Store {
    /// Takes in what a worker reports of endpoints, and writes an event for each that became
    /// unhealthy or healthy by it: once, however many workers report it. Reports of an opening or a
    /// pause of an endpoint that is disabled, deleted or unknown are left out. `disable_after` is
    /// how long an endpoint may only fail before it is disabled: the event says when that will be.
    /// Returns how many events there are to publish.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report_health(
        &self,
        changes: &[HealthChange],
        disable_after: Option<Duration>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        if changes.is_empty() {
            return Ok(0);
        }
        let concerned: BTreeSet<&EndpointId> = changes.iter().map(HealthChange::endpoint).collect();
        let mut tx = self.driver.begin().await?;
        // First of all: whoever reports at the same time waits here, and sees what this writes.
        let version = next_version(tx.as_mut()).await?;
        let known = known(tx.as_mut(), &concerned).await?;
        let endpoints = subjects(tx.as_mut(), &concerned).await?;
        let mut after: BTreeMap<&EndpointId, EndpointHealth> = BTreeMap::new();
        let mut events = Vec::new();
        for change in changes {
            let id = change.endpoint();
            let subject = endpoints.get(id);
            if change.keeps_from_calling() && !subject.is_some_and(Subject::is_called) {
                continue;
            }
            let mut health = after
                .remove(id)
                .or_else(|| known.get(id).cloned())
                .unwrap_or_else(|| EndpointHealth::clear(id.clone()));
            let effect = health.apply(change, now);
            if let Some(subject) = subject {
                events.extend(subject.event(&effect, &health, disable_after, now));
            }
            after.insert(id, health);
        }
        let changed = after.into_values().filter(|health| {
            let before = known.get(&health.endpoint);
            before.map_or(!health.is_clear(), |before| before != health)
        });
        let changed: Vec<EndpointHealth> = changed.collect();
        if changed.is_empty() && events.is_empty() {
            return Ok(0);
        }
        save(tx.as_mut(), &changed, version, now).await?;
        insert_events(tx.as_mut(), &events.iter().collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(events.len())
    }

    /// What changed after `since_version`; 0 for all that there is. A caller that did not ask for
    /// longer than [`Store::remove_clear_health`] leaves changes in place asks from 0 again, and
    /// forgets what it is not told.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn health_changes(&self, since_version: i64) -> Result<HealthChanges, StoreError> {
        const SQL: &str = concat!(
            "-- endpoint_health.changes
            SELECT v.value, ",
            columns!(),
            "
            FROM versions v LEFT JOIN endpoint_health h ON h.version > $1
            WHERE v.name = 'endpoint_health' ORDER BY h.version"
        );
        let params = vec![Param::int(since_version)];
        let mut found = HealthChanges {
            version: since_version,
            changes: Vec::new(),
        };
        for row in self.driver.read(SQL, params).await?.rows {
            let mut row = row.reader("endpoint_health");
            found.version = row.int()?;
            // There is one row without an endpoint when nothing changed.
            let id = row.word_opt(|text| EndpointId::parse(text).ok())?;
            found
                .changes
                .extend(id.map(|id| read(id, &mut row)).transpose()?);
        }
        Ok(found)
    }

    /// What keeps an endpoint from being called at `now`; `None` when nothing does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_health(
        &self,
        endpoint: &EndpointId,
        now: Timestamp,
    ) -> Result<Option<EndpointHealth>, StoreError> {
        let mut found = self.endpoints_health([endpoint], now).await?;
        Ok(found.remove(endpoint))
    }

    /// As [`Store::endpoint_health`], of several endpoints: those that something keeps from being
    /// called.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoints_health(
        &self,
        endpoints: impl IntoIterator<Item = &EndpointId>,
        now: Timestamp,
    ) -> Result<BTreeMap<EndpointId, EndpointHealth>, StoreError> {
        let each = endpoints.into_iter().collect();
        let found = read_each(self.driver.read_batch(GET_EACH, keys(&each)).await?)?;
        Ok(found
            .into_iter()
            .map(|(id, health)| (id, health.at(now)))
            .filter(|(_, health)| !health.is_clear())
            .collect())
    }

    /// How many endpoints' circuit breakers are open, and how many endpoints are paused at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn health_counts(&self, now: Timestamp) -> Result<(u64, u64), StoreError> {
        const SQL: &str = "-- endpoint_health.count
            SELECT COALESCE(sum(CASE WHEN unhealthy_since IS NOT NULL THEN 1 ELSE 0 END), 0),
                COALESCE(sum(CASE WHEN paused_until > $1 THEN 1 ELSE 0 END), 0)
            FROM endpoint_health";
        let answer = self.driver.read(SQL, vec![Param::time(now)]).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok((0, 0));
        };
        let mut row = row.reader("endpoint_health");
        Ok((row.total()?, row.total()?))
    }

    /// Removes what is kept of endpoints that nothing keeps from being called since `before`, and
    /// of deleted ones, at most `limit` of them; returns how many. For maintenance, with a `before`
    /// that workers have followed for sure, such as ten minutes ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_clear_health(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        // The table holds only what is not well, so that reading all of it is cheap.
        const SQL: &str = "-- endpoint_health.remove
            DELETE FROM endpoint_health WHERE endpoint_id IN
                (SELECT h.endpoint_id FROM endpoint_health h
                WHERE h.changed_at < $1
                    AND (h.unhealthy_since IS NULL OR NOT EXISTS (SELECT 1 FROM endpoints e
                        WHERE e.id = h.endpoint_id AND e.deleted_at IS NULL))
                    AND (h.paused_until IS NULL OR h.paused_until < $1)
                LIMIT $2) AND changed_at < $1";
        let params = vec![Param::time(before), Param::count(limit)];
        Ok(self.driver.write(SQL, params).await?.affected)
    }
}

/// What is kept of endpoints.
const GET_EACH: &str = concat!(
    "-- endpoint_health.get_each\nSELECT ",
    columns!(),
    " FROM {rows} JOIN endpoint_health h ON h.endpoint_id = u.key"
);

/// The next change number. Locked until the transaction ends, so that numbers become visible in
/// their order, and reports are taken in one after the other.
async fn next_version(tx: &mut dyn Transaction) -> Result<i64, StoreError> {
    const SQL: &str = "-- endpoint_health.next_version
        UPDATE versions SET value = value + 1 WHERE name = 'endpoint_health' RETURNING value";
    let row = tx.run(SQL, vec![]).await?.rows.into_iter().next();
    row.map_or(Ok(0), |row| row.reader("versions").int())
}

fn keys(endpoints: &BTreeSet<&EndpointId>) -> Batch {
    let mut batch = Batch::new(&[("key", Kind::Text)]);
    for id in endpoints {
        batch.push([Param::text(id.as_str())]);
    }
    batch
}

async fn known(
    tx: &mut dyn Transaction,
    endpoints: &BTreeSet<&EndpointId>,
) -> Result<BTreeMap<EndpointId, EndpointHealth>, StoreError> {
    read_each(tx.run_batch(GET_EACH, keys(endpoints)).await?)
}

fn read_each(answer: Answer) -> Result<BTreeMap<EndpointId, EndpointHealth>, StoreError> {
    let read_one = |row: super::db::Row| {
        let mut row = row.reader("endpoint_health");
        let id = row.word(|text| EndpointId::parse(text).ok())?;
        Ok((id.clone(), read(id, &mut row)?))
    };
    answer.rows.into_iter().map(read_one).collect()
}

fn read(id: EndpointId, row: &mut Reader) -> Result<EndpointHealth, StoreError> {
    row.named(&id);
    let (since, open_until) = (row.time_opt()?, row.time_opt()?);
    let (failures, last_error, types) = (row.count()?, row.text_opt()?, row.json()?);
    let unhealthy = since.zip(open_until).map(|(since, open_until)| Unhealthy {
        since,
        open_until,
        failures,
        last_error: last_error.unwrap_or_default(),
        types,
    });
    Ok(EndpointHealth {
        endpoint: id,
        unhealthy,
        paused_until: row.time_opt()?,
    })
}

async fn save(
    tx: &mut dyn Transaction,
    changed: &[EndpointHealth],
    version: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "-- endpoint_health.save
        INSERT INTO endpoint_health (endpoint_id, unhealthy_since, open_until, failures,
            last_error, types, paused_until, changed_at, version)
        SELECT u.key, u.unhealthy_since, u.open_until, u.failures, u.last_error, u.types,
            u.paused_until, u.changed_at, u.version
        FROM {rows} WHERE true
        ON CONFLICT (endpoint_id) DO UPDATE SET unhealthy_since = excluded.unhealthy_since,
            open_until = excluded.open_until, failures = excluded.failures,
            last_error = excluded.last_error, types = excluded.types,
            paused_until = excluded.paused_until, changed_at = excluded.changed_at,
            version = excluded.version";
    let mut batch = Batch::new(&[
        ("key", Kind::Text),
        ("unhealthy_since", Kind::Int),
        ("open_until", Kind::Int),
        ("failures", Kind::Int),
        ("last_error", Kind::Text),
        ("types", Kind::Text),
        ("paused_until", Kind::Int),
        ("changed_at", Kind::Int),
        ("version", Kind::Int),
    ]);
    for health in changed {
        let unhealthy = health.unhealthy.as_ref();
        batch.push([
            Param::text(health.endpoint.as_str()),
            Param::time_opt(unhealthy.map(|unhealthy| unhealthy.since)),
            Param::time_opt(unhealthy.map(|unhealthy| unhealthy.open_until)),
            Param::count(unhealthy.map_or(0, |unhealthy| unhealthy.failures)),
            Param::text_opt(unhealthy.map(|unhealthy| &unhealthy.last_error)),
            Param::json(&unhealthy.map_or(&[][..], |unhealthy| unhealthy.types.as_slice())),
            Param::time_opt(health.paused_until),
            Param::time(now),
            Param::int(version),
        ]);
    }
    tx.run_batch(SQL, batch).await.map(drop)
}

/// An endpoint that reports are about: what its events show, without what is confidential, so that
/// one whose secrets cannot be read has events as well.
struct Subject {
    id: EndpointId,
    tenant: TenantId,
    url: String,
    wire_format: WireFormat,
    description: String,
    status: EndpointStatus,
    failing_since: Option<Timestamp>,
}

async fn subjects(
    tx: &mut dyn Transaction,
    endpoints: &BTreeSet<&EndpointId>,
) -> Result<BTreeMap<EndpointId, Subject>, StoreError> {
    const SQL: &str = "-- endpoint_health.subjects
        SELECT e.id, e.tenant, e.url, e.wire_format, e.description, e.disabled_reason,
            e.failing_since
        FROM {rows} JOIN endpoints e ON e.id = u.key AND e.deleted_at IS NULL";
    let read_one = |row: super::db::Row| {
        let mut row = row.reader("endpoints");
        let id = row.word(|text| EndpointId::parse(text).ok())?;
        row.named(&id);
        let subject = Subject {
            id: id.clone(),
            tenant: row.word(|text| TenantId::parse(text).ok())?,
            url: row.text()?,
            wire_format: row.word(WireFormat::parse)?,
            description: row.text()?,
            status: row
                .word_opt(DisabledReason::parse)?
                .map_or(EndpointStatus::Enabled, EndpointStatus::Disabled),
            failing_since: row.time_opt()?,
        };
        Ok((id, subject))
    };
    let answer = tx.run_batch(SQL, keys(endpoints)).await?;
    answer.rows.into_iter().map(read_one).collect()
}

impl Subject {
    fn is_called(&self) -> bool {
        self.status == EndpointStatus::Enabled
    }

    /// The event that an effect makes.
    fn event(
        &self,
        effect: &Effect,
        after: &EndpointHealth,
        disable_after: Option<Duration>,
        now: Timestamp,
    ) -> Option<Event> {
        let (unhealthy, news) = match effect {
            Effect::Nothing | Effect::Changed => return None,
            Effect::BecameUnhealthy => {
                let unhealthy = after.unhealthy.as_ref()?;
                let since = self.failing_since.unwrap_or(unhealthy.since);
                let disable_at = disable_after.map(|after| since.min(unhealthy.since).after(after));
                (unhealthy, HealthNews::Unhealthy { disable_at })
            }
            Effect::BecameHealthy(before) => (before, HealthNews::Recovered),
        };
        Some(self.news(unhealthy, news, now))
    }

    fn news(&self, unhealthy: &Unhealthy, news: HealthNews, now: Timestamp) -> Event {
        let summary = EndpointSummary {
            id: self.id.as_str(),
            url: &self.url,
            wire_format: self.wire_format.as_str(),
            description: &self.description,
            enabled: self.is_called(),
            disabled_reason: match self.status {
                EndpointStatus::Enabled => None,
                EndpointStatus::Disabled(reason) => Some(reason.as_str()),
            },
        };
        Event::of_health(summary, &self.tenant, unhealthy, news, now)
    }
}
