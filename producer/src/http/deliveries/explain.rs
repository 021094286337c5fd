//! `…/explain`: why a notification or delivery is where it is.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, FailureReason, Hold, Wait};
use posthaste_shared::domain::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use posthaste_shared::domain::health::EndpointHealth;
use posthaste_shared::domain::id::{DeliveryId, NotificationId};
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::{AttemptView, DeliveryView, EndpointView};
use serde::{Deserialize, Serialize};

use crate::http::auth::Reader;
use crate::http::callers::Caller;
use crate::http::deliveries::operations as deliveries;
use crate::http::notifications::{TenantQuery, unknown};
use crate::http::problem::Problem;
use crate::http::request::extract::{Id, Params};
use crate::http::state::Api;

/// How far the deliveries before a parked one are counted: bounded, because one answer may have
/// fifty of them.
const MAX_COUNTED: u32 = 10_000;
/// The most deliveries of a notification that are explained in one answer: each costs up to five
/// visits to the store.
const MAX_EXPLAINED: usize = 50;

/// Why a delivery is where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeliveryExplanation {
    /// The state of the delivery and its reason, in sentences for people.
    pub summary: String,
    /// The delivery as it is now.
    pub delivery: DeliveryView,
    /// When the lease of the worker that sends it now ends; null while no worker has leased it.
    pub lease_until: Option<Timestamp>,
    /// Its endpoint; null when it was deleted.
    pub endpoint: Option<EndpointView>,
    /// The attempts of the delivery, the earliest first.
    pub attempts: Vec<AttemptView>,
}

/// Why a notification is where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotificationExplanation {
    /// How many deliveries the notification has, in a sentence for people.
    pub summary: String,
    /// The id of the notification, unique in its tenant.
    pub notification_id: NotificationId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The deliveries of the notification, up to 50 of them.
    pub deliveries: Vec<DeliveryExplanation>,
}

/// Explain why a delivery is where it is
#[utoipa::path(
    get, path = "/v1/deliveries/{id}/explain", tag = "deliveries",
    operation_id = "explain_delivery",
    params(("id" = DeliveryId, Path, description = "The id of the delivery")),
    responses((status = 200, description = "Why it is where it is", body = DeliveryExplanation))
)]
pub(in crate::http) async fn delivery(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Id(id): Id<DeliveryId>,
) -> Result<Json<DeliveryExplanation>, Problem> {
    explain(&api, &caller, id).await.map(Json)
}

/// Explains why a delivery is where it is.
///
/// # Errors
/// The caller may not read; there is no such delivery for this caller; the store failed.
pub async fn explain(
    api: &Api,
    caller: &Caller,
    id: DeliveryId,
) -> Result<DeliveryExplanation, Problem> {
    caller.must(Scope::Read)?;
    let (delivery, attempts) = deliveries::find(api, caller, id).await?;
    explanation(api, &delivery, &attempts).await
}

/// Explain why a notification is where it is
#[utoipa::path(
    get, path = "/v1/notifications/{id}/explain", tag = "notifications",
    operation_id = "explain_notification",
    params(("id" = NotificationId, Path, description = "The id of the notification"), TenantQuery),
    responses((status = 200, description = "Why it is where it is", body = NotificationExplanation))
)]
pub(in crate::http) async fn notification(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Id(id): Id<NotificationId>,
    Params(query): Params<TenantQuery>,
) -> Result<Json<NotificationExplanation>, Problem> {
    let tenant = caller.tenant(query.tenant.as_ref())?;
    let (notification, found) = api
        .store
        .notification(tenant.as_ref(), &id)
        .await?
        .ok_or_else(unknown)?;
    let summary = match found.len() {
        0 => "It has no deliveries: when a worker took it up, no enabled endpoint's subscription \
              matched."
            .to_owned(),
        1 => "It has one delivery.".to_owned(),
        count @ 2..=MAX_EXPLAINED => format!("It has {count} deliveries."),
        count => format!(
            "It has {count} deliveries; the first {MAX_EXPLAINED} are explained \
                          here."
        ),
    };
    let mut explained = Vec::with_capacity(found.len().min(MAX_EXPLAINED));
    // One after the other: fifty at once would take every connection to the store.
    for delivery in found.iter().take(MAX_EXPLAINED) {
        explained.push(with_attempts(&api, &caller, delivery).await?);
    }
    let accepted_at = notification.accepted_at;
    Ok(Json(NotificationExplanation {
        summary,
        notification_id: id,
        accepted_at,
        deliveries: explained,
    }))
}

