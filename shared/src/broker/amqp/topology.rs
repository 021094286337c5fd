//! Posthaste's exchanges and queues on RabbitMQ: their names, and declaring them.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::broker::BrokerError;

/// The key with which notifications are published.
pub(super) const ROUTING_KEY: &str = "notification";

/// After this number of redeliveries RabbitMQ itself dead-letters a message. Unset, there is no
/// limit on 3.x but one of 20 on 4.x, where a few lost connections would dead-letter innocent
/// prefetched messages; with -1 there is no limit on 4.x, but 3.10 drops a message at its first
/// redelivery. A large number is right on both.
const DELIVERY_LIMIT: i64 = 1_000_000;

/// What the objects are called.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Direct exchange, where producers publish.
    pub(super) notifications: ShortString,
    /// The name of the work queue.
    pub(super) work: ShortString,
    /// Fanout exchange and queue of dead letters.
    pub(super) dead: ShortString,
    /// Topic exchange of events.
    pub(super) events: ShortString,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, BrokerError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(allowed) {
            return Err(BrokerError::configuration(
                "the name prefix must be 1 to 64 letters, digits, '.', '_' or '-'",
            ));
        }
        let name = |suffix: &str| ShortString::from(format!("{prefix}.{suffix}"));
        Ok(Self {
            notifications: name("notifications"),
            work: name("work"),
            dead: name("dead"),
            events: name("events"),
        })
    }
}

/// Declares everything. What is there already with the same arguments is left as it is.
pub(super) async fn declare(channel: &Channel, names: &Names) -> lapin::Result<()> {
    // The dead-letter exchange and queue come first: the work queue names that exchange, and must
    // have a place for what dies on it from its first message on.
    exchange(channel, &names.dead, ExchangeKind::Fanout).await?;
    queue(channel, &names.dead, dead_arguments()).await?;
    bind(channel, &names.dead, &names.dead, "").await?;
    exchange(channel, &names.notifications, ExchangeKind::Direct).await?;
    queue(channel, &names.work, work_arguments(&names.dead)).await?;
    bind(channel, &names.work, &names.notifications, ROUTING_KEY).await?;
    exchange(channel, &names.events, ExchangeKind::Topic).await
}

async fn exchange(channel: &Channel, name: &ShortString, kind: ExchangeKind) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.clone(), kind, options, FieldTable::default())
        .await
}

async fn queue(channel: &Channel, name: &ShortString, arguments: FieldTable) -> lapin::Result<()> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.clone(), options, arguments)
        .await
        .map(drop)
}

async fn bind(
    channel: &Channel,
    queue: &ShortString,
    exchange: &ShortString,
    key: &str,
) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    let arguments = FieldTable::default();
    channel
        .queue_bind(
            queue.clone(),
            exchange.clone(),
            key.into(),
            options,
            arguments,
        )
        .await
}

fn work_arguments(dead: &ShortString) -> FieldTable {
    let mut arguments = dead_arguments();
    arguments.insert("x-dead-letter-exchange".into(), text(dead.as_str()));
    // By default RabbitMQ dead-letters at most once and may lose the message on the way. At least
    // once needs `reject-publish`, the next argument.
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    // A full queue refuses new messages, which the producer sees. The default drops the oldest
    // ones, which were confirmed.
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

/// The dead-letter queue needs the limit too: looking at dead letters redelivers them.
fn dead_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongLongInt(DELIVERY_LIMIT),
    );
    arguments
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
