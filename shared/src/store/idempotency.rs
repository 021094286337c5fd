//! Idempotency keys of the API: which notification a key stands for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::db::{Batch, Kind, Param, Row, in_time};
use super::{Store, StoreError};
use crate::domain::id::{NotificationId, TenantId};
use crate::domain::time::Timestamp;

/// How long a request waits for its key: a client is waiting.
const DEADLINE: Duration = Duration::from_secs(10);

/// A request's wish to use a key.
#[derive(Debug, Clone)]
pub struct IdempotencyClaim {
    /// The tenant in which the key is unique.
    pub tenant: TenantId,
    /// The key, as the producer wrote it.
    pub key: String,
    /// SHA-256 of what was asked for: another one with the same key is a mistake.
    pub fingerprint: [u8; 32],
    /// The notification that the key is to stand for.
    pub notification: NotificationId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// For this request's notification: go on.
    New,
    /// For a notification of an earlier request that got no further: publish again with that id and
    /// time (the worker dedupes).
    InProgress {
        /// The notification of the earlier request.
        notification: NotificationId,
        /// When it was accepted.
        accepted_at: Timestamp,
    },
    /// For a notification that was enqueued: answer as then.
    Done {
        /// The notification of the earlier request.
        notification: NotificationId,
        /// When it was accepted.
        accepted_at: Timestamp,
    },
    /// For a request with another content.
    Mismatch,
}

impl Store {
    /// Claims keys for notifications, or tells what they stand for already; answers in order. Of
    /// the same key twice in a batch, the second is in progress with the first's notification.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self, claims: &[IdempotencyClaim]) -> Result<Vec<Begun>, StoreError> {
        in_time(DEADLINE, self.begin_all(claims)).await
    }

    async fn begin_all(&self, claims: &[IdempotencyClaim]) -> Result<Vec<Begun>, StoreError> {
        const INSERT: &str = "-- idempotency_keys.claim
            INSERT INTO idempotency_keys (tenant, name, fingerprint, notification_id, accepted_at,
                state)
            SELECT u.tenant, u.name, u.fingerprint, u.notification_id, u.accepted_at, 'in_progress'
            FROM {rows} WHERE true
            ON CONFLICT DO NOTHING RETURNING tenant, name";
        const THERE: &str = "-- idempotency_keys.get_batch
            SELECT k.tenant, k.name, k.fingerprint, k.notification_id, k.accepted_at, k.state
            FROM {rows} JOIN idempotency_keys k ON k.tenant = u.tenant AND k.name = u.name";
        let mut firsts: BTreeMap<(&str, &str), &IdempotencyClaim> = BTreeMap::new();
        for claim in claims {
            firsts
                .entry((claim.tenant.as_str(), &claim.key))
                .or_insert(claim);
        }
        if firsts.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.driver.begin().await?;
        let inserted = tx
            .run_batch(INSERT, claim_batch(firsts.values().copied()))
            .await?
            .rows
            .into_iter();
        let mut new = inserted
            .map(name)
            .collect::<Result<HashSet<(String, String)>, _>>()?;
        let mut there = HashMap::new();
        for row in tx
            .run_batch(THERE, key_batch(firsts.into_keys()))
            .await?
            .rows
        {
            let key = Key::read(row)?;
            there.insert((key.tenant.clone(), key.name.clone()), key);
        }
        tx.commit().await?;
        // Of a key that is new, the first claim is `New` and any other finds that one.
        let answer = |claim: &IdempotencyClaim| {
            let name = (claim.tenant.as_str().to_owned(), claim.key.clone());
            if new.remove(&name) {
                return Ok(Begun::New);
            }
            // Retention removed it in between: the same call goes through later.
            let key = there
                .get(&name)
                .ok_or(StoreError::Unavailable(sqlx::Error::RowNotFound))?;
            Ok(key.begun(claim))
        };
        claims.iter().map(answer).collect()
    }

    /// The notifications of these keys are enqueued.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish(&self, keys: &[(TenantId, String)]) -> Result<(), StoreError> {
        in_time(DEADLINE, self.finish_all(keys)).await
    }

    async fn finish_all(&self, keys: &[(TenantId, String)]) -> Result<(), StoreError> {
        const SQL: &str = "-- idempotency_keys.finish
            UPDATE idempotency_keys SET state = 'done'
            FROM {rows}
            WHERE idempotency_keys.tenant = u.tenant AND idempotency_keys.name = u.name";
        let each: BTreeSet<(&str, &str)> = keys
            .iter()
            .map(|(tenant, key)| (tenant.as_str(), key.as_str()))
            .collect();
        if each.is_empty() {
            return Ok(());
        }
        let mut tx = self.driver.begin().await?;
        tx.run_batch(SQL, key_batch(each.into_iter())).await?;
        tx.commit().await
    }
}

/// A key as it is kept.
struct Key {
    tenant: String,
    name: String,
    fingerprint: Vec<u8>,
    notification: NotificationId,
    accepted_at: Timestamp,
    state: String,
}

impl Key {
    fn read(row: Row) -> Result<Self, StoreError> {
        let mut row = row.reader("idempotency_keys");
        Ok(Self {
            tenant: row.text()?,
            name: row.text()?,
            fingerprint: row.bytes()?,
            notification: row.word(|text| NotificationId::parse(text).ok())?,
            accepted_at: row.time()?,
            state: row.text()?,
        })
    }

    fn begun(&self, claim: &IdempotencyClaim) -> Begun {
        let notification = self.notification.clone();
        let accepted_at = self.accepted_at;
        if self.fingerprint != claim.fingerprint {
            Begun::Mismatch
        } else if self.state == "done" {
            Begun::Done {
                notification,
                accepted_at,
            }
        } else {
            Begun::InProgress {
                notification,
                accepted_at,
            }
        }
    }
}

fn name(row: Row) -> Result<(String, String), StoreError> {
    let mut row = row.reader("idempotency_keys");
    Ok((row.text()?, row.text()?))
}

fn claim_batch<'a>(claims: impl Iterator<Item = &'a IdempotencyClaim>) -> Batch {
    let mut batch = Batch::new(&[
        ("tenant", Kind::Text),
        ("name", Kind::Text),
        ("fingerprint", Kind::Bytes),
        ("notification_id", Kind::Text),
        ("accepted_at", Kind::Int),
    ]);
    for claim in claims {
        batch.push([
            Param::text(claim.tenant.as_str()),
            Param::text(&claim.key),
            Param::bytes(claim.fingerprint),
            Param::text(claim.notification.as_str()),
            Param::time(claim.accepted_at),
        ]);
    }
    batch
}

fn key_batch<'a>(keys: impl Iterator<Item = (&'a str, &'a str)>) -> Batch {
    let mut batch = Batch::new(&[("tenant", Kind::Text), ("name", Kind::Text)]);
    for (tenant, key) in keys {
        batch.push([Param::text(tenant), Param::text(key)]);
    }
    batch
}
