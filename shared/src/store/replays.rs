//! Replays: finished deliveries that match a filter are sent again, a step at a time.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::db::{Param, Reader, Row, Transaction};
use super::deliveries::{DeliveryFilter, again};
use super::page::{Cursor, Page, PageRequest};
use super::query::Query;
use super::record::update;
use super::rows::delivery_columns;
use super::{Store, StoreError, rows};
use crate::domain::delivery::{Delivery, Status};
use crate::domain::id::{TenantId, uuid_v7};
use crate::domain::time::Timestamp;

/// A replay and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replay {
    /// The id of the replay.
    pub id: Uuid,
    /// The deliveries that are replayed.
    pub filter: DeliveryFilter,
    /// Whether it goes on.
    pub state: ReplayState,
    /// Deliveries that matched when it was asked for; null where that is not known (it was asked
    /// for by an older version).
    pub total: Option<u64>,
    /// The number of deliveries looked at so far.
    pub matched: u64,
    /// Deliveries that were put into a new round.
    pub replayed: u64,
    /// Deliveries left alone: their time ran out, their endpoint is gone, or they are pending
    /// anyway.
    pub skipped: u64,
    /// When it was asked for; it takes only deliveries from before.
    pub created_at: Timestamp,
    /// When it was through, or was cancelled.
    pub finished_at: Option<Timestamp>,
}

/// Whether a replay goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// There is more to look at.
    Running,
    /// Every delivery that matched was looked at.
    Done,
    /// Somebody stopped it; what it had not looked at was left alone.
    Cancelled,
}

/// The outcome of a request to stop a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobCancelled {
    /// The job is stopped now.
    Done,
    /// It is not running: it is finished, was cancelled before, or never was.
    NotRunning,
}

/// The deliveries that match a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Matching {
    /// How many there are.
    pub count: u64,
    /// When the oldest of them was created.
    pub oldest: Option<Timestamp>,
    /// When the newest of them was created.
    pub newest: Option<Timestamp>,
}

impl ReplayState {
    /// The name in JSON and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// As the store has it: a cancelled replay is `done` there, and has the time at which it was
    /// cancelled, so that programs of before can read it.
    fn parse(name: &str) -> Option<Self> {
        [Self::Running, Self::Done]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// The columns of a replay `d`, as [`read`] reads them.
macro_rules! columns {
    () => {
        "d.id, d.filter, d.state, d.total, d.matched, d.replayed, d.skipped, d.created_at, \
         d.finished_at, \
         d.cancelled_at, d.cursor_at, d.cursor_id"
    };
}

impl Store {
    /// Asks for a replay of the finished deliveries that match and were created before `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_replay(
        &self,
        filter: &DeliveryFilter,
        now: Timestamp,
    ) -> Result<Replay, StoreError> {
        const SQL: &str = "-- replays.insert
            INSERT INTO replays (id, filter, state, matched, replayed, skipped, created_at, total)
            VALUES ($1, $2, 'running', 0, 0, 0, $3, $4)";
        // Counted once, for showing progress: counting again at each step would read the whole
        // table.
        let total = self.matching_deliveries(filter, now).await?.count;
        let replay = Replay {
            id: uuid_v7(now),
            filter: filter.clone(),
            state: ReplayState::Running,
            total: Some(total),
            matched: 0,
            replayed: 0,
            skipped: 0,
            created_at: now,
            finished_at: None,
        };
        let total = Param::int(i64::try_from(total).unwrap_or(i64::MAX));
        let params = vec![
            Param::uuid(replay.id),
            Param::json(filter),
            Param::time(now),
            total,
        ];
        let id = replay.id.to_string();
        self.write_noted(SQL, params, Some(&id)).await?;
        Ok(replay)
    }

    /// One replay.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replay(&self, id: Uuid) -> Result<Option<Replay>, StoreError> {
        const SQL: &str = concat!(
            "-- replays.get\nSELECT ",
            columns!(),
            " FROM replays d WHERE d.id = $1"
        );
        let answer = self.driver.read(SQL, vec![Param::uuid(id)]).await?;
        answer
            .rows
            .into_iter()
            .next()
            .map(|row| Ok(read(&mut row.reader("replays"))?.0))
            .transpose()
    }

