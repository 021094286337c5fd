//! RabbitMQ as the broker, by AMQP 0-9-1. Works on RabbitMQ 3.10 and later, needs no plugin.
//!
//! One connection publishes and answers questions; each consumer has a connection of its own. All
//! of them come back by themselves, with the topology, for as long as the broker is not closed.

mod acks;
mod connection;
mod consumer;
mod dead_letters;
mod dial;
mod inbox;
mod open;
mod options;
mod origin;
mod properties;
mod publisher;
mod removal;
mod settling;
mod side_channel;
mod standing;
mod stream;
mod tls;
mod topology;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use lapin::BasicProperties;
use lapin::types::ShortString;
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::connection::{Link, close_channel};
use self::consumer::{AmqpConsumer, Surroundings};
pub use self::options::AmqpOptions;
use self::options::{Target, address};
use self::origin::OriginKeys;
use self::publisher::{Outgoing, Publisher};
use self::side_channel::{Counts, counts};
use self::standing::Standing;
use self::topology::ROUTING_KEY;
use super::{Broker, BrokerError, Consumer, Consuming, DeadLetter, DeadReason, Message, Redriven};
use crate::clock::Clock;
use crate::domain::event::Event;
use crate::telemetry::metrics::Metrics;

/// What a message with these properties is to a worker, published by anybody, and how often the
/// broker says that it came before. Without the installation's keys nothing proves that it is of
/// Posthaste's own.
#[must_use]
pub fn received(properties: &BasicProperties, body: Vec<u8>) -> (Message, u32) {
    let nobodys = OriginKeys::default();
    (
        properties::read(properties, body, &nobodys),
        properties::delivery_count(properties),
    )
}

/// The bound of a `ping`: connection and one round trip.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long calls other than `publish` wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long `close` waits for the connections to close in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// RabbitMQ as a broker, over one connection.
pub struct AmqpBroker {
    target: Arc<Target>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    link: Link,
    publisher: Publisher,
    epochs: Arc<AtomicU64>,
    /// How its consumers stand; those that are gone fall out.
    consumers: Mutex<Vec<Weak<Standing>>>,
    tasks: TaskTracker,
    closing: CancellationToken,
    /// Ends the tasks of a broker that is dropped without `close`.
    _end: DropGuard,
}

impl AmqpBroker {
    /// Checks the options and starts to connect. That RabbitMQ cannot be reached now is no error
    /// here: [`Broker::ping`] and the other calls tell. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BrokerError::Configuration`] when the URL or a TLS file cannot be used.
    pub async fn connect(
        options: AmqpOptions,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        // Checking reads certificate files and the system's authorities from the disk.
        let target = tokio::task::spawn_blocking(move || Target::check(&options).map(Arc::new))
            .await
            .map_err(|error| BrokerError::Configuration(error.to_string()))??;
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let (link, keeper) =
            Link::start(Arc::clone(&target), Arc::clone(&metrics), closing.clone());
        tasks.spawn(keeper);
        let (publisher, lanes) = Publisher::start(link.clone(), target.confirm_timeout, &closing);
        for lane in lanes {
            tasks.spawn(lane);
        }
        let end = closing.clone().drop_guard();
        let epochs = Arc::default();
        let consumers = Mutex::default();
        Ok(Self {
            target,
            metrics,
            clock,
            link,
            publisher,
            epochs,
            consumers,
            tasks,
            closing,
            _end: end,
        })
    }

    async fn publish_one(&self, message: Outgoing) -> Result<(), BrokerError> {
        let answer = self.publisher.publish(vec![message]).await.pop();
        answer.unwrap_or_else(|| Err(BrokerError::Unavailable("no answer".to_owned())))
    }

    async fn counts_of(
        &self,
        queue: &ShortString,
        patience: Duration,
    ) -> Result<Counts, BrokerError> {
        let channel = self.link.session(patience).await?.channel().await?;
        let counts = counts(&channel, queue).await?;
        close_channel(&channel).await;
        Ok(counts)
    }

    async fn depth_of(&self, queue: &ShortString) -> Result<u64, BrokerError> {
        Ok(self.counts_of(queue, PATIENCE).await?.ready.into())
    }

