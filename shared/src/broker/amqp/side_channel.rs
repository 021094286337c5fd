//! A channel that takes some messages of a queue, settles some of them, and lets the rest go back:
//! for looking at dead letters and for putting them back to work.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use tokio::time::timeout;

use super::acks::Settled;
use super::connection::{Session, broker_error, close_channel, in_time};
use super::settling::{applied, get};
use crate::broker::BrokerError;

/// The most messages that are taken at once, and so are in memory with their bodies.
pub(super) const WINDOW: usize = 100;
/// How long to wait for a message that the queue counted: others may have taken it meanwhile.
const QUIET: Duration = Duration::from_millis(500);
/// How long to wait for messages to be back on their queue.
const BACK: Duration = Duration::from_secs(5);

/// How many messages RabbitMQ requeues in their order by one command: it has them in a map, and
/// Erlang's maps are sorted up to this size.
const IN_ORDER: usize = 32;
/// After how many commands to let the queue apply them, and for how long: RabbitMQ sends a few of
/// them ahead, and would requeue the others in any order (see `settling.rs`).
const COMMANDS_AT_ONCE: usize = 16;
const PACE: Duration = Duration::from_millis(250);

/// What a queue says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages that are ready.
    pub(super) ready: u32,
    /// Consumers of all processes.
    pub(super) consumers: u32,
}

/// Asks a queue for its counts. A quorum queue whose leader does not answer within 250 ms counts as
/// empty, without consumers: RabbitMQ says so.
pub(super) async fn counts(channel: &Channel, queue: &ShortString) -> Result<Counts, BrokerError> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared =
        in_time(channel.queue_declare(queue.clone(), options, FieldTable::default())).await?;
    Ok(Counts {
        ready: declared.message_count(),
        consumers: declared.consumer_count(),
    })
}

/// An open channel, and what it holds of its queue. [`SideChannel::release`] ends it.
pub(super) struct SideChannel {
    channel: Channel,
    queue: ShortString,
    settled: Settled,
    /// Taken and neither settled nor requeued.
    held: BTreeSet<u64>,
    /// The last tag of each piece that was taken: pieces that are requeued by one command come back
    /// in any order.
    pieces: Vec<u64>,
    /// Taken by a proof, and handed out by the next [`SideChannel::take`].
    spare: VecDeque<Delivery>,
}

impl SideChannel {
    /// Opens a channel on the session's connection.
    pub(super) async fn open(session: &Session, queue: &ShortString) -> Result<Self, BrokerError> {
        let channel = session.channel().await?;
        Ok(Self {
            channel,
            queue: queue.clone(),
            settled: Settled::default(),
            held: BTreeSet::new(),
            pieces: Vec::new(),
            spare: VecDeque::new(),
        })
    }

    /// What the queue says of itself.
    pub(super) async fn counts(&self) -> Result<Counts, BrokerError> {
        counts(&self.channel, &self.queue).await
    }

    /// Takes up to `count` messages, [`WINDOW`] at most, the oldest first. None at all means that
    /// none is ready; fewer than asked for does not.
    pub(super) async fn take(&mut self, count: usize) -> Result<Vec<Delivery>, BrokerError> {
        let count = count.min(WINDOW);
        let mut taken: Vec<Delivery> = self.spare.drain(..self.spare.len().min(count)).collect();
        if taken.len() == count {
            return Ok(taken);
        }
        // The only way in AMQP to learn for certain that a queue is empty.
        let Some(first) = get(&self.channel, &self.queue).await? else {
            return Ok(taken);
        };
        self.note(&first);
        self.pieces.push(first.delivery_tag);
        taken.push(first);
        let ready = self.counts().await?.ready as usize;
        let more = ready.min(count - taken.len());
        if more > 0 {
            self.consume(more, &mut taken).await?;
        }
        Ok(taken)
    }

