//! Taking work: a connection of its own (RabbitMQ stops reading from connections that publish when it runs
//! low on memory, and acknowledgements must not wait for that), and one task that keeps a channel open on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, message::Delivery};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::acks::{Command, Settled};
use super::connection::{Link, Session, close_channel, in_time};
use super::inbox::Inbox;
use super::properties;
use super::topology::Names;
use crate::backoff::Reconnect;
use crate::broker::{Acker, BrokerError, Consumer, Incoming, Tag};

/// How long `stop` and the end of a consumer wait for RabbitMQ.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The consumer's handle.
pub(super) struct AmqpConsumer {
    inbox: Arc<Inbox>,
    acker: Arc<OrderSender>,
    stop: CancellationToken,
}

/// What to tell RabbitMQ about messages. Goes to the consumer's task through a queue without a bound of its own:
/// nobody can acknowledge more than was delivered, which the prefetch bounds.
enum Order {
    Ack(Vec<Tag>),
    Requeue(Vec<Tag>),
}

struct OrderSender(mpsc::UnboundedSender<Order>);

/// The task of a consumer.
pub(super) struct Attendant {
    pub(super) link: Link,
    pub(super) names: Names,
    pub(super) prefetch: u16,
    /// Numbers every channel of every consumer of the broker.
    pub(super) epochs: Arc<AtomicU64>,
    /// The broker is being closed.
    pub(super) closing: CancellationToken,
    stop: CancellationToken,
    inbox: Arc<Inbox>,
    orders: mpsc::UnboundedReceiver<Order>,
}

/// Why a channel was left.
enum Left {
    /// It was lost, or RabbitMQ ended the consumer.
    Lost(String),
    /// Nobody needs it any more.
    Done,
}

impl AmqpConsumer {
    /// A consumer and its task, to be run with [`Attendant::run`].
    pub(super) fn new(
        link: Link,
        names: Names,
        prefetch: u16,
        epochs: Arc<AtomicU64>,
        closing: CancellationToken,
    ) -> (Self, Attendant) {
        let (sender, orders) = mpsc::unbounded_channel();
        let inbox = Arc::new(Inbox::default());
        let stop = closing.child_token();
        let prefetch = prefetch.max(1);
        let consumer = Self { inbox: Arc::clone(&inbox), acker: Arc::new(OrderSender(sender)), stop: stop.clone() };
        (consumer, Attendant { link, names, prefetch, epochs, closing, stop, inbox, orders })
    }
}

impl Drop for AmqpConsumer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[async_trait]
impl Consumer for AmqpConsumer {
    async fn next_batch(&mut self, max: usize) -> Option<Vec<Incoming>> {
        self.inbox.take(max).await
    }

    fn acker(&self) -> Arc<dyn Acker> {
        Arc::clone(&self.acker) as Arc<dyn Acker>
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        drop(timeout(2 * STOP_TIMEOUT, self.inbox.closed()).await);
    }
}

#[async_trait]
impl Acker for OrderSender {
    async fn ack(&self, tags: Vec<Tag>) {
        // Once the task has ended, RabbitMQ has everything back that was not acknowledged.
        drop(self.0.send(Order::Ack(tags)));
    }

    async fn requeue(&self, tags: Vec<Tag>) {
        drop(self.0.send(Order::Requeue(tags)));
    }
}

