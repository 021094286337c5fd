//! Taking notifications in over HTTP, one or a thousand: check → claim names → publish → finish.
//! Only notifications that bring a name (an id or an idempotency key) cost a visit to the store.

use std::collections::HashMap;

use http::HeaderMap;
use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::{NotificationId, TenantId};
use posthaste_shared::domain::notification::{Notification, NotificationDraft};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::StoreError;
use posthaste_shared::store::idempotency::{Begun, IdempotencyClaim};
use posthaste_shared::telemetry::metrics::Source;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::enqueue::{accept, publish};
use crate::http::callers::Caller;
use crate::http::circle::hops_of;
use crate::http::problem::{Code, Problem, log_refusal};
use crate::http::request::trace;
use crate::http::request::trace::traceparent;
use crate::http::state::Api;

/// A notification that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AcceptedView {
    /// The id of the notification, unique in its tenant.
    pub id: NotificationId,
    /// When the notification was first accepted.
    pub accepted_at: Timestamp,
    /// Whether it had been accepted before, so that nothing was done now.
    pub deduplicated: bool,
}

/// A draft with what its request adds to it.
pub(in crate::http) struct Item {
    /// What the client wrote.
    pub(in crate::http) draft: NotificationDraft,
    /// The client's idempotency key, if it gave one.
    pub(in crate::http) idempotency_key: Option<String>,
}

/// What the head of a request says of all its items.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Carried<'a> {
    /// The client's W3C trace context.
    pub(in crate::http) traceparent: Option<&'a str>,
    /// How often Posthaste itself has sent what this comes from.
    pub(in crate::http) hops: Hops,
}

impl<'a> Carried<'a> {
    /// Of a request with these headers.
    pub(in crate::http) fn by(headers: &'a HeaderMap) -> Self {
        Self {
            traceparent: traceparent(headers),
            hops: hops_of(headers),
        }
    }
}

/// Where an item stands.
enum Stage {
    /// To be published; `claimed` says under which names.
    Checked {
        notification: Notification,
        claimed: Vec<String>,
    },
    /// Accepted by an earlier request: there is nothing to publish.
    Known(AcceptedView),
    /// The same as the earlier item of this batch that has this index, and answered as that is.
    Twin(usize),
    /// Refused; nothing of it is published.
    Refused(Problem),
}

/// Takes items in, all published at once. Answers in order.
pub(in crate::http) async fn take_in(
    api: &Api,
    caller: &Caller,
    carried: Carried<'_>,
    items: Vec<Result<Item, Problem>>,
) -> Vec<Result<AcceptedView, Problem>> {
    // One time for all items: an unknown endpoint is looked for once a request, not once an item.
    let (now, asked_at) = (api.clock.now(), Instant::now());
    let mut stages = Vec::with_capacity(items.len());
    // Apart from the stages: most items bring no name, and cost no visit to the store.
    let mut named = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let checked = match item {
            Ok(item) => check(api, caller, carried, item, (now, asked_at)).await,
            Err(problem) => Err(problem),
        };
        let (stage, names) = match checked {
            Ok((notification, names)) => (
                Stage::Checked {
                    notification,
                    claimed: Vec::new(),
                },
                names,
            ),
            Err(problem) => (Stage::Refused(problem), None),
        };
        stages.push(stage);
        named.extend(names.map(|names| Named { index, ..names }));
    }
    if !named.is_empty() {
        // Known ids come before the claims: an item that contradicts its id must not claim
        // anything.
        match known(api, &mut stages, &mut named).await {
            Ok(known) => claim(api, &mut stages, named, &known).await,
            // Without the store an item with an id or a key cannot be recognised, so it is not
            // accepted. Those without go on.
            Err(error) => refuse_all(&mut stages, &named, &error.into()),
        }
    }
    // Before publishing, since a message that is on the queue cannot be taken back.
    refuse_over_backlog(api, &mut stages).await;
    let results = publish_checked(api, carried.traceparent, &stages).await;
    // Only after the confirms: a key that is marked as done for a message that the broker does not
    // have would lose it.
    finish(api, &stages, &results).await;
    results
}