    /// How many deliveries match a filter that were created before `now`: what a replay would look
    /// at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn matching_deliveries(
        &self,
        filter: &DeliveryFilter,
        now: Timestamp,
    ) -> Result<Matching, StoreError> {
        let mut query = Query::new(
            "-- replays.matching
            SELECT count(*), min(d.created_at), max(d.created_at) FROM deliveries d WHERE true",
        );
        filter.add_to(&mut query);
        query.and("d.created_at < ?", [Param::time(now)]);
        let Some(row) = query.read(self).await?.rows.into_iter().next() else {
            return Ok(Matching::default());
        };
        let mut row = row.reader("deliveries");
        Ok(Matching {
            count: row.total()?,
            oldest: row.time_opt()?,
            newest: row.time_opt()?,
        })
    }

    /// Replays of a tenant, or of all, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replays(
        &self,
        tenant: Option<&TenantId>,
        page: &PageRequest,
    ) -> Result<Page<Replay>, StoreError> {
        // One more than the page holds, which tells whether there is a further page.
        let size = usize::try_from(page.fetch()).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut cursor = page.cursor.clone();
        // The tenant is within the filter, which the database does not look into.
        loop {
            let rows = self.some_replays(cursor.as_ref(), page).await?;
            let through = rows.len() < size;
            for row in rows {
                let mut row = row.reader("replays");
                let at = row.time()?;
                let id = row.uuid()?;
                // Also past those that are not shown, so that the loop goes on behind them and
                // ends.
                cursor = Some(place((at, id)));
                match read(&mut row) {
                    Ok((replay, _))
                        if tenant.is_none() || replay.filter.tenant.as_ref() == tenant =>
                    {
                        found.push(replay)
                    }
                    Ok(_) => {}
                    Err(error) => self.unreadable.tell("replay", &id, &error),
                }
            }
            if through || found.len() >= size {
                break;
            }
        }
        found.truncate(size);
        Ok(Page::of(found, page, |replay| {
            place((replay.created_at, replay.id))
        }))
    }

    async fn some_replays(
        &self,
        after: Option<&Cursor>,
        page: &PageRequest,
    ) -> Result<Vec<Row>, StoreError> {
        let mut query = Query::new(concat!(
            "-- replays.list
            SELECT d.created_at, d.id, ",
            columns!(),
            " FROM replays d WHERE true"
        ));
        if let Some(cursor) = after {
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
        Ok(query.read(self).await?.rows)
    }

    /// Stops a running replay. Waits for a step that is running, which counts; no further one is
    /// begun.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel_replay(
        &self,
        id: Uuid,
        now: Timestamp,
    ) -> Result<JobCancelled, StoreError> {
        const SQL: &str = "-- replays.cancel
            UPDATE replays SET state = 'done', cancelled_at = $2, finished_at = $2
            WHERE id = $1 AND state = 'running'";
        let params = vec![Param::uuid(id), Param::time(now)];
        let answer = self.write_noted(SQL, params, None).await?;
        Ok(if answer.affected == 1 {
            JobCancelled::Done
        } else {
            JobCancelled::NotRunning
        })
    }

    /// Takes one running replay a step of up to `limit` deliveries further. Several workers may
    /// call it at once. `None`: no replay is running.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn step_replay(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Option<Replay>, StoreError> {
        // The replay's row stays locked until the commit: other workers pass over it, and a step is
        // counted together with what it did.
        let mut tx = self.driver.begin().await?;
        let Some((mut replay, place)) = self.next_replay(tx.as_mut()).await? else {
            return Ok(None);
        };
        let Step {
            mut found,
            matched,
            last,
        } = self
            .next_deliveries(tx.as_mut(), &replay, place, limit)
            .await?;
        replay.matched += matched as u64;
        // Fewer than asked for: there are none behind these, as the filter takes only what was
        // created before the replay was asked for.
        if matched < limit as usize {
            replay.state = ReplayState::Done;
            replay.finished_at = Some(now);
        }
        // `update` wants them in the order of their ids. They come in that of their creation, and
        // are locked in it: a step can meet a worker's batch in a deadlock, and is tried again
        // then.
        found.sort_unstable_by_key(|(delivery, _)| delivery.id);
        let changes = found
            .iter_mut()
            .filter(|(delivery, endpoint)| {
                // Checked here, and not by the filter: these count as skipped, so that the numbers
                // add up to what matched.
                let expired = delivery.expires_at.is_some_and(|at| at <= now);
                endpoint.is_some() && !expired && delivery.state.status() != Status::Pending
            })
            .map(|(delivery, _)| again(delivery, now));
        let replayed = update(tx.as_mut(), changes).await?.len();
        replay.replayed += replayed as u64;
        replay.skipped += (matched - replayed) as u64;
        // An empty step keeps its place.
        save(tx.as_mut(), &replay, last.or(place)).await?;
        tx.commit().await?;
        Ok(Some(replay))
    }

    /// The running replay that was asked for first, of those that can be read and nobody else works
    /// on.
    async fn next_replay(
        &self,
        tx: &mut dyn Transaction,
    ) -> Result<Option<(Replay, Option<Place>)>, StoreError> {
        const SQL: &str = concat!(
            "-- replays.next
            SELECT d.created_at, d.id, ",
            columns!(),
            " FROM replays d WHERE d.state = 'running' AND (d.created_at, d.id) > ($1, $2)
            ORDER BY d.created_at, d.id LIMIT 1 {skip_locked}"
        );
        // One that cannot be read must not stop those behind it: the search goes on from its place.
        let mut after = (Timestamp::from_micros(i64::MIN), Uuid::nil());
        loop {
            let answer = tx
                .run(SQL, vec![Param::time(after.0), Param::uuid(after.1)])
                .await?;
            let Some(row) = answer.rows.into_iter().next() else {
                return Ok(None);
            };
            let mut row = row.reader("replays");
            after = (row.time()?, row.uuid()?);
            match read(&mut row) {
                Ok(found) => return Ok(Some(found)),
                Err(error) => self.unreadable.tell("replay", &after.1, &error),
            }
        }
    }

    async fn next_deliveries(
        &self,
        tx: &mut dyn Transaction,
        replay: &Replay,
        place: Option<Place>,
        limit: u32,
    ) -> Result<Step, StoreError> {
        let mut query = Query::new(concat!(
            "-- replays.deliveries
            SELECT d.created_at, d.id,
                (SELECT e.id FROM endpoints e
                    WHERE e.id = d.endpoint_id AND e.deleted_at IS NULL), ",
            delivery_columns!(),
            " FROM deliveries d WHERE true"
        ));
        replay.filter.add_to(&mut query);
        query.and("d.created_at < ?", [Param::time(replay.created_at)]);
        if let Some((at, id)) = place {
            query.and(
                "(d.created_at, d.id) < (?, ?)",
                [Param::time(at), Param::uuid(id)],
            );
        }
        // Locked and not skipped: passing over a delivery that a worker is just recording would
        // leave it out of the replay for good.
        query.end(
            " ORDER BY d.created_at DESC, d.id DESC LIMIT ? {lock}",
            [Param::count(limit)],
        );
        let (text, params) = query.parts();
        let mut step = Step {
            found: Vec::new(),
            matched: 0,
            last: None,
        };
        for row in tx.run(&text, params).await?.rows {
            let mut row = row.reader("deliveries");
            let at = row.time()?;
            let id = row.uuid()?;
            let endpoint = row.text_opt()?;
            step.matched += 1;
            // Taken from the first two columns, which any version can read: a delivery that cannot
            // be read is passed over, and not met again.
            step.last = Some((at, id));
            match rows::delivery(&mut row) {
                Ok(delivery) => step.found.push((delivery, endpoint)),
                Err(error) => self.unreadable.tell("delivery", &id, &error),
            }
        }
        Ok(step)
    }
}