    fn standings(&self) -> Vec<Arc<Standing>> {
        let mut consumers = self
            .consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Consumers leave without saying so. The list is cleaned whenever it is read, so that it
        // does not grow with them.
        consumers.retain(|consumer| consumer.strong_count() > 0);
        consumers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether each consumer of this client gets work.
    async fn check_consumers(&self) -> Consuming {
        let standings = self.standings();
        if standings.is_empty() {
            return Consuming::NoConsumer;
        }
        let counts = timeout(
            PING_TIMEOUT,
            self.counts_of(&self.target.names.work, PING_TIMEOUT),
        )
        .await;
        let Ok(Ok(counts)) = counts else {
            return Consuming::NotSubscribed;
        };
        let answers = join_all(
            standings
                .iter()
                .map(|standing| standing.check(counts.consumers)),
        )
        .await;
        let has = |wanted| answers.contains(&wanted);
        // One consumer that gets no work is enough, however the others stand: nobody who only
        // watches the queue would notice it.
        if has(Consuming::NotSubscribed) {
            Consuming::NotSubscribed
        } else if has(Consuming::Subscribed) {
            Consuming::Subscribed
        } else {
            Consuming::NoConsumer
        }
    }

    /// What a node says that it is.
    async fn server(&self, node: &AMQPUri) -> String {
        match timeout(PING_TIMEOUT, dial::greet(&self.target, node)).await {
            Ok(Ok(properties)) => {
                let of = |name: &str| {
                    properties
                        .iter()
                        .find(|(key, _)| key == name)
                        .map(|(_, value)| value.as_str())
                };
                [of("product"), of("version")]
                    .map(|text| text.unwrap_or("?"))
                    .join(" ")
            }
            Ok(Err(error)) => format!("no answer: {error}"),
            Err(_) => format!("no answer within {PING_TIMEOUT:?}"),
        }
    }

    async fn round_trip(&self) -> Result<(), BrokerError> {
        self.counts_of(&self.target.names.work, PING_TIMEOUT)
            .await
            .map(drop)
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let outgoing = messages.into_iter().map(|message| Outgoing {
            exchange: self.target.names.notifications.clone(),
            routing_key: ROUTING_KEY.into(),
            // RabbitMQ confirms a message that no queue takes. Only `mandatory` makes it return
            // such a message, and accepted would not mean durable without it.
            mandatory: true,
            properties: properties::of_message(&message, &self.target.origin),
            body: message.body,
        });
        self.publisher.publish(outgoing.collect()).await
    }

    async fn publish_events(&self, events: &[Event]) -> Vec<Result<(), BrokerError>> {
        let outgoing = events.iter().map(|event| Outgoing {
            exchange: self.target.names.events.clone(),
            routing_key: event.kind.as_str().into(),
            // Nobody has to listen to events: they are in the store, and an event without a queue
            // is not an error.
            mandatory: false,
            properties: properties::of_event(event),
            body: event.body.as_str().to_owned().into(),
        });
        self.publisher.publish(outgoing.collect()).await
    }

    async fn consume(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        if self.closing.is_cancelled() {
            return Err(BrokerError::Unavailable("closed".to_owned()));
        }
        // Its connection is closed by its own task, after the last acknowledgement went out.
        let end = CancellationToken::new();
        let (link, keeper) = Link::start(
            Arc::clone(&self.target),
            Arc::clone(&self.metrics),
            end.clone(),
        );
        let around = Surroundings {
            link,
            names: self.target.names.clone(),
            epochs: Arc::clone(&self.epochs),
            metrics: Arc::clone(&self.metrics),
            closing: self.closing.clone(),
        };
        let (consumer, attendant) = AmqpConsumer::new(around, prefetch);
        self.consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&attendant.standing()));
        self.tasks.spawn(keeper);
        self.tasks.spawn(async move {
            let _end = end.drop_guard();
            attendant.run().await;
        });
        Ok(Box::new(consumer))
    }

    async fn dead_letter(
        &self,
        message: &Message,
        reason: DeadReason,
        detail: &str,
    ) -> Result<(), BrokerError> {
        self.publish_one(Outgoing {
            exchange: self.target.names.dead.clone(),
            routing_key: ShortString::default(),
            mandatory: true,
            properties: properties::of_dead(
                message,
                &self.target.origin,
                reason,
                detail,
                self.clock.now(),
            ),
            body: message.body.clone(),
        })
        .await
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, BrokerError> {
        let session = self.link.session(PATIENCE).await?;
        dead_letters::look(&session, &self.target.names.dead, limit).await
    }

    async fn redrive(&self, ids: Option<&[String]>, limit: u32) -> Result<Redriven, BrokerError> {
        let session = self.link.session(PATIENCE).await?;
        dead_letters::redrive(&session, &self.target.names, &self.publisher, ids, limit).await
    }

    async fn consuming(&self) -> Consuming {
        self.check_consumers().await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        let late = || BrokerError::Unavailable(format!("no answer within {PING_TIMEOUT:?}"));
        // A little longer than what it encloses, so that the more exact error of the call inside
        // wins over this one.
        timeout(PING_TIMEOUT + Duration::from_millis(100), self.round_trip())
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn depths(&self) -> Result<BTreeMap<&'static str, u64>, BrokerError> {
        let names = &self.target.names;
        Ok(BTreeMap::from([
            ("work", self.depth_of(&names.work).await?),
            ("dead", self.depth_of(&names.dead).await?),
        ]))
    }

    async fn describe(&self) -> Vec<(String, String)> {
        let (target, names) = (&self.target, &self.target.names);
        let first = &target.nodes[0];
        let tls = if first.scheme == AMQPScheme::AMQPS {
            "yes"
        } else {
            "no"
        };
        let lines = [
            ("kind", "RabbitMQ (AMQP 0-9-1)".to_owned()),
            ("vhost", first.vhost.clone()),
            ("user", first.authority.userinfo.username.clone()),
            ("tls", tls.to_owned()),
            (
                "exchanges",
                format!("{}, {}, {}", names.notifications, names.events, names.dead),
            ),
            ("queues", format!("{}, {}", names.work, names.dead)),
        ];
        let nodes = join_all(
            target
                .nodes
                .iter()
                .map(async |node| (address(node), self.server(node).await)),
        )
        .await;
        lines
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .chain(nodes)
            .collect()
    }

    async fn close(&self) {
        // Cancelled first, so that the tasks are on their way out. `wait` returns only for a
        // tracker that is closed.
        self.closing.cancel();
        self.tasks.close();
        drop(timeout(CLOSE_TIMEOUT, self.tasks.wait()).await);
    }
}
