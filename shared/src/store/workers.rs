//! The live workers: who renews its lease is a member. What the membership is for, and the protocol
//! that it carries, are in [`crate::domain::members`]; each worker's beat calls this, about once a
//! second.

use std::time::Duration;

use super::db::{Answer, Param, Reader, Transaction};
use super::{DatabaseKind, Store, StoreError};
use crate::domain::members::{Acknowledged, Member, Members, WorkerId};
use crate::domain::time::Timestamp;

/// What a worker says with a beat.
#[derive(Debug, Clone, Copy)]
pub struct Beat<'a> {
    /// The run of the worker.
    pub worker: WorkerId,
    /// What its operator calls it.
    pub name: &'a str,
    /// The membership that it keeps to.
    pub acknowledged: &'a Acknowledged,
    /// How long it is a member if no further beat follows. A few beats long, so that a slow one
    /// costs nothing; after a kill, the worker's share is of no use for that time.
    pub lease: Duration,
}

/// The columns of a worker, as [`member`] reads them.
macro_rules! columns {
    () => {
        "w.id, w.name, w.joined, w.acknowledged, w.except_at"
    };
}

/// The epoch and the members, as of one moment.
const MEMBERS: &str = concat!(
    "-- workers.members
    SELECT v.value, w.lease_until, ",
    columns!(),
    " FROM versions v LEFT JOIN workers w ON true WHERE v.name = 'workers' ORDER BY w.id"
);

impl Store {
    /// Renews the worker's lease, or makes it a member if it is not one, and drops the members
    /// whose lease has ended. Each change of the membership is a new epoch. If
    /// [`Members::joined`] is not what it was, the worker's lease had ended and others may use its
    /// share: it is a newcomer again.
    ///
    /// On Postgres leases go by the server's clock, so a worker whose clock is wrong ends nobody's;
    /// on SQLite, whose processes share a clock, by `now`. Two statements, a commit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn beat(&self, beat: &Beat<'_>, now: Timestamp) -> Result<Members, StoreError> {
        // Read before the worker's row is waited for: at worst the lease is that much shorter, and
        // never ends before the worker's own reckoning, which begins before this call.
        let now = self.clock_of_database(now).await?;
        let renewed = self.renew(beat, now).await?;
        if renewed != Renewed::Not {
            let answer = self.driver.read(MEMBERS, vec![]).await?;
            let (members, ended) = read(answer, beat.worker, now)?;
            // A beat that is late itself drops nobody: the store was away, most likely, and the
            // others will be late as well. They have as long as it takes for the next beat.
            if let Some(members) = members.filter(|_| !ended || renewed == Renewed::Late) {
                return Ok(members);
            }
        }
        self.change_members(beat, now).await
    }

    /// The worker is no longer a member; its share goes to the others. To be called when nothing of
    /// it is in flight any more. Whether it was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn leave(&self, worker: WorkerId) -> Result<bool, StoreError> {
        const SQL: &str = "-- workers.leave\nDELETE FROM workers WHERE id = $1";
        let mut tx = self.driver.begin().await?;
        let epoch = lock(tx.as_mut()).await?;
        if tx.run(SQL, vec![Param::uuid(worker.0)]).await?.affected == 0 {
            return Ok(false);
        }
        set_epoch(tx.as_mut(), epoch + 1).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The workers whose lease has not ended, in the order of their ids: for people.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn live_workers(&self, now: Timestamp) -> Result<Vec<Member>, StoreError> {
        const SQL: &str = concat!(
            "-- workers.live\nSELECT ",
            columns!(),
            " FROM workers w WHERE w.lease_until > $1 ORDER BY w.id"
        );
        let now = self.clock_of_database(now).await?;
        let answer = self.driver.read(SQL, vec![Param::time(now)]).await?;
        let rows = answer.rows.into_iter();
        rows.map(|row| member(&mut row.reader("workers"))).collect()
    }

    /// The time by the clock that all workers share: the server's, or on SQLite the machine's,
    /// which is `now`.
    pub(super) async fn clock_of_database(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        match self.driver.kind() {
            DatabaseKind::Postgres => self.server_time().await,
            DatabaseKind::Sqlite => Ok(now),
        }
    }

    async fn renew(&self, beat: &Beat<'_>, now: Timestamp) -> Result<Renewed, StoreError> {
        // No condition on the lease: whoever is in the table was dropped by nobody, so its share is
        // still its own.
        const SQL: &str = "-- workers.renew
            UPDATE workers SET was_late = CASE WHEN lease_until <= $5 THEN 1 ELSE 0 END,
                lease_until = $2, acknowledged = $3, except_at = $4
            WHERE id = $1 RETURNING was_late";
        let params = vec![
            Param::uuid(beat.worker.0),
            Param::time(now.after(beat.lease)),
            Param::int(beat.acknowledged.epoch),
            Param::json(&beat.acknowledged.except),
            Param::time(now),
        ];
        let row = self
            .driver
            .write(SQL, params)
            .await?
            .rows
            .into_iter()
            .next();
        Ok(
            match row.map(|row| row.reader("workers").int()).transpose()? {
                None => Renewed::Not,
                Some(0) => Renewed::InTime,
                Some(_) => Renewed::Late,
            },
        )
    }

    /// Drops who is to be dropped, and lets the worker join if it is not a member.
    async fn change_members(&self, beat: &Beat<'_>, now: Timestamp) -> Result<Members, StoreError> {
        const DROP: &str =
            "-- workers.drop\nDELETE FROM workers WHERE lease_until <= $1 AND id <> $2";
        const JOIN: &str = "-- workers.join
            INSERT INTO workers (id, name, joined, acknowledged, except_at, lease_until, was_late)
            VALUES ($1, $2, $3, $4, $5, $6, 0) ON CONFLICT (id) DO NOTHING";
        let mut tx = self.driver.begin().await?;
        let epoch = lock(tx.as_mut()).await?;
        let me = Param::uuid(beat.worker.0);
        // Waits for renewals under way, which hold nothing else, and passes over what they renewed.
        let dropped = tx
            .run(DROP, vec![Param::time(now), me.clone()])
            .await?
            .affected;
        let next = epoch + 1;
        // Who has just begun has nothing in flight, and so keeps to any membership.
        let acknowledged = match beat.acknowledged.epoch {
            0 => next,
            before => before,
        };
        let params = vec![
            me,
            Param::text(beat.name),
            Param::int(next),
            Param::int(acknowledged),
            Param::json(&beat.acknowledged.except),
            Param::time(now.after(beat.lease)),
        ];
        let joined = tx.run(JOIN, params).await?.affected;
        if dropped + joined > 0 {
            set_epoch(tx.as_mut(), next).await?;
        }
        let (members, _) = read(tx.run(MEMBERS, vec![]).await?, beat.worker, now)?;
        tx.commit().await?;
        members.ok_or_else(|| StoreError::Corrupt {
            table: "versions",
            id: "workers".to_owned(),
            column: "value".to_owned(),
            problem: "there is no such row".to_owned(),
        })
    }
}

