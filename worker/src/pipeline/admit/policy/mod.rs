//! The policy of admission: what goes, what waits and what is parked. Pure: every event comes with
//! its time, and the answer is a list of decisions. `W` is whatever stands for a delivery in line.

mod block;
mod share;
#[cfg(test)]
mod simulation;
mod stored;
#[cfg(test)]
mod tests;
mod turns;
mod words;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::members::Standing;
use slab::Slab;

use crate::pipeline::admit::breaker::{Change, Verdict};
use crate::pipeline::admit::end::End;
use crate::pipeline::admit::lane::{Lane, Recent, Waiter};
use crate::pipeline::admit::terms::{From, Moment};
use words::Block;
pub use words::{Arrival, Decision, Rules, Terms};

/// How often work in line is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How many endpoints in vain are tried for a free slot: one event must not cost more the more
/// endpoints are stuck. The next look tries the others.
const TRIES: usize = 16;

#[derive(Debug)]
struct Tenant {
    id: TenantId,
    weight: f64,
    in_flight: usize,
    /// Its deliveries out of the store that wait in line.
    waiting_stored: usize,
    /// Lanes that are its own.
    lanes: usize,
    /// Those of its lanes that wait for something shared, in turn.
    ring: VecDeque<usize>,
    /// Its place among the tenants: grows with each request, more slowly with a higher weight.
    time: u64,
    /// When a request of it last ended, or the first began.
    progress: Moment,
}

/// The state of admission.
#[derive(Debug)]
pub struct Policy<W> {
    rules: Rules,
    in_flight: usize,
    waiting_fresh: usize,
    waiting_stored: usize,
    lanes: Slab<Lane<W>>,
    by_endpoint: HashMap<EndpointId, usize>,
    tenants: Slab<Tenant>,
    by_tenant: HashMap<TenantId, usize>,
    /// Tenants whose ring is not empty, the one that is next first.
    ready: BTreeSet<(u64, usize)>,
    /// The place of the tenant that went last.
    time: u64,
    turns: BinaryHeap<Reverse<(Moment, usize)>>,
    /// Pauses of endpoints that have no lane yet: another worker has called them.
    pauses: HashMap<EndpointId, (Moment, Hold)>,
    /// Lanes with work in line.
    lined: HashSet<usize>,
    /// This worker's place among all, which the limits of endpoints are divided by.
    standing: Standing,
    /// Lanes for which turns are to be reserved.
    turnless: HashSet<usize>,
    done: Recent,
    ticket: u64,
    looked: Moment,
}