/// Refuses what would be new work of a tenant that has as much as it may have. Not before the names
/// are known: what is in already needs no room, and is answered as it was.
async fn refuse_over_backlog(api: &Api, stages: &mut [Stage]) {
    for stage in stages {
        if let Stage::Checked { notification, .. } = stage
            && let Err(problem) = api
                .tenants
                .check_backlog(&api.store, &notification.tenant)
                .await
        {
            *stage = Stage::Refused(problem);
        }
    }
}

/// What an item that brings a name needs besides its notification.
struct Named {
    index: usize,
    /// To make the notification again when the name was claimed earlier.
    draft: NotificationDraft,
    keys: Vec<String>,
    fingerprint: [u8; 32],
}

/// All checks that need no other item.
async fn check(
    api: &Api,
    caller: &Caller,
    carried: Carried<'_>,
    item: Item,
    (now, asked_at): (Timestamp, Instant),
) -> Result<(Notification, Option<Named>), Problem> {
    let Item {
        mut draft,
        idempotency_key,
    } = item;
    let tenant = caller.tenant_or_default(draft.tenant.as_ref())?;
    let endpoint = match &draft.endpoint_id {
        None => None,
        Some(id) => match api
            .directory
            .find(&api.store, &tenant, id, asked_at)
            .await?
        {
            Some(endpoint) => {
                // Where it was named by its uid: that may belong to another one tomorrow.
                draft.endpoint_id = Some(endpoint.id.clone());
                Some(endpoint)
            }
            None => {
                let problem = format!("does not name an endpoint of the tenant {tenant}");
                return Err(Problem::field(
                    Code::UnknownEndpoint,
                    "endpoint_id",
                    problem,
                ));
            }
        },
    };
    // Written down before the fingerprint: it must not depend on whether the client named the
    // tenant or its API key did.
    draft.tenant = Some(tenant.clone());
    let mut keys = Vec::new();
    // With prefixes, as an id and an Idempotency-Key of the same text are different things.
    keys.extend(idempotency_key.map(|key| format!("key:{key}")));
    keys.extend(draft.id.as_ref().map(|id| format!("id:{id}")));
    let named = (!keys.is_empty()).then(|| Named {
        index: 0,
        fingerprint: fingerprint(&draft),
        draft: draft.clone(),
        keys,
    });
    let notification = accept(draft, tenant, now, carried.traceparent.map(str::to_owned))?;
    let notification = Notification {
        hops: carried.hops,
        ..notification
    };
    let refused = |problems| Problem::fields(Code::Invalid, problems);
    api.wire_formats
        .check_notification(endpoint.as_deref(), &notification)
        .map_err(refused)?;
    Ok((notification, named))
}

/// SHA-256 of the draft as we would write it: spaces and the order of members do not count, the
/// payload's bytes do.
fn fingerprint(draft: &NotificationDraft) -> [u8; 32] {
    Sha256::digest(serde_json::to_vec(draft).unwrap_or_default()).into()
}

/// Asks the store for notifications of the ids that producers chose: idempotency keys are forgotten
/// long before these. One that asks for something else is refused and claims nothing.
async fn known(
    api: &Api,
    stages: &mut [Stage],
    named: &mut Vec<Named>,
) -> Result<HashMap<(TenantId, NotificationId), Notification>, StoreError> {
    let with_id = named.iter().filter(|item| item.draft.id.is_some());
    let ids: Vec<_> = with_id
        .filter_map(|item| match &stages[item.index] {
            Stage::Checked { notification, .. } => {
                Some((notification.tenant.clone(), notification.id.clone()))
            }
            Stage::Known(_) | Stage::Twin(_) | Stage::Refused(_) => None,
        })
        .collect();
    // Items that bring an Idempotency-Key alone have an id of our making, which no record can have.
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let known = api.store.readable_notifications(&ids).await?;
    named.retain(|item| {
        let Stage::Checked { notification, .. } = &stages[item.index] else {
            return true;
        };
        let first = known.get(&(notification.tenant.clone(), notification.id.clone()));
        let same = first.is_none_or(|first| first.differs_in(notification).is_none());
        if !same {
            stages[item.index] = Stage::Refused(conflict());
        }
        same
    });
    Ok(known)
}

