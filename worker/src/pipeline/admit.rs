//! Admission: how a sick endpoint is kept from harming the others. In memory, for one worker.
//!
//! The worker has a number of slots (1,024 by default). A delivery holds one while its request is
//! under way, never while it waits. The rules, in the order in which they are asked:
//!
//! 1. **Disabled.** A disabled endpoint gets no request: its delivery is parked (`disabled`).
//! 2. **Paused.** An endpoint whose script could not be run gets none for a second: parked
//!    (`scripts`).
//! 3. **Rate.** Requests of an endpoint with a rate limit, its own or one that the receiver asked
//!    for, are spaced evenly. A turn at most 250 ms away is waited for; a later one: parked
//!    (`rate_limit`).
//! 4. **Share.** An endpoint has at most its `max_in_flight` requests under way, and never more
//!    than there are slots free above a reserve of a quarter of them: k endpoints that hang come to
//!    rest at an equal share each, and as much again stays free above the reserve. Of the reserve
//!    an endpoint may use an eighth of what is free, so it takes very many sick endpoints to use it
//!    up. Fresh work of an endpoint that has parked work gets half of the share, so that the older
//!    work is not overtaken without end. What is within the share goes at once.
//! 5. **Tenant.** A limit over all endpoints of a tenant bounds their shares. What is over it waits
//!    up to 250 ms for any request of the tenant to end: parked then (`tenant`).
//! 6. **Stalled.** An endpoint whose share is in use and at which no request has ended for 250 ms:
//!    parked at once (`max_in_flight`), because waiting would be of no use.
//! 7. **Slots.** While every slot is taken, work waits up to 5 s, first come, first served: parked
//!    then (`slots`). Parking it at once would cost the store two writes and bring nobody forward.
//!    Work from the store waits in the same line, so it gets its part also while the broker has
//!    more than the worker can do.
//! 8. **Backlog.** Fresh work over its half of the share: parked at once (`max_in_flight`).
//! 9. **Room.** Other work over the share waits up to 250 ms for a request of the endpoint to end:
//!    parked then (`max_in_flight`).
//!
//! No wait is longer than until the delivery expires, and each ends when the worker stops.
//!
//! | a delivery | comes in by | goes on by | after a crash |
//! | --- | --- | --- | --- |
//! | waits | `admit` | a dropped [`Permit`], or time | redelivered, or due when its lease ends |
//! | has a slot | `Go` | the end of its exchange | the same; its request may go out twice |
//! | is parked | `Hold` | the scheduler, by `room` | it stays parked in the store |
//!
//! A circuit breaker has its place in `State::admits`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::pace::{PATIENCE, Pace};

/// How long work waits for a slot where all are taken: as long as a request takes at the most by
/// default. What comes from the store has its lease meanwhile, whose margin is twice this.
pub const SLOT_PATIENCE: Duration = Duration::from_secs(5);
/// This part of the slots, beyond those that are free, is worth taking out of the store at once: it
/// waits in line.
const IN_LINE: usize = 8;

/// Where a delivery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// From a message of the broker.
    Broker,
    /// From the store, where it waited.
    Store,
}

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
    endpoint: EndpointId,
    /// With a limit for tenants.
    tenant: Option<TenantId>,
}

/// Who may go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    stopping: CancellationToken,
    /// A slot became free. Given while the state is locked.
    slot: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    slots: usize,
    /// The most requests of one tenant. `None`: no limit.
    tenant_limit: Option<usize>,
    in_flight: usize,
    waiting_from_store: usize,
    /// With a limit for tenants: those that have requests under way, or whose work waits for that.
    tenants: HashMap<TenantId, TenantLane>,
    lanes: HashMap<EndpointId, Lane>,
    /// Endpoints with parked work, as last seen.
    backlogged: HashSet<EndpointId>,
    /// Requests a second that receivers asked not to exceed.
    caps: HashMap<EndpointId, f64>,
    /// Endpoints whose script cannot be run before then.
    paused: HashMap<EndpointId, Instant>,
}

