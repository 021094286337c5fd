//! The outbox relay: publishes events to the events exchange, and enqueues them for endpoints that
//! subscribe to them. At least once, each with its stable id.

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::broker::{Broker, BrokerError, Message};
use posthaste_shared::clock::Clock;
use posthaste_shared::domain::event::Event;
use posthaste_shared::domain::id::NotificationId;
use posthaste_shared::domain::notification::{Notification, Origin, Priority};
use posthaste_shared::store::{Store, StoreError};
use posthaste_shared::telemetry::metrics::{Metrics, Source};
use tokio_util::sync::CancellationToken;

use crate::endpoints::EndpointCache;
use crate::record::cause;
use crate::wake::Wake;

/// How long a worker may take to publish what it claimed.
const LEASE: Duration = Duration::from_secs(30);
/// How often the store is asked for events that others recorded.
const POLL: Duration = Duration::from_millis(500);
/// The most events in one step.
const STEP: u32 = 200;

/// Takes events out of the store's outbox.
pub struct Relay {
    /// The outbox.
    pub store: Store,
    /// Where events go.
    pub broker: Arc<dyn Broker>,
    /// Who subscribes to them.
    pub endpoints: Arc<EndpointCache>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What this worker recorded itself.
    pub wake: Wake,
    /// Ends it.
    pub stopping: CancellationToken,
}

/// Why a step did not get through.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The outbox cannot be read or marked.
    #[error("the outbox cannot be used now")]
    Store(#[from] StoreError),
    /// The broker did not take every event; those stay in the outbox.
    #[error("the broker did not take an event")]
    Broker(#[from] BrokerError),
}

impl Relay {
    /// Publishes until told to stop.
    pub async fn run(&self) {
        while !self.stopping.is_cancelled() {
            let pause = match self.step().await {
                Ok(published) if published == STEP as usize => Duration::ZERO,
                Ok(_) => POLL,
                Err(error) => {
                    tracing::warn!(%error, cause = cause(&error), "events wait in the outbox");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.until_events() => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    /// Publishes up to 200 events and marks them. Returns how many.
    ///
    /// # Errors
    /// When the store or the broker does not answer; what was not marked is published again.
    pub async fn step(&self) -> Result<usize, RelayError> {
        let now = self.clock.now();
        let events = self.store.claim_unpublished(now, now.after(LEASE), STEP).await?;
        if events.is_empty() {
            return Ok(0);
        }
        let published = self.broker.publish_events(&events).await;
        let forwarded = self.forward(&events).await?;
        let (mut done, mut failure) = (Vec::new(), None);
        for ((event, published), forwarded) in events.iter().zip(published).zip(forwarded) {
            match published.and(forwarded) {
                Ok(()) => {
                    self.metrics.published(event.kind);
                    done.push(event.id);
                }
                Err(error) => failure = Some(error),
            }
        }
        self.store.mark_published(&done, self.clock.now()).await?;
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(done.len()),
        }
    }

    /// Enqueues the events that an endpoint of their tenant subscribes to. Answers in order.
    async fn forward(&self, events: &[Event]) -> Result<Vec<Result<(), BrokerError>>, RelayError> {
        let endpoints = self.endpoints.refresh().await?;
        let wanted = |event: &Event| {
            let kind = event.kind.notification_type();
            endpoints.enabled_of(&event.tenant).iter().any(|endpoint| endpoint.subscription.wants_event(&kind))
        };
        let wanted: Vec<bool> = events.iter().map(wanted).collect();
        let messages: Vec<Message> = events
            .iter()
            .zip(&wanted)
            .filter(|(_, wanted)| **wanted)
            .filter_map(|(event, _)| notification(event))
            .map(Message::of)
            .collect();
        self.metrics.accepted(Source::Event, messages.len() as u64);
        let mut answers =
            if messages.is_empty() { Vec::new() } else { self.broker.publish(messages).await }.into_iter();
        Ok(wanted.into_iter().map(|wanted| if wanted { answers.next().unwrap_or(Ok(())) } else { Ok(()) }).collect())
    }
}

/// The notification that carries an event to endpoints. Its id is the event's, so that publishing it
/// again delivers nothing twice.
fn notification(event: &Event) -> Option<Notification> {
    Some(Notification {
        id: NotificationId::parse(&format!("evt_{}", event.id)).ok()?,
        tenant: event.tenant.clone(),
        kind: event.kind.notification_type(),
        target: None,
        payload: event.body.clone(),
        recipient: None,
        overrides: None,
        accepted_at: event.at,
        deliver_at: None,
        expires_at: None,
        priority: Priority::Normal,
        origin: Origin::Event,
        traceparent: None,
    })
}