fn refuse_all(stages: &mut [Stage], named: &[Named], problem: &Problem) {
    for item in named {
        stages[item.index] = Stage::Refused(problem.clone());
    }
}

/// Claims all names in one visit to the store and moves the stages accordingly.
async fn claim(
    api: &Api,
    stages: &mut [Stage],
    named: Vec<Named>,
    known: &HashMap<(TenantId, NotificationId), Notification>,
) {
    let mut claims = Vec::new();
    for item in &named {
        if let Stage::Checked { notification, .. } = &stages[item.index] {
            claims.extend(item.keys.iter().map(|key| IdempotencyClaim {
                tenant: notification.tenant.clone(),
                key: key.clone(),
                fingerprint: item.fingerprint,
                notification: notification.id.clone(),
                accepted_at: notification.accepted_at,
            }));
        }
    }
    // One statement for a thousand claims: a visit for each would make a batch as slow as single
    // requests.
    let mut answers = match api.store.begin(&claims).await {
        Ok(answers) => answers.into_iter(),
        Err(error) => {
            return refuse_all(stages, &named, &Problem::from(error));
        }
    };
    let mut first_with: HashMap<(TenantId, String), usize> = HashMap::new();
    for item in named {
        // Every item takes as many answers as it has keys, in the order of the claims.
        let begun: Vec<Begun> = answers.by_ref().take(item.keys.len()).collect();
        let index = item.index;
        if let Stage::Checked {
            notification,
            claimed,
        } = &mut stages[index]
        {
            let tenant = notification.tenant.clone();
            // Of two equal items the store answers the second as if its key were in progress
            // elsewhere. That the first is in this very batch is known only here.
            let twin = item
                .keys
                .iter()
                .find_map(|key| first_with.get(&(tenant.clone(), key.clone())).copied());
            first_with.extend(
                item.keys
                    .iter()
                    .map(|key| ((tenant.clone(), key.clone()), twin.unwrap_or(index))),
            );
            let first = known.get(&(tenant, notification.id.clone()));
            match settle(begun) {
                // Its keys stand for it again: nothing is left to publish.
                Settled::Fresh | Settled::Again { .. } if let Some(first) = first => {
                    let id = first.id.clone();
                    let accepted_at = first.accepted_at;
                    stages[index] = Stage::Known(AcceptedView {
                        id,
                        accepted_at,
                        deduplicated: true,
                    });
                }
                Settled::Fresh => *claimed = item.keys,
                Settled::Again { .. } if let Some(twin) = twin => stages[index] = Stage::Twin(twin),
                Settled::Again { id, at } => match again(notification, item.draft, id, at) {
                    Ok(earlier) => (*notification, *claimed) = (earlier, item.keys),
                    Err(problem) => stages[index] = Stage::Refused(problem),
                },
                Settled::Done(view) => stages[index] = Stage::Known(view),
                Settled::Conflict => stages[index] = Stage::Refused(conflict()),
            }
        }
    }
}

/// What the answers for an item's names say together.
enum Settled {
    Fresh,
    /// An earlier request got no further than the claim: publish again, as the same notification.
    Again {
        id: NotificationId,
        at: Timestamp,
    },
    Done(AcceptedView),
    Conflict,
}

fn settle(begun: Vec<Begun>) -> Settled {
    let mut settled = Settled::Fresh;
    for answer in begun {
        // The strongest answer wins: a conflict refuses the item, a finished request is its answer,
        // and only then is a claim that was cut off taken up again.
        settled = match (settled, answer) {
            (Settled::Conflict, _) | (_, Begun::Mismatch) => Settled::Conflict,
            (Settled::Done(view), _) => Settled::Done(view),
            (
                _,
                Begun::Done {
                    notification,
                    accepted_at,
                },
            ) => Settled::Done(AcceptedView {
                id: notification,
                accepted_at,
                deduplicated: true,
            }),
            (Settled::Again { id, at }, _) => Settled::Again { id, at },
            (
                Settled::Fresh,
                Begun::InProgress {
                    notification,
                    accepted_at,
                },
            ) => Settled::Again {
                id: notification,
                at: accepted_at,
            },
            (Settled::Fresh, Begun::New) => Settled::Fresh,
        };
    }
    settled
}