/// The last delivery that a replay looked at: it goes from new deliveries to old ones.
type Place = (Timestamp, Uuid);

/// The deliveries of one step.
struct Step {
    /// Those that can be read, each with its endpoint if that is there.
    found: Vec<(Delivery, Option<String>)>,
    /// How many there are, with those that cannot be read.
    matched: usize,
    last: Option<Place>,
}

fn place((at, id): Place) -> Cursor {
    Cursor {
        micros: at.as_micros(),
        id: id.to_string(),
    }
}

async fn save(
    tx: &mut dyn Transaction,
    replay: &Replay,
    place: Option<Place>,
) -> Result<(), StoreError> {
    const SQL: &str = "-- replays.save
        UPDATE replays SET state = $2, matched = $3, replayed = $4, skipped = $5, finished_at = $6,
            cursor_at = $7, cursor_id = $8
        WHERE id = $1";
    let total = |count: u64| Param::int(i64::try_from(count).unwrap_or(i64::MAX));
    let params = vec![
        Param::uuid(replay.id),
        Param::text(replay.state.as_str()),
        total(replay.matched),
        total(replay.replayed),
        total(replay.skipped),
        Param::time_opt(replay.finished_at),
        Param::time_opt(place.map(|(at, _)| at)),
        Param::Uuid(place.map(|(_, id)| id)),
    ];
    tx.run(SQL, params).await?;
    Ok(())
}

fn read(row: &mut Reader) -> Result<(Replay, Option<Place>), StoreError> {
    let id = row.uuid()?;
    row.named(id);
    let mut replay = Replay {
        id,
        filter: row.json()?,
        state: row.word(ReplayState::parse)?,
        total: row.int_opt()?.and_then(|total| u64::try_from(total).ok()),
        matched: row.total()?,
        replayed: row.total()?,
        skipped: row.total()?,
        created_at: row.time()?,
        finished_at: row.time_opt()?,
    };
    if row.time_opt()?.is_some() {
        replay.state = ReplayState::Cancelled;
    }
    let place = row.time_opt()?.zip(row.uuid_opt()?);
    Ok((replay, place))
}
