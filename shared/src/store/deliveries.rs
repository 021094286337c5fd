//! Deliveries: looking at them, cancelling them, trying them now.

mod filter;

use uuid::Uuid;

use super::db::{Answer, Param, Transaction};
use super::page::{List, Page, PageRequest};
use super::partitions::CLOCK_SLACK;
use super::query::Query;
use super::record::{Change, update};
use super::rows::{attempt_columns, delivery_columns};
use super::{Store, StoreError, first_attempt, rows};
use crate::domain::attempt::Attempt;
use crate::domain::delivery::{Delivery, DeliveryState, Status, Wait};
use crate::domain::id::{DeliveryId, TenantId};
use crate::domain::time::Timestamp;
pub use filter::DeliveryFilter;

/// The outcome of a request to cancel a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The delivery is cancelled now.
    Done,
    /// It had finished before.
    NotPending(Status),
    /// A worker has leased it: ask again when that attempt is over.
    InFlight,
    /// There is no delivery with that id.
    NotFound,
}

/// The outcome of a request to try a delivery now.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "built once a request, and taken apart at once"
)]
pub enum RetriedNow {
    /// It is due now; for a finished delivery in a new round.
    Done(Delivery),
    /// A worker has leased it.
    InFlight,
    /// Its time ran out: it is never sent again.
    Expired,
    /// Its endpoint was deleted.
    EndpointGone,
    /// There is none of that name.
    NotFound,
}

/// Pending deliveries by what they wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// In flight, or due.
    pub ready: u64,
    /// Retries and scheduled ones that are not due yet.
    pub scheduled: u64,
    /// Held back from their endpoint.
    pub parked: u64,
    /// The earliest due time of what is due and not in flight.
    pub oldest_due: Option<Timestamp>,
}

