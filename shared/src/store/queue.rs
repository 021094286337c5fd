//! The tables of the embedded broker; used by `broker::embedded` alone. A row of `queue` is a
//! message; it is ready while it has no consumer, and goes when it is acknowledged.

use std::collections::BTreeSet;

use bytes::Bytes;
use uuid::Uuid;

use super::db::{Batch, Kind, Param, Reader, Row};
use super::query::Query;
use super::{Store, StoreError, rows};
use crate::domain::dead_letter::{DeadReason, Redriven};
use crate::domain::hops::Hops;
use crate::domain::message::{self, Message};
use crate::domain::notification::Priority;
use crate::domain::time::Timestamp;

/// A message that a consumer holds.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) row: i64,
    pub(crate) message: Message,
    /// How often it was handed out and requeued before.
    pub(crate) delivery_count: u32,
}

/// A dead letter as it is kept.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) id: String,
    pub(crate) reason: DeadReason,
    pub(crate) detail: String,
    pub(crate) died_at: Timestamp,
    pub(crate) message: Message,
}

/// Whether a consumer's row is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    Alive,
    /// Others took it for dead and requeued its messages.
    Gone,
}

/// The columns of a message `d`, as [`read_message`] reads them.
macro_rules! message_columns {
    () => {
        "d.message_id, d.body, d.accepted_at, d.origin, d.traceparent, d.priority, d.hops"
    };
}

impl Store {
    /// Adds messages: all or none.
    pub(crate) async fn queue_push(&self, messages: &[Message]) -> Result<(), StoreError> {
        const SQL: &str = "-- queue.push
            INSERT INTO queue (priority, message_id, body, accepted_at, origin, traceparent, hops)
            SELECT u.priority, u.message_id, u.body, u.accepted_at, u.origin, u.traceparent, u.hops
            FROM {rows}";
        let mut batch = Batch::new(&[
            ("priority", Kind::Int),
            ("message_id", Kind::Text),
            ("body", Kind::Bytes),
            ("accepted_at", Kind::Int),
            ("origin", Kind::Text),
            ("traceparent", Kind::Text),
            ("hops", Kind::Int),
        ]);
        for message in messages {
            batch.push(message_params(message));
        }
        let mut tx = self.driver.begin().await?;
        tx.run_batch(SQL, batch).await?;
        tx.commit().await
    }

    /// Registers a consumer, which from now on has to send heartbeats.
    pub(crate) async fn queue_join(
        &self,
        consumer: Uuid,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str =
            "-- queue.join\nINSERT INTO queue_consumers (id, seen_at) VALUES ($1, $2)";
        self.driver
            .write(SQL, vec![Param::uuid(consumer), Param::time(now)])
            .await
            .map(drop)
    }

