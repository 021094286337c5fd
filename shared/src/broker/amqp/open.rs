//! An open channel of a consumer, with its messages.

use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{FieldTable, ShortString};
use tokio::time::{Instant, timeout};

use super::acks::Settled;
use super::connection::{Session, close_channel, in_time};
use super::origin::OriginKeys;
use super::properties;
use super::settling::applied;
use super::side_channel::{Counts, counts};
use crate::broker::{BrokerError, Incoming, Tag};

/// How long the end of a subscription waits for RabbitMQ.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closing waits for the proof that what was acknowledged has reached the queue.
const PROOF_TIMEOUT: Duration = Duration::from_secs(3);
/// What was sent so long ago needs no proof.
const SURELY_APPLIED: Duration = Duration::from_secs(10);

/// What to tell RabbitMQ about messages.
pub(super) enum Order {
    Ack(Vec<Tag>),
    Requeue(Vec<Tag>),
}

/// An open channel with its messages.
pub(super) struct Open {
    channel: Channel,
    queue: ShortString,
    epoch: u64,
    settled: Settled,
    deliveries: lapin::Consumer,
    origin: OriginKeys,
    /// When the last acknowledgement or requeueing was sent.
    last_command: Option<Instant>,
}

impl Open {
    /// Opens a channel and subscribes. `epoch` is in the tags of its messages.
    pub(super) async fn subscribe(
        session: &Session,
        queue: &ShortString,
        prefetch: u16,
        epoch: u64,
    ) -> Result<Self, BrokerError> {
        let channel = session.channel().await?;
        // Before the subscription: RabbitMQ applies a prefetch to consumers that come after it.
        in_time(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let arguments = FieldTable::default();
        let deliveries =
            in_time(channel.basic_consume(queue.clone(), "".into(), options, arguments)).await?;
        let settled = Settled::default();
        let origin = session.origin_keys().clone();
        Ok(Self {
            channel,
            queue: queue.clone(),
            epoch,
            settled,
            deliveries,
            origin,
            last_command: None,
        })
    }

    /// Messages that were delivered and not answered for.
    pub(super) fn outstanding(&self) -> u64 {
        self.settled.outstanding()
    }

    pub(super) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// What the queue says of itself. Closes the channel when there is no such queue.
    pub(super) async fn counts(&self) -> Result<Counts, BrokerError> {
        counts(&self.channel, &self.queue).await
    }

    /// The next messages, one at least; an error when the channel is lost or RabbitMQ ended the
    /// subscription. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Vec<Incoming>, String> {
        let mut delivery = match self.deliveries.next().await {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("RabbitMQ ended the consumer".to_owned()),
        };
        let mut incoming = Vec::new();
        loop {
            incoming.push(self.take_in(delivery));
            // What has arrived already goes along, so that one wake-up of the worker serves a whole
            // batch. It never waits, which keeps this cancel-safe: a message is either in the
            // stream or in the returned list.
            match self.deliveries.next().now_or_never() {
                Some(Some(Ok(next))) => delivery = next,
                _ => return Ok(incoming),
            }
        }
    }

    /// Ends the subscription; what was delivered stays to be answered for. Returns the messages
    /// that had come and were not read.
    pub(super) async fn unsubscribe(&mut self) -> Vec<Incoming> {
        let cancel = self
            .channel
            .basic_cancel(self.deliveries.tag(), BasicCancelOptions::default());
        let cancelled = matches!(timeout(STOP_TIMEOUT, cancel).await, Ok(Ok(())));
        let mut unread = Vec::new();
        // Without an answer to the cancel the stream may never end, and the messages go back with
        // the channel.
        while cancelled
            && let Ok(Some(Ok(delivery))) = timeout(STOP_TIMEOUT, self.deliveries.next()).await
        {
            unread.push(self.take_in(delivery));
        }
        unread
    }

    fn take_in(&mut self, delivery: Delivery) -> Incoming {
        self.settled.delivered(delivery.delivery_tag);
        Incoming {
            tag: Tag {
                epoch: self.epoch,
                number: delivery.delivery_tag,
            },
            delivery_count: properties::delivery_count(&delivery.properties),
            message: properties::read(&delivery.properties, delivery.data, &self.origin),
        }
    }

    /// Tells RabbitMQ, with one command for each contiguous run. Tags of other channels are left
    /// out.
    pub(super) async fn answer(&mut self, orders: &[Order]) -> Result<(), String> {
        let mut done = Vec::new();
        let mut back = Vec::new();
        for order in orders {
            match order {
                Order::Ack(tags) => done.extend_from_slice(tags),
                Order::Requeue(tags) => back.extend_from_slice(tags),
            }
        }
        let acks = self.settle(&done);
        let acked = join_all(acks.into_iter().map(|command| {
            let options = BasicAckOptions {
                multiple: command.multiple,
            };
            self.channel.basic_ack(command.tag, options)
        }))
        .await;
        // Only after the acknowledgements were sent: a `multiple` requeue covers every tag up to
        // its own that RabbitMQ still has open, also one whose acknowledgement is on its way.
        let nacks = self.settle(&back);
        let requeued = join_all(nacks.into_iter().map(|command| {
            let options = BasicNackOptions {
                multiple: command.multiple,
                requeue: true,
            };
            self.channel.basic_nack(command.tag, options)
        }))
        .await;
        if !acked.is_empty() || !requeued.is_empty() {
            self.last_command = Some(Instant::now());
        }
        let sent: lapin::Result<Vec<()>> = acked.into_iter().chain(requeued).collect();
        sent.map(drop).map_err(|error| error.to_string())
    }

    fn settle(&mut self, tags: &[Tag]) -> Vec<super::acks::Command> {
        let own = tags
            .iter()
            .filter(|tag| tag.epoch == self.epoch)
            .map(|tag| tag.number);
        self.settled.settle(own)
    }

    /// Closes the channel, once what was answered for has reached the queue. What was not goes
    /// back.
    pub(super) async fn close(self) {
        // The proof costs two round trips. It is skipped where nothing was sent lately, since
        // RabbitMQ has applied what is older.
        if self.is_open()
            && self
                .last_command
                .is_some_and(|at| at.elapsed() < SURELY_APPLIED)
        {
            match timeout(PROOF_TIMEOUT, applied(&self.channel, &self.queue)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!(
                        "RabbitMQ did not say that it has the last acknowledgements; messages may \
                         come again"
                    );
                }
            }
        }
        close_channel(&self.channel).await;
    }
}
