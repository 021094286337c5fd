//! The outbox relay: publishes events to the events exchange, and enqueues them for endpoints that
//! subscribe to them. At least once, each with its stable id.

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::broker::{BrokerError, Message};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::event::Event;
use posthaste_shared::domain::id::{NotificationId, TenantId};
use posthaste_shared::domain::notification::{Notification, Origin};
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_shared::error::causes_of;
use posthaste_shared::repeat::until_stopped_or_woken;
use posthaste_shared::services::Services;
use posthaste_shared::store::StoreError;
use posthaste_shared::telemetry::metrics::Source;
use tokio_util::sync::CancellationToken;

use crate::pipeline::endpoints::EndpointCache;
use crate::pipeline::wake::Wake;
use crate::wire::{self, own_events};

/// How long a worker may take to publish what it claimed.
const LEASE: Duration = Duration::from_secs(30);
/// How often the store is asked for events that others recorded.
const POLL: Duration = Duration::from_millis(500);
/// The most events in one step.
const STEP: u32 = 200;
/// How many notifications are read from the store at once: each may be as large as the API lets in.
const READ: usize = 20;

/// Takes events out of the store's outbox.
pub struct Relay {
    /// The store holds the outbox; the broker gets the events.
    pub services: Services,
    /// The endpoints, some of which subscribe to events.
    pub endpoints: Arc<EndpointCache>,
    /// Wakes the relay at once for events that this worker has recorded.
    pub wake: Wake,
    /// Cancelled when the worker stops; the relay returns after its current step.
    pub stopping: CancellationToken,
}