impl Store {
    /// One delivery with its attempts, the first first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delivery(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, Vec<Attempt>)>, StoreError> {
        const SQL: &str = concat!(
            "-- deliveries.get\nSELECT ",
            delivery_columns!(),
            ", d.first_attempt FROM deliveries d WHERE d.id = $1"
        );
        const ATTEMPTS: &str = concat!(
            "-- attempts.of_delivery\nSELECT ",
            attempt_columns!(),
            " FROM attempts a WHERE a.delivery_id = $1 AND a.started_at >= $2 ORDER BY a.number"
        );
        let answer = self.driver.read(SQL, vec![Param::uuid(id.0)]).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok(None);
        };
        let mut row = row.reader("deliveries");
        let delivery = rows::delivery(&mut row)?;
        let first = first_attempt::read(&mut row)?;
        let since = delivery.created_at.before(CLOCK_SLACK);
        let attempts = self
            .driver
            .read(ATTEMPTS, vec![Param::uuid(id.0), Param::time(since)])
            .await?
            .rows
            .into_iter();
        let attempts = attempts.map(|row| rows::attempt(&mut row.reader("attempts")));
        let attempts = first.map(Ok).into_iter().chain(attempts);
        Ok(Some((delivery, attempts.collect::<Result<_, _>>()?)))
    }

    /// Deliveries that match, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        const LIST: List = List {
            what: "delivery",
            table: "deliveries",
            time: "created_at",
            id: &["id"],
        };
        let mut query = Query::new(concat!(
            "-- deliveries.list\nSELECT ",
            delivery_columns!(),
            " FROM deliveries d WHERE true"
        ));
        filter.add_to(&mut query);
        if let Some(cursor) = &page.cursor {
            let id = Uuid::parse_str(&cursor.id).unwrap_or_default();
            query.and(
                "(d.created_at, d.id) < (?, ?)",
                [Param::int(cursor.micros), Param::uuid(id)],
            );
        }
        query.end(
            " ORDER BY d.created_at DESC, d.id DESC LIMIT ?",
            [Param::int(page.fetch())],
        );
        let deliveries = self.readable(&LIST, query.read(self).await?, rows::delivery);
        Ok(Page::of_readable(deliveries, page))
    }

    /// Cancels a pending delivery that is not under a running lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel(&self, id: DeliveryId, now: Timestamp) -> Result<Cancelled, StoreError> {
        let mut tx = self.driver.begin().await?;
        let Some((mut delivery, _)) = locked(tx.as_mut(), id).await? else {
            return Ok(Cancelled::NotFound);
        };
        let status = delivery.state.status();
        if status != Status::Pending {
            return Ok(Cancelled::NotPending(status));
        }
        if is_in_flight(&delivery, now) {
            return Ok(Cancelled::InFlight);
        }
        let change = Change::to(&mut delivery, DeliveryState::Cancelled { at: now });
        update(tx.as_mut(), std::iter::once(change)).await?;
        self.noted(tx.as_mut(), None).await?;
        tx.commit().await?;
        Ok(Cancelled::Done)
    }

    /// Makes a delivery due now: a pending one as it is, a finished one in a new round.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retry_now(
        &self,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<RetriedNow, StoreError> {
        let mut tx = self.driver.begin().await?;
        let Some((mut delivery, endpoint)) = locked(tx.as_mut(), id).await? else {
            return Ok(RetriedNow::NotFound);
        };
        if is_in_flight(&delivery, now) {
            return Ok(RetriedNow::InFlight);
        }
        if delivery.expires_at.is_some_and(|at| at <= now) {
            return Ok(RetriedNow::Expired);
        }
        if endpoint == EndpointThere::No {
            return Ok(RetriedNow::EndpointGone);
        }
        update(tx.as_mut(), std::iter::once(again(&mut delivery, now))).await?;
        self.noted(tx.as_mut(), None).await?;
        tx.commit().await?;
        Ok(RetriedNow::Done(delivery))
    }

    /// How many deliveries are due and not in flight; counts no further than `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        const SQL: &str = "-- deliveries.due
            SELECT count(*) FROM (SELECT d.id FROM deliveries d
                WHERE d.due_at IS NOT NULL AND d.due_at <= $1 AND d.wait <> 'in_flight'
                LIMIT $2) AS found";
        let answer = self
            .driver
            .read(SQL, vec![Param::time(now), Param::count(limit)])
            .await?;
        answer
            .rows
            .into_iter()
            .next()
            .map_or(Ok(0), |row| row.reader("deliveries").total())
    }

    /// How many deliveries of the tenant are pending, counted up to `most`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pending_deliveries(
        &self,
        tenant: &TenantId,
        most: u64,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "-- deliveries.pending_of_tenant
            SELECT count(*) FROM
                (SELECT 1 FROM deliveries
                    WHERE tenant = $1 AND status = 'pending' AND status <> 'delivered'
                    LIMIT $2) AS found";
        let params = vec![
            Param::text(tenant.as_str()),
            Param::int(i64::try_from(most).unwrap_or(i64::MAX)),
        ];
        let answer = self.driver.read(SQL, params).await?;
        let count = answer
            .rows
            .into_iter()
            .next()
            .map_or(Ok(0), |row| row.reader("deliveries").int())?;
        Ok(count.unsigned_abs())
    }

    /// How many deliveries of its endpoint were parked before this one and are parked still;
    /// counted up to `most`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn parked_before(&self, delivery: &Delivery, most: u32) -> Result<u64, StoreError> {
        // The limit within, because one of a million rows would otherwise cost reading them all.
        const SQL: &str = "-- deliveries.parked_before
            SELECT count(*) FROM (
                SELECT 1 AS one FROM deliveries
                WHERE wait = 'parked' AND endpoint_id = $1
                    AND (created_at < $2 OR (created_at = $2 AND id < $3))
                LIMIT $4
            ) AS before";
        let params = vec![
            Param::text(delivery.endpoint_id.as_str()),
            Param::time(delivery.created_at),
            Param::uuid(delivery.id.0),
            Param::count(most),
        ];
        let answer = self.driver.read(SQL, params).await?;
        answer
            .rows
            .into_iter()
            .next()
            .map_or(Ok(0), |row| row.reader("deliveries").total())
    }

    /// Counts pending deliveries, for gauges.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn backlog(&self, now: Timestamp) -> Result<Backlog, StoreError> {
        // Each of these reads a small partial index alone.
        const SQL: &str = "-- deliveries.backlog
            SELECT (SELECT count(*) FROM deliveries
                    WHERE due_at IS NOT NULL AND (due_at <= $1 OR wait = 'in_flight')),
                (SELECT count(*) FROM deliveries
                    WHERE due_at IS NOT NULL AND due_at > $1 AND wait <> 'in_flight'),
                (SELECT count(*) FROM deliveries WHERE wait = 'parked'),
                (SELECT due_at FROM deliveries
                    WHERE due_at IS NOT NULL AND due_at <= $1 AND wait <> 'in_flight'
                    ORDER BY due_at LIMIT 1)";
        let answer = self.driver.read(SQL, vec![Param::time(now)]).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok(Backlog::default());
        };
        let mut row = row.reader("deliveries");
        Ok(Backlog {
            ready: row.total()?,
            scheduled: row.total()?,
            parked: row.total()?,
            oldest_due: row.time_opt()?,
        })
    }
}

