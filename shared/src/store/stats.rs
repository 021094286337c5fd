//! Roll-ups of attempts ([`crate::domain::stats`]).
//!
//! 1. **Adding.** Every 10 s a worker adds what it has counted to the rows of the minute and of the
//!    hour. Rows belong to nobody: every worker adds to the same ones, so their number does not
//!    grow with the workers. Each hour is exact at any time, and there is nothing to fold.
//! 2. **Once.** They are added in the transaction of the worker's report, which has a number:
//!    [`super::worker_reports`].
//! 3. **In one order.** Rows are locked in the order of their keys, so that workers wait for each
//!    other and never in a circle.
//! 4. **Lost** is, when a worker is killed, what it counted since its last report.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::db::{Batch, ColumnKind, Kind, Param, Reader, Transaction};
use super::query::Query;
use super::several::Several;
use super::{Store, StoreError};
use crate::domain::id::{EndpointId, TenantId};
use crate::domain::stats::{MinuteOfEndpoint, NUMBERS, Step, Tally};
use crate::domain::time::Timestamp;

/// The columns of a row's key, and of its counts in the order of [`Tally::numbers`].
const COLUMNS: [ColumnKind; 3 + NUMBERS] = [
    ("step_s", Kind::Int),
    ("begins_at", Kind::Int),
    ("endpoint_id", Kind::Text),
    ("r_2xx", Kind::Int),
    ("r_3xx", Kind::Int),
    ("r_4xx", Kind::Int),
    ("r_5xx", Kind::Int),
    ("r_timeout", Kind::Int),
    ("r_network", Kind::Int),
    ("r_blocked", Kind::Int),
    ("r_script", Kind::Int),
    ("succeeded", Kind::Int),
    ("first_tries", Kind::Int),
    ("first_successes", Kind::Int),
    ("b00", Kind::Int),
    ("b01", Kind::Int),
    ("b02", Kind::Int),
    ("b03", Kind::Int),
    ("b04", Kind::Int),
    ("b05", Kind::Int),
    ("b06", Kind::Int),
    ("b07", Kind::Int),
    ("b08", Kind::Int),
    ("b09", Kind::Int),
    ("b10", Kind::Int),
    ("b11", Kind::Int),
    ("b12", Kind::Int),
    ("b13", Kind::Int),
    ("b14", Kind::Int),
    ("b15", Kind::Int),
    ("b16", Kind::Int),
    ("b17", Kind::Int),
    ("b18", Kind::Int),
    ("b19", Kind::Int),
    ("b20", Kind::Int),
    ("b21", Kind::Int),
    ("b22", Kind::Int),
    ("b23", Kind::Int),
    ("b24", Kind::Int),
];
/// The names of the counts.
static COUNTS: LazyLock<Vec<&str>> =
    LazyLock::new(|| COLUMNS[3..].iter().map(|(name, _)| *name).collect());

/// Whose attempts are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct StatsFilter {
    /// The endpoint that was called. Default: all.
    pub endpoint: Option<EndpointId>,
    /// The tenant that owns the endpoints. Default: all.
    pub tenant: Option<TenantId>,
}

/// The attempts at an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointTally {
    /// The endpoint that was called.
    pub endpoint: EndpointId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// Where requests to it go.
    pub url: String,
    /// The attempts.
    pub tally: Tally,
}

/// How many attempts at an endpoint there were in a while, and how many of them succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// When the while began.
    pub at: Timestamp,
    /// All attempts.
    pub attempts: u64,
    /// Those that succeeded.
    pub succeeded: u64,
}

