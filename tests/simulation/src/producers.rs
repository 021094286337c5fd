//! Producers: each enqueues a notification, and tries again until the broker has confirmed it.

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::broker::Message;
use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::{NotificationId, NotificationType, TenantId};
use posthaste_shared::domain::notification::{Notification, Origin, Priority};
use posthaste_shared::domain::raw_json::RawJson;

use crate::broker::Queue;
use crate::clock::START;
use crate::faults::Kind;
use crate::plan::{NotificationPlan, What, endpoint_id};
use crate::world::World;

/// Enqueues one notification.
pub async fn enqueue(world: Arc<World>, queue: Arc<Queue>, plan: NotificationPlan) {
    tokio::time::sleep(plan.at).await;
    let who = "producer";
    let message = message(&world, &plan);
    for _ in 0..plan.tries {
        let faults = &world.faults;
        if world.strikes(Kind::PublishDelayed, who) {
            let length = faults.draw(Kind::PublishDelayed, |dice| dice.millis(1..=3_000));
            tokio::time::sleep(length).await;
        }
        if world.strikes(Kind::PublishRefused, who) || world.strikes(Kind::PublishFailed, who) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        queue.publish(message.clone());
        world.note(who, || format!("enqueues {}: {plan:?}", plan.number));
        if world.strikes(Kind::ConfirmLost, who) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        world.books().accepted.push(plan.number);
        return;
    }
}

fn message(world: &World, plan: &NotificationPlan) -> Message {
    if plan.what == What::Unreadable {
        return Message {
            id: Some(format!("unreadable-{}", plan.number)),
            body: body_of(plan.number).into_bytes().into(),
            ..Message::default()
        };
    }
    let accepted_at = START.after(world.elapsed());
    let message = Message::of(Notification {
        id: plan
            .id()
            .unwrap_or_else(|| any(NotificationId::parse("none"))),
        tenant: TenantId::default(),
        kind: any(NotificationType::parse(plan.kind)),
        target: plan.target.map(endpoint_id),
        payload: any(RawJson::parse(format!("{{{}}}", body_of(plan.number)))),
        recipient: None,
        overrides: None,
        accepted_at,
        deliver_at: plan.delay.map(|delay| accepted_at.after(delay)),
        expires_at: plan.ttl.map(|ttl| accepted_at.after(ttl)),
        priority: Priority::Normal,
        origin: Origin::Producer,
        traceparent: None,
        hops: Hops::default(),
    });
    if plan.what != What::WithoutId {
        return message;
    }
    // As a client of another language may send it: without an id in body or properties.
    let body = String::from_utf8_lossy(&message.body).replacen("\"id\":\"none\",", "", 1);
    Message {
        id: None,
        body: body.into_bytes().into(),
        ..message
    }
}

/// What tells a payload from the others.
#[must_use]
pub fn body_of(number: usize) -> String {
    format!("\"simulated\":{number}")
}

#[expect(clippy::expect_used, reason = "each of them is valid, in every run")]
fn any<T, E: std::fmt::Debug>(parsed: Result<T, E>) -> T {
    parsed.expect("valid")
}
