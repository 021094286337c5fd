//! The broker: takes work in and spreads it over workers. RabbitMQ or a table in the store, behind
//! one trait; one conformance suite (`shared/tests/broker.rs`) for both.

pub mod amqp;
pub mod embedded;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::event::Event;

pub use crate::domain::dead_letter::{DeadLetter, DeadReason, Redriven};
pub use crate::domain::message::{Incoming, Message, Tag};

/// Why the broker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Not connected, or the connection was lost before the broker confirmed: whether it has the
    /// message is not known. Try again; the receiver's side dedupes.
    #[error("the broker cannot be reached now: {0}")]
    Unavailable(String),
    /// The broker refused the message (queue full, or it could not store it).
    #[error("the broker refused the message: {0}")]
    Refused(String),
    /// The message reached no queue: the topology is not as it should be.
    #[error(
        "the message reached no queue (exchange {exchange}, routing key {routing_key}): run \
         `posthaste doctor`"
    )]
    Unroutable {
        /// Where it was published.
        exchange: String,
        /// The routing key that the message was published with.
        routing_key: String,
    },
    /// The broker's URL or TLS files cannot be used.
    #[error("broker configuration: {0}")]
    Configuration(String),
    /// An exchange or queue exists with other arguments.
    #[error("the broker's topology differs from what Posthaste declares: {0}")]
    Topology(String),
}

impl BrokerError {
    /// Something in the broker's configuration cannot be used.
    pub(crate) fn configuration(problem: &str) -> Self {
        Self::Configuration(problem.to_owned())
    }
}

/// A message queue with confirms and acknowledgements.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Publishes to the work queue: persistent, mandatory, all at once, and waits until the broker
    /// has confirmed each. Answers in order.
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>>;

    /// Publishes events to the events exchange, routing key = type, and waits for the confirms.
    /// That nobody has bound a queue for an event is not an error. Answers in order.
    async fn publish_events(&self, events: &[Event]) -> Vec<Result<(), BrokerError>>;

    /// Starts taking work, at most `prefetch` messages unacknowledged at a time. The consumer
    /// outlives lost connections: it comes back by itself.
    async fn consume(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Puts a message on the dead-letter queue with the reason, confirmed.
    async fn dead_letter(
        &self,
        message: &Message,
        reason: DeadReason,
        detail: &str,
    ) -> Result<(), BrokerError>;

    /// Looks at up to `limit` dead letters, the oldest first, and leaves them there.
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, BrokerError>;

    /// Puts dead letters back on the work queue: those with these ids, or up to `limit` of all.
    /// When this returns, each of them is on the work queue once and off the dead-letter queue.
    async fn redrive(&self, ids: Option<&[String]>, limit: u32) -> Result<Redriven, BrokerError>;

    /// Whether the consumers of this client get what is put on the work queue; asks the broker
    /// where that can be known no other way.
    async fn consuming(&self) -> Consuming {
        Consuming::NoConsumer
    }

    /// Whether it can take messages now.
    async fn ping(&self) -> Result<(), BrokerError>;

    /// Messages in each queue (`work`, `dead`): ready and unacknowledged together where that is
    /// known.
    async fn depths(&self) -> Result<BTreeMap<&'static str, u64>, BrokerError>;

    /// What it is and which objects it uses, for `posthaste doctor`; no secrets.
    async fn describe(&self) -> Vec<(String, String)>;

    /// Closes connections, which requeues what is unacknowledged.
    async fn close(&self);
}

/// Work that comes in.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for work; then as much as is there, at most `max` messages. `None` once the broker was
    /// closed or the consumer stopped. Cancel-safe.
    async fn next_batch(&mut self, max: usize) -> Option<Vec<Incoming>>;

    /// Answers for messages; may be used from anywhere, also after `stop`.
    fn acker(&self) -> Arc<dyn Acker>;

    /// Takes no more work; what was handed out can still be acknowledged, what was not goes back.
    async fn stop(&mut self);
}

/// Whether a client's consumers get work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consuming {
    /// It has no consumer, or is not the one to say.
    NoConsumer,
    /// The broker knows every consumer of it.
    Subscribed,
    /// A consumer of it is not connected, or the broker does not know it: it gets nothing now.
    NotSubscribed,
}

/// Tells the broker the outcome of messages. A tag from a lost connection is ignored: the broker
/// has redelivered that message already.
#[async_trait]
pub trait Acker: Send + Sync {
    /// Done with these: never to come again. Contiguous runs go as one `multiple` acknowledgement.
    async fn ack(&self, tags: Vec<Tag>);

    /// Not done: back to the queue.
    async fn requeue(&self, tags: Vec<Tag>);
}
