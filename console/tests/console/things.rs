//! Deliveries in every state, and one of which everything that strangers write is hostile.

use std::sync::Arc;
use std::time::Duration;

use posthaste_producer::enqueue::accept;
use posthaste_shared::domain::attempt::{Attempt, AttemptError, AttemptResult, Phases};
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, FailureReason, Hold, Wait};
use posthaste_shared::domain::event::Event;
use posthaste_shared::domain::id::{DeliveryId, EndpointId, TenantId};
use posthaste_shared::domain::notification::{NotificationDraft, Origin};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_shared::store::record::{Before, Record};
use serde_json::json;

use crate::support::TestApi;

/// What would run, break out of an attribute or turn the text around where it is not escaped.
pub(crate) const HOSTILE: &str =
    "\"'><script>alert(1)</script><img src=x onerror=alert(2)>\u{202e}\u{0}&lt;";

/// Every state that a delivery can have.
pub(crate) fn states(now: Timestamp) -> Vec<DeliveryState> {
    let later = now.after(Duration::from_secs(60));
    let mut states = vec![
        DeliveryState::Pending(Wait::InFlight { lease_until: later }),
        DeliveryState::Pending(Wait::Retry { due_at: later }),
        DeliveryState::Pending(Wait::Scheduled { due_at: later }),
        DeliveryState::Delivered { at: now },
        DeliveryState::Expired { at: now },
        DeliveryState::Cancelled { at: now },
    ];
    let parked = |why| DeliveryState::Pending(Wait::Parked { why });
    states.extend(Hold::ALL.map(parked));
    states.extend(FailureReason::ALL.map(|reason| DeliveryState::Failed { at: now, reason }));
    states
}

/// Records a delivery of a new notification, with one attempt.
pub(crate) async fn recorded(
    api: &TestApi,
    tenant: &str,
    name: &str,
    state: DeliveryState,
) -> DeliveryId {
    let endpoint = api.endpoint(tenant).await;
    recorded_at(api, tenant, name, state, &endpoint, HOSTILE).await
}

/// [`recorded`] at an endpoint that is there already.
pub(crate) async fn recorded_at(
    api: &TestApi,
    tenant: &str,
    name: &str,
    state: DeliveryState,
    endpoint: &str,
    text: &str,
) -> DeliveryId {
    let now = api.clock.now();
    let draft: NotificationDraft = serde_json::from_value(json!({
        "id": name, "type": "order.paid", "ttl_seconds": 600,
        "payload": { text: [1.10, text, { "deep": text }] },
        "recipient": { "name": text },
    }))
    .unwrap();
    let tenant = TenantId::parse(tenant).unwrap();
    let notification = accept(draft, tenant, now, None).unwrap();
    let endpoint_id = EndpointId::parse(endpoint).unwrap();
    let id = DeliveryId::of(&notification.id, &endpoint_id, None);
    let delivery = Delivery {
        id,
        notification_id: notification.id.clone(),
        tenant: notification.tenant.clone(),
        kind: notification.kind.clone(),
        endpoint_id,
        wire_format: WireFormat::Standard,
        recipient: Some(text.to_owned()),
        state,
        round: 1,
        attempt_count: 1,
        round_base: 0,
        created_at: now,
        expires_at: notification.expires_at,
        provider_message_id: Some(text.to_owned()),
        provider_message_date: None,
        provider_error_code: Some(text.to_owned()),
        last_error: Some(text.to_owned()),
        origin: Origin::Producer,
    };
    let event = Event::of_outcome(&delivery, None);
    let record = Record {
        delivery,
        before: Before::New {
            notification: Arc::new(notification),
            fan_out: 1,
        },
        attempt: Some(attempt(now, text)),
        kept: None,
        event,
        disable: None,
    };
    api.store.record(&[record], now).await.unwrap();
    id
}

fn attempt(now: Timestamp, text: &str) -> Attempt {
    Attempt {
        number: 1,
        round: 1,
        started_at: now,
        duration: Duration::from_millis(112),
        phases: Phases {
            dns: Some(1.5),
            connect: Some(20.0),
            tls: Some(40.0),
            wait: Some(50.0),
            body: Some(0.5),
        },
        result: AttemptResult::ServerError,
        status_code: Some(503),
        error: Some(AttemptError {
            code: text.to_owned(),
            text: text.to_owned(),
        }),
        response_body: Some(text.to_owned()),
        resolved_address: Some(text.to_owned()),
        request_headers: vec![(text.to_owned(), text.to_owned())],
        worker: text.to_owned(),
        console: Some(text.to_owned()),
    }
}