/// Why a step did not get through.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The outbox cannot be read or marked.
    #[error("the outbox cannot be read or updated")]
    Store(#[from] StoreError),
    /// The broker did not take every event; those stay in the outbox.
    #[error("the broker did not accept every event")]
    Broker(#[from] BrokerError),
}

impl Relay {
    /// Publishes until told to stop.
    pub async fn run(&self) {
        // Events that this worker recorded itself need not wait for the next poll.
        let woken = || self.wake.until_events();
        until_stopped_or_woken(&self.stopping, woken, || async {
            match self.step().await {
                // A full step: there are probably more.
                Ok(published) if published == STEP as usize => Duration::ZERO,
                Ok(_) => POLL,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        cause = causes_of(&error),
                        "events could not be published and stay in the outbox; trying again"
                    );
                    Duration::from_secs(1)
                }
            }
        })
        .await;
    }

    /// Publishes up to 200 events and marks them. Returns how many.
    ///
    /// # Errors
    /// When the store or the broker does not answer; what was not marked is published again.
    pub async fn step(&self) -> Result<usize, RelayError> {
        let now = self.services.clock.now();
        // Claimed, not locked: no transaction stays open while the broker is waited for. Another
        // worker publishes them after the lease, should this one die.
        let events = self
            .services
            .store
            .claim_unpublished(now, now.after(LEASE), STEP)
            .await?;
        if events.is_empty() {
            return Ok(0);
        }
        let published = self.services.broker.publish_events(&events).await;
        let forwarded = self.forward(&events).await?;
        let mut done = Vec::new();
        let mut failure = None;
        // Done only when both went through. What is published again has the same id, by which
        // receivers recognise it.
        for ((event, published), forwarded) in events.iter().zip(published).zip(forwarded) {
            match published.and(forwarded) {
                Ok(()) => {
                    self.services.metrics.published(event.kind);
                    done.push(event.id);
                }
                Err(error) => failure = Some(error),
            }
        }
        // Marked even where others failed, so that these are not published again with those.
        self.services
            .store
            .mark_published(&done, self.services.clock.now())
            .await?;
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(done.len()),
        }
    }

    /// Enqueues the events that an endpoint of their tenant subscribes to. Answers in order.
    async fn forward(&self, events: &[Event]) -> Result<Vec<Result<(), BrokerError>>, RelayError> {
        // As they are now: the outbox may hold events for longer than endpoints stay unchanged.
        let endpoints = self.endpoints.refresh().await?;
        let wanted = |event: &Event, wants: &dyn Fn(&Endpoint) -> bool| {
            endpoints
                .enabled_of(&event.tenant)
                .iter()
                .any(|endpoint| wants(endpoint))
        };
        let as_they_are = events.iter().enumerate().filter(|(_, event)| {
            let kind = event.kind.notification_type();
            wanted(event, &|endpoint| endpoint.subscription.wants_event(&kind))
        });
        let mut enqueued: Vec<(usize, Notification)> = as_they_are
            .filter_map(|(place, event)| Some((place, notification(event)?)))
            .collect();
        let mut other_forms = Vec::new();
        for (place, event) in events.iter().enumerate() {
            for format in WireFormat::ALL {
                let Some(kind) = wire::of(format).event_type(event.kind) else {
                    continue;
                };
                let wants = |endpoint: &Endpoint| {
                    endpoint.wire_format == format && own_events::wanted_by(endpoint, &kind)
                };
                if wanted(event, &wants) {
                    other_forms.push((place, event, format));
                }
            }
        }
        // Before those in other forms are added, which bring their hops along.
        self.inherit_hops(events, &mut enqueued).await?;
        enqueued.extend(self.in_other_forms(other_forms).await?);
        let (places, messages): (Vec<usize>, Vec<Message>) = enqueued
            .into_iter()
            .map(|(place, notification)| (place, Message::of(notification)))
            .unzip();
        let mut answers: Vec<Result<(), BrokerError>> = events.iter().map(|_| Ok(())).collect();
        if messages.is_empty() {
            return Ok(answers);
        }
        let mut accepted = 0;
        for (place, answer) in places
            .into_iter()
            .zip(self.services.broker.publish(messages).await)
        {
            match answer {
                Ok(()) => accepted += 1,
                Err(_) => answers[place] = answer,
            }
        }
        // What was not confirmed is published again with its event, and counted then.
        self.services.metrics.accepted(Source::Event, accepted);
        Ok(answers)
    }

    /// News of a delivery has come round as often as that delivery's notification: a circle may
    /// lead through events.
    async fn inherit_hops(
        &self,
        events: &[Event],
        enqueued: &mut [(usize, Notification)],
    ) -> Result<(), RelayError> {
        let about = enqueued.iter().map(|(place, _)| {
            let delivery = events[*place].delivery()?;
            Some((delivery.tenant, delivery.notification_id))
        });
        let about: Vec<_> = about.collect();
        let hops = self
            .services
            .store
            .hops(&about.iter().flatten().cloned().collect::<Vec<_>>())
            .await?;
        for ((_, notification), about) in enqueued.iter_mut().zip(about) {
            notification.hops = about
                .and_then(|about| hops.get(&about).copied())
                .unwrap_or_default();
        }
        Ok(())
    }

    /// Events in the forms that wire formats have for them, each with the place of its event. The
    /// original notifications come from the store; for one that has been removed there is nothing
    /// to send.
    async fn in_other_forms(
        &self,
        events: Vec<(usize, &Event, WireFormat)>,
    ) -> Result<Vec<(usize, Notification)>, RelayError> {
        let mut created = Vec::new();
        for some in events.chunks(READ) {
            let deliveries: Vec<_> = some
                .iter()
                .filter_map(|of| Some((of, of.1.delivery()?)))
                .collect();
            let ids: Vec<(TenantId, NotificationId)> = deliveries
                .iter()
                .map(|(_, it)| (it.tenant.clone(), it.notification_id.clone()))
                .collect();
            let about = self.services.store.notifications(&ids).await?;
            created.extend(deliveries.iter().zip(ids).filter_map(
                |(((place, event, format), delivery), id)| {
                    let about = about
                        .get(&id)
                        // The failure of an event to arrive is not sent on as an event again: that
                        // would have no end.
                        .filter(|about| about.origin == Origin::Producer)?;
                    let news = wire::of(*format).event(event, delivery, about)?;
                    Some((
                        *place,
                        Notification {
                            hops: about.hops,
                            ..news
                        },
                    ))
                },
            ));
        }
        Ok(created)
    }
}

/// The notification that carries an event to endpoints. Its id is the event's, so that publishing
/// it again delivers nothing twice.
fn notification(event: &Event) -> Option<Notification> {
    let id = NotificationId::parse(&format!("evt_{}", event.id)).ok()?;
    Some(event.notification(id, event.kind.notification_type(), event.body.clone()))
}
