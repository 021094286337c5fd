//! From a notification to its deliveries. Pure: the endpoints come in as a snapshot.

use std::cell::LazyCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use posthaste_shared::domain::delivery::{Delivery, DeliveryState, Wait};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{DeliveryId, EndpointId};
use posthaste_shared::domain::notification::{Notification, Origin};
use posthaste_shared::domain::wire_format::WireFormat;

use crate::pipeline::endpoints::EndpointSet;
use crate::wire;
use crate::wire::{FieldProblem, Recipients, own_events};

/// Who gets a notification.
#[derive(Debug)]
pub enum Routed {
    /// These deliveries; none when nobody subscribes.
    To(FanOut),
    /// Nobody: it has more recipients than a notification may have.
    TooManyRecipients(FieldProblem),
    /// It names an endpoint that its tenant does not have: the one delivery that says so.
    NoSuchEndpoint(Box<Delivery>),
    /// It names an endpoint that this worker cannot read: the one delivery, which waits.
    Unreadable(Box<Delivery>),
}

/// Which endpoints get a notification, and for whom. It holds no deliveries: these are created one
/// at a time, because there may be very many.
#[derive(Debug, Default)]
pub struct FanOut {
    /// Those with the most recipients first.
    groups: Vec<(Arc<Endpoint>, Arc<Recipients>)>,
    deliveries: usize,
}

impl FanOut {
    /// How many deliveries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.deliveries
    }

    /// Whether nobody gets it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.deliveries == 0
    }

    /// The deliveries, with `fresh` as their state: the first recipient of each endpoint, then the
    /// second, so that no endpoint waits for all recipients of another.
    pub fn deliveries<'a>(
        &'a self,
        notification: &'a Notification,
        fresh: &'a Wait,
    ) -> impl Iterator<Item = (Delivery, Arc<Endpoint>)> + Send + 'a {
        let most = self
            .groups
            .first()
            .map_or(0, |(_, recipients)| recipients.deliveries());
        let places = (0..most).flat_map(|index| {
            let longer = self
                .groups
                .iter()
                .take_while(move |(_, recipients)| index < recipients.deliveries());
            longer.map(move |group| (group, index))
        });
        places.map(move |((endpoint, recipients), index)| {
            let recipient = recipients.get(index);
            let id = DeliveryId::of(&notification.id, &endpoint.id, recipient);
            let recipient = recipient.map(str::to_owned);
            let created = delivery(
                notification,
                id,
                &endpoint.id,
                endpoint.wire_format,
                recipient,
                fresh,
            );
            (created, Arc::clone(endpoint))
        })
    }
}

/// Who gets a notification. One that names more than `max_recipients` recipients gets nowhere.
/// `fresh` is the state of the one delivery of those that go nowhere else.
#[must_use]
pub fn route(
    notification: &Notification,
    endpoints: &EndpointSet,
    max_recipients: usize,
    fresh: &Wait,
) -> Routed {
    let chosen: Vec<Arc<Endpoint>> = match &notification.target {
        Some(target) => match endpoints
            .get(target)
            .filter(|endpoint| endpoint.tenant == notification.tenant)
        {
            Some(endpoint) => vec![endpoint],
            None if endpoints.is_unreadable(target) => {
                let id = DeliveryId::of(&notification.id, target, None);
                return Routed::Unreadable(Box::new(delivery(
                    notification,
                    id,
                    target,
                    WireFormat::Raw,
                    None,
                    fresh,
                )));
            }
            None => return Routed::NoSuchEndpoint(Box::new(missing(notification, target, fresh))),
        },
        None => subscribers(notification, endpoints),
    };
    #[cfg(feature = "simulation")]
    let chosen = crate::planted::routed(chosen);
    match fan_out(notification, chosen, max_recipients) {
        Ok(fan_out) => Routed::To(fan_out),
        Err(problem) => Routed::TooManyRecipients(problem),
    }
}

/// Reads the recipients once for each wire format, however many endpoints have it.
fn fan_out(
    notification: &Notification,
    chosen: Vec<Arc<Endpoint>>,
    max_recipients: usize,
) -> Result<FanOut, FieldProblem> {
    let mut read: HashMap<WireFormat, Arc<Recipients>> = HashMap::new();
    let mut groups = Vec::with_capacity(chosen.len());
    for endpoint in chosen {
        let recipients = match read.entry(endpoint.wire_format) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => {
                let recipients = wire::of(endpoint.wire_format).recipients(notification);
                if let Some(problem) = recipients.too_many(max_recipients) {
                    return Err(problem);
                }
                Arc::clone(new.insert(Arc::new(recipients)))
            }
        };
        groups.push((endpoint, recipients));
    }
    groups.sort_by_key(|(_, recipients)| Reverse(recipients.deliveries()));
    let deliveries = groups
        .iter()
        .map(|(_, recipients)| recipients.deliveries())
        .sum();
    Ok(FanOut { groups, deliveries })
}

fn subscribers(notification: &Notification, endpoints: &EndpointSet) -> Vec<Arc<Endpoint>> {
    let candidates = endpoints.enabled_of(&notification.tenant);
    // Read when the first endpoint asks for it, and once for all of them.
    let phone_number = LazyCell::new(|| notification.phone_number());
    let takes =
        |endpoint: &&Arc<Endpoint>| wire::of(endpoint.wire_format).takes(&notification.kind);
    let wants = |endpoint: &&Arc<Endpoint>| match notification.origin {
        Origin::Event if own_events::is_own_form(&notification.kind) => {
            own_events::wanted_by(endpoint, &notification.kind)
                && endpoint
                    .subscription
                    .wants(&notification.kind, phone_number.as_deref())
        }
        Origin::Event => endpoint.subscription.wants_event(&notification.kind),
        Origin::Producer if endpoint.subscription.phone_numbers.is_empty() => {
            endpoint.subscription.wants(&notification.kind, None)
        }
        Origin::Producer => endpoint
            .subscription
            .wants(&notification.kind, phone_number.as_deref()),
    };
    candidates
        .iter()
        .filter(wants)
        .filter(takes)
        .cloned()
        .collect()
}

/// The delivery to an endpoint that the tenant does not have. Its id differs from that of a
/// delivery to another tenant's endpoint with the same id.
fn missing(notification: &Notification, target: &EndpointId, fresh: &Wait) -> Delivery {
    let apart = format!("no such endpoint in tenant {}", notification.tenant);
    let id = DeliveryId::of(&notification.id, target, Some(&apart));
    delivery(notification, id, target, WireFormat::Raw, None, fresh)
}

fn delivery(
    notification: &Notification,
    id: DeliveryId,
    endpoint: &EndpointId,
    wire_format: WireFormat,
    recipient: Option<String>,
    fresh: &Wait,
) -> Delivery {
    Delivery {
        id,
        notification_id: notification.id.clone(),
        tenant: notification.tenant.clone(),
        kind: notification.kind.clone(),
        endpoint_id: endpoint.clone(),
        wire_format,
        recipient,
        state: DeliveryState::Pending(fresh.clone()),
        round: 1,
        attempt_count: 0,
        round_base: 0,
        created_at: notification.accepted_at,
        expires_at: notification.expires_at,
        provider_message_id: None,
        provider_message_date: None,
        provider_error_code: None,
        last_error: None,
        origin: notification.origin,
    }
}