    /// Says that a consumer is alive, and requeues what consumers hold that were not seen since
    /// `dead`.
    pub(crate) async fn queue_heartbeat(
        &self,
        consumer: Uuid,
        now: Timestamp,
        dead: Timestamp,
    ) -> Result<Heartbeat, StoreError> {
        const SEEN: &str = "-- queue.seen\nUPDATE queue_consumers SET seen_at = $2 WHERE id = $1";
        const DEAD: &str =
            "-- queue.dead_consumers\nDELETE FROM queue_consumers WHERE seen_at < $1 RETURNING id";
        // The own sign of life comes first: with the search for dead consumers first, a consumer
        // that was slow could declare itself dead.
        let seen = self
            .driver
            .write(SEEN, vec![Param::uuid(consumer), Param::time(now)])
            .await?;
        // Of a consumer whose row somebody deleted: no other consumer would ever be asked for them.
        // A consumer takes messages only while its row is there, so none that is taken this moment
        // is among them.
        const ORPHAN: &str = "-- queue.look_for_orphans
            SELECT d.id FROM queue d WHERE d.consumer IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM queue_consumers c WHERE c.id = d.consumer) LIMIT 1";
        const ADOPT: &str = "-- queue.requeue_orphans
            UPDATE queue SET consumer = NULL, delivery_count = delivery_count + 1
            WHERE consumer IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM queue_consumers c WHERE c.id = queue.consumer)";
        // Looked for first, so that the common case writes nothing.
        const LOOK: &str =
            "-- queue.look_for_dead\nSELECT id FROM queue_consumers WHERE seen_at < $1 LIMIT 1";
        if !self
            .driver
            .read(LOOK, vec![Param::time(dead)])
            .await?
            .rows
            .is_empty()
        {
            let mut tx = self.driver.begin().await?;
            for row in tx.run(DEAD, vec![Param::time(dead)]).await?.rows {
                let id = row.reader("queue_consumers").uuid()?;
                // In one transaction with the removal of the consumer, so that a crash in between
                // does not leave its messages to the search for orphans below.
                tx.run(REQUEUE_ALL, vec![Param::uuid(id)]).await?;
            }
            tx.commit().await?;
        }
        if !self.driver.read(ORPHAN, vec![]).await?.rows.is_empty() {
            self.driver.write(ADOPT, vec![]).await?;
        }
        Ok(if seen.affected == 1 {
            Heartbeat::Alive
        } else {
            Heartbeat::Gone
        })
    }

    /// Forgets a consumer; what it still holds is requeued.
    pub(crate) async fn queue_leave(&self, consumer: Uuid) -> Result<(), StoreError> {
        const LEAVE: &str = "-- queue.leave\nDELETE FROM queue_consumers WHERE id = $1";
        let mut tx = self.driver.begin().await?;
        tx.run(LEAVE, vec![Param::uuid(consumer)]).await?;
        tx.run(REQUEUE_ALL, vec![Param::uuid(consumer)]).await?;
        tx.commit().await
    }

    /// Takes up to `limit` ready messages: those of high priority first, then the oldest. Nothing
    /// for a consumer that is not registered (any more).
    pub(crate) async fn queue_take(
        &self,
        consumer: Uuid,
        limit: u32,
    ) -> Result<Vec<Taken>, StoreError> {
        const READY: &str =
            "-- queue.look\nSELECT d.id FROM queue d WHERE d.consumer IS NULL LIMIT 1";
        const FIND: &str = concat!(
            "-- queue.find
            SELECT d.id, d.delivery_count, ",
            message_columns!(),
            " FROM queue d WHERE d.consumer IS NULL ORDER BY d.priority DESC, d.id LIMIT $1 \
             {skip_locked}"
        );
        const TAKE: &str = "-- queue.take
            UPDATE queue SET consumer = u.consumer FROM {rows} WHERE queue.id = u.key";
        // A read first, which locks nothing: consumers poll 20 times a second, and mostly there is
        // nothing to take.
        if self.driver.read(READY, vec![]).await?.rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.driver.begin().await?;
        // Locked, so that nobody takes the consumer for dead between here and the commit.
        if tx
            .run(MEMBER, vec![Param::uuid(consumer)])
            .await?
            .rows
            .is_empty()
        {
            return Ok(Vec::new());
        }
        let found = tx
            .run(FIND, vec![Param::count(limit)])
            .await?
            .rows
            .into_iter()
            .map(taken);
        let taken = found.collect::<Result<Vec<Taken>, _>>()?;
        let mut batch = Batch::new(&[("key", Kind::Int), ("consumer", Kind::Uuid)]);
        for one in &taken {
            batch.push([Param::int(one.row), Param::uuid(consumer)]);
        }
        // The id of the consumer in the row is the claim. It lasts until the consumer answers or is
        // taken for dead; there is no lease to renew for each message.
        tx.run_batch(TAKE, batch).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// The messages that a consumer holds, according to the store. An earlier [`Store::queue_take`]
    /// whose answer was lost has ended by then.
    pub(crate) async fn queue_held_by(&self, consumer: Uuid) -> Result<BTreeSet<i64>, StoreError> {
        const SQL: &str = "-- queue.held_by\nSELECT d.id FROM queue d WHERE d.consumer = $1";
        let mut tx = self.driver.begin().await?;
        // Waits for a transaction that takes messages in the consumer's name.
        tx.run(MEMBER, vec![Param::uuid(consumer)]).await?;
        let rows = tx.run(SQL, vec![Param::uuid(consumer)]).await?.rows;
        rows.into_iter()
            .map(|row| row.reader("queue").int())
            .collect()
    }

    /// Removes messages that a consumer holds.
    pub(crate) async fn queue_ack(
        &self,
        consumer: Uuid,
        rows: &BTreeSet<i64>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- queue.ack
            DELETE FROM queue WHERE (id, consumer) IN (SELECT u.key, u.consumer FROM {rows})";
        self.queue_held(SQL, consumer, rows).await
    }

    /// Releases messages that a consumer holds. `counted`: they were handed out, so that their
    /// delivery count grows.
    pub(crate) async fn queue_release(
        &self,
        consumer: Uuid,
        rows: &BTreeSet<i64>,
        counted: bool,
    ) -> Result<(), StoreError> {
        const COUNTED: &str = "-- queue.requeue
            UPDATE queue SET consumer = NULL, delivery_count = delivery_count + 1
            FROM {rows} WHERE queue.id = u.key AND queue.consumer = u.consumer";
        const UNTOUCHED: &str = "-- queue.release
            UPDATE queue SET consumer = NULL FROM {rows}
            WHERE queue.id = u.key AND queue.consumer = u.consumer";
        self.queue_held(if counted { COUNTED } else { UNTOUCHED }, consumer, rows)
            .await
    }

    async fn queue_held(
        &self,
        sql: &'static str,
        consumer: Uuid,
        rows: &BTreeSet<i64>,
    ) -> Result<(), StoreError> {
        // The consumer is part of the condition (`queue.consumer = u.consumer`): what others got
        // meanwhile, after it was taken for dead, is not touched.
        let mut batch = Batch::new(&[("key", Kind::Int), ("consumer", Kind::Uuid)]);
        for row in rows {
            batch.push([Param::int(*row), Param::uuid(consumer)]);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let mut tx = self.driver.begin().await?;
        tx.run_batch(sql, batch).await?;
        tx.commit().await
    }

    /// Messages in the queue, and dead letters.
    pub(crate) async fn queue_depths(&self) -> Result<(u64, u64), StoreError> {
        const SQL: &str = "-- queue.depths\nSELECT (SELECT count(*) FROM queue), (SELECT count(*) \
                           FROM dead_letters)";
        let answer = self.driver.read(SQL, vec![]).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok((0, 0));
        };
        let mut row = row.reader("queue");
        Ok((row.total()?, row.total()?))
    }

    /// Keeps a dead letter.
    pub(crate) async fn dead_push(&self, dead: &Dead) -> Result<(), StoreError> {
        const SQL: &str = "-- dead_letters.insert
            INSERT INTO dead_letters
                (id, reason, detail, died_at, priority, message_id, body, accepted_at, origin,
                    traceparent, hops)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let mut params = vec![
            Param::text(&dead.id),
            Param::text(dead.reason.as_str()),
            Param::text(&dead.detail),
            Param::time(dead.died_at),
        ];
        params.extend(message_params(&dead.message));
        self.driver.write(SQL, params).await.map(drop)
    }

    /// Up to `limit` dead letters, the oldest first.
    pub(crate) async fn dead_list(&self, limit: u32) -> Result<Vec<Dead>, StoreError> {
        const SQL: &str = concat!(
            "-- dead_letters.list
            SELECT d.id, d.reason, d.detail, d.died_at, ",
            message_columns!(),
            " FROM dead_letters d ORDER BY d.sequence LIMIT $1"
        );
        self.driver
            .read(SQL, vec![Param::count(limit)])
            .await?
            .rows
            .into_iter()
            .map(dead)
            .collect()
    }

    /// Moves up to `limit` dead letters back to the queue: those with these ids, or any, the oldest
    /// first.
    pub(crate) async fn dead_redrive(
        &self,
        ids: Option<&[String]>,
        limit: u32,
    ) -> Result<Redriven, StoreError> {
        const PUSH: &str = "-- dead_letters.redrive
            INSERT INTO queue (priority, message_id, body, accepted_at, origin, traceparent, hops)
            SELECT d.priority, d.message_id, d.body, d.accepted_at, d.origin, d.traceparent, d.hops
            FROM {rows} JOIN dead_letters d ON d.sequence = u.key";
        const REMOVE: &str = "-- dead_letters.remove
            DELETE FROM dead_letters WHERE sequence IN (SELECT u.key FROM {rows})";
        let mut tx = self.driver.begin().await?;
        let mut found: BTreeSet<i64> = BTreeSet::new();
        let mut undecodable = 0;
        let all = [None];
        let wanted: Vec<Option<&String>> =
            ids.map_or(all.to_vec(), |ids| ids.iter().map(Some).collect());
        for id in wanted {
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            let mut query = Query::new(
                "-- dead_letters.find\nSELECT d.sequence, d.body FROM dead_letters d WHERE true",
            );
            query.and_opt("d.id = ?", id.map(Param::text));
            query.end(
                " ORDER BY d.sequence LIMIT ? {skip_locked}",
                [Param::count(left)],
            );
            let (text, params) = query.parts();
            for row in tx.run(&text, params).await?.rows {
                let mut row = row.reader("dead_letters");
                // Several dead letters may have one id, and an id may be asked for twice: each
                // letter is moved once.
                if found.insert(row.int()?) {
                    undecodable += u64::from(!message::is_notification(&row.bytes()?));
                }
            }
        }
        let batch = || {
            let mut batch = Batch::new(&[("key", Kind::Int)]);
            for sequence in &found {
                batch.push([Param::int(*sequence)]);
            }
            batch
        };
        // One transaction for both: unlike with RabbitMQ, a crash in between cannot leave the
        // message in two places.
        tx.run_batch(PUSH, batch()).await?;
        tx.run_batch(REMOVE, batch()).await?;
        tx.commit().await?;
        Ok(Redriven {
            moved: found.len() as u64,
            undecodable,
        })
    }
}

