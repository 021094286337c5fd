//! Admission: how fast each endpoint is called, and how a sick one is kept from harming the others.
//! In memory, for one worker. The policy is pure ([`policy`]), and this file is its shell: it
//! brings the time along, and wakes those whose time has come.
//!
//! Three things are shared: **slots** (requests in flight, 1,024 by default), the **window** (the
//! messages that the worker holds, twice the slots) and the store. A delivery holds a slot while
//! its request is under way, and a place in the window while it waits in line. What would wait in
//! line for long is parked: written to the store, where waiting costs nothing.
//!
//! The rules, in the order in which they are asked:
//!
//! 1. **Disabled.** A disabled endpoint gets no request: parked (`disabled`).
//! 2. **Paused.** An endpoint that asked for a pause by `Retry-After` gets none until it is over:
//!    parked (`retry_after`). One whose script could not be run gets none for a second (`scripts`).
//! 3. **Breaker.** An endpoint that fails gets a probe now and then ([`breaker`]), the oldest that
//!    is parked: everything else is parked (`breaker`).
//! 4. **Limit.** An endpoint has at most its `max_in_flight` requests under way over all workers,
//!    of which each worker has a share ([`posthaste_shared::domain::members`]), and no more than it
//!    answers well (`limit`). Fresh work of an endpoint that has parked work gets half of it, so
//!    that the older work is not overtaken without end. A worker that has just joined waits, up to
//!    5 s, until the others have given up its share; one whose share is 0 parks (`max_in_flight`).
//! 5. **Rate.** Requests of an endpoint with a rate limit, its own or one that the receiver asked
//!    for, are spaced evenly, over all workers: each reserves its turns in the store (`pace`).
//! 6. **Shares.** A tenant gets no more than eight times as many slots as are free, or as many as
//!    its weight times that: alone it comes to rest at eight ninths of the slots, however many of
//!    its endpoints hang. `tenant_max_in_flight` bounds it further. Of what its tenant may have an
//!    endpoint gets no more than is left above a reserve of a quarter: k endpoints that hang come
//!    to rest at an equal share each, and as much again stays free above the reserve. Of the
//!    reserve an endpoint may use an eighth of what is left, so it takes very many sick endpoints
//!    to use it up.
//! 7. **Line.** What may not go now waits in its endpoint's line if its turn will come within 2 s,
//!    by how long the endpoint's requests take and how many of them there may be: an endpoint that
//!    moves is not parked. If it would take longer it is parked at once (`max_in_flight`,
//!    `rate_limit`, `tenant`, `slots`), and what has waited for 2 s after all is parked then. Where
//!    every slot is taken work waits for up to 5 s, because parking it would bring nobody forward.
//! 8. **Window.** While half of the window waits in line, endpoints that complete less than an
//!    eighth of what the worker completes may make their work wait for 250 ms only.
//! 9. **Turns.** A slot that becomes free goes to the tenant that had the fewest by its weight,
//!    within it to its endpoints in turn, within an endpoint to `high` priority before `normal`
//!    (except for every fourth turn), and to work from the broker and from the store alternately.
//!
//! No wait is longer than until the delivery expires, and each ends when the worker stops.
//!
//! | a delivery | comes in by | goes on by | after a crash |
//! | --- | --- | --- | --- |
//! | is in line | `admit` | room, or time | redelivered, or due when its lease ends |
//! | has a slot | `Go` | the end of its exchange | the same; its request may go out twice |
//! | is parked | `Hold` | the scheduler, by `room` | it stays parked in the store |

mod agree;
pub mod breaker;
pub mod end;
mod lane;
mod limit;
mod pace;
pub mod policy;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::EndpointId;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use breaker::Change;
use end::End;
use policy::{Arrival, Decision, Policy, Rules, Terms};
pub use terms::{From, Moment, PATIENCE, PRESSED_PATIENCE, SLOT_PATIENCE};

/// Whether a delivery may go on.
#[derive(Debug)]
pub enum Admitted {
    /// It may go on; dropping the permit frees its slot.
    Go(Permit),
    /// Not now: park it.
    Hold(Hold),
    /// The worker is stopping: leave it to another.
    Stopping,
}

/// A slot among the requests in flight, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Admission,
    lane: Option<usize>,
}

/// Who may go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    state: Mutex<State>,
    stopping: CancellationToken,
    /// The time to wake up at has changed.
    earlier: Notify,
    /// Turns under rate limits are to be reserved.
    turns_wanted: Notify,
}

/// Whoever is in line waits for one of these.
type Answer = oneshot::Sender<Result<usize, Hold>>;