pub(super) fn read_all(answer: Answer) -> Result<Vec<Delivery>, StoreError> {
    answer
        .rows
        .into_iter()
        .map(|row| rows::delivery(&mut row.reader("deliveries")))
        .collect()
}

/// Whether a delivery's endpoint is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndpointThere {
    Yes,
    No,
}

/// A delivery, locked for this transaction.
async fn locked(
    tx: &mut dyn Transaction,
    id: DeliveryId,
) -> Result<Option<(Delivery, EndpointThere)>, StoreError> {
    const SQL: &str = concat!(
        "-- deliveries.lock
        SELECT ",
        delivery_columns!(),
        ",
            (SELECT e.id FROM endpoints e WHERE e.id = d.endpoint_id AND e.deleted_at IS NULL)
        FROM deliveries d WHERE d.id = $1 {lock}"
    );
    let answer = tx.run(SQL, vec![Param::uuid(id.0)]).await?;
    let Some(row) = answer.rows.into_iter().next() else {
        return Ok(None);
    };
    let mut row = row.reader("deliveries");
    let delivery = rows::delivery(&mut row)?;
    let endpoint = if row.text_opt()?.is_some() {
        EndpointThere::Yes
    } else {
        EndpointThere::No
    };
    Ok(Some((delivery, endpoint)))
}

fn is_in_flight(delivery: &Delivery, now: Timestamp) -> bool {
    matches!(
        delivery.state,
        DeliveryState::Pending(Wait::InFlight { lease_until }) if lease_until > now
    )
}

impl<'a> Change<'a> {
    /// The change of a delivery, as it was read under a lock, to another state.
    pub(super) fn to(delivery: &'a mut Delivery, state: DeliveryState) -> Self {
        let was = delivery.state.status();
        let round = delivery.round;
        let attempt_count = delivery.attempt_count;
        delivery.state = state;
        Self {
            delivery,
            was,
            round,
            attempt_count,
            kept: Param::Bytes(None),
        }
    }
}

/// The change that makes a delivery due at `now`; one that was finished begins its next round.
pub(super) fn again(delivery: &mut Delivery, now: Timestamp) -> Change<'_> {
    let was = delivery.state.status();
    let round = delivery.round;
    let attempt_count = delivery.attempt_count;
    if was != Status::Pending {
        delivery.round += 1;
        delivery.round_base = attempt_count;
    }
    delivery.state = DeliveryState::Pending(Wait::Retry { due_at: now });
    Change {
        delivery,
        was,
        round,
        attempt_count,
        kept: Param::Bytes(None),
    }
}
