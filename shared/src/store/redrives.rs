//! Redrives: jobs that put dead letters back on the work queue. How far each is lies here; the
//! letters are the broker's. `crate::redrive` works them off.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::db::{Param, Reader};
use super::page::{List, Page, PageRequest};
use super::query::Query;
use super::replays::JobCancelled;
use super::{Store, StoreError};
use crate::domain::dead_letter::Redriven;
use crate::domain::id::uuid_v7;
use crate::domain::time::Timestamp;

/// A redrive of dead letters and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Redrive {
    /// The redrive's id, a UUID.
    pub id: Uuid,
    /// Whether it goes on.
    pub state: RedriveState,
    /// Dead letters that were there when it began: it takes no more than these.
    pub total: u64,
    /// Dead letters that are back on the work queue, each once.
    pub redriven: u64,
    /// Of these, bodies that are not a notification in JSON: they will be dead-lettered again.
    pub undecodable: u64,
    /// Why it waits, if the broker did not take letters at the last try; it is tried again.
    pub last_error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was through, or was cancelled.
    pub finished_at: Option<Timestamp>,
}

/// Whether a redrive goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedriveState {
    /// There are letters left to move.
    Running,
    /// Everything that it was to move was looked at.
    Done,
    /// Somebody stopped it; what it had not come to stays dead.
    Cancelled,
}

impl RedriveState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Running, Self::Done, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedriveStep {
    /// Letters were moved, and there may be more.
    Moved(Redriven),
    /// Letters were moved, and these were the last.
    Last(Redriven),
    /// The broker did not take them; to be tried again.
    Failed(String),
}

/// The columns of a redrive `d`, as [`read`] reads them.
macro_rules! columns {
    () => {
        "d.id, d.state, d.total, d.redriven, d.undecodable, d.last_error, d.created_at, \
         d.finished_at"
    };
}