async fn with_attempts(
    api: &Api,
    caller: &Caller,
    delivery: &Delivery,
) -> Result<DeliveryExplanation, Problem> {
    let (delivery, attempts) = deliveries::find(api, caller, delivery.id).await?;
    explanation(api, &delivery, &attempts).await
}

async fn explanation(
    api: &Api,
    delivery: &Delivery,
    attempts: &[Attempt],
) -> Result<DeliveryExplanation, Problem> {
    let endpoint = api.store.endpoint(&delivery.endpoint_id).await?;
    let now = api.clock.now();
    let id = &delivery.endpoint_id;
    let queue = Queue {
        before: match delivery.state {
            DeliveryState::Pending(Wait::Parked { .. }) => {
                api.store.parked_before(delivery, MAX_COUNTED).await?
            }
            _ => 0,
        },
        health: api.store.endpoint_health(id, now).await?,
    };
    let lease_until = match delivery.state {
        DeliveryState::Pending(Wait::InFlight { lease_until }) => Some(lease_until),
        _ => None,
    };
    Ok(DeliveryExplanation {
        summary: summary(delivery, endpoint.as_ref(), &queue, now),
        delivery: DeliveryView::from(delivery),
        lease_until,
        endpoint: endpoint.map(|endpoint| EndpointView::of(&endpoint, now).with(queue.health)),
        attempts: attempts.iter().map(AttemptView::from).collect(),
    })
}

/// What a delivery waits behind.
#[derive(Debug, Default)]
struct Queue {
    /// How many of its endpoint were parked before it, up to [`MAX_COUNTED`].
    before: u64,
    /// What keeps its endpoint from being called.
    health: Option<EndpointHealth>,
}

/// The state in sentences.
fn summary(
    delivery: &Delivery,
    endpoint: Option<&Endpoint>,
    queue: &Queue,
    now: Timestamp,
) -> String {
    let mut sentences = vec![state(delivery, endpoint, queue, now)];
    let attempts = delivery.attempt_count;
    sentences.push(match attempts {
        0 => "No attempt was made.".to_owned(),
        1 => "One attempt was made.".to_owned(),
        _ => format!("{attempts} attempts were made."),
    });
    if delivery.round > 1 {
        sentences.push(format!(
            "It is in round {}: somebody sent it again.",
            delivery.round
        ));
    }
    if let Some(error) = &delivery.last_error {
        sentences.push(format!("The last error: {}.", error.trim_end_matches('.')));
    }
    if let (DeliveryState::Pending(_), Some(expires_at)) = (&delivery.state, delivery.expires_at) {
        sentences.push(format!(
            "It expires at {} ({}).",
            second(expires_at),
            ahead(expires_at, now)
        ));
    }
    let waits_for_time = matches!(
        delivery.state,
        DeliveryState::Pending(Wait::Retry { .. } | Wait::Scheduled { .. })
    );
    if let (
        true,
        Some(Endpoint {
            status: EndpointStatus::Disabled(reason),
            ..
        }),
    ) = (waits_for_time, endpoint)
    {
        sentences.push(format!(
            "Its endpoint is disabled ({}), so it waits until the endpoint is enabled.",
            because(*reason)
        ));
    }
    if endpoint.is_none() {
        sentences.push("Its endpoint was deleted.".to_owned());
    }
    sentences.join(" ")
}

fn state(
    delivery: &Delivery,
    endpoint: Option<&Endpoint>,
    queue: &Queue,
    now: Timestamp,
) -> String {
    match &delivery.state {
        DeliveryState::Delivered { at } => format!("Delivered at {}.", second(*at)),
        DeliveryState::Failed { at, reason } => {
            format!("Failed at {}: {}.", second(*at), failure(*reason))
        }
        DeliveryState::Expired { at } => {
            format!(
                "Expired at {}: its time ran out before the endpoint took it.",
                second(*at)
            )
        }
        DeliveryState::Cancelled { at } => format!("Cancelled at {}.", second(*at)),
        DeliveryState::Pending(Wait::InFlight { lease_until }) if *lease_until <= now => {
            let since = second(*lease_until);
            format!(
                "A worker leased it and did not report back: its lease expired at {since}, so any \
                 worker may take it."
            )
        }
        DeliveryState::Pending(Wait::InFlight { lease_until }) => {
            format!(
                "It is in flight: a worker has leased it until {} at the latest.",
                second(*lease_until)
            )
        }
        DeliveryState::Pending(Wait::Retry { due_at }) => {
            format!("{} (a retry).", due("The next attempt", *due_at, now))
        }
        DeliveryState::Pending(Wait::Scheduled { due_at }) => {
            format!(
                "{} (its deliver_at).",
                due("The first attempt", *due_at, now)
            )
        }
        DeliveryState::Pending(Wait::Parked { why }) => parked(*why, endpoint, queue, now),
    }
}