/// The notification as the earlier request made it: its id, and times that count from its
/// acceptance.
fn again(
    now: &Notification,
    draft: NotificationDraft,
    id: NotificationId,
    at: Timestamp,
) -> Result<Notification, Problem> {
    // The id of the first try: under a new one the worker could not see that it is the same.
    let draft = NotificationDraft {
        id: Some(id),
        ..draft
    };
    let earlier = accept(draft, now.tenant.clone(), at, now.traceparent.clone())?;
    Ok(Notification {
        hops: now.hops,
        ..earlier
    })
}

fn conflict() -> Problem {
    Problem::new(
        Code::IdempotencyConflict,
        "the id or Idempotency-Key was used before for another notification: choose a new one",
    )
}

/// Publishes what is to be published and gives each item its answer.
async fn publish_checked(
    api: &Api,
    traceparent: Option<&str>,
    stages: &[Stage],
) -> Vec<Result<AcceptedView, Problem>> {
    let checked = stages.iter().filter_map(|stage| match stage {
        Stage::Checked { notification, .. } => Some(notification.clone()),
        Stage::Known(_) | Stage::Twin(_) | Stage::Refused(_) => None,
    });
    // Copies: the stages still need theirs, to mark the keys as done.
    let mut checked: Vec<Notification> = checked.collect();
    let mut span = trace::publish(&api.tracer, traceparent, &mut checked);
    let confirms = publish(&*api.broker, checked).await;
    let accepted = confirms.iter().filter(|confirm| confirm.is_ok()).count();
    if accepted < confirms.len() {
        span.fail("unconfirmed");
    }
    // Ended here: what follows is no part of publishing, and would make the span too long.
    drop(span);
    api.metrics.accepted(Source::Http, accepted as u64);
    // One line for the batch: its messages mostly fail for one reason.
    if let Some(Err(error)) = confirms.iter().find(|confirm| confirm.is_err()) {
        log_refusal(error, confirms.len() - accepted);
    }
    let mut confirms = confirms.into_iter();
    let mut answers: Vec<Result<AcceptedView, Problem>> = Vec::with_capacity(stages.len());
    for stage in stages {
        answers.push(match stage {
            Stage::Known(view) => Ok(view.clone()),
            Stage::Refused(problem) => Err(problem.clone()),
            // The first of two twins is earlier in the batch, so its answer is there.
            Stage::Twin(first) => answers[*first].clone().map(|view| AcceptedView {
                deduplicated: true,
                ..view
            }),
            Stage::Checked { .. } => match confirms.next() {
                Some(Ok(receipt)) => Ok(AcceptedView {
                    id: receipt.id,
                    accepted_at: receipt.accepted_at,
                    deduplicated: false,
                }),
                // Which of the reasons it was makes no difference to the client: nothing is
                // promised.
                Some(Err(_)) | None => Err(Problem::unconfirmed()),
            },
        });
    }
    answers
}

/// Marks the names of what was published as done. Should that fail, the next request with such a
/// name publishes again, and the worker dedupes: no reason to refuse what the broker has.
async fn finish(api: &Api, stages: &[Stage], results: &[Result<AcceptedView, Problem>]) {
    let mut done: Vec<(TenantId, String)> = Vec::new();
    for (stage, result) in stages.iter().zip(results) {
        if let (
            Stage::Checked {
                notification,
                claimed,
            },
            Ok(_),
        ) = (stage, result)
        {
            done.extend(
                claimed
                    .iter()
                    .map(|key| (notification.tenant.clone(), key.clone())),
            );
        }
    }
    if done.is_empty() {
        return;
    }
    if let Err(error) = api.store.finish(&done).await {
        tracing::warn!(error = %error, "accepted notifications could not be marked as done; \
                                        repeated requests publish them again");
    }
}
