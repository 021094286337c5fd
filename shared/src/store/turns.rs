//! Turns under endpoints' rate limits, over all workers: a worker reserves the next turns of an
//! endpoint, and sends at these and no others. What is reserved by a worker that is killed is
//! wasted, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use super::db::{Batch, Kind, Param};
use super::{DatabaseKind, Store, StoreError};
use crate::domain::id::EndpointId;
use crate::domain::time::Timestamp;

/// The most turns of an endpoint that one call reserves.
pub const MAX_TURNS: u32 = 10_000;
/// The longest time between two turns, that is the lowest rate, in nanoseconds: a day.
const LONGEST_SPACING: f64 = 86_400e9;

/// How many turns of an endpoint are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnDemand {
    /// The endpoint with the limit.
    pub endpoint: EndpointId,
    /// Its limit, more than 0. A limit below one a day counts as one a day.
    pub rate_per_second: f64,
    /// How many turns, at most [`MAX_TURNS`].
    pub turns: u32,
}

/// Turns of an endpoint that nobody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    /// The endpoint that they are of.
    pub endpoint: EndpointId,
    /// How long after the answer the first of them is.
    pub first_in: Duration,
    /// The time from each to the next.
    pub spacing: Duration,
    /// How many there are.
    pub count: u32,
}

/// The turn after all that are reserved, in whole microseconds: rounded up, so that no rounding
/// adds up to more than the limit.
macro_rules! next {
    () => {
        "(t.first_turn + (t.turns * t.spacing_ns + 999) / 1000)"
    };
}

