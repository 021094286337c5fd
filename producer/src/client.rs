//! The Rust API: enqueueing from another service, straight to the broker.

use std::sync::Arc;

use posthaste_shared::broker::amqp::{AmqpBroker, AmqpOptions};
use posthaste_shared::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use posthaste_shared::broker::{Broker, BrokerError};
use posthaste_shared::clock::{Clock, SystemClock};
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::trace_context::TraceContext;
use posthaste_shared::store::{Store, StoreError, StoreOptions};
use posthaste_shared::telemetry::metrics::{Metrics, Source};

use crate::enqueue::{Accepted, EnqueueError, accept, publish};

/// Where a producer publishes its notifications.
#[derive(Debug, Clone)]
pub enum ProducerOptions {
    /// Publish to RabbitMQ, with publisher confirms.
    Amqp(AmqpOptions),
    /// Write to the embedded queue, a table in Posthaste's own database.
    Embedded(StoreOptions),
}

impl ProducerOptions {
    /// RabbitMQ at `url` (`amqp://…` or `amqps://…`), with the default name prefix.
    #[must_use]
    pub fn amqp(url: Secret) -> Self {
        Self::Amqp(AmqpOptions::new(url))
    }

    /// The embedded queue in the database at `url` (`sqlite://…` or `postgres://…`).
    #[must_use]
    pub const fn embedded(url: Secret) -> Self {
        Self::Embedded(StoreOptions::new(url))
    }
}

/// Why a producer could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker's options cannot be used.
    #[error("cannot use the broker")]
    Broker(#[from] BrokerError),
    /// The database cannot be opened, or its schema does not fit this version.
    #[error("cannot use the embedded queue")]
    Store(#[from] StoreError),
}

/// Enqueues notifications. Cheap to clone; keep one for the life of the process. A lost connection
/// comes back by itself; meanwhile enqueueing fails with an error that
/// [`EnqueueError::is_transient`].
///
/// Nothing is tried again here. Whether a notification whose confirm was lost is with the broker
/// cannot be known, so give drafts an `id` of your own and enqueue again: the same id is delivered
/// once.
#[derive(Clone)]
pub struct Producer {
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    trace: Option<TraceContext>,
}

impl Producer {
    /// Connects. Must be called within a tokio runtime. That RabbitMQ cannot be reached at this
    /// moment is not an error: the connection is opened as soon as it can be.
    ///
    /// # Errors
    /// Options that cannot be used; for the embedded queue also a database that cannot be opened or
    /// whose schema is not this version's.
    pub async fn connect(options: ProducerOptions) -> Result<Self, ConnectError> {
        let clock = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        let broker: Arc<dyn Broker> = match options {
            ProducerOptions::Amqp(options) => Arc::new(
                AmqpBroker::connect(
                    options,
                    Arc::clone(&metrics),
                    Arc::clone(&clock) as Arc<dyn Clock>,
                )
                .await?,
            ),
            ProducerOptions::Embedded(options) => {
                let store = Store::connect(&options).await?;
                store.check_schema().await?;
                Arc::new(EmbeddedBroker::new(
                    store,
                    Arc::clone(&clock) as Arc<dyn Clock>,
                    EmbeddedOptions::default(),
                ))
            }
        };
        Ok(Self::over(broker, clock, metrics))
    }

    /// A producer over a broker that is there already.
    #[must_use]
    pub fn over(broker: Arc<dyn Broker>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            broker,
            clock,
            metrics,
            trace: None,
        }
    }

    /// The same producer, on behalf of a span of the caller's: what it enqueues carries this trace
    /// context, and its deliveries are in that trace. Read one with [`TraceContext::parse`].
    #[must_use]
    pub fn in_trace(&self, context: TraceContext) -> Self {
        Self {
            trace: Some(context),
            ..self.clone()
        }
    }

    /// Enqueues one notification. When this returns `Ok`, the broker has confirmed it: it is
    /// durable.
    ///
    /// # Errors
    /// [`EnqueueError::Invalid`] for a draft that breaks a rule; [`EnqueueError::Broker`] when the
    /// broker did not confirm, which is worth another try when [`EnqueueError::is_transient`].
    pub async fn enqueue(&self, draft: NotificationDraft) -> Result<Accepted, EnqueueError> {
        let no_answer = || {
            Err(EnqueueError::Broker(BrokerError::Unavailable(
                "no answer".to_owned(),
            )))
        };
        self.enqueue_batch(vec![draft])
            .await
            .pop()
            .unwrap_or_else(no_answer)
    }

    /// Enqueues many at once and waits for all confirms. Answers in order; a bad draft does not
    /// stop the good ones.
    pub async fn enqueue_batch(
        &self,
        drafts: Vec<NotificationDraft>,
    ) -> Vec<Result<Accepted, EnqueueError>> {
        let now = self.clock.now();
        let traceparent = self.trace.map(|context| context.to_string());
        let mut checked = Vec::with_capacity(drafts.len());
        let mut results = Vec::with_capacity(drafts.len());
        for draft in drafts {
            match accept(draft, TenantId::default(), now, traceparent.clone()) {
                Ok(notification) => {
                    checked.push(notification);
                    results.push(None);
                }
                Err(invalid) => results.push(Some(Err(EnqueueError::Invalid(invalid)))),
            }
        }
        let confirms = publish(&*self.broker, checked).await;
        self.metrics.accepted(
            Source::Rust,
            confirms.iter().filter(|confirm| confirm.is_ok()).count() as u64,
        );
        let mut confirms = confirms.into_iter();
        let mut next = || {
            let lost = || Err(BrokerError::Unavailable("no answer".to_owned()));
            confirms
                .next()
                .unwrap_or_else(lost)
                .map_err(EnqueueError::Broker)
        };
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(&mut next))
            .collect()
    }

    /// Whether the broker can take messages now.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn ping(&self) -> Result<(), BrokerError> {
        self.broker.ping().await
    }

    /// Closes the connection to the broker. Nothing that was confirmed is lost by it.
    pub async fn close(&self) {
        self.broker.close().await;
    }
}