fn parked(why: Hold, endpoint: Option<&Endpoint>, queue: &Queue, now: Timestamp) -> String {
    let before = before(queue.before);
    match (why, endpoint) {
        // Whatever held it first: now this does.
        (
            _,
            Some(Endpoint {
                status: EndpointStatus::Disabled(reason),
                ..
            }),
        ) => {
            format!(
                "It waits: its endpoint is disabled ({}). Enable the endpoint to send \
                     it.",
                because(*reason)
            )
        }
        (Hold::Disabled, Some(_)) => {
            "It waited because its endpoint was disabled. The endpoint is enabled again, so it is \
             sent soon."
                .to_owned()
        }
        (Hold::Disabled, None) => "It waits for an endpoint that was disabled.".to_owned(),
        (Hold::MaxInFlight, endpoint) => {
            let limit = endpoint.map_or_else(String::new, |endpoint| {
                format!(" ({})", endpoint.max_in_flight)
            });
            format!(
                "It waits: its endpoint has as many requests in flight as max_in_flight \
                 allows over all workers{limit}, or as it answers well: {before}."
            )
        }
        (Hold::RateLimit, endpoint) => {
            let rate = endpoint.and_then(|endpoint| endpoint.rate_limit_per_second);
            let limit = rate.map_or_else(String::new, |rate| format!(" of {rate}/s"));
            let time = rate
                .filter(|_| queue.before < u64::from(MAX_COUNTED))
                .map_or_else(String::new, |rate| {
                    let left = Duration::from_secs_f64((queue.before as f64 / rate).min(1e9));
                    format!(", about {}", shown(left))
                });
            format!(
                "It waits for its endpoint's rate limit{limit} over all workers: {before}{time}."
            )
        }
        (Hold::Slots, _) => {
            format!("It waits: every slot of the worker was taken: {before}.")
        }
        (Hold::Tenant, _) => {
            format!(
                "It waits: this endpoint has its share of the requests in flight that the setting \
                 tenant_max_in_flight allows its tenant: {before} for it."
            )
        }
        (Hold::Scripts, _) => {
            "It waits for its endpoint's script: as many scripts run as are allowed, the script \
             is still being compiled, or earlier calls of it cannot be stopped. No attempt is used \
             up."
            .to_owned()
        }
        (Hold::Breaker, _) => {
            let unhealthy = queue.health.as_ref().and_then(|one| one.unhealthy.as_ref());
            unhealthy.map_or_else(
                || {
                    format!(
                        "It waited because its endpoint failed. The endpoint answers again, so it \
                         is sent soon: {before}."
                    )
                },
                |unhealthy| {
                    format!(
                        "It waits: its endpoint has failed {} times in a row since {}, so a single \
                         request tries it from time to time, next {}. Once one succeeds, what \
                         waits is sent: {before}.",
                        unhealthy.failures,
                        second(unhealthy.since),
                        ahead(unhealthy.open_until, now)
                    )
                },
            )
        }
        (Hold::RetryAfter, _) => {
            let until = queue.health.as_ref().and_then(|one| one.paused_until);
            let until = until.map_or_else(
                || ", which is over".to_owned(),
                |until| format!(" until {} ({})", second(until), ahead(until, now)),
            );
            format!("It waits: its endpoint asked for a pause, by Retry-After{until}: {before}.")
        }
    }
}

/// `1,204 before it`, with thousands apart.
fn before(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    match count {
        0 => "none before it".to_owned(),
        _ if count >= u64::from(MAX_COUNTED) => format!("{shown} or more before it"),
        _ => format!("{shown} before it"),
    }
}

const fn because(reason: DisabledReason) -> &'static str {
    match reason {
        DisabledReason::Manual => "by hand",
        DisabledReason::Gone => "because it answered 410 Gone",
        DisabledReason::Failing => "because all its attempts failed for too long",
    }
}