#[derive(Debug)]
struct State {
    policy: Policy<Answer>,
    /// When the driver wakes up.
    wakes: Moment,
}

impl Admission {
    /// By the rules; `stopping` turns new work away. [`Admission::run`] has to run beside it, and
    /// the loops that ask the store for this worker's share (`background::agreement`): nothing
    /// goes before the membership was seen.
    #[must_use]
    pub fn new(rules: Rules, stopping: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            state: Mutex::new(State {
                policy: Policy::new(rules),
                wakes: Moment::MAX,
            }),
            stopping,
            earlier: Notify::new(),
            turns_wanted: Notify::new(),
        }))
    }

    /// Gives turns when they come, and parks what has waited for too long, until the worker stops.
    pub async fn run(&self) {
        while !self.0.stopping.is_cancelled() {
            let wakes = self.change(|state, now, out| {
                state.policy.advance(now, out);
                state.wakes = state.policy.next().unwrap_or(Moment::MAX);
                state.wakes
            });
            tokio::select! {
                biased;
                () = tokio::time::sleep(nap(wakes, self.now())) => {}
                () = self.0.earlier.notified() => {}
                () = self.0.stopping.cancelled() => {}
            }
        }
        // Dropping their senders tells those in line.
        drop(self.lock().policy.drain());
    }

    /// Waits until the endpoint may get another request, for at most [`SLOT_PATIENCE`], and never
    /// longer than `limit`, after which it has no use any more.
    pub async fn admit(
        &self,
        endpoint: &Endpoint,
        from: From,
        limit: Option<Duration>,
    ) -> Admitted {
        if !endpoint.is_enabled() {
            return Admitted::Hold(Hold::Disabled);
        }
        if self.0.stopping.is_cancelled() {
            return Admitted::Stopping;
        }
        let mut waiting = match self.arrive(endpoint, from) {
            Ok(waiting) => waiting,
            Err(admitted) => return admitted,
        };
        // Most wait for less than that, and need no timer of their own.
        let limit = limit.filter(|limit| *limit < SLOT_PATIENCE);
        let answer = match limit {
            None => (&mut waiting.answer).await,
            Some(limit) => match tokio::time::timeout(limit, &mut waiting.answer).await {
                Ok(answer) => answer,
                // Dropping `waiting` takes it out of the line.
                Err(_) => return Admitted::Hold(waiting.hold()),
            },
        };
        waiting.answered = true;
        match answer {
            Ok(Ok(lane)) => Admitted::Go(self.permit(lane)),
            Ok(Err(hold)) => Admitted::Hold(hold),
            Err(_) => Admitted::Stopping,
        }
    }

    fn arrive(&self, endpoint: &Endpoint, from: From) -> Result<Waiting<'_>, Admitted> {
        let mut receiver = None;
        let arrival = self.change(|state, now, out| {
            let whom = || {
                let (answer, wait) = oneshot::channel();
                receiver = Some(wait);
                answer
            };
            state.policy.arrive(&terms(endpoint), from, now, whom, out)
        });
        match (arrival, receiver) {
            (Arrival::Go(lane), _) => Err(Admitted::Go(self.permit(lane))),
            (Arrival::Park(hold), _) => Err(Admitted::Hold(hold)),
            (Arrival::Line(lane, ticket), Some(answer)) => Ok(Waiting {
                admission: self,
                from,
                lane,
                ticket,
                answer,
                answered: false,
            }),
            // What is in line always has a receiver.
            (Arrival::Line(..), None) => Err(Admitted::Stopping),
        }
    }

    /// Changes the state, and has done what follows from it: whoever may go is told, the driver
    /// wakes up in time, and turns are reserved.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut State, Moment, &mut Vec<Decision<Answer>>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let now = self.now();
        let mut state = self.lock();
        let changed = change(&mut state, now, &mut out);
        if let Some(next) = state.policy.next()
            && next < state.wakes
        {
            state.wakes = next;
            self.0.earlier.notify_one();
        }
        let turns_wanted = state.policy.needs_turns();
        drop(state);
        if turns_wanted {
            self.0.turns_wanted.notify_one();
        }
        self.answer(out);
        changed
    }

    fn permit(&self, lane: usize) -> Permit {
        Permit {
            admission: self.clone(),
            lane: Some(lane),
        }
    }

    /// Tells those in line. Not while the state is locked: waking a task takes time.
    fn answer(&self, decisions: Vec<Decision<Answer>>) {
        for decision in decisions {
            match decision {
                // Whoever gave up in this very moment has not taken its slot: it is free again.
                Decision::Go(whom, lane) => {
                    if whom.send(Ok(lane)).is_err() {
                        drop(self.permit(lane));
                    }
                }
                // Whoever gave up needs no answer.
                Decision::Park(whom, hold) => drop(whom.send(Err(hold))),
            }
        }
    }

    /// How many deliveries it is worth taking out of the store now, for all endpoints together.
    #[must_use]
    pub fn worth_taking(&self) -> usize {
        self.lock().policy.worth_taking()
    }

    /// How many deliveries it is worth taking out of the store for the endpoint now, while `taken`
    /// are being taken for others of its tenant.
    #[must_use]
    pub fn room(&self, endpoint: &Endpoint, taken: usize) -> usize {
        self.lock().policy.room(&terms(endpoint), taken, self.now())
    }

    /// From now on the endpoint gets at most `rate` requests a second, because the receiver said
    /// so; or fewer, by its own rate limit. `None`: the receiver wants no limit any more.
    pub fn cap_rate(&self, endpoint: &EndpointId, rate: Option<f64>) {
        self.lock().policy.cap_rate(endpoint, rate);
    }

    /// Admits nothing for the endpoint for the length of `pause`, and takes nothing of it out of
    /// the store.
    pub fn pause(&self, endpoint: &EndpointId, pause: Duration, why: Hold) {
        self.change(|state, now, out| {
            state.policy.pause(endpoint, (now + pause, why), now, out);
        });
    }

    /// Ends a pause and closes the breaker: another worker found that the endpoint answers again,
    /// or somebody changed it.
    pub fn resume(&self, endpoint: &EndpointId) {
        self.change(|state, now, out| state.policy.resume(endpoint, now, out));
    }

    /// Notes whether the endpoint has parked work.
    pub fn note_backlog(&self, endpoint: &EndpointId, backlogged: bool) {
        self.lock().policy.note_backlog(endpoint, backlogged);
    }

    /// Forgets every backlog except those of `endpoints`, and what is known of endpoints that were
    /// not called for long.
    pub fn keep_backlogs(&self, endpoints: &[EndpointId]) {
        let endpoints: HashSet<&EndpointId> = endpoints.iter().collect();
        self.lock().policy.keep_backlogs(&endpoints, self.now());
    }

    /// How many endpoints have work in line, and how many have an open breaker.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.lock().policy.counts()
    }

    /// How many requests are in flight, and the first of the endpoints that have work in line, at
    /// most so many.
    #[must_use]
    pub fn standing(&self, most: usize) -> (usize, Vec<EndpointId>) {
        let state = self.lock();
        (state.policy.load().0, state.policy.limited(most))
    }

    fn now(&self) -> Moment {
        self.0.begun.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Farther off than a timer needs to reach: a day.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// How long the driver sleeps until then. Counted from now, not from the start: a worker that has
/// run for longer than [`FAR`] would otherwise never sleep again.
fn nap(wakes: Moment, now: Moment) -> Duration {
    wakes.saturating_sub(now).min(FAR)
}

fn terms(endpoint: &Endpoint) -> Terms<'_> {
    Terms {
        endpoint: &endpoint.id,
        tenant: &endpoint.tenant,
        max_in_flight: usize::try_from(endpoint.max_in_flight).unwrap_or(usize::MAX),
        rate: endpoint.rate_limit_per_second,
    }
}

