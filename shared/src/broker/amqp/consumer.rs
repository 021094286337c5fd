//! Taking work: a connection of its own (RabbitMQ stops reading from connections that publish when
//! it runs low on memory, and acknowledgements must not wait for that), and one task that keeps a
//! channel open on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Link, Session};
use super::inbox::Inbox;
use super::open::{Open, Order, STOP_TIMEOUT};
use super::standing::{CAME_BACK, LOOK_EVERY, SETTLE, Sight, Standing, Verdict, judge};
use super::topology::Names;
use crate::backoff::Reconnect;
use crate::broker::{Acker, BrokerError, Consumer, Incoming, Tag};
use crate::repeat::pause;
use crate::telemetry::metrics::{Metrics, Resubscribed};

/// The consumer's handle; a task that it starts does the work.
pub(super) struct AmqpConsumer {
    inbox: Arc<Inbox>,
    acker: Arc<OrderSender>,
    stop: CancellationToken,
}

/// To the consumer's task, through a queue without a bound of its own: nobody can acknowledge more
/// than was delivered, which the prefetch bounds.
struct OrderSender(mpsc::UnboundedSender<Order>);

/// What a consumer shares with its broker.
pub(super) struct Surroundings {
    pub(super) link: Link,
    pub(super) names: Names,
    /// Numbers every channel of every consumer of the broker.
    pub(super) epochs: Arc<AtomicU64>,
    pub(super) metrics: Arc<Metrics>,
    /// The broker is being closed.
    pub(super) closing: CancellationToken,
}

