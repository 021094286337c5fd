//! Endpoints. Each change of any of them takes the next change number, by which workers follow.

use super::db::{Batch, Kind, Param, Transaction};
use super::events::{insert_events, version};
use super::page::{List, Page, PageRequest};
use super::query::Query;
use super::{Store, StoreError};
use crate::domain::endpoint::Endpoint;
use crate::domain::event::Event;
use crate::domain::id::{EndpointId, EndpointUid, TenantId};
use crate::domain::time::Timestamp;

/// One endpoint that changed.
#[derive(Debug, Clone)]
pub enum EndpointChange {
    /// It is now so.
    Saved(Box<Endpoint>),
    /// The endpoint was deleted since.
    Deleted(EndpointId),
    /// It is there, and this program cannot read it: its secrets were encrypted with another master
    /// key, there is no master key, or a newer version wrote it.
    Unreadable(EndpointId),
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
    /// The tenant that owns the endpoints.
    pub tenant: Option<TenantId>,
    /// Whether they are called.
    pub enabled: Option<bool>,
}

/// The outcome of a change of an endpoint.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "built once a request, and taken apart at once"
)]
pub enum Saved {
    /// It is durable; the endpoint has its new version.
    Saved(Endpoint),
    /// Somebody else changed it in between: read it again.
    Conflict,
    /// There is none of that name.
    NotFound,
}

/// The columns of an endpoint, as `Store::read_endpoints` reads them.
macro_rules! columns {
    () => {
        columns!("e")
    };
    ($table:literal) => {
        concat!(
            $table,
            ".id, tenant, url, wire_format, description, subscription, confidential, timeout_ms, \
             retry, ",
            "max_in_flight, rate_limit_per_second, status, disabled_reason, created_at, \
             updated_at, version, uid"
        )
    };
}

// Behind the macro, which they use.
mod health;
mod stored;

