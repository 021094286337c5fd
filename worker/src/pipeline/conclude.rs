//! From a verdict to what is recorded: the delivery's next state, its attempt and its event. Pure.

use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, FailureReason, Hold, Wait};
use posthaste_shared::domain::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use posthaste_shared::domain::event::Event;
use posthaste_shared::domain::notification::Origin;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::record::{Before, DisableEndpoint, Record};

use crate::wire::outcome::{Outcome, Verdict};

/// Which events are created; those of failures always are.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventSettings {
    /// Whether `delivery.succeeded` is created. Default: no.
    pub succeeded: bool,
}

/// The record of an attempt.
#[must_use]
pub fn attempted(
    mut delivery: Delivery,
    before: Before,
    endpoint: &Endpoint,
    (attempt, outcome, verdict): (Attempt, &Outcome, Verdict),
    now: Timestamp,
    events: EventSettings,
) -> Record {
    delivery.attempt_count = attempt.number;
    delivery.last_error = outcome.error().map(|error| error.text.clone());
    delivery.provider_error_code = outcome.provider_error_code().map(str::to_owned);
    if let Outcome::Accepted {
        provider_message_id,
        provider_message_date,
    } = outcome
    {
        delivery.provider_message_id.clone_from(provider_message_id);
        delivery
            .provider_message_date
            .clone_from(provider_message_date);
    }
    delivery.state = match verdict {
        Verdict::Complete => DeliveryState::Delivered { at: now },
        Verdict::RetryAt(due_at) => DeliveryState::Pending(Wait::Retry { due_at }),
        Verdict::GiveUp(reason) => DeliveryState::Failed { at: now, reason },
        Verdict::Expire => DeliveryState::Expired { at: now },
    };
    let gone = matches!(verdict, Verdict::GiveUp(FailureReason::Gone));
    let disable = gone.then(|| disabled(endpoint, now));
    let event = event(&delivery, Some(&attempt), events);
    Record {
        delivery,
        before,
        attempt: Some(attempt),
        kept: None,
        event,
        disable,
    }
}

/// The record of a delivery that ends or waits without an attempt.
#[must_use]
pub fn untried(
    mut delivery: Delivery,
    before: Before,
    state: DeliveryState,
    why: Option<String>,
) -> Record {
    delivery.state = state;
    delivery.last_error = why.or(delivery.last_error);
    let event = event(&delivery, None, EventSettings::default());
    Record {
        delivery,
        before,
        attempt: None,
        kept: None,
        event,
        disable: None,
    }
}

/// The record of a delivery that fails by a fault of Posthaste, described by `why`: not the
/// endpoint's, nor the notification's.
#[must_use]
pub fn internal(delivery: Delivery, before: Before, now: Timestamp, why: String) -> Record {
    untried(
        delivery,
        before,
        DeliveryState::Failed {
            at: now,
            reason: FailureReason::Internal,
        },
        Some(why),
    )
}

/// The state of a delivery that its endpoint does not admit now.
#[must_use]
pub const fn parked(why: Hold) -> DeliveryState {
    DeliveryState::Pending(Wait::Parked { why })
}

/// The final event, if there is one. An event on its way to an endpoint makes no further event.
fn event(delivery: &Delivery, attempt: Option<&Attempt>, events: EventSettings) -> Option<Event> {
    if delivery.origin == Origin::Event {
        return None;
    }
    if matches!(delivery.state, DeliveryState::Delivered { .. }) && !events.succeeded {
        return None;
    }
    Event::of_outcome(delivery, attempt)
}

fn disabled(endpoint: &Endpoint, now: Timestamp) -> DisableEndpoint {
    let status = EndpointStatus::Disabled(DisabledReason::Gone);
    let endpoint = Endpoint {
        status,
        updated_at: now,
        ..endpoint.clone()
    };
    DisableEndpoint {
        event: Event::of_endpoint(&endpoint, now),
        endpoint,
    }
}
