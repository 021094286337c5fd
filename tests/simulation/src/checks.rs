//! What must hold after every run, whatever went wrong in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use posthaste_shared::domain::delivery::Status;
use posthaste_shared::domain::id::{DeliveryId, EventId, NotificationId, TenantId};
use posthaste_shared::store::Store;
use posthaste_shared::store::simulation::Change;

use crate::clock::START;
use crate::gate::short;
use crate::plan::{NotificationPlan, What, endpoint_id};
use crate::producers::body_of;
use crate::world::{Books, World};

/// How long after the end of a delivery a request may still go out that was on its way before: what
/// was taken up by a worker whose lease ended, or whose message was redelivered, waits up to 5 s
/// for a slot and 2 s for a connection, and its calls of the store for 2 s each.
const ON_ITS_WAY: Duration = Duration::from_secs(13);

/// The deliveries that are pending, and the notifications that are not taken up.
#[must_use]
pub fn pending(world: &World) -> Vec<String> {
    let books = world.books();
    let latest = latest(&books);
    let waiting = latest
        .iter()
        .filter(|(_, (status, ..))| *status == Status::Pending);
    let waiting = waiting.map(|(id, (_, wait, _))| {
        let wait = wait.as_deref().unwrap_or_default();
        format!("{} ({wait})", short(&id.to_string()))
    });
    let lost = accepted(world, &books).filter_map(|plan| {
        let missing = deliveries_of(world, plan)
            .into_iter()
            .filter(|(_, must)| *must)
            .find(|(id, _)| !latest.contains_key(id));
        missing.map(|(id, _)| format!("{} of {}", short(&id.to_string()), plan.number))
    });
    let mut all: Vec<String> = waiting.chain(lost).collect();
    all.sort();
    all
}

type Latest = HashMap<DeliveryId, (Status, Option<String>, u32)>;

/// The state of each delivery.
fn latest(books: &Books) -> Latest {
    let mut latest = Latest::new();
    for change in books.commits.iter().flat_map(|commit| &commit.changes) {
        if let Change::Delivery {
            id,
            status,
            wait,
            attempt_count,
            ..
        } = change
        {
            latest.insert(*id, (*status, wait.clone(), *attempt_count));
        }
    }
    latest
}

/// The plans of what was accepted under ids of its own.
fn accepted<'a>(world: &'a World, books: &'a Books) -> impl Iterator<Item = &'a NotificationPlan> {
    let plans = world.plan.notifications.iter();
    let enqueued = plans.filter(|plan| books.accepted.contains(&plan.number));
    let own = enqueued.filter(|plan| plan.what == What::Notification);
    // Where two have one id, only one of them is delivered, and nobody can say which.
    own.filter(|plan| {
        let same = What::SameIdAs(plan.number);
        !world.plan.notifications.iter().any(|it| it.what == same)
    })
}

/// The deliveries that a notification may have, and whether it must have them.
fn deliveries_of(world: &World, plan: &NotificationPlan) -> Vec<(DeliveryId, bool)> {
    let Some(id) = plan.id() else {
        return Vec::new();
    };
    let endpoints = &world.plan.endpoints;
    match plan.target {
        Some(target) if target < endpoints.len() => {
            vec![(DeliveryId::of(&id, &endpoint_id(target), None), true)]
        }
        Some(target) => {
            let apart = format!("no such endpoint in tenant {}", TenantId::default());
            vec![(
                DeliveryId::of(&id, &endpoint_id(target), Some(&apart)),
                true,
            )]
        }
        None => (0..endpoints.len())
            .filter(|number| endpoints[*number].wants.wants(plan.kind))
            // One that is disabled when the notification is taken up is left out.
            .map(|number| {
                (
                    DeliveryId::of(&id, &endpoint_id(number), None),
                    !may_be_gone(world),
                )
            })
            .collect(),
    }
}

/// Whether some endpoint may have been disabled for a while.
fn may_be_gone(world: &World) -> bool {
    world.faults.counts()[crate::faults::Kind::AnsweredGone as usize] > 0
}

