//! From a notification to its deliveries. Pure: the endpoints come in as a snapshot.

use std::sync::Arc;

use posthaste_shared::domain::delivery::{Delivery, DeliveryState, Wait};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{DeliveryId, EndpointId};
use posthaste_shared::domain::notification::{Notification, Origin};
use posthaste_shared::domain::wire_format::WireFormat;

use crate::endpoints::EndpointSet;
use crate::{message_events, wire};

/// Who gets a notification.
#[derive(Debug)]
pub enum Routed {
    /// These deliveries; none when nobody subscribes.
    To(Vec<(Delivery, Arc<Endpoint>)>),
    /// It names an endpoint that its tenant does not have: the one delivery that says so.
    NoSuchEndpoint(Box<Delivery>),
    /// It names an endpoint that this worker cannot read: the one delivery, which waits.
    Unreadable(Box<Delivery>),
}

/// The deliveries of a notification, with `fresh` as their state.
#[must_use]
pub fn route(notification: &Notification, endpoints: &EndpointSet, fresh: &Wait) -> Routed {
    let chosen: Vec<Arc<Endpoint>> = match &notification.target {
        Some(target) => match endpoints.get(target).filter(|endpoint| endpoint.tenant == notification.tenant) {
            Some(endpoint) => vec![endpoint],
            None if endpoints.is_unreadable(target) => {
                let id = DeliveryId::of(&notification.id, target, None);
                return Routed::Unreadable(Box::new(delivery(notification, id, target, WireFormat::Raw, None, fresh)));
            }
            None => return Routed::NoSuchEndpoint(Box::new(missing(notification, target, fresh))),
        },
        None => subscribers(notification, endpoints),
    };
    let deliveries = chosen.into_iter().flat_map(|endpoint| {
        let recipients = wire::of(endpoint.wire_format).recipients(notification);
        recipients.into_iter().map(move |recipient| {
            let id = DeliveryId::of(&notification.id, &endpoint.id, recipient.as_deref());
            let made = delivery(notification, id, &endpoint.id, endpoint.wire_format, recipient, fresh);
            (made, Arc::clone(&endpoint))
        })
    });
    Routed::To(deliveries.collect())
}

fn subscribers(notification: &Notification, endpoints: &EndpointSet) -> Vec<Arc<Endpoint>> {
    let candidates = endpoints.enabled_of(&notification.tenant);
    let takes = |endpoint: &&Arc<Endpoint>| wire::of(endpoint.wire_format).takes(&notification.kind);
    let wants = |endpoint: &&Arc<Endpoint>| match notification.origin {
        Origin::Event if message_events::is_made(&notification.kind) => {
            message_events::wanted_by(endpoint, &notification.kind)
                && endpoint.subscription.wants(&notification.kind, notification.phone_number().as_deref())
        }
        Origin::Event => endpoint.subscription.wants_event(&notification.kind),
        Origin::Producer if endpoint.subscription.phone_numbers.is_empty() => {
            endpoint.subscription.wants(&notification.kind, None)
        }
        Origin::Producer => endpoint.subscription.wants(&notification.kind, notification.phone_number().as_deref()),
    };
    candidates.iter().filter(wants).filter(takes).cloned().collect()
}

/// Its id is told apart from that of a delivery to another tenant's endpoint of the same name.
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