impl Attendant {
    /// Keeps a channel open and serves it, until the consumer is stopped and everything is answered for, or
    /// the broker is closed.
    pub(super) async fn run(mut self) {
        let mut pauses = Reconnect::default();
        let mut number = 0;
        while let Some(session) = self.session().await {
            // A second channel on one connection: RabbitMQ closed the first, or somebody deleted the queue.
            let declared = if session.number == number { session.declare().await } else { Ok(()) };
            number = session.number;
            let left = match declared {
                Ok(()) => self.attend(&session).await,
                Err(error) => Left::Lost(error.to_string()),
            };
            let Left::Lost(why) = left else { break };
            self.inbox.empty();
            if session.is_open() {
                tracing::warn!(reason = why, "lost the consumer's channel; opening another");
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    () = tokio::time::sleep(pauses.next()) => {}
                }
            } else {
                pauses.reset();
            }
        }
        self.inbox.close();
    }

    /// The connection to work on; `None` when none is needed any more.
    async fn session(&self) -> Option<Arc<Session>> {
        if self.stop.is_cancelled() {
            return None;
        }
        tokio::select! {
            () = self.stop.cancelled() => None,
            session = wait_open(&self.link) => session,
        }
    }

    async fn attend(&mut self, session: &Session) -> Left {
        let (channel, mut deliveries) = match self.subscribe(session).await {
            Ok(opened) => opened,
            Err(error) => return Left::Lost(error.to_string()),
        };
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = Open { channel, epoch, settled: Settled::default() };
        let left = loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break Left::Done,
                order = self.orders.recv() => match order {
                    Some(order) => if let Err(error) = open.answer(self.gather(order)).await {
                        break Left::Lost(error);
                    },
                    None => break Left::Done,
                },
                delivery = deliveries.next() => match delivery {
                    Some(Ok(delivery)) => {
                        self.inbox.push(open.take_in(delivery));
                        while let Some(Some(Ok(delivery))) = deliveries.next().now_or_never() {
                            self.inbox.push(open.take_in(delivery));
                        }
                    }
                    Some(Err(error)) => break Left::Lost(error.to_string()),
                    None => break Left::Lost("RabbitMQ ended the consumer".to_owned()),
                },
            }
        };
        if matches!(left, Left::Done) {
            self.wind_up(open, deliveries).await;
        }
        left
    }

    async fn subscribe(&self, session: &Session) -> Result<(Channel, lapin::Consumer), BrokerError> {
        let channel = session.channel().await?;
        in_time(channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let work = self.names.work.clone();
        let deliveries = in_time(channel.basic_consume(work, "".into(), options, arguments)).await?;
        Ok((channel, deliveries))
    }

    /// This order and those that wait behind it.
    fn gather(&mut self, first: Order) -> Vec<Order> {
        let mut orders = vec![first];
        while let Ok(order) = self.orders.try_recv() {
            orders.push(order);
        }
        orders
    }

    /// Takes no more messages, gives back those that were not handed out, and goes on answering for the others
    /// until nobody can answer any more or the broker is closed. Closing the channel gives back the rest.
    async fn wind_up(&mut self, mut open: Open, mut deliveries: lapin::Consumer) {
        let cancel = open.channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default());
        let cancelled = timeout(STOP_TIMEOUT, cancel).await.is_ok();
        let mut unread = self.inbox.close();
        while cancelled && let Ok(Some(Ok(delivery))) = timeout(STOP_TIMEOUT, deliveries.next()).await {
            unread.push(open.take_in(delivery));
        }
        let unread = Order::Requeue(unread.into_iter().map(|incoming| incoming.tag).collect());
        let mut working = open.answer(vec![unread]).await.is_ok();
        while working {
            let order = tokio::select! {
                biased;
                order = self.orders.recv() => order,
                () = self.closing.cancelled() => None,
            };
            let Some(order) = order else { break };
            working = open.answer(self.gather(order)).await.is_ok();
        }
        close_channel(&open.channel).await;
    }
}

/// A connection that is not just known to be lost.
async fn wait_open(link: &Link) -> Option<Arc<Session>> {
    loop {
        let session = link.wait().await?;
        if session.is_open() {
            return Some(session);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An open channel with its messages.
struct Open {
    channel: Channel,
    epoch: u64,
    settled: Settled,
}

impl Open {
    fn take_in(&mut self, delivery: Delivery) -> Incoming {
        self.settled.delivered(delivery.delivery_tag);
        Incoming {
            tag: Tag { epoch: self.epoch, number: delivery.delivery_tag },
            delivery_count: properties::delivery_count(&delivery.properties),
            message: properties::read(&delivery.properties, delivery.data),
        }
    }

    /// Tells RabbitMQ, with one command for each contiguous run.
    async fn answer(&mut self, orders: Vec<Order>) -> Result<(), String> {
        let (mut done, mut back) = (Vec::new(), Vec::new());
        for order in orders {
            match order {
                Order::Ack(tags) => done.extend(tags),
                Order::Requeue(tags) => back.extend(tags),
            }
        }
        let acks = self.settle(done);
        join_all(acks.into_iter().map(|command| {
            let options = BasicAckOptions { multiple: command.multiple };
            self.channel.basic_ack(command.tag, options)
        }))
        .await
        .into_iter()
        .chain({
            let nacks = self.settle(back);
            join_all(nacks.into_iter().map(|command| {
                let options = BasicNackOptions { multiple: command.multiple, requeue: true };
                self.channel.basic_nack(command.tag, options)
            }))
            .await
        })
        .collect::<lapin::Result<Vec<()>>>()
        .map(drop)
        .map_err(|error| error.to_string())
    }

    /// Tags of other channels are left out: RabbitMQ has redelivered those messages.
    fn settle(&mut self, tags: Vec<Tag>) -> Vec<Command> {
        let own = tags.into_iter().filter(|tag| tag.epoch == self.epoch).map(|tag| tag.number);
        self.settled.settle(own)
    }
}