impl Store {
    /// The attempts that ended from `since` on and before `until`, by so many seconds (counted from
    /// 1970, UTC), the earliest first; whiles without attempts are left out. Read from the rows of
    /// `step`, so `seconds` has to be a multiple of its length.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stats(
        &self,
        filter: &StatsFilter,
        (since, until): (Timestamp, Timestamp),
        (step, seconds): (Step, u32),
    ) -> Result<Vec<(Timestamp, Tally)>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let sums = sums();
            format!(
                " (s.begins_at / ?) * ?, {sums} FROM stats s
                WHERE s.step_s = ? AND s.begins_at >= ? AND s.begins_at < ?"
            )
        });
        let length = Param::int(i64::from(seconds) * 1_000_000);
        let mut query = Query::new("-- stats.series\nSELECT");
        query.end(
            SQL.as_str(),
            [
                length.clone(),
                length,
                Param::count(step.seconds()),
                Param::time(since),
                Param::time(until),
            ],
        );
        let endpoint = filter.endpoint.as_ref();
        query.and_opt(
            "s.endpoint_id = ?",
            endpoint.map(|it| Param::text(it.as_str())),
        );
        query.and_opt(OF_TENANT, tenant(filter.tenant.as_ref()));
        query.end(" GROUP BY 1 ORDER BY 1", []);
        let rows = query.read(self).await?.rows.into_iter();
        rows.map(|row| {
            let mut row = row.reader("stats");
            Ok((row.time()?, tally(&mut row)?))
        })
        .collect()
    }

    /// The attempts at each endpoint that ended in the minutes from `since` on, those with the most
    /// failures first, at most `limit`. With `endpoints`, of these alone. Endpoints without
    /// attempts and deleted ones are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stats_of_endpoints(
        &self,
        endpoints: &Several<EndpointId>,
        of: Option<&TenantId>,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<EndpointTally>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let sums = sums();
            format!(
                "-- stats.endpoints
                SELECT s.endpoint_id, e.tenant, e.url, {sums}
                FROM stats s JOIN endpoints e ON e.id = s.endpoint_id
                WHERE s.step_s = 60 AND e.deleted_at IS NULL"
            )
        });
        static WORST: LazyLock<String> = LazyLock::new(|| {
            let attempts = attempts();
            format!(
                " GROUP BY s.endpoint_id, e.tenant, e.url
                ORDER BY {attempts} - coalesce(sum(s.succeeded), 0) DESC, s.endpoint_id LIMIT ?"
            )
        });
        let mut query = Query::new(SQL.as_str());
        query.and("s.begins_at >= ?", [Param::time(since)]);
        query.and_any("s.endpoint_id", endpoints, |it| Param::text(it.as_str()));
        query.and_opt("e.tenant = ?", tenant(of));
        query.end(WORST.as_str(), [Param::count(limit)]);
        let rows = query.read(self).await?.rows.into_iter();
        rows.map(|row| {
            let mut row = row.reader("stats");
            Ok(EndpointTally {
                endpoint: row.word(|text| EndpointId::parse(text).ok())?,
                tenant: row.word(|text| TenantId::parse(text).ok())?,
                url: row.text()?,
                tally: tally(&mut row)?,
            })
        })
        .collect()
    }

    /// How the attempts at these endpoints went in the minutes from `since` on, by so many seconds,
    /// a multiple of 60; the earliest first. Whiles without attempts are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn shares_of_endpoints(
        &self,
        endpoints: &Several<EndpointId>,
        since: Timestamp,
        seconds: u32,
    ) -> Result<BTreeMap<EndpointId, Vec<Share>>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let attempts = attempts();
            format!(
                " s.endpoint_id, (s.begins_at / ?) * ?, {attempts}, sum(s.succeeded)
                FROM stats s WHERE s.step_s = 60 AND s.begins_at >= ?"
            )
        });
        let mut shares: BTreeMap<EndpointId, Vec<Share>> = BTreeMap::new();
        if endpoints.is_any() {
            return Ok(shares);
        }
        let length = Param::int(i64::from(seconds) * 1_000_000);
        let mut query = Query::new("-- stats.shares\nSELECT");
        query.end(SQL.as_str(), [length.clone(), length, Param::time(since)]);
        query.and_any("s.endpoint_id", endpoints, |it| Param::text(it.as_str()));
        query.end(" GROUP BY 1, 2 ORDER BY 1, 2", []);
        for row in query.read(self).await?.rows {
            let mut row = row.reader("stats");
            let endpoint = row.word(|text| EndpointId::parse(text).ok())?;
            shares.entry(endpoint).or_default().push(Share {
                at: row.time()?,
                attempts: row.total()?,
                succeeded: row.total()?,
            });
        }
        Ok(shares)
    }

    /// How many deliveries of each of these endpoints are parked, counted up to `most`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn parked_of_endpoints(
        &self,
        endpoints: &Several<EndpointId>,
        most: u32,
    ) -> Result<BTreeMap<EndpointId, u64>, StoreError> {
        if endpoints.is_any() {
            return Ok(BTreeMap::new());
        }
        // Each counted for itself, so that none is counted further than the index is read.
        let mut query = Query::new("-- deliveries.parked_of_endpoints\nSELECT");
        query.end(
            " e.id, (SELECT count(*) FROM (SELECT d.id FROM deliveries d
                WHERE d.wait = 'parked' AND d.endpoint_id = e.id LIMIT ?) AS p)
            FROM endpoints e WHERE true",
            [Param::count(most)],
        );
        query.and_any("e.id", endpoints, |it| Param::text(it.as_str()));
        let rows = query.read(self).await?.rows.into_iter();
        rows.map(|row| {
            let mut row = row.reader("endpoints");
            let id = row.word(|text| EndpointId::parse(text).ok())?;
            Ok((id, row.total()?))
        })
        .collect()
    }

    /// Removes up to `limit` rows each of minutes and of hours that began before these times, and
    /// of reports of workers that were silent since before the third. Returns how many; 0: nothing
    /// is left to remove.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_stats(
        &self,
        minutes: Timestamp,
        hours: Timestamp,
        silent: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        const OLD: &str = "-- retention.stats
            DELETE FROM stats WHERE (step_s, begins_at, endpoint_id) IN
                (SELECT s.step_s, s.begins_at, s.endpoint_id FROM stats s
                    WHERE s.step_s = $1 AND s.begins_at < $2
                    ORDER BY s.begins_at, s.endpoint_id LIMIT $3)";
        const SILENT: &str = "-- retention.worker_reports
            DELETE FROM worker_reports WHERE worker_id IN
                (SELECT r.worker_id FROM worker_reports r WHERE r.reported_at < $1 LIMIT $2)";
        let mut removed = 0;
        for (step, before) in [(Step::Minute, minutes), (Step::Hour, hours)] {
            let params = vec![
                Param::count(step.seconds()),
                Param::time(before),
                Param::count(limit),
            ];
            removed += self.driver.write(OLD, params).await?.affected;
        }
        let params = vec![Param::time(silent), Param::count(limit)];
        Ok(removed + self.driver.write(SILENT, params).await?.affected)
    }
}