/// Checks everything; what does not hold is in the books then.
///
/// # Panics
/// When the store cannot be read.
pub async fn all(world: &World, store: &Store) {
    let found = {
        let books = world.books();
        let mut found = Vec::new();
        nothing_is_lost(world, &books, &mut found);
        states_go_forward(&books, &mut found);
        finals_have_their_event(world, &books, &mut found);
        events_are_published(&books, &mut found);
        delivered_was_received(&books, &mut found);
        nothing_final_is_sent(&books, &mut found);
        nothing_expired_is_sent(world, &books, &mut found);
        one_delivery_for_each(world, &books, &mut found);
        if world.plan.calm {
            nothing_is_sent_twice(&books, &mut found);
        }
        found
    };
    found.into_iter().for_each(|what| world.violated(what));
    let now = START.after(world.elapsed());
    match store.accounting(now).await {
        Ok(account) => {
            for problem in account.problems {
                world.violated(format!("the accounts: {}: {}", problem.what, problem.id));
            }
            if account.unpublished > 0 {
                world.violated(format!("the accounts: {} unpublished", account.unpublished));
            }
        }
        Err(error) => panic!("the store of a simulation: {error}"),
    }
    nothing_is_missing(world, store).await;
}

/// Everything that was accepted ended, and what is not a notification is a dead letter.
fn nothing_is_lost(world: &World, books: &Books, found: &mut Vec<String>) {
    let left = latest(books);
    for plan in accepted(world, books) {
        for (id, must) in deliveries_of(world, plan) {
            let status = left.get(&id).map(|(status, ..)| *status);
            if status.is_none() && must || status == Some(Status::Pending) {
                let id = id.to_string();
                found.push(format!("no outcome: {} of {}", short(&id), plan.number));
            }
        }
    }
    let is_dead = |number| {
        let body = body_of(number);
        books.dead.iter().any(|(dead, _)| {
            String::from_utf8_lossy(dead)
                .split(['{', '}', ','])
                .any(|part| part == body)
        })
    };
    let reached: HashSet<usize> = books.requests.iter().filter_map(|it| it.number).collect();
    for plan in &world.plan.notifications {
        if !books.accepted.contains(&plan.number) {
            continue;
        }
        match plan.what {
            What::Unreadable if !is_dead(plan.number) => {
                found.push(format!("lost: the unreadable message {}", plan.number));
            }
            // Of two with one id, the second to be taken up is a dead letter.
            What::SameIdAs(other) if !is_dead(plan.number) && !is_dead(other) => {
                let is_one =
                    |it: &&NotificationPlan| it.number == other && it.what == What::Notification;
                let both = books.accepted.contains(&other)
                    && world.plan.notifications.iter().any(|it| is_one(&it));
                if both {
                    found.push(format!("lost: {} and {other} have one id", plan.number));
                }
            }
            What::WithoutId
                if plan.ttl.is_none()
                    && !may_be_gone(world)
                    && !reached.contains(&plan.number)
                    && reaches_somebody(world, plan) =>
            {
                // Its id is the broker's secret: whether it was sent is all that can be seen.
                found.push(format!("lost: {}, which has no id", plan.number));
            }
            _ => {}
        }
    }
}

/// Whether an endpoint that is not too sick to be reached wants it.
fn reaches_somebody(world: &World, plan: &NotificationPlan) -> bool {
    let refused = world.faults.counts()[crate::faults::Kind::ConnectRefused as usize]
        + world.faults.counts()[crate::faults::Kind::ConnectSlow as usize];
    let endpoints = &world.plan.endpoints;
    refused == 0
        && match plan.target {
            Some(target) => target < endpoints.len(),
            None => endpoints.iter().any(|it| it.wants.wants(plan.kind)),
        }
}