/// Reserves turns. `$now` is the time by the clock that all workers share, `$since` what the
/// first turn is given as the distance from.
macro_rules! take {
    ($now:literal, $since:literal) => {
        concat!(
            "-- rate_turns.take
            INSERT INTO rate_turns AS t (endpoint_id, first_turn, turns, spacing_ns, taken_at)
            SELECT u.key, ",
            $now,
            ", u.turns, u.spacing_ns, ",
            $now,
            " FROM {rows} WHERE true
            ON CONFLICT (endpoint_id) DO UPDATE SET
                first_turn = CASE
                    -- The clock was set back, or another server's counts since a failover: what was
                    -- reserved by the old clock must not hold the endpoint up. Less than a minute
                    -- is not told from statements that waited for each other.
                    WHEN excluded.taken_at < t.taken_at - 60000000 THEN excluded.taken_at
                    WHEN ",
            next!(),
            " <= excluded.taken_at THEN excluded.taken_at
                    -- The limit was raised: what is reserved counts as if it was reserved at the
                    -- new rate, so that nobody waits for the old one's time.
                    WHEN excluded.spacing_ns < t.spacing_ns
                    THEN excluded.taken_at + CAST((",
            next!(),
            " - excluded.taken_at) * (excluded.spacing_ns * 1.0 / t.spacing_ns) AS BIGINT)
                    ELSE ",
            next!(),
            "
                END,
                turns = excluded.turns,
                spacing_ns = excluded.spacing_ns,
                taken_at = CASE
                    WHEN excluded.taken_at < t.taken_at - 60000000 THEN excluded.taken_at
                    WHEN excluded.taken_at < t.taken_at THEN t.taken_at
                    ELSE excluded.taken_at
                END
            RETURNING endpoint_id, first_turn - ",
            $since,
            ", turns, spacing_ns"
        )
    };
}

impl Store {
    /// Reserves, for each endpoint, its next turns: the first is now, or follows the last that is
    /// reserved by whichever worker. Several demands for one endpoint are added up, at the rate of
    /// the last. Answers one for each endpoint, in the order of their ids.
    ///
    /// On Postgres turns go by the server's clock, on SQLite, whose processes share a clock, by
    /// `now`. One transaction, with a statement for each few hundred endpoints.
    ///
    /// Two cases in which turns may come beside others that were reserved before, once: the clock
    /// goes back by more than a minute, as after a failover; the limit was raised, and a worker
    /// goes on with turns of the old rate.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_turns(
        &self,
        demands: &[TurnDemand],
        now: Timestamp,
    ) -> Result<Vec<Turns>, StoreError> {
        // The clock is read again for the answer, after other reservations were waited for.
        const BY_SERVER: &str = take!(
            "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
            "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        );
        const BY_CALLER: &str = take!("u.asked_at", "0");
        let (sql, since) = match self.driver.kind() {
            DatabaseKind::Postgres => (BY_SERVER, 0),
            DatabaseKind::Sqlite => (BY_CALLER, now.as_micros()),
        };
        let batch = batch(demands, now);
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.driver.begin().await?;
        let answer = tx.run_batch(sql, batch).await?;
        tx.commit().await?;
        let mut turns = Vec::with_capacity(answer.rows.len());
        for row in answer.rows {
            let mut row = row.reader("rate_turns");
            let endpoint = row.word(|text| EndpointId::parse(text).ok())?;
            row.named(&endpoint);
            let first_in = row.int()?.saturating_sub(since);
            turns.push(Turns {
                endpoint,
                first_in: Duration::from_micros(u64::try_from(first_in).unwrap_or(0)),
                count: row.count()?,
                spacing: Duration::from_nanos(row.total()?),
            });
        }
        turns.sort_unstable_by(|one, two| one.endpoint.cmp(&two.endpoint));
        Ok(turns)
    }

    /// Removes what is kept of endpoints whose turns were all over at `before`, at most `limit` of
    /// them, and returns how many. For maintenance, with a `before` of some minutes ago or more: an
    /// endpoint that is called again begins anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_idle_turns(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        // Without an index, which each reservation would have to change: there is a row for each
        // endpoint with a limit, and this runs rarely.
        const SQL: &str = concat!(
            "-- rate_turns.remove_idle
            DELETE FROM rate_turns WHERE endpoint_id IN
                (SELECT t.endpoint_id FROM rate_turns t WHERE ",
            next!(),
            " < $1 LIMIT $2) AND taken_at < $1"
        );
        let params = vec![Param::time(before), Param::count(limit)];
        Ok(self.driver.write(SQL, params).await?.affected)
    }
}

/// One row for each endpoint, in the order of their ids: all workers lock rows in that order.
fn batch(demands: &[TurnDemand], now: Timestamp) -> Batch {
    let mut each: BTreeMap<&EndpointId, (u32, f64)> = BTreeMap::new();
    for demand in demands.iter().filter(|demand| demand.turns > 0) {
        let (turns, rate) = each.entry(&demand.endpoint).or_default();
        *turns = turns.saturating_add(demand.turns).min(MAX_TURNS);
        *rate = demand.rate_per_second;
    }
    let mut batch = Batch::new(&[
        ("key", Kind::Text),
        ("turns", Kind::Int),
        ("spacing_ns", Kind::Int),
        ("asked_at", Kind::Int),
    ]);
    for (endpoint, (turns, rate)) in each {
        batch.push([
            Param::text(endpoint.as_str()),
            Param::count(turns),
            Param::int(spacing(rate)),
            Param::time(now),
        ]);
    }
    batch
}

/// The time between two turns, in nanoseconds, rounded up: never more than the limit.
fn spacing(rate: f64) -> i64 {
    if rate > 0.0 {
        // At least a nanosecond and at most a day, so that the cast only drops the fraction.
        (1e9 / rate).ceil().clamp(1.0, LONGEST_SPACING) as i64
    } else {
        LONGEST_SPACING as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spacing_is_never_shorter_than_the_limit_allows() {
        assert_eq!(spacing(50.0), 20_000_000);
        assert_eq!(spacing(3.0), 333_333_334);
        assert_eq!(spacing(1_000_000.0), 1_000);
        assert_eq!(spacing(1e-9), 86_400_000_000_000);
        assert_eq!(spacing(0.0), 86_400_000_000_000);
    }
}