impl<W> Policy<W> {
    /// Nothing in flight, nothing in line. Nothing goes before the membership is seen.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            in_flight: 0,
            waiting_fresh: 0,
            waiting_stored: 0,
            lanes: Slab::new(),
            by_endpoint: HashMap::new(),
            tenants: Slab::new(),
            by_tenant: HashMap::new(),
            ready: BTreeSet::new(),
            time: 0,
            turns: BinaryHeap::new(),
            pauses: HashMap::new(),
            lined: HashSet::new(),
            standing: Standing::default(),
            turnless: HashSet::new(),
            done: Recent::default(),
            ticket: 0,
            looked: Moment::ZERO,
        }
    }

    /// A delivery asks to go. `whom` makes what stands for it in line.
    pub fn arrive(
        &mut self,
        terms: &Terms<'_>,
        from: From,
        now: Moment,
        whom: impl FnOnce() -> W,
        out: &mut Vec<Decision<W>>,
    ) -> Arrival {
        let key = self.lane(terms, now);
        let lane = &self.lanes[key];
        if lane.settled && lane.max_in_flight == 0 {
            // Other workers have it all: they take it out of the store.
            return Arrival::Park(Hold::MaxInFlight);
        }
        let lane = &mut self.lanes[key];
        if let Some(hold) = lane.held(now) {
            return Arrival::Park(hold);
        }
        if lane.backlogged && !lane.breaker.is_closed() && from != From::Store {
            // The probe is the oldest that waits, or a steady stream of fresh work would come
            // before it each time.
            return Arrival::Park(Hold::Breaker);
        }
        let block = self.block(key, from, now);
        let Some(block) = block else {
            if self.lanes[key].line.ahead(from) == 0 {
                self.begin(key, now);
                return Arrival::Go(key);
            }
            // Behind others, which may be able to go as well.
            let line = self.line_up(key, from, now, Block::Share, whom());
            self.pump(now, TRIES, out);
            return line;
        };
        if self.expected(key, from, block, now) > self.patience(key, block, now) {
            return Arrival::Park(self.name(block));
        }
        self.line_up(key, from, now, block, whom())
    }

    /// A request ended, or was not made (`None`).
    pub fn ended(
        &mut self,
        key: usize,
        end: Option<End>,
        now: Moment,
        out: &mut Vec<Decision<W>>,
    ) -> Option<Change> {
        let lane = &mut self.lanes[key];
        let limit = lane.limit.of(lane.max_in_flight);
        let full = lane.in_flight >= limit;
        lane.in_flight -= 1;
        lane.progress = now;
        self.in_flight -= 1;
        let tenant = &mut self.tenants[lane.tenant];
        tenant.in_flight -= 1;
        tenant.progress = now;
        let change = match end {
            None => {
                lane.breaker.untold();
                None
            }
            Some(end) => {
                lane.done.count(now);
                self.done.count(now);
                lane.measure(end.latency);
                if end.overloaded || end.verdict == Verdict::TimedOut {
                    lane.limit.overloaded();
                } else if end.verdict == Verdict::Healthy {
                    lane.limit
                        .answered(end.latency, full, lane.max_in_flight, now);
                }
                lane.breaker.ended(end.verdict, now, &self.rules.breaker)
            }
        };
        match change {
            Some(Change::Opened { .. }) => self.park_line(key, Hold::Breaker, out),
            // What waited for the endpoint must not fall on it all at once.
            Some(Change::Closed) => self.lanes[key].limit.slow_start(now),
            None => {}
        }
        if let Some(pause) = end.and_then(|end| end.pause) {
            self.pause_lane(key, (now + pause, Hold::RetryAfter), now, out);
        }
        self.offer(key);
        self.pump(now, TRIES, out);
        change
    }

    /// Work in line gives up. Whether it was still in line.
    pub fn withdraw(&mut self, key: usize, from: From, ticket: u64) -> Option<W> {
        let lane = self.lanes.get_mut(key)?;
        let waiter = lane.line.remove(from, ticket)?;
        self.uncount(key, from);
        Some(waiter.whom)
    }

    /// What held work that gave up.
    pub fn hold(&mut self, key: usize, from: From, now: Moment) -> Hold {
        // Gone only if it was answered meanwhile.
        let Some(lane) = self.lanes.get_mut(key) else {
            return Hold::Slots;
        };
        if let Some(hold) = lane.held(now) {
            return hold;
        }
        self.block(key, from, now)
            .map_or(Hold::Slots, |block| self.name(block))
    }

    /// Admits nothing for the endpoint until then, for that reason.
    pub fn pause(
        &mut self,
        endpoint: &EndpointId,
        until: (Moment, Hold),
        now: Moment,
        out: &mut Vec<Decision<W>>,
    ) {
        if let Some(key) = self.by_endpoint.get(endpoint).copied() {
            self.pause_lane(key, until, now, out);
        } else {
            self.pauses.insert(endpoint.clone(), until);
        }
    }

    /// Ends a pause, unless it is for scripts, and closes the breaker.
    pub fn resume(&mut self, endpoint: &EndpointId, now: Moment, out: &mut Vec<Decision<W>>) {
        self.pauses.remove(endpoint);
        let Some(key) = self.by_endpoint.get(endpoint).copied() else {
            return;
        };
        let lane = &mut self.lanes[key];
        lane.paused = lane.paused.filter(|(_, why)| *why == Hold::Scripts);
        if !lane.breaker.is_closed() {
            lane.breaker.close();
            lane.limit.slow_start(now);
        }
        self.offer(key);
        self.pump(now, TRIES, out);
    }

    /// The receiver asked for at most this many requests a second; `None`: for no limit.
    pub fn cap_rate(&mut self, endpoint: &EndpointId, rate: Option<f64>) {
        if let Some(key) = self.by_endpoint.get(endpoint) {
            self.lanes[*key].pace.wished = rate;
        }
    }

    /// Looks at everything whose time may have come: turns, and work that has waited for too long.
    pub fn advance(&mut self, now: Moment, out: &mut Vec<Decision<W>>) {
        while let Some(Reverse((at, key))) = self.turns.peek().copied() {
            if at > now {
                break;
            }
            self.turns.pop();
            if let Some(lane) = self.lanes.get_mut(key) {
                lane.in_turns = false;
                self.offer(key);
            }
        }
        self.pump(now, TRIES, out);
        if now.saturating_sub(self.looked) >= TICK {
            self.look(now, out);
        }
    }

    /// When [`Policy::advance`] has something to do next, as far as is known.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        let turn = self.turns.peek().map(|Reverse((at, _))| *at);
        let look = (self.waiting_fresh + self.waiting_stored > 0).then(|| self.looked + TICK);
        turn.into_iter().chain(look).min()
    }

    /// Takes everybody out of the line: the worker stops.
    pub fn drain(&mut self) -> Vec<W> {
        let mut all = Vec::new();
        for (_, lane) in &mut self.lanes {
            while let Some((_, waiter)) = lane.line.pop(true) {
                all.push(waiter.whom);
            }
        }
        self.waiting_fresh = 0;
        self.waiting_stored = 0;
        for (_, tenant) in &mut self.tenants {
            tenant.waiting_stored = 0;
        }
        all
    }

    /// How many endpoints have work in line, and how many have an open breaker.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let limited = self.lined.iter().filter(|key| {
            self.lanes
                .get(**key)
                .is_some_and(|lane| !lane.line.is_empty())
        });
        let open = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.breaker.is_closed());
        (limited.count(), open.count())
    }

    /// The endpoints that have work in line, in the order of their ids, at most so many.
    #[must_use]
    pub fn limited(&self, most: usize) -> Vec<EndpointId> {
        let lanes = self.lined.iter().filter_map(|key| self.lanes.get(*key));
        let mut limited: Vec<&EndpointId> = lanes
            .filter(|lane| !lane.line.is_empty())
            .map(|lane| &lane.id)
            .collect();
        limited.sort_unstable();
        limited.into_iter().take(most).cloned().collect()
    }

    /// How many requests are in flight, and how many deliveries wait in line.
    #[must_use]
    pub const fn load(&self) -> (usize, usize) {
        (self.in_flight, self.waiting_fresh + self.waiting_stored)
    }

    /// How many endpoints something is known of.
    #[must_use]
    pub fn known(&self) -> usize {
        self.lanes.len()
    }

    fn lane(&mut self, terms: &Terms<'_>, now: Moment) -> usize {
        let key = match self.by_endpoint.get(terms.endpoint) {
            Some(key) => *key,
            None => self.new_lane(terms, now),
        };
        let lane = &mut self.lanes[key];
        lane.pace.own = terms.rate;
        if lane.of_all != terms.max_in_flight {
            lane.of_all = terms.max_in_flight;
            self.share(key);
        }
        key
    }

    fn new_lane(&mut self, terms: &Terms<'_>, now: Moment) -> usize {
        let tenant = match self.by_tenant.get(terms.tenant) {
            Some(tenant) => *tenant,
            None => {
                let weight = self.rules.weights.get(terms.tenant).copied();
                let tenant = self.tenants.insert(Tenant {
                    id: terms.tenant.clone(),
                    weight: weight.unwrap_or(1.0).clamp(0.01, 100.0),
                    in_flight: 0,
                    waiting_stored: 0,
                    lanes: 0,
                    ring: VecDeque::new(),
                    time: self.time,
                    progress: now,
                });
                self.by_tenant.insert(terms.tenant.clone(), tenant);
                tenant
            }
        };
        self.tenants[tenant].lanes += 1;
        let key = self
            .lanes
            .insert(Lane::new(terms.endpoint.clone(), tenant, now));
        self.by_endpoint.insert(terms.endpoint.clone(), key);
        if let Some(pause) = self.pauses.remove(terms.endpoint) {
            self.lanes[key].paused = Some(pause);
            self.lanes[key].limit.slow_start(now);
        }
        key
    }

    /// A request begins.
    fn begin(&mut self, key: usize, now: Moment) {
        let lane = &mut self.lanes[key];
        if lane.in_flight == 0 {
            // A lane that was idle has made no progress for long, which says nothing about it.
            lane.progress = now;
        }
        lane.in_flight += 1;
        lane.breaker.began();
        lane.pace.take();
        self.in_flight += 1;
        let tenant = &mut self.tenants[lane.tenant];
        if tenant.in_flight == 0 {
            tenant.progress = now;
        }
        tenant.in_flight += 1;
        // A tenant that is not in the set moves on in place; `pump` takes one out before.
        if tenant.ring.is_empty() {
            tenant.time = tenant.time.max(self.time) + step(tenant.weight);
        }
    }

    fn line_up(&mut self, key: usize, from: From, now: Moment, block: Block, whom: W) -> Arrival {
        self.ticket += 1;
        let ticket = self.ticket;
        self.lanes[key].line.push(
            from,
            Waiter {
                ticket,
                since: now,
                whom,
            },
        );
        if self.waiting_fresh + self.waiting_stored == 0 {
            self.looked = now;
        }
        self.count(key, from);
        self.lined.insert(key);
        match block {
            Block::Own => {}
            Block::Turn => self.await_turn(key, now),
            Block::Unsettled | Block::Slots | Block::Share | Block::TenantShare | Block::Tenant => {
                self.offer(key)
            }
        }
        Arrival::Line(key, ticket)
    }

    fn pause_lane(
        &mut self,
        key: usize,
        (until, why): (Moment, Hold),
        now: Moment,
        out: &mut Vec<Decision<W>>,
    ) {
        let lane = &mut self.lanes[key];
        if lane.paused.is_none_or(|(before, _)| before < until) {
            lane.paused = Some((until, why));
            // What waits meanwhile must not fall on the endpoint all at once. A script that found
            // no place says nothing about its endpoint.
            if why != Hold::Scripts {
                lane.limit.slow_start(now);
            }
        }
        self.park_line(key, why, out);
    }

    fn count(&mut self, key: usize, from: From) {
        match from {
            From::Broker | From::BrokerFirst => self.waiting_fresh += 1,
            From::Store => {
                self.waiting_stored += 1;
                self.tenants[self.lanes[key].tenant].waiting_stored += 1;
            }
        }
    }

    fn uncount(&mut self, key: usize, from: From) {
        match from {
            From::Broker | From::BrokerFirst => self.waiting_fresh -= 1,
            From::Store => {
                self.waiting_stored -= 1;
                self.tenants[self.lanes[key].tenant].waiting_stored -= 1;
            }
        }
    }
}

/// What one request of a tenant costs it.
fn step(weight: f64) -> u64 {
    (1_000_000.0 / weight) as u64
}