const MEMBER: &str =
    "-- queue.member\nSELECT d.seen_at FROM queue_consumers d WHERE d.id = $1 {lock}";
const REQUEUE_ALL: &str = "-- queue.requeue_all
    UPDATE queue SET consumer = NULL, delivery_count = delivery_count + 1 WHERE consumer = $1";

fn message_params(message: &Message) -> [Param; 7] {
    [
        Param::int(priority_number(message.priority)),
        Param::text_opt(message.id.as_ref()),
        Param::bytes(&message.body),
        Param::time_opt(message.accepted_at),
        Param::text(rows::origin_name(message.origin)),
        Param::text_opt(message.traceparent.as_ref()),
        Param::count(message.hops.get()),
    ]
}

fn taken(row: Row) -> Result<Taken, StoreError> {
    let mut row = row.reader("queue");
    let id = row.int()?;
    row.named(id);
    Ok(Taken {
        row: id,
        delivery_count: row.count()?,
        message: read_message(&mut row)?,
    })
}

fn dead(row: Row) -> Result<Dead, StoreError> {
    let mut row = row.reader("dead_letters");
    let id = row.text()?;
    row.named(&id);
    Ok(Dead {
        id,
        reason: row.word(DeadReason::parse)?,
        detail: row.text()?,
        died_at: row.time()?,
        message: read_message(&mut row)?,
    })
}

fn read_message(row: &mut Reader) -> Result<Message, StoreError> {
    Ok(Message {
        id: row.text_opt()?,
        body: Bytes::from(row.bytes()?),
        accepted_at: row.time_opt()?,
        origin: row.word(rows::parse_origin)?,
        traceparent: row.text_opt()?,
        priority: if row.int()? > 0 {
            Priority::High
        } else {
            Priority::Normal
        },
        hops: Hops::new(row.count()?),
    })
}

const fn priority_number(priority: Priority) -> i64 {
    match priority {
        Priority::Normal => 0,
        Priority::High => 1,
    }
}