/// The task of a consumer.
pub(super) struct Attendant {
    around: Surroundings,
    prefetch: u16,
    standing: Arc<Standing>,
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

/// The channels of a consumer: one that is subscribed, and those before it, for as long as messages
/// of theirs are not answered for.
struct Channels {
    open: Open,
    draining: Vec<Open>,
    /// When the last message came.
    last_message: Instant,
    /// When to look at the queue, if no message comes.
    next_look: Instant,
    /// The last renewal as a precaution, until a message comes.
    renewed: Option<Renewed>,
}

/// A renewal of a subscription that the queue counted.
struct Renewed {
    at: Instant,
    /// The queue had messages, and this consumer room for them.
    passed_over: bool,
}

impl AmqpConsumer {
    /// A consumer and its task, to be run with [`Attendant::run`].
    pub(super) fn new(around: Surroundings, prefetch: u16) -> (Self, Attendant) {
        let (sender, orders) = mpsc::unbounded_channel();
        let inbox = Arc::new(Inbox::default());
        // A child: closing the broker stops this consumer, and stopping this consumer leaves the
        // others alone.
        let stop = around.closing.child_token();
        let prefetch = prefetch.max(1);
        let standing = Arc::new(Standing::new());
        let consumer = Self {
            inbox: Arc::clone(&inbox),
            acker: Arc::new(OrderSender(sender)),
            stop: stop.clone(),
        };
        (
            consumer,
            Attendant {
                around,
                prefetch,
                standing,
                stop,
                inbox,
                orders,
            },
        )
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
    /// Whether this consumer gets work.
    pub(super) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// Keeps a channel open and serves it, until the consumer is stopped and everything is answered
    /// for, or the broker is closed.
    pub(super) async fn run(mut self) {
        let mut pauses = Reconnect::default();
        let mut number = 0;
        while let Some(session) = self.session().await {
            // A second channel on one connection: RabbitMQ closed the first, or somebody deleted
            // the queue.
            let declared = if session.number == number {
                session.declare().await
            } else {
                Ok(())
            };
            number = session.number;
            let left = match declared {
                Ok(()) => self.attend(&session).await,
                Err(error) => Left::Lost(error.to_string()),
            };
            let Left::Lost(why) = left else { break };
            // Before the inbox is emptied and the next channel is opened: whoever asks meanwhile
            // must hear that no work comes in.
            self.standing.away();
            // RabbitMQ has requeued these messages with their channel. Handed out, they would be
            // worked on twice, and their tags mean nothing on the next channel.
            self.inbox.empty();
            // On a connection that is lost the link paces the tries. On one that is open nothing
            // else would: a queue that cannot be consumed from would be asked without a pause.
            if session.is_open() {
                tracing::warn!(reason = why, "lost the consumer's channel; opening another");
                pause(&self.stop, pauses.next()).await;
            } else {
                pauses.reset();
            }
        }
        self.standing.ended();
        self.inbox.close();
    }

    /// The connection to work on; `None` when none is needed any more.
    async fn session(&self) -> Option<Arc<Session>> {
        if self.stop.is_cancelled() {
            return None;
        }
        tokio::select! {
            () = self.stop.cancelled() => None,
            session = wait_open(&self.around.link) => session,
        }
    }

    async fn subscribe(&self, session: &Session) -> Result<Open, BrokerError> {
        let epoch = self.around.epochs.fetch_add(1, Ordering::Relaxed) + 1;
        Open::subscribe(session, &self.around.names.work, self.prefetch, epoch).await
    }

    async fn attend(&mut self, session: &Session) -> Left {
        let mut channels = match self.subscribe(session).await {
            Ok(open) => Channels::new(open),
            Err(error) => return Left::Lost(error.to_string()),
        };
        // The count is what later looks compare with. Taken after subscribing, it includes this
        // consumer.
        match channels.open.counts().await {
            Ok(queue) => self.standing.seen(queue.consumers),
            Err(error) => return Left::Lost(error.to_string()),
        }
        let left = loop {
            tokio::select! {
                // Stopping comes first, and then orders, because acknowledgements make room at
                // RabbitMQ and a run of messages must not hold them up. Messages do not starve:
                // orders come only for messages that were delivered.
                biased;
                () = self.stop.cancelled() => break Left::Done,
                order = self.orders.recv() => match order {
                    Some(order) => if let Err(error) = channels.answer(&self.gather(order)).await {
                        break Left::Lost(error);
                    },
                    None => break Left::Done,
                },
                incoming = channels.open.next() => match incoming {
                    Ok(incoming) => {
                        let came_back = channels.heard(&incoming);
                        incoming.into_iter().for_each(|message| self.inbox.push(message));
                        if came_back {
                            self.was_deaf();
                        }
                    }
                    Err(error) => break Left::Lost(error),
                },
                () = async {
                    tokio::select! {
                        () = self.standing.asked() => {}
                        () = tokio::time::sleep_until(channels.next_look) => {}
                    }
                } => {
                    // A look asks RabbitMQ several times, each with a bound of 10 s. Stopping does
                    // not wait for that.
                    let looked = tokio::select! {
                        () = self.stop.cancelled() => break Left::Done,
                        looked = self.look(session, &mut channels) => looked,
                    };
                    if let Err(error) = looked {
                        // A passive declare that fails closes its channel. Where the channel lives
                        // on, only the look has failed, and the consumer still gets its messages.
                        if !channels.open.is_open() {
                            break Left::Lost(error.to_string());
                        }
                        tracing::warn!(%error, "the work queue could not be looked at; trying \
                            again");
                    }
                }
            }
        };
        if matches!(left, Left::Done) {
            self.standing.ended();
            self.wind_up(channels).await;
        }
        left
    }

    /// Asks the queue whether it may have forgotten this consumer, and subscribes again if so, on a
    /// channel of its own: what is in flight stays where it is, and is acknowledged there.
    async fn look(&self, session: &Session, channels: &mut Channels) -> Result<(), BrokerError> {
        channels.next_look = Instant::now() + LOOK_EVERY;
        let queue = channels.open.counts().await?;
        let sight = Sight {
            quiet_for: channels.last_message.elapsed(),
            outstanding: channels.outstanding(),
            prefetch: self.prefetch,
            counted: self.standing.counted(),
            queue,
        };
        if judge(sight) == Verdict::Keep {
            self.standing.seen(sight.counted.max(queue.consumers));
            return Ok(());
        }
        // The new subscription comes first, so that there is no moment in which the queue has no
        // consumer of this worker.
        let fresh = self.subscribe(session).await?;
        for message in channels.renew(fresh).await {
            self.inbox.push(message);
        }
        let mut counted = channels.open.counts().await?.consumers;
        // The old subscription was taken off and the new one put on. More than before: the old one
        // was not there. Or another worker was just about to do the same, and had both for a
        // moment: so it is counted once more before anybody is alarmed.
        let mut forgotten = sight.is_doubtful() && counted > queue.consumers;
        if forgotten {
            tokio::time::sleep(SETTLE).await;
            counted = channels.open.counts().await?.consumers;
            forgotten = counted > queue.consumers;
        }
        if forgotten {
            tracing::warn!(
                consumers = counted,
                "the work queue did not know this consumer any more (was it deleted and declared \
                 again?): subscribed again"
            );
            self.around.metrics.resubscribed(Resubscribed::Forgotten);
        } else {
            self.around.metrics.resubscribed(Resubscribed::Precaution);
            // Of a consumer that has gone messages come back to the others, too.
            if queue.consumers >= sight.counted {
                channels.renewed = Some(Renewed {
                    at: Instant::now(),
                    passed_over: sight.is_passed_over(),
                });
            }
        }
        self.standing.seen(counted);
        Ok(())
    }

    /// The subscription before this one was counted by the queue, and its messages never came.
    fn was_deaf(&self) {
        tracing::warn!(
            "the work queue counted this consumer, and messages for it did not arrive (was it \
             deleted and declared again?): subscribed again, and they came"
        );
        self.around.metrics.resubscribed(Resubscribed::Forgotten);
        // The queue's count may still have the deaf one in it. Taken for others that went away, it
        // would hide the next time.
        self.standing.seen(0);
    }

    /// This order and those that wait behind it.
    fn gather(&mut self, first: Order) -> Vec<Order> {
        let mut orders = vec![first];
        while let Ok(order) = self.orders.try_recv() {
            orders.push(order);
        }
        orders
    }

    /// Takes no more messages, requeues those that were not handed out, and goes on answering for
    /// the others until nobody can answer any more or the broker is closed. Closing the channels
    /// requeues the rest.
    async fn wind_up(&mut self, mut channels: Channels) {
        // The subscription ends before the inbox is closed: what RabbitMQ still sends in between
        // has to be requeued as well.
        let mut unread = channels.open.unsubscribe().await;
        unread.extend(self.inbox.close());
        let unread = Order::Requeue(unread.into_iter().map(|incoming| incoming.tag).collect());
        let mut working = channels.answer(&[unread]).await.is_ok();
        while working {
            let order = tokio::select! {
                // Orders first: closing must not cut off acknowledgements that are already in the
                // channel, or what was delivered is delivered again.
                biased;
                order = self.orders.recv() => order,
                () = self.around.closing.cancelled() => None,
            };
            let Some(order) = order else { break };
            working = channels.answer(&self.gather(order)).await.is_ok();
        }
        channels.close().await;
    }
}

impl Channels {
    fn new(open: Open) -> Self {
        let now = Instant::now();
        Self {
            open,
            draining: Vec::new(),
            last_message: now,
            next_look: now + LOOK_EVERY,
            renewed: None,
        }
    }