impl Store {
    /// The endpoints' change number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoints_version(&self) -> Result<i64, StoreError> {
        version(self, "endpoints").await
    }

    /// What changed after `since_version`; 0 for all that there is. What cannot be read is logged
    /// once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_changes(
        &self,
        since_version: i64,
    ) -> Result<EndpointChanges, StoreError> {
        const SQL: &str = concat!(
            "-- endpoints.changes
            SELECT v.value, e.deleted_at, ",
            columns!(),
            "
            FROM versions v LEFT JOIN endpoints e ON e.version > $1
            WHERE v.name = 'endpoints' ORDER BY e.version"
        );
        let mut found = EndpointChanges {
            version: since_version,
            changes: Vec::new(),
        };
        for row in self
            .driver
            .read(SQL, vec![Param::int(since_version)])
            .await?
            .rows
        {
            let mut row = row.reader("endpoints");
            found.version = row.int()?;
            let deleted_at = row.time_opt()?;
            let Some(id) = row.word_opt(|text| EndpointId::parse(text).ok())? else {
                continue;
            };
            found.changes.push(match deleted_at {
                Some(_) => EndpointChange::Deleted(id),
                None => match self.read_endpoint(id.clone(), &mut row) {
                    Ok(endpoint) => EndpointChange::Saved(Box::new(endpoint)),
                    Err(error) => {
                        self.unreadable.tell("endpoint", &id, &error);
                        EndpointChange::Unreadable(id)
                    }
                },
            });
        }
        Ok(found)
    }

    /// Keeps a new endpoint; returns it with its version.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Taken`] when there is one with that id, or with that uid in
    /// the tenant.
    pub async fn insert_endpoint(&self, endpoint: &Endpoint) -> Result<Endpoint, StoreError> {
        self.insert_endpoint_within(endpoint, None).await
    }

    /// As [`Store::insert_endpoint`], unless the tenant has `most` endpoints already.
    ///
    /// # Errors
    /// As [`Store::insert_endpoint`]; [`StoreError::Full`].
    pub async fn insert_endpoint_within(
        &self,
        endpoint: &Endpoint,
        most: Option<u64>,
    ) -> Result<Endpoint, StoreError> {
        const SQL: &str = "-- endpoints.insert
            INSERT INTO endpoints (id, tenant, url, wire_format, description, subscription,
                confidential, timeout_ms, retry, max_in_flight, rate_limit_per_second, status,
                disabled_reason, updated_at, created_at, uid, version)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 0)
            ON CONFLICT DO NOTHING";
        let mut params = self.endpoint_params(endpoint).await?;
        params.push(Param::time(endpoint.created_at));
        params.push(Param::text_opt(
            endpoint.uid.as_ref().map(EndpointUid::as_str),
        ));
        let mut tx = self.driver.begin().await?;
        if tx.run(SQL, params).await?.affected == 0 {
            let id = endpoint
                .uid
                .as_ref()
                .map_or(endpoint.id.as_str(), EndpointUid::as_str)
                .to_owned();
            return Err(StoreError::Taken {
                table: "endpoints",
                id,
            });
        }
        let version = next_version(tx.as_mut(), std::iter::once(&endpoint.id)).await?;
        // After the change number, which is locked until the end: whoever creates an endpoint at
        // the same time counts after this one is committed, so that the limit holds exactly.
        if let Some(most) = most
            && count_of_tenant(tx.as_mut(), &endpoint.tenant).await? > most
        {
            return Err(StoreError::Full {
                table: "endpoints",
                most,
            });
        }
        self.noted(tx.as_mut(), None).await?;
        tx.commit().await?;
        Ok(Endpoint {
            version,
            ..endpoint.clone()
        })
    }

    /// One endpoint; `None` also when it was deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint(&self, id: &EndpointId) -> Result<Option<Endpoint>, StoreError> {
        const SQL: &str = concat!(
            "-- endpoints.get\nSELECT ",
            columns!(),
            " FROM endpoints e WHERE e.id = $1 AND e.deleted_at IS NULL"
        );
        let answer = self
            .driver
            .read(SQL, vec![Param::text(id.as_str())])
            .await?;
        Ok(self.read_endpoints(answer)?.pop())
    }

    /// One endpoint by the uid that its owner chose; `None` also when it was deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_by_uid(
        &self,
        tenant: &TenantId,
        uid: &EndpointUid,
    ) -> Result<Option<Endpoint>, StoreError> {
        const SQL: &str = concat!(
            "-- endpoints.by_uid\nSELECT ",
            columns!(),
            " FROM endpoints e WHERE e.tenant = $1 AND e.uid = $2 AND e.deleted_at IS NULL"
        );
        let answer = self
            .driver
            .read(
                SQL,
                vec![Param::text(tenant.as_str()), Param::text(uid.as_str())],
            )
            .await?;
        Ok(self.read_endpoints(answer)?.pop())
    }

    /// Endpoints that match, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoints(
        &self,
        filter: &EndpointFilter,
        page: &PageRequest,
    ) -> Result<Page<Endpoint>, StoreError> {
        const LIST: List = List {
            what: "endpoint",
            table: "endpoints",
            time: "created_at",
            id: &["id"],
        };
        let mut query = Query::new(concat!(
            "-- endpoints.list\nSELECT ",
            columns!(),
            " FROM endpoints e WHERE e.deleted_at IS NULL"
        ));
        query.and_opt(
            "e.tenant = ?",
            filter
                .tenant
                .as_ref()
                .map(|tenant| Param::text(tenant.as_str())),
        );
        let status = filter
            .enabled
            .map(|enabled| if enabled { "enabled" } else { "disabled" });
        query.and_opt("e.status = ?", status.map(Param::text));
        if let Some(cursor) = &page.cursor {
            query.and(
                "(e.created_at, e.id) > (?, ?)",
                [Param::int(cursor.micros), Param::text(&cursor.id)],
            );
        }
        query.end(
            " ORDER BY e.created_at, e.id LIMIT ?",
            [Param::int(page.fetch())],
        );
        let endpoints = self.readable(&LIST, query.read(self).await?, |row| {
            let id = row.word(|text| EndpointId::parse(text).ok())?;
            self.read_endpoint(id, row)
        });
        Ok(Page::of_readable(endpoints, page))
    }

    /// Saves all members, if nobody changed it since `endpoint.version`, with the event in the same
    /// transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn update_endpoint(
        &self,
        endpoint: &Endpoint,
        event: Option<&Event>,
    ) -> Result<Saved, StoreError> {
        // What changes where it goes to or whether it is called begins its health anew.
        const SQL: &str = "-- endpoints.update
            UPDATE endpoints SET tenant = $2, url = $3, wire_format = $4, description = $5,
                subscription = $6, confidential = $7, timeout_ms = $8, retry = $9,
                max_in_flight = $10, rate_limit_per_second = $11,
                failing_since = CASE WHEN url = $3 AND status = $12 THEN failing_since END,
                status = $12, disabled_reason = $13, updated_at = $14
            WHERE id = $1 AND version = $15 AND deleted_at IS NULL";
        let mut params = self.endpoint_params(endpoint).await?;
        params.push(Param::int(endpoint.version));
        let mut tx = self.driver.begin().await?;
        if tx.run(SQL, params).await?.affected == 0 {
            drop(tx);
            return Ok(match self.endpoint(&endpoint.id).await? {
                Some(_) => Saved::Conflict,
                None => Saved::NotFound,
            });
        }
        let version = next_version(tx.as_mut(), std::iter::once(&endpoint.id)).await?;
        insert_events(tx.as_mut(), event.as_slice()).await?;
        self.noted(tx.as_mut(), None).await?;
        tx.commit().await?;
        Ok(Saved::Saved(Endpoint {
            version,
            ..endpoint.clone()
        }))
    }

    /// Deletes an endpoint and wipes what was confidential; its id stays, so that workers learn of
    /// it. With a `version` only if it still has that. Returns whether it was deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_endpoint(
        &self,
        id: &EndpointId,
        version: Option<i64>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- endpoints.delete
            UPDATE endpoints SET deleted_at = $2, updated_at = $2, confidential = NULL,
                failing_since = NULL
            WHERE id = $1 AND deleted_at IS NULL AND version = coalesce($3, version)";
        let mut tx = self.driver.begin().await?;
        let params = vec![
            Param::text(id.as_str()),
            Param::time(now),
            Param::int_opt(version),
        ];
        if tx.run(SQL, params).await?.affected == 0 {
            return Ok(false);
        }
        next_version(tx.as_mut(), std::iter::once(id)).await?;
        self.noted(tx.as_mut(), None).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// How many endpoints are enabled, and how many disabled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_counts(&self) -> Result<(u64, u64), StoreError> {
        const SQL: &str = "-- endpoints.count
            SELECT COALESCE(sum(CASE WHEN status = 'enabled' THEN 1 ELSE 0 END), 0),
                COALESCE(sum(CASE WHEN status = 'disabled' THEN 1 ELSE 0 END), 0)
            FROM endpoints WHERE deleted_at IS NULL";
        let answer = self.driver.read(SQL, vec![]).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok((0, 0));
        };
        let mut row = row.reader("endpoints");
        Ok((row.total()?, row.total()?))
    }
}