/// What became of the renewal of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewed {
    InTime,
    /// The lease had ended, and nobody had dropped the worker yet.
    Late,
    /// The worker is not a member.
    Not,
}

/// The epoch, which nobody else changes until the transaction ends.
async fn lock(tx: &mut dyn Transaction) -> Result<i64, StoreError> {
    const SQL: &str = "-- workers.lock
        UPDATE versions SET value = value WHERE name = 'workers' RETURNING value";
    let row = tx.run(SQL, vec![]).await?.rows.into_iter().next();
    row.map_or(Ok(0), |row| row.reader("versions").int())
}

async fn set_epoch(tx: &mut dyn Transaction, epoch: i64) -> Result<(), StoreError> {
    const SQL: &str = "-- workers.set_epoch\nUPDATE versions SET value = $1 WHERE name = 'workers'";
    tx.run(SQL, vec![Param::int(epoch)]).await.map(drop)
}

/// The membership as `me` sees it, `None` if it is not in it; and whether the lease of another
/// member has ended.
fn read(
    answer: Answer,
    me: WorkerId,
    now: Timestamp,
) -> Result<(Option<Members>, bool), StoreError> {
    let (mut epoch, mut ended) = (0, false);
    let mut live = Vec::with_capacity(answer.rows.len());
    for row in answer.rows {
        let mut row = row.reader("workers");
        epoch = row.int()?;
        // There is one row without a worker when there is no worker.
        let Some(lease_until) = row.time_opt()? else {
            continue;
        };
        let member = member(&mut row)?;
        ended |= lease_until <= now && member.id != me;
        live.push(member);
    }
    let joined = live
        .iter()
        .find(|member| member.id == me)
        .map(|member| member.joined);
    let members = joined.map(|joined| Members {
        me,
        joined,
        epoch,
        live,
    });
    Ok((members, ended))
}

fn member(row: &mut Reader) -> Result<Member, StoreError> {
    let id = WorkerId(row.uuid()?);
    row.named(id);
    Ok(Member {
        id,
        name: row.text()?,
        joined: row.int()?,
        acknowledged: Acknowledged {
            epoch: row.int()?,
            except: row.json()?,
        },
    })
}
