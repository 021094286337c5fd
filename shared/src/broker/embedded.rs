#![allow(clippy::todo, dead_code)]
//! The embedded broker: the work queue as a table of the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Broker, BrokerError, Consumer, DeadLetter, DeadReason, Message};
use crate::clock::Clock;
use crate::domain::event::Event;
use crate::store::Store;

/// Intervals of the embedded broker.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// How often a consumer looks for messages that other processes published. Default 50 ms.
    pub poll: Duration,
    /// How often a consumer says that it is alive. Default 2 s.
    pub heartbeat: Duration,
    /// After what silence a consumer is dead and its messages go to others. Default 15 s.
    pub dead_after: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { poll: Duration::from_millis(50), heartbeat: Duration::from_secs(2), dead_after: Duration::from_secs(15) }
    }
}

/// A work queue in the store. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedBroker {
    store: Store,
    clock: Arc<dyn Clock>,
    options: EmbeddedOptions,
}

impl EmbeddedBroker {
    /// A broker on the tables of `store`, which must have been migrated.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, options: EmbeddedOptions) -> Self {
        Self { store, clock, options }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish(&self, _messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        todo!()
    }

    async fn publish_events(&self, _events: &[Event]) -> Vec<Result<(), BrokerError>> {
        todo!()
    }

    async fn consume(&self, _prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        todo!()
    }

    async fn dead_letter(&self, _message: &Message, _reason: DeadReason, _detail: &str) -> Result<(), BrokerError> {
        todo!()
    }

    async fn dead_letters(&self, _limit: u32) -> Result<Vec<DeadLetter>, BrokerError> {
        todo!()
    }

    async fn redrive(&self, _ids: Option<&[String]>, _limit: u32) -> Result<u64, BrokerError> {
        todo!()
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        todo!()
    }

    async fn depths(&self) -> Result<BTreeMap<&'static str, u64>, BrokerError> {
        todo!()
    }

    async fn describe(&self) -> Vec<(String, String)> {
        todo!()
    }

    async fn close(&self) {
        todo!()
    }
}