    /// Messages have come. Returns whether the subscription before this one was deaf: they come at
    /// once, after the queue kept them from it, or handed them to it in vain. Those RabbitMQ hands
    /// out again once its channel is closed.
    fn heard(&mut self, messages: &[Incoming]) -> bool {
        self.last_message = Instant::now();
        self.next_look = self.last_message + LOOK_EVERY;
        let again = messages.iter().any(|message| message.delivery_count > 0);
        self.renewed.take().is_some_and(|renewed| {
            renewed.at.elapsed() < CAME_BACK
                && (renewed.passed_over || (again && self.draining.is_empty()))
        })
    }

    fn outstanding(&self) -> u64 {
        self.draining
            .iter()
            .chain([&self.open])
            .map(Open::outstanding)
            .sum()
    }

    /// Puts a fresh channel in the place of the one that is subscribed. Returns what had come there
    /// meanwhile.
    async fn renew(&mut self, fresh: Open) -> Vec<Incoming> {
        let mut old = std::mem::replace(&mut self.open, fresh);
        let unread = old.unsubscribe().await;
        self.draining.push(old);
        self.drain().await;
        unread
    }

    /// Tells RabbitMQ the outcome of messages, each on the channel that it came by. Tags of lost
    /// channels are left out: RabbitMQ has redelivered those messages.
    async fn answer(&mut self, orders: &[Order]) -> Result<(), String> {
        // An old channel that fails is no reason to leave the one that is subscribed: its messages
        // are redelivered by RabbitMQ, as after any loss.
        for old in &mut self.draining {
            if let Err(error) = old.answer(orders).await {
                tracing::debug!(error, "an earlier channel of the consumer is lost");
            }
        }
        self.open.answer(orders).await?;
        self.drain().await;
        Ok(())
    }

    /// Closes earlier channels that nobody has to answer on any more.
    async fn drain(&mut self) {
        let (draining, done): (Vec<Open>, Vec<Open>) = std::mem::take(&mut self.draining)
            .into_iter()
            .partition(|old| old.is_open() && old.outstanding() > 0);
        self.draining = draining;
        join_all(done.into_iter().map(Open::close)).await;
    }

    async fn close(self) {
        join_all(
            self.draining
                .into_iter()
                .chain([self.open])
                .map(Open::close),
        )
        .await;
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