/// How many endpoints the tenant has, disabled ones included.
async fn count_of_tenant(tx: &mut dyn Transaction, tenant: &TenantId) -> Result<u64, StoreError> {
    const SQL: &str = "-- endpoints.count
        SELECT count(*) FROM endpoints WHERE tenant = $1 AND deleted_at IS NULL";
    let answer = tx.run(SQL, vec![Param::text(tenant.as_str())]).await?;
    let count = answer
        .rows
        .into_iter()
        .next()
        .map_or(Ok(0), |row| row.reader("endpoints").int())?;
    Ok(count.unsigned_abs())
}

/// Gives endpoints that this transaction has changed the next change number. To be called once in a
/// transaction, after all its changes of endpoints: its row is locked until the commit, so numbers
/// become visible in their order.
pub(super) async fn next_version<'a>(
    tx: &mut dyn Transaction,
    changed: impl Iterator<Item = &'a EndpointId>,
) -> Result<i64, StoreError> {
    const NEXT: &str = "-- endpoints.next_version
        UPDATE versions SET value = value + 1 WHERE name = 'endpoints' RETURNING value";
    const SQL: &str = "-- endpoints.set_version
        UPDATE endpoints SET version = u.version FROM {rows} WHERE endpoints.id = u.key";
    let changed: Vec<&EndpointId> = changed.collect();
    if changed.is_empty() {
        return Ok(0);
    }
    let answer = tx.run(NEXT, vec![]).await?;
    let version = answer
        .rows
        .into_iter()
        .next()
        .map_or(Ok(0), |row| row.reader("versions").int())?;
    let mut batch = Batch::new(&[("key", Kind::Text), ("version", Kind::Int)]);
    for id in changed {
        batch.push([Param::text(id.as_str()), Param::int(version)]);
    }
    tx.run_batch(SQL, batch).await?;
    Ok(version)
}