impl Permit {
    /// Frees the slot and says how the request ended. Returns what that changed for the endpoint's
    /// breaker.
    pub fn ended(mut self, end: End) -> Option<Change> {
        let lane = self.lane.take()?;
        self.admission.ended(lane, Some(end))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.admission.ended(lane, None);
        }
    }
}

impl Admission {
    fn ended(&self, lane: usize, end: Option<End>) -> Option<Change> {
        self.change(|state, now, out| state.policy.ended(lane, end, now, out))
    }
}

/// Work in line, until it is answered or dropped.
struct Waiting<'a> {
    admission: &'a Admission,
    from: From,
    lane: usize,
    ticket: u64,
    answer: oneshot::Receiver<Result<usize, Hold>>,
    answered: bool,
}

impl Waiting<'_> {
    fn hold(&self) -> Hold {
        let now = self.admission.now();
        self.admission.lock().policy.hold(self.lane, self.from, now)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let waited = self
            .admission
            .lock()
            .policy
            .withdraw(self.lane, self.from, self.ticket);
        // Not in line any more, so it was answered in this very moment. If the answer is not there
        // yet, whoever sends it finds nobody and frees the slot.
        if waited.is_none()
            && let Ok(Ok(lane)) = self.answer.try_recv()
        {
            drop(self.admission.permit(lane));
        }
    }
}