impl Store {
    /// Asks for a redrive of `total` dead letters.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_redrive(&self, total: u64, now: Timestamp) -> Result<Redrive, StoreError> {
        const SQL: &str = "-- redrives.insert
            INSERT INTO redrives (id, state, total, created_at, finished_at)
            VALUES ($1, $2, $3, $4, $5)";
        // Nothing to move is through at once, so that nobody has to wait for a process that says
        // so.
        let (state, finished_at) = if total == 0 {
            (RedriveState::Done, Some(now))
        } else {
            (RedriveState::Running, None)
        };
        let redrive = Redrive {
            id: uuid_v7(now),
            state,
            total,
            redriven: 0,
            undecodable: 0,
            last_error: None,
            created_at: now,
            finished_at,
        };
        let params = vec![
            Param::uuid(redrive.id),
            Param::text(state.as_str()),
            count(total),
            Param::time(now),
            Param::time_opt(finished_at),
        ];
        let id = redrive.id.to_string();
        self.write_noted(SQL, params, Some(&id)).await?;
        Ok(redrive)
    }

    /// One redrive.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn redrive(&self, id: Uuid) -> Result<Option<Redrive>, StoreError> {
        const SQL: &str = concat!(
            "-- redrives.get\nSELECT ",
            columns!(),
            " FROM redrives d WHERE d.id = $1"
        );
        let answer = self.driver.read(SQL, vec![Param::uuid(id)]).await?;
        answer
            .rows
            .into_iter()
            .next()
            .map(|row| read(&mut row.reader("redrives")))
            .transpose()
    }

    /// Redrives, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn redrives(&self, page: &PageRequest) -> Result<Page<Redrive>, StoreError> {
        const LIST: List = List {
            what: "redrive",
            table: "redrives",
            time: "created_at",
            id: &["id"],
        };
        let mut query = Query::new(concat!(
            "-- redrives.list\nSELECT ",
            columns!(),
            " FROM redrives d WHERE true"
        ));
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
        let redrives = self.readable(&LIST, query.read(self).await?, read);
        Ok(Page::of_readable(redrives, page))
    }

    /// Leases the running redrive that was asked for first, of those that nobody works on, until
    /// `lease_until`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_redrive(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<Redrive>, StoreError> {
        const FIND: &str = "-- redrives.find
            SELECT d.id FROM redrives d
            WHERE d.state = 'running' AND (d.lease_until IS NULL OR d.lease_until <= $1)
            ORDER BY d.created_at LIMIT 1";
        const CLAIM: &str = "-- redrives.claim
            UPDATE redrives SET lease_until = $3
            WHERE id = $1 AND state = 'running' AND (lease_until IS NULL OR lease_until <= $2)";
        // Looked for first, so that the common case writes nothing.
        let Some(row) = self
            .driver
            .read(FIND, vec![Param::time(now)])
            .await?
            .rows
            .into_iter()
            .next()
        else {
            return Ok(None);
        };
        let id = row.reader("redrives").uuid()?;
        let params = vec![Param::uuid(id), Param::time(now), Param::time(lease_until)];
        // The condition is checked again by the UPDATE: between the two statements another worker
        // may have claimed it.
        if self.driver.write(CLAIM, params).await?.affected == 0 {
            return Ok(None);
        }
        self.redrive(id).await
    }

    /// Writes down what a step came to, and leases the redrive further, until `lease_until`. What
    /// was moved counts for a cancelled redrive, too. Returns it as it stands then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_redrive(
        &self,
        id: Uuid,
        step: &RedriveStep,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<Redrive>, StoreError> {
        const MOVED: &str = "-- redrives.moved
            UPDATE redrives SET redriven = redriven + $2, undecodable = undecodable + $3,
                last_error = $4, lease_until = $5
            WHERE id = $1";
        const DONE: &str = "-- redrives.done
            UPDATE redrives SET state = 'done', finished_at = $2
            WHERE id = $1 AND state = 'running'";
        let (moved, error) = match step {
            RedriveStep::Moved(moved) | RedriveStep::Last(moved) => (*moved, None),
            RedriveStep::Failed(error) => (Redriven::default(), Some(error)),
        };
        let mut tx = self.driver.begin().await?;
        let params = vec![
            Param::uuid(id),
            count(moved.moved),
            count(moved.undecodable),
            Param::text_opt(error),
            Param::time(lease_until),
        ];
        // Added to what is there, and not set: letters that were moved while the job was cancelled
        // are back on the queue, and have to be counted.
        tx.run(MOVED, params).await?;
        // A second statement, because it must not turn a cancelled redrive into a finished one.
        if matches!(step, RedriveStep::Last(_)) {
            tx.run(DONE, vec![Param::uuid(id), Param::time(now)])
                .await?;
        }
        tx.commit().await?;
        // Read again, so that the caller sees a cancellation that came meanwhile, and stops.
        self.redrive(id).await
    }

    /// Stops a running redrive: no further step of it is begun.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel_redrive(
        &self,
        id: Uuid,
        now: Timestamp,
    ) -> Result<JobCancelled, StoreError> {
        const SQL: &str = "-- redrives.cancel
            UPDATE redrives SET state = 'cancelled', finished_at = $2
            WHERE id = $1 AND state = 'running'";
        let params = vec![Param::uuid(id), Param::time(now)];
        let answer = self.write_noted(SQL, params, None).await?;
        Ok(if answer.affected == 1 {
            JobCancelled::Done
        } else {
            JobCancelled::NotRunning
        })
    }
}

fn count(count: u64) -> Param {
    Param::int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn read(row: &mut Reader) -> Result<Redrive, StoreError> {
    let id = row.uuid()?;
    row.named(id);
    Ok(Redrive {
        id,
        state: row.word(RedriveState::parse)?,
        total: row.total()?,
        redriven: row.total()?,
        undecodable: row.total()?,
        last_error: row.text_opt()?,
        created_at: row.time()?,
        finished_at: row.time_opt()?,
    })
}