    /// Takes messages by a consumer of its own: its prefetch is how many the queue hands out, and
    /// all of them are settled by one command, where each message that was fetched singly needs a
    /// command of its own.
    async fn consume(
        &mut self,
        count: usize,
        taken: &mut Vec<Delivery>,
    ) -> Result<(), BrokerError> {
        let prefetch = u16::try_from(count).unwrap_or(u16::MAX);
        in_time(self.channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let arguments = FieldTable::default();
        let mut deliveries =
            in_time(
                self.channel
                    .basic_consume(self.queue.clone(), "".into(), options, arguments),
            )
            .await?;
        let mut left = count;
        // A message that the queue counted may have gone to somebody else. Waiting for it is
        // bounded, and what came is enough for now.
        while left > 0
            && let Ok(Some(delivery)) = timeout(QUIET, deliveries.next()).await
        {
            let delivery = delivery.map_err(|error| broker_error(&error))?;
            self.note(&delivery);
            taken.push(delivery);
            left -= 1;
        }
        in_time(
            self.channel
                .basic_cancel(deliveries.tag(), BasicCancelOptions::default()),
        )
        .await?;
        // The stream ends behind what came before the answer.
        while let Ok(Some(Ok(delivery))) = timeout(QUIET, deliveries.next()).await {
            self.note(&delivery);
            taken.push(delivery);
        }
        self.pieces
            .extend(taken.last().map(|last| last.delivery_tag));
        Ok(())
    }

    fn note(&mut self, delivery: &Delivery) {
        self.settled.delivered(delivery.delivery_tag);
        self.held.insert(delivery.delivery_tag);
    }

    /// Takes messages off the queue for good. When this returns, the queue has done so.
    pub(super) async fn settle(&mut self, tags: &[u64]) -> Result<(), BrokerError> {
        if tags.is_empty() {
            return Ok(());
        }
        let acks = self
            .settled
            .settle(tags.iter().copied())
            .into_iter()
            .map(|command| {
                let options = BasicAckOptions {
                    multiple: command.multiple,
                };
                self.channel.basic_ack(command.tag, options)
            });
        in_time(async {
            join_all(acks)
                .await
                .into_iter()
                .collect::<lapin::Result<Vec<()>>>()
        })
        .await?;
        // `applied` proves by taking messages. They are held like the others, and handed out by the
        // next `take`.
        for message in applied(&self.channel, &self.queue).await? {
            self.note(&message);
            self.pieces.push(message.delivery_tag);
            self.spare.push_back(message);
        }
        for tag in tags {
            self.held.remove(tag);
        }
        Ok(())
    }

    /// Requeues what is held and not settled, in its order, and closes the channel. RabbitMQ puts
    /// it before what was never taken, and behind what was requeued earlier. When this returns, the
    /// queue has it again, unless it takes longer than [`BACK`].
    pub(super) async fn release(self) {
        if !self.held.is_empty() && !matches!(timeout(BACK, self.requeue()).await, Ok(Ok(()))) {
            tracing::debug!("messages that were looked at are not back on their queue yet");
        }
        close_channel(&self.channel).await;
    }

    async fn requeue(&self) -> Result<(), BrokerError> {
        let before = self.counts().await?.ready as usize;
        let mut from = 0;
        let mut given = 0;
        let mut commands = 0;
        for end in &self.pieces {
            let piece: Vec<u64> = self.held.range(from..=*end).copied().collect();
            from = end + 1;
            for some in piece.chunks(IN_ORDER) {
                let Some(last) = some.last() else { continue };
                // All before these are settled or requeued already, so that `multiple` means these.
                let options = BasicNackOptions {
                    multiple: true,
                    requeue: true,
                };
                in_time(self.channel.basic_nack(*last, options)).await?;
                given += some.len();
                commands += 1;
                if commands % COMMANDS_AT_ONCE == 0 {
                    // Not an error when it takes longer: the order may suffer, but no message does.
                    drop(timeout(PACE, self.until_ready(before + given)).await);
                }
            }
        }
        self.until_ready(given).await
    }

    async fn until_ready(&self, count: usize) -> Result<(), BrokerError> {
        while (self.counts().await?.ready as usize) < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}