/// One tenant's requests, over all its endpoints.
#[derive(Debug)]
struct TenantLane {
    in_flight: usize,
    /// When its first request began, or any of its requests ended last.
    progress: Instant,
    freed: Arc<Notify>,
}

impl TenantLane {
    fn new() -> Self {
        Self {
            in_flight: 0,
            progress: Instant::now(),
            freed: Arc::default(),
        }
    }
}

#[derive(Debug)]
struct Lane {
    in_flight: usize,
    waiting: usize,
    /// Of those that wait, how many come from the store.
    waiting_from_store: usize,
    /// When a request last began on an idle lane, or ended.
    progress: Instant,
    /// Under a rate limit.
    pace: Pace,
    freed: Arc<Notify>,
}

enum Try {
    Go,
    /// Until a request to the endpoint ends.
    Wait(Arc<Notify>),
    /// Until any request ends.
    WaitForSlot,
    Full,
    /// The tenant is full and does not move.
    TenantFull,
}

impl Admission {
    /// `slots` requests at once, `tenant_limit` of them for one tenant; `stopping` turns new work
    /// away.
    #[must_use]
    pub fn new(slots: usize, tenant_limit: Option<usize>, stopping: CancellationToken) -> Self {
        let state = State {
            slots,
            tenant_limit,
            in_flight: 0,
            waiting_from_store: 0,
            tenants: HashMap::new(),
            lanes: HashMap::new(),
            backlogged: HashSet::new(),
            caps: HashMap::new(),
            paused: HashMap::new(),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            stopping,
            slot: Arc::default(),
        }))
    }

    /// Waits until the endpoint may get another request: for at most 250 ms, or
    /// [`SLOT_PATIENCE`] while no slot is free, and never longer than `limit`, after which it has
    /// no use any more.
    pub async fn admit(
        &self,
        endpoint: &Endpoint,
        from: From,
        limit: Option<Duration>,
    ) -> Admitted {
        if !endpoint.is_enabled() {
            return Admitted::Hold(Hold::Disabled);
        }
        if self.lock().is_paused(&endpoint.id) {
            return Admitted::Hold(Hold::Scripts);
        }
        // The turn comes before the slot: a delivery that held a slot while it waits for its turn
        // would keep the slot from other endpoints. A turn that is taken and then not used is lost,
        // so the rate can be lower than allowed, never higher.
        let Some(turn) = self.lock().turn(endpoint) else {
            return Admitted::Hold(Hold::RateLimit);
        };
        if turn > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(turn) => {}
                () = self.0.stopping.cancelled() => return Admitted::Stopping,
            }
        }
        let begun = Instant::now();
        let within =
            |patience: Duration| begun + limit.map_or(patience, |limit| limit.min(patience));
        // Declared outside the block that locks the state, and so dropped after the lock is
        // released: dropping it locks the state again.
        let mut waiting = None;
        let mut in_line = false;
        loop {
            if self.0.stopping.is_cancelled() {
                return Admitted::Stopping;
            }
            let (freed, patience) = {
                let mut state = self.lock();
                let (freed, patience) = match state.admits(endpoint, from) {
                    Try::Go => {
                        let tenant = state.tenant_limit.map(|_| endpoint.tenant.clone());
                        return Admitted::Go(Permit {
                            admission: self.clone(),
                            endpoint: endpoint.id.clone(),
                            tenant,
                        });
                    }
                    Try::Full => {
                        self.pass_on(in_line, &state);
                        return Admitted::Hold(Hold::MaxInFlight);
                    }
                    Try::TenantFull => {
                        self.pass_on(in_line, &state);
                        return Admitted::Hold(Hold::Tenant);
                    }
                    Try::Wait(freed) => {
                        self.pass_on(in_line, &state);
                        in_line = false;
                        (freed, PATIENCE)
                    }
                    Try::WaitForSlot => {
                        in_line = true;
                        (Arc::clone(&self.0.slot), SLOT_PATIENCE)
                    }
                };
                waiting.get_or_insert_with(|| Waiting::new(self, &mut state, endpoint, from));
                // In line before the state is unlocked, so that nothing that is freed goes
                // unnoticed.
                let mut freed = Box::pin(freed.notified_owned());
                freed.as_mut().enable();
                (freed, within(patience))
            };
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(patience) => {
                    return Admitted::Hold(self.lock().hold(endpoint));
                }
                () = self.0.stopping.cancelled() => return Admitted::Stopping,
            }
        }
    }

    /// Whoever was woken for a slot and cannot use it wakes the next in line.
    fn pass_on(&self, in_line: bool, state: &State) {
        if in_line && state.in_flight < state.slots {
            self.0.slot.notify_one();
        }
    }

    /// How many deliveries it is worth taking out of the store now, for all endpoints together: as
    /// many as there are free slots, and some that wait in line for one.
    #[must_use]
    pub fn worth_taking(&self) -> usize {
        let state = self.lock();
        (state.slots - state.in_flight + state.slots.div_ceil(IN_LINE))
            .saturating_sub(state.waiting_from_store)
    }

    /// How many deliveries it is worth taking out of the store for the endpoint now: as many as it
    /// has room for and once more its share, which will find room within the patience of an
    /// endpoint that is well.
    #[must_use]
    pub fn room(&self, endpoint: &Endpoint) -> usize {
        let state = self.lock();
        if state.is_paused(&endpoint.id) {
            return 0;
        }
        let lane = state.lanes.get(&endpoint.id);
        let share = state.share(endpoint).min(state.tenant_room(endpoint));
        if lane.is_some_and(|lane| lane.is_stalled(share, Instant::now())) {
            return 0;
        }
        let taken = lane.map_or(0, |lane| lane.in_flight + lane.waiting_from_store);
        let room = (2 * share).saturating_sub(taken);
        match state.rate(endpoint) {
            None => room,
            // As many turns as come within the patience.
            Some(rate) => {
                let ahead = lane.map_or(Duration::ZERO, |lane| lane.pace.ahead());
                room.min((PATIENCE.saturating_sub(ahead).as_secs_f64() * rate).ceil() as usize)
            }
        }
    }

    /// From now on the endpoint gets at most `rate` requests a second, because the receiver said
    /// so; or fewer, by its own rate limit. `None`: the receiver wants no limit any more.
    pub fn cap_rate(&self, endpoint: &EndpointId, rate: Option<f64>) {
        let mut state = self.lock();
        match rate {
            Some(rate) => drop(state.caps.insert(endpoint.clone(), rate)),
            None => drop(state.caps.remove(endpoint)),
        }
    }

    /// Admits nothing for the endpoint for the length of `pause`, and takes nothing of it out of
    /// the store: its script cannot be run.
    pub fn pause(&self, endpoint: &EndpointId, pause: Duration) {
        let now = Instant::now();
        let mut state = self.lock();
        // Pauses that have ended go here, so that the map does not grow with every endpoint that
        // was ever paused.
        state.paused.retain(|_, until| *until > now);
        state.paused.insert(endpoint.clone(), now + pause);
    }

    /// Notes whether the endpoint has parked work.
    pub fn note_backlog(&self, endpoint: &EndpointId, backlogged: bool) {
        let mut state = self.lock();
        if backlogged {
            state.backlogged.insert(endpoint.clone());
        } else {
            state.backlogged.remove(endpoint);
        }
    }

    /// Forgets every backlog except those of `endpoints`.
    pub fn keep_backlogs(&self, endpoints: &[EndpointId]) {
        let endpoints: HashSet<&EndpointId> = endpoints.iter().collect();
        self.lock()
            .backlogged
            .retain(|held| endpoints.contains(held));
    }

    /// How many endpoints have as many requests under way as they may have.
    #[must_use]
    pub fn limited(&self) -> usize {
        self.lock()
            .lanes
            .values()
            .filter(|lane| lane.waiting > 0)
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_paused(&self, endpoint: &EndpointId) -> bool {
        self.paused
            .get(endpoint)
            .is_some_and(|until| *until > Instant::now())
    }

    /// The most requests that the endpoint may have under way, as things stand.
    fn share(&self, endpoint: &Endpoint) -> usize {
        // Counted from the slots that are free now. k endpoints that hang get x each, where x =
        // free - slots / 4 and free = slots - k * x: three quarters of the slots, divided by k + 1.
        let free = self.slots - self.in_flight;
        let limit = usize::try_from(endpoint.max_in_flight).unwrap_or(usize::MAX);
        let above_reserve = free.saturating_sub(self.slots / 4);
        // Rounded up: while any slot is free, an endpoint without requests may have at least one.
        let of_reserve = free.div_ceil(8);
        limit.min(above_reserve.max(of_reserve))
    }

    /// The most requests that the endpoint may have under way by its tenant's limit, as things
    /// stand.
    fn tenant_room(&self, endpoint: &Endpoint) -> usize {
        let Some(limit) = self.tenant_limit else {
            return usize::MAX;
        };
        let tenant = self
            .tenants
            .get(&endpoint.tenant)
            .map_or(0, |tenant| tenant.in_flight);
        let own = self
            .lanes
            .get(&endpoint.id)
            .map_or(0, |lane| lane.in_flight);
        own + limit.saturating_sub(tenant)
    }

    /// The most requests a second that the endpoint may get: by its own limit, and by what it asked
    /// for.
    fn rate(&self, endpoint: &Endpoint) -> Option<f64> {
        let cap = self.caps.get(&endpoint.id).copied();
        cap.into_iter()
            .chain(endpoint.rate_limit_per_second)
            .reduce(f64::min)
    }

    /// Takes the endpoint's next turn under its rate limit. `None` when it is too far off to wait
    /// for.
    fn turn(&mut self, endpoint: &Endpoint) -> Option<Instant> {
        let now = Instant::now();
        let Some(rate) = self.rate(endpoint) else {
            return Some(now);
        };
        self.lanes
            .entry(endpoint.id.clone())
            .or_insert_with(|| Lane::new(now))
            .pace
            .take(rate)
    }

    fn admits(&mut self, endpoint: &Endpoint, from: From) -> Try {
        let whole = self.share(endpoint);
        let yields = from == From::Broker && self.backlogged.contains(&endpoint.id);
        // Rounded up: with a share of one, fresh work would otherwise get nothing until the backlog
        // is gone.
        let share = if yields { whole.div_ceil(2) } else { whole };
        let now = Instant::now();
        // Compared with the endpoint's own requests, because `tenant_room` counts those in.
        let tenant_is_full = self.tenant_room(endpoint)
            <= self
                .lanes
                .get(&endpoint.id)
                .map_or(0, |lane| lane.in_flight);
        let lane = self
            .lanes
            .entry(endpoint.id.clone())
            .or_insert_with(|| Lane::new(now));
        if lane.in_flight < share && !tenant_is_full {
            // A lane that was idle has made no progress for long. Without this its first requests
            // would count as stalled at once.
            if lane.in_flight == 0 {
                lane.progress = now;
            }
            lane.in_flight += 1;
            self.in_flight += 1;
            if self.tenant_limit.is_some() {
                self.tenants
                    .entry(endpoint.tenant.clone())
                    .or_insert_with(TenantLane::new)
                    .in_flight += 1;
            }
            return Try::Go;
        }
        // Room of its own, and none of its tenant's: any request of the tenant that ends may make
        // it.
        if lane.in_flight < share && self.in_flight < self.slots {
            let tenant = self
                .tenants
                .entry(endpoint.tenant.clone())
                .or_insert_with(TenantLane::new);
            // A tenant none of whose requests ends: whoever waits for it holds a message that the
            // broker could hand to another tenant's work.
            if now.duration_since(tenant.progress) > PATIENCE {
                return Try::TenantFull;
            }
            return Try::Wait(Arc::clone(&tenant.freed));
        }
        // An endpoint that does not move: no use to wait.
        if lane.is_stalled(share, now) {
            return Try::Full;
        }
        // Asked before `yields`: where every slot is taken, parking fresh work would bring the
        // older work no slot either.
        if self.in_flight >= self.slots {
            return Try::WaitForSlot;
        }
        // Behind parked work.
        if yields {
            return Try::Full;
        }
        Try::Wait(Arc::clone(&lane.freed))
    }

    /// What held work that waited in vain.
    fn hold(&self, endpoint: &Endpoint) -> Hold {
        let own = self
            .lanes
            .get(&endpoint.id)
            .map_or(0, |lane| lane.in_flight);
        // As things stand after the wait: what held the delivery may have changed since it began to
        // wait.
        if own < self.share(endpoint) && self.tenant_room(endpoint) <= own {
            return Hold::Tenant;
        }
        if self.in_flight >= self.slots
            || self
                .lanes
                .get(&endpoint.id)
                .is_none_or(|lane| lane.in_flight == 0)
        {
            Hold::Slots
        } else {
            Hold::MaxInFlight
        }
    }

    /// Forgets a lane that nobody uses, so that the map does not grow with every endpoint ever
    /// called.
    fn tidy(&mut self, endpoint: &EndpointId) {
        let idle =
            |lane: &Lane| lane.in_flight == 0 && lane.waiting == 0 && lane.pace.ahead().is_zero();
        if self.lanes.get(endpoint).is_some_and(idle) {
            self.lanes.remove(endpoint);
        }
    }
}