const OF_TENANT: &str = "s.endpoint_id IN (SELECT e.id FROM endpoints e WHERE e.tenant = ?)";

fn tenant(of: Option<&TenantId>) -> Option<Param> {
    of.map(|tenant| Param::text(tenant.as_str()))
}

/// The sum of each count.
fn sums() -> String {
    let sums: Vec<String> = COUNTS.iter().map(|name| format!("sum(s.{name})")).collect();
    sums.join(", ")
}

/// The number of attempts: the sum of the results.
fn attempts() -> String {
    let results = COUNTS.iter().filter(|name| name.starts_with("r_"));
    let sums: Vec<String> = results
        .map(|name| format!("coalesce(sum(s.{name}), 0)"))
        .collect();
    format!("({})", sums.join(" + "))
}

/// Adds what a worker counted, in the order of minute and endpoint.
pub(super) async fn add(
    tx: &mut dyn Transaction,
    minutes: &[MinuteOfEndpoint],
) -> Result<(), StoreError> {
    static ADD: LazyLock<String> = LazyLock::new(|| {
        let keys = "step_s, begins_at, endpoint_id";
        let counts = COUNTS.join(", ");
        let from: Vec<String> = COUNTS.iter().map(|name| format!("u.{name}")).collect();
        let more: Vec<String> = COUNTS
            .iter()
            .map(|name| {
                format!("{name} = nullif(coalesce(s.{name}, 0) + coalesce(excluded.{name}, 0), 0)")
            })
            .collect();
        format!(
            "-- stats.add
            INSERT INTO stats AS s ({keys}, {counts})
            SELECT u.step_s, u.begins_at, u.endpoint_id, {} FROM {{rows}} WHERE true
            ON CONFLICT ({keys}) DO UPDATE SET {}",
            from.join(", "),
            more.join(", ")
        )
    });
    let mut hours: BTreeMap<(Timestamp, &EndpointId), Tally> = BTreeMap::new();
    let mut batch = Batch::new(&COLUMNS);
    for one in minutes {
        let hour = Step::Hour.start_of(one.minute);
        hours
            .entry((hour, &one.endpoint))
            .or_default()
            .add(&one.tally);
        batch.push(row(Step::Minute, one.minute, &one.endpoint, &one.tally));
    }
    for ((hour, endpoint), tally) in &hours {
        batch.push(row(Step::Hour, *hour, endpoint, tally));
    }
    tx.run_batch(ADD.as_str(), batch).await.map(drop)
}

fn row<'a>(
    step: Step,
    at: Timestamp,
    endpoint: &EndpointId,
    tally: &'a Tally,
) -> impl Iterator<Item = Param> + use<'a> {
    let key = [
        Param::count(step.seconds()),
        Param::time(at),
        Param::text(endpoint.as_str()),
    ];
    let counts = tally.numbers().iter().map(|count| {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        Param::int_opt((count > 0).then_some(count))
    });
    key.into_iter().chain(counts)
}

fn tally(row: &mut Reader) -> Result<Tally, StoreError> {
    let mut numbers = [0; NUMBERS];
    for number in &mut numbers {
        *number = row.total()?;
    }
    Ok(Tally::from_numbers(numbers))
}