/// What is finished stays so; attempts are counted one by one.
fn states_go_forward(books: &Books, found: &mut Vec<String>) {
    let mut before: HashMap<DeliveryId, (Status, u32)> = HashMap::new();
    for change in books.commits.iter().flat_map(|commit| &commit.changes) {
        let Change::Delivery {
            id,
            status,
            attempt_count,
            ..
        } = change
        else {
            continue;
        };
        let (was, counted) = before.get(id).copied().unwrap_or((Status::Pending, 0));
        let name = id.to_string();
        if was != Status::Pending {
            let (was, is) = (was.as_str(), status.as_str());
            found.push(format!(
                "order of states: {} was {was}, is {is}",
                short(&name)
            ));
        }
        if *attempt_count < counted || *attempt_count > counted + 1 {
            found.push(format!(
                "order of states: {} had {counted} attempts, has {attempt_count}",
                short(&name)
            ));
        }
        before.insert(*id, (*status, *attempt_count));
    }
}

/// The event of a final state, if it has one.
fn event_of(id: DeliveryId, status: Status, round: u32, succeeded: bool) -> Option<EventId> {
    let kind = match status {
        Status::Failed => "delivery.failed",
        Status::Expired => "delivery.expired",
        Status::Delivered if succeeded => "delivery.succeeded",
        _ => return None,
    };
    Some(EventId::of(&id.to_string(), &format!("{kind}\0{round}")))
}

/// Each final state is committed together with its event, and no event without it.
fn finals_have_their_event(world: &World, books: &Books, found: &mut Vec<String>) {
    let mut events: HashSet<EventId> = HashSet::new();
    // Deliveries of events, whose ends make no further event.
    let mut carriers: HashSet<DeliveryId> = HashSet::new();
    for commit in &books.commits {
        for change in &commit.changes {
            if let Change::Event { id, .. } = change
                && let Ok(notification) = NotificationId::parse(&format!("evt_{id}"))
            {
                let endpoints = 0..world.plan.endpoints.len();
                carriers.extend(
                    endpoints.map(|it| DeliveryId::of(&notification, &endpoint_id(it), None)),
                );
            }
        }
        let here = commit.changes.iter().filter_map(|change| match change {
            Change::Event { id, kind } if kind.starts_with("delivery.") => Some(*id),
            _ => None,
        });
        let mut here: HashSet<EventId> = here.collect();
        for change in &commit.changes {
            let Change::Delivery {
                id, status, round, ..
            } = change
            else {
                continue;
            };
            let event = event_of(*id, *status, *round, world.plan.succeeded);
            if let Some(event) = event.filter(|_| !carriers.contains(id)) {
                let name = id.to_string();
                if !here.remove(&event) {
                    let status = status.as_str();
                    found.push(format!(
                        "no event: {} became {status} in a transaction without it",
                        short(&name)
                    ));
                }
                if !events.insert(event) {
                    found.push(format!("two events: of {}", short(&name)));
                }
            }
        }
        for stray in here {
            let name = stray.to_string();
            found.push(format!("stray event: {} has no final state", short(&name)));
        }
    }
}

/// Every event in the outbox was published, and nothing else was.
fn events_are_published(books: &Books, found: &mut Vec<String>) {
    let written: BTreeMap<EventId, &str> = books
        .commits
        .iter()
        .flat_map(|commit| &commit.changes)
        .filter_map(|change| match change {
            Change::Event { id, kind } => Some((*id, kind.as_str())),
            Change::Delivery { .. } => None,
        })
        .collect();
    let published: BTreeMap<EventId, &str> = books
        .published
        .iter()
        .map(|(id, kind)| (*id, kind.as_str()))
        .collect();
    for (id, kind) in &written {
        if !published.contains_key(id) {
            found.push(format!("unpublished: {kind} {}", short(&id.to_string())));
        }
    }
    for (id, kind) in &published {
        if !written.contains_key(id) {
            found.push(format!(
                "published: {kind} {} is not in the store",
                short(&id.to_string())
            ));
        }
    }
}

/// What is delivered was received, and answered with 2xx.
fn delivered_was_received(books: &Books, found: &mut Vec<String>) {
    let received: HashSet<DeliveryId> = books
        .requests
        .iter()
        .filter(|request| {
            request
                .answered
                .is_some_and(|status| (200..300).contains(&status))
        })
        .filter_map(|request| request.delivery)
        .collect();
    for (id, (status, ..)) in latest(books) {
        if status == Status::Delivered && !received.contains(&id) {
            let name = id.to_string();
            found.push(format!("not received: {} is delivered", short(&name)));
        }
    }
}