impl Lane {
    /// Whether it is full and no request has ended for longer than anybody waits.
    fn is_stalled(&self, share: usize, now: Instant) -> bool {
        self.in_flight > 0
            && self.in_flight >= share
            && now.duration_since(self.progress) > PATIENCE
    }

    fn new(now: Instant) -> Self {
        Self {
            in_flight: 0,
            waiting: 0,
            waiting_from_store: 0,
            progress: now,
            pace: Pace::new(),
            freed: Arc::new(Notify::new()),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.in_flight -= 1;
        if let Some(lane) = state.lanes.get_mut(&self.endpoint) {
            lane.in_flight -= 1;
            lane.progress = Instant::now();
            lane.freed.notify_one();
        }
        if let Some(tenant) = &self.tenant
            && let Some(lane) = state.tenants.get_mut(tenant)
        {
            lane.in_flight -= 1;
            lane.progress = Instant::now();
            lane.freed.notify_one();
            if lane.in_flight == 0 {
                // Whoever waits has the notification itself.
                lane.freed.notify_waiters();
                state.tenants.remove(tenant);
            }
        }
        // While the state is still locked: whoever found every slot taken has registered for this
        // wake-up by now, and whoever looks later sees the free slot.
        self.admission.0.slot.notify_one();
        state.tidy(&self.endpoint);
    }
}

/// Counts a delivery among those that wait for its lane, for as long as it lives.
struct Waiting<'a> {
    admission: &'a Admission,
    endpoint: &'a Endpoint,
    from: From,
}

impl<'a> Waiting<'a> {
    fn new(
        admission: &'a Admission,
        state: &mut State,
        endpoint: &'a Endpoint,
        from: From,
    ) -> Self {
        if let Some(lane) = state.lanes.get_mut(&endpoint.id) {
            lane.waiting += 1;
            lane.waiting_from_store += usize::from(from == From::Store);
            state.waiting_from_store += usize::from(from == From::Store);
        }
        Self {
            admission,
            endpoint,
            from,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        let from_store = usize::from(self.from == From::Store);
        state.waiting_from_store -= from_store;
        // Whoever gives up, or goes, may have taken a wake-up that was meant for the next in line.
        if let Some(lane) = state.lanes.get_mut(&self.endpoint.id) {
            lane.waiting -= 1;
            lane.waiting_from_store -= from_store;
            lane.freed.notify_one();
        }
        if let Some(tenant) = state.tenants.get(&self.endpoint.tenant) {
            tenant.freed.notify_one();
        }
        state.tidy(&self.endpoint.id);
    }
}

#[cfg(test)]
mod tests;