const fn failure(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::Rejected => "the endpoint refused it, with an answer that is not retried",
        FailureReason::RetriesExhausted => "the last retry failed too",
        FailureReason::Blocked => "the endpoint's address is forbidden by the egress policy",
        FailureReason::Gone => "the endpoint answered 410 Gone and was disabled",
        FailureReason::RenderError => "it cannot be written in the endpoint's wire format",
        FailureReason::EndpointDeleted => "its endpoint does not exist",
        FailureReason::ProviderRejected => "the provider behind the endpoint refused it for good",
        FailureReason::Internal => {
            "Posthaste itself is at fault, not the endpoint: please report it as a bug"
        }
    }
}

fn due(what: &str, at: Timestamp, now: Timestamp) -> String {
    let time = second(at);
    if at <= now {
        format!("{what} has been due since {time}")
    } else {
        format!("{what} is due at {time}, {}", ahead(at, now))
    }
}

/// The time without its fraction: nobody reads microseconds in a sentence.
const fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_micros() - at.as_micros().rem_euclid(1_000_000))
}

/// `in 5 s`, or `now`.
fn ahead(at: Timestamp, now: Timestamp) -> String {
    let left = at.since(now);
    if left.is_zero() {
        return "now".to_owned();
    }
    format!("in {}", shown(left))
}

fn shown(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{} s", seconds.max(1)),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use posthaste_shared::domain::health::Unhealthy;
    use posthaste_shared::domain::id::{EndpointId, NotificationType, TenantId};
    use posthaste_shared::domain::notification::Origin;
    use posthaste_shared::domain::wire_format::WireFormat;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn pending(wait: Wait) -> Delivery {
        let notification_id = NotificationId::parse("n-1").unwrap();
        let endpoint_id = EndpointId::parse("ep_1").unwrap();
        Delivery {
            id: DeliveryId::of(&notification_id, &endpoint_id, None),
            notification_id,
            tenant: TenantId::default(),
            kind: NotificationType::parse("a").unwrap(),
            endpoint_id,
            wire_format: WireFormat::Raw,
            recipient: None,
            state: DeliveryState::Pending(wait),
            round: 1,
            attempt_count: 2,
            round_base: 0,
            created_at: at("2026-01-01T00:00:00Z"),
            expires_at: Some(at("2026-01-01T01:00:00Z")),
            provider_message_id: None,
            provider_message_date: None,
            provider_error_code: None,
            last_error: Some("the endpoint answered 503".to_owned()),
            origin: Origin::Producer,
        }
    }

    #[test]
    fn says_what_a_delivery_waits_for() {
        let now = at("2026-01-01T00:00:10Z");
        let queue = Queue {
            before: 1_204,
            health: Some(EndpointHealth {
                endpoint: EndpointId::parse("ep_1").unwrap(),
                unhealthy: Some(Unhealthy {
                    since: at("2026-01-01T00:00:00Z"),
                    open_until: at("2026-01-01T00:00:18Z"),
                    failures: 12,
                    last_error: "the endpoint answered 503".to_owned(),
                    types: Vec::new(),
                }),
                paused_until: Some(at("2026-01-01T00:00:40Z")),
            }),
        };
        let retry = pending(Wait::Retry {
            due_at: at("2026-01-01T00:00:14Z"),
        });
        assert_eq!(
            summary(&retry, None, &queue, now),
            "The next attempt is due at 2026-01-01T00:00:14Z, in 4 s (a retry). 2 attempts were \
             made. \
             The last error: the endpoint answered 503. It expires at 2026-01-01T01:00:00Z (in 59 \
             min). \
             Its endpoint was deleted."
        );
        let lost = pending(Wait::InFlight { lease_until: now });
        assert!(
            summary(&lost, None, &queue, now)
                .starts_with("A worker leased it and did not report back")
        );
        let parked = pending(Wait::Parked { why: Hold::Slots });
        assert!(
            summary(&parked, None, &queue, now).starts_with("It waits: every slot of the worker")
        );
        let why = Hold::RetryAfter;
        let paused = pending(Wait::Parked { why });
        assert!(summary(&paused, None, &queue, now).starts_with(
            "It waits: its endpoint asked for a pause, by Retry-After until 2026-01-01T00:00:40Z \
             (in 30 s): 1,204 before it."
        ));
        let why = Hold::Breaker;
        let broken = pending(Wait::Parked { why });
        assert!(summary(&broken, None, &queue, now).starts_with(
            "It waits: its endpoint has failed 12 times in a row since 2026-01-01T00:00:00Z, so a \
             single request tries it from time to time, next in 8 s. Once one succeeds, what waits \
             is sent: 1,204 before it."
        ));
    }
}
