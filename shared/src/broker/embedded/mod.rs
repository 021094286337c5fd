//! The embedded broker: the work queue as a table of the store. Makes `posthaste up` one process
//! with one file, and works on Postgres too, with any number of processes.
//!
//! Events are not published anywhere: they are in the store already, where the API lists and
//! streams them, so [`Broker::publish_events`] has nothing left to do.

mod consumer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use self::consumer::{EmbeddedConsumer, InFlight};
use super::{Broker, BrokerError, Consumer, DeadLetter, DeadReason, Message, Redriven};
use crate::clock::Clock;
use crate::domain::event::Event;
use crate::store::queue::Dead;
use crate::store::{Store, StoreError};

/// How much of a dead letter's body is shown.
const SHOWN_BYTES: usize = 4 * 1024;
/// The most dead letters that one look shows.
const MAX_SHOWN: u32 = 10_000;

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
        Self {
            poll: Duration::from_millis(50),
            heartbeat: Duration::from_secs(2),
            dead_after: Duration::from_secs(15),
        }
    }
}

/// A work queue in the store. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedBroker {
    shared: Arc<Shared>,
}

/// What the clones of a broker and its consumers share.
struct Shared {
    store: Store,
    clock: Arc<dyn Clock>,
    options: EmbeddedOptions,
    /// Changes when this process has put messages on the queue.
    published: watch::Sender<u64>,
    consumers: Mutex<Consumers>,
}

#[derive(Default)]
struct Consumers {
    closed: bool,
    open: Vec<Weak<InFlight>>,
}

impl EmbeddedBroker {
    /// A broker on the tables of `store`, which must have been migrated. Closing the broker leaves
    /// the store open.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, options: EmbeddedOptions) -> Self {
        let shared = Shared {
            store,
            clock,
            options,
            published: watch::Sender::new(0),
            consumers: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        if self.consumers().closed {
            Err(closed())
        } else {
            Ok(())
        }
    }

    fn consumers(&self) -> std::sync::MutexGuard<'_, Consumers> {
        self.shared
            .consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_consumers(&self) {
        self.shared
            .published
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn closed() -> BrokerError {
    BrokerError::Unavailable("the broker was closed".to_owned())
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        if messages.is_empty() {
            return Vec::new();
        }
        // All messages go into one transaction, so that there is one answer for them all.
        let answer = match self.check_open() {
            Ok(()) => self
                .shared
                .store
                .queue_push(&messages)
                .await
                .map_err(|error| refused(&error)),
            Err(error) => Err(error),
        };
        // Also after an error: the transaction may have been committed although its answer was
        // lost.
        self.wake_consumers();
        messages.iter().map(|_| again(&answer)).collect()
    }

    async fn publish_events(&self, events: &[Event]) -> Vec<Result<(), BrokerError>> {
        events.iter().map(|_| Ok(())).collect()
    }

    async fn consume(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        // One lock from the question to the list: a consumer that starts while the broker is closed
        // would be in no list, and nobody would stop it.
        let mut consumers = self.consumers();
        if consumers.closed {
            return Err(closed());
        }
        let consumer = EmbeddedConsumer::start(&self.shared, prefetch);
        // Consumers are dropped without notice. The list is cleaned whenever one is added, so that
        // it does not grow.
        consumers.open.retain(|open| open.strong_count() > 0);
        consumers.open.push(consumer.in_flight());
        Ok(Box::new(consumer))
    }

    async fn dead_letter(
        &self,
        message: &Message,
        reason: DeadReason,
        detail: &str,
    ) -> Result<(), BrokerError> {
        self.check_open()?;
        let dead = Dead {
            id: name(message),
            reason,
            detail: detail.to_owned(),
            died_at: self.shared.clock.now(),
            message: message.clone(),
        };
        self.shared
            .store
            .dead_push(&dead)
            .await
            .map_err(|error| refused(&error))
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, BrokerError> {
        self.check_open()?;
        let letters = self
            .shared
            .store
            // The letters are read with their bodies, all into memory.
            .dead_list(limit.min(MAX_SHOWN))
            .await
            .map_err(|error| refused(&error))?;
        Ok(letters.into_iter().map(shown).collect())
    }

    async fn redrive(&self, ids: Option<&[String]>, limit: u32) -> Result<Redriven, BrokerError> {
        self.check_open()?;
        let moved = self
            .shared
            .store
            .dead_redrive(ids, limit)
            .await
            .map_err(|error| refused(&error))?;
        self.wake_consumers();
        Ok(moved)
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.check_open()?;
        self.shared
            .store
            .ping()
            .await
            .map_err(|error| refused(&error))
    }

    async fn depths(&self) -> Result<BTreeMap<&'static str, u64>, BrokerError> {
        self.check_open()?;
        let (work, dead) = self
            .shared
            .store
            .queue_depths()
            .await
            .map_err(|error| refused(&error))?;
        Ok(BTreeMap::from([("work", work), ("dead", dead)]))
    }

    async fn describe(&self) -> Vec<(String, String)> {
        let kind = format!("embedded, in the store ({:?})", self.shared.store.kind());
        [
            ("broker", kind.as_str()),
            ("work queue", "table queue"),
            ("dead letters", "table dead_letters"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    async fn close(&self) {
        // The lock is released before anything is awaited: a consumer that closes may take 5 s.
        let open = {
            let mut consumers = self.consumers();
            consumers.closed = true;
            std::mem::take(&mut consumers.open)
        };
        for in_flight in open.iter().filter_map(Weak::upgrade) {
            in_flight.close().await;
        }
    }
}

/// The store's error as the broker's.
fn refused(error: &StoreError) -> BrokerError {
    let cause = std::error::Error::source(error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    let text = format!("{error}{cause}");
    // `Refused` tells the caller that the same message will be refused again; only a store that is
    // away is worth another try.
    if error.is_transient() {
        BrokerError::Unavailable(text)
    } else {
        BrokerError::Refused(text)
    }
}

/// The one answer for each message of a transaction.
fn again(answer: &Result<(), BrokerError>) -> Result<(), BrokerError> {
    match answer {
        Ok(()) => Ok(()),
        Err(BrokerError::Refused(text)) => Err(BrokerError::Refused(text.clone())),
        Err(BrokerError::Unavailable(text)) => Err(BrokerError::Unavailable(text.clone())),
        Err(other) => Err(BrokerError::Refused(other.to_string())),
    }
}

/// The message's own id, else one derived from its body.
fn name(message: &Message) -> String {
    let own = message.id.as_deref().filter(|id| !id.is_empty());
    own.map_or_else(
        || {
            let digest = Sha256::digest(&message.body);
            format!("sha256-{}", hex::encode(&digest[..12]))
        },
        str::to_owned,
    )
}

fn shown(dead: Dead) -> DeadLetter {
    let body = &dead.message.body;
    let size = body.len() as u64;
    let beginning = &body[..body.len().min(SHOWN_BYTES)];
    DeadLetter {
        id: dead.id,
        reason: dead.reason,
        detail: dead.detail,
        died_at: Some(dead.died_at),
        size,
        body: String::from_utf8_lossy(beginning).into_owned(),
    }
}