/// Nothing is sent that is finished.
fn nothing_final_is_sent(books: &Books, found: &mut Vec<String>) {
    let mut finished: HashMap<DeliveryId, Duration> = HashMap::new();
    for commit in &books.commits {
        for change in &commit.changes {
            if let Change::Delivery { id, status, .. } = change
                && *status != Status::Pending
            {
                finished.entry(*id).or_insert(commit.at);
            }
        }
    }
    for request in &books.requests {
        let Some(id) = request.delivery else {
            found.push("not signed: a request has no webhook-id".to_owned());
            continue;
        };
        if finished
            .get(&id)
            .is_some_and(|at| request.at > *at + ON_ITS_WAY)
        {
            let name = id.to_string();
            let at = request.at;
            found.push(format!(
                "sent again: {} at {at:?}, long after its end",
                short(&name)
            ));
        }
    }
}

/// Nothing is sent, by the sender's clock, at or after its expiry.
fn nothing_expired_is_sent(world: &World, books: &Books, found: &mut Vec<String>) {
    let expiries: HashMap<usize, _> = world
        .plan
        .notifications
        .iter()
        .filter_map(|plan| Some((plan.number, START.after(plan.at).after(plan.ttl?))))
        .collect();
    for request in &books.requests {
        let expires = request.number.and_then(|number| expiries.get(&number));
        if let Some(expires) = expires.filter(|expires| request.clock >= **expires) {
            found.push(format!(
                "expired: {} was sent {:?} after its expiry",
                request.number.unwrap_or_default(),
                request.clock.since(*expires)
            ));
        }
    }
}

/// A notification is one delivery at each endpoint, under one id.
fn one_delivery_for_each(world: &World, books: &Books, found: &mut Vec<String>) {
    let mut ids: BTreeMap<(usize, usize), DeliveryId> = BTreeMap::new();
    let nameless: HashSet<usize> = world
        .plan
        .notifications
        .iter()
        .filter(|plan| plan.what == What::WithoutId)
        .map(|plan| plan.number)
        .collect();
    for request in &books.requests {
        let (Some(number), Some(id)) = (request.number, request.delivery) else {
            continue;
        };
        // Published again before it was acknowledged, one without an id may get two.
        if nameless.contains(&number) {
            continue;
        }
        let first = *ids.entry((number, request.endpoint)).or_insert(id);
        if first != id {
            found.push(format!(
                "two deliveries: {number} at ep_{}",
                request.endpoint
            ));
        }
    }
}

/// Where only receivers fail, each attempt is one request.
fn nothing_is_sent_twice(books: &Books, found: &mut Vec<String>) {
    let mut sent: HashMap<DeliveryId, u32> = HashMap::new();
    for request in &books.requests {
        // One that was not answered may have been sent again within its attempt, on a new
        // connection.
        if let Some(id) = request.delivery.filter(|_| !request.unanswered) {
            *sent.entry(id).or_default() += 1;
        }
    }
    for (id, (_, _, attempts)) in latest(books) {
        let requests = sent.get(&id).copied().unwrap_or(0);
        if requests > attempts {
            let name = id.to_string();
            found.push(format!(
                "sent twice: {} has {attempts} attempts and got {requests} requests",
                short(&name)
            ));
        }
    }
}

async fn nothing_is_missing(world: &World, store: &Store) {
    let ids: Vec<(TenantId, NotificationId)> = {
        let books = world.books();
        let ids = accepted(world, &books).filter_map(NotificationPlan::id);
        ids.map(|id| (TenantId::default(), id)).collect()
    };
    match store.missing_notifications(&ids).await {
        Ok(missing) => {
            for (_, id) in missing {
                world.violated(format!("lost: the store does not know {id}"));
            }
        }
        Err(error) => panic!("the store of a simulation: {error}"),
    }
}
