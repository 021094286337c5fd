//! The policy under thousands of random loads, in virtual time: a worker with its window, a store
//! with parked work, and endpoints that answer, queue, hang, fail and recover. Each load follows
//! from its seed; a failure names it.
//!
//! What is checked after every event: no limit is exceeded; nothing that may go waits; nothing
//! waits for longer than it may. And at the end of each load, when every endpoint answers again:
//! all work is done, and nothing is left in memory.

mod dice;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::id::{EndpointId, TenantId};

use dice::Dice;

use super::{Arrival, Decision, Policy, Rules, Terms};
use crate::pipeline::admit::agree::tests::membership;
use crate::pipeline::admit::breaker::{BreakerRules, Verdict};
use crate::pipeline::admit::end::End;
use crate::pipeline::admit::pace::Run;
use crate::pipeline::admit::terms::{From, Moment, SLOT_PATIENCE};

/// How an endpoint answers.
#[derive(Debug, Clone, Copy)]
enum Temper {
    /// After so many milliseconds.
    Answers(u64),
    /// One request after the other, each taking so many milliseconds.
    Queues(u64),
    /// Not within the timeout.
    Hangs,
    /// With an error at once.
    Fails,
    /// With an error one time in so many.
    Flaky(u64),
    /// With 429, asking for a pause of so many milliseconds, one time in so many.
    Throttles(u64, u64),
}

#[derive(Debug)]
struct Model {
    id: EndpointId,
    tenant: TenantId,
    max_in_flight: usize,
    rate: Option<f64>,
    temper: Temper,
    /// When it answers at once again.
    heals: Moment,
    in_flight: usize,
    /// `Queues`: when the last request in its queue will be answered.
    busy_until: Moment,
    began: VecDeque<Moment>,
    parked: VecDeque<u64>,
    /// The next turn under its rate, as the store keeps it.
    turn: Moment,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Arrives(usize),
    Ends(usize, usize, u64),
    Scheduler,
    Advance,
    /// The store has reserved so many turns of an endpoint, or was away.
    Turns(usize, Option<u32>),
}

/// A delivery in line: its number, its endpoint, where from, since when.
type InLine = (u64, usize, From, Moment);

const TIMEOUT: Duration = Duration::from_secs(5);

struct World {
    dice: Dice,
    rules: Rules,
    policy: Policy<InLine>,
    models: Vec<Model>,
    events: BinaryHeap<Reverse<(Moment, u64, Happens)>>,
    sequence: u64,
    /// The next time at which the policy is asked to look.
    advances: Moment,
    now: Moment,
    /// Messages that the broker holds.
    queue: VecDeque<(u64, usize)>,
    /// Messages that the worker holds: in line, in flight.
    held: usize,
    in_flight: usize,
    in_line: HashMap<u64, (usize, From, Moment)>,
    tenants: HashMap<TenantId, usize>,
    accepted: u64,
    done: u64,
    parked: u64,
    /// Waits of deliveries that went, for endpoints that answer at once.
    waits: Vec<Duration>,
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let slots = [4, 16, 64, 256, 1024][dice.below(5) as usize];
        let tenants = dice.between(1, 5);
        let tenant_limit = dice
            .one_in(4)
            .then(|| dice.between(1, slots as u64) as usize);
        let weights: HashMap<_, _> = (0..tenants)
            .map(|n| (tenant(n), dice.between(5, 40) as f64 / 10.0))
            .collect();
        let rules = Rules {
            slots,
            window: slots * 2,
            tenant_limit,
            weights: Arc::new(weights),
            breaker: if dice.one_in(5) {
                BreakerRules {
                    failures: 0,
                    ..BreakerRules::default()
                }
            } else {
                BreakerRules::default()
            },
        };
        let models = (0..dice.between(1, 30))
            .map(|n| Model {
                id: EndpointId::parse(&format!("ep_{n}")).unwrap(),
                tenant: tenant(dice.below(tenants)),
                max_in_flight: [1, 2, 8, 32, 500][dice.below(5) as usize],
                rate: dice.one_in(6).then(|| dice.between(1, 200) as f64),
                temper: match dice.below(8) {
                    0 => Temper::Queues(dice.between(1, 100)),
                    1 => Temper::Hangs,
                    2 => Temper::Fails,
                    3 => Temper::Flaky(dice.between(2, 20)),
                    4 => Temper::Throttles(dice.between(2, 30), dice.between(100, 3_000)),
                    5 => Temper::Answers(dice.between(50, 4_000)),
                    _ => Temper::Answers(dice.between(1, 20)),
                },
                heals: millis(dice.between(5_000, 20_000)),
                in_flight: 0,
                busy_until: Moment::ZERO,
                began: VecDeque::new(),
                parked: VecDeque::new(),
                turn: Moment::ZERO,
            })
            .collect();
        let mut policy = Policy::new(rules.clone());
        let members = (membership(1), (Moment::ZERO, Duration::MAX));
        policy.see(members.0, members.1, Moment::ZERO, &mut Vec::new());
        Self {
            dice,
            policy,
            rules,
            models,
            events: BinaryHeap::new(),
            sequence: 0,
            advances: Moment::MAX,
            now: Moment::ZERO,
            queue: VecDeque::new(),
            held: 0,
            in_flight: 0,
            in_line: HashMap::new(),
            tenants: HashMap::new(),
            accepted: 0,
            done: 0,
            parked: 0,
            waits: Vec::new(),
        }
    }

    fn at(&mut self, at: Moment, happens: Happens) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, happens)));
    }

    /// Until all work is done; panics where a promise is not kept.
    fn run(&mut self) {
        for model in 0..self.models.len() {
            if self.dice.one_in(3) {
                // A backlog at the start.
                for _ in 0..self.dice.between(1, 300) {
                    self.accepted += 1;
                    self.queue.push_back((self.accepted, model));
                }
            }
            let gap = self.dice.between(2, 400);
            let mut at = Moment::ZERO;
            for _ in 0..self.dice.between(0, 200) {
                at += millis(self.dice.below(2 * gap));
                self.at(at, Happens::Arrives(model));
            }
        }
        self.at(millis(7), Happens::Scheduler);
        self.take();
        while let Some(Reverse((at, _, happens))) = self.events.pop() {
            assert!(
                at < Duration::from_secs(600),
                "work is stuck: {} of {}; {:?}",
                self.done,
                self.accepted,
                self.models
                    .iter()
                    .filter(|model| !model.parked.is_empty())
                    .collect::<Vec<_>>()
            );
            self.now = at;
            match happens {
                Happens::Arrives(model) => {
                    self.accepted += 1;
                    self.queue.push_back((self.accepted, model));
                }
                Happens::Ends(model, lane, delivery) => self.ends(model, lane, delivery),
                Happens::Scheduler => self.schedule(),
                Happens::Turns(model, count) => self.turns(model, count),
                Happens::Advance => {
                    self.advances = Moment::MAX;
                    let mut out = Vec::new();
                    self.policy.advance(self.now, &mut out);
                    self.decided(out);
                }
            }
            self.take();
            self.reserve();
            self.check();
            if let Some(next) = self.policy.next() {
                let next = next.max(self.now + Duration::from_micros(100));
                if next < self.advances {
                    self.advances = next;
                    self.at(next, Happens::Advance);
                }
            }
        }
        assert_eq!(
            (self.done, self.in_flight, self.held),
            (self.accepted, 0, 0)
        );
        assert!(self.in_line.is_empty());
        let later = self.now + Duration::from_secs(600);
        self.policy.keep_backlogs(&HashSet::new(), later);
        assert_eq!((self.policy.known(), self.policy.load()), (0, (0, 0)));
    }

    /// Takes messages while the window has room.
    fn take(&mut self) {
        while self.held < self.rules.window
            && let Some((delivery, model)) = self.queue.pop_front()
        {
            self.held += 1;
            let from = if delivery % 11 == 0 {
                From::BrokerFirst
            } else {
                From::Broker
            };
            self.arrive(delivery, model, from);
        }
    }

    /// Asks the store for turns, which answers after some milliseconds, or with an error.
    fn reserve(&mut self) {
        for demand in self.policy.demands(self.now) {
            let model = self.models.iter().position(|one| one.id == demand.endpoint);
            let after = millis(self.dice.between(1, 40));
            let count = (!self.dice.one_in(20)).then_some(demand.turns);
            self.at(self.now + after, Happens::Turns(model.unwrap(), count));
        }
    }

    fn turns(&mut self, index: usize, count: Option<u32>) {
        let model = &mut self.models[index];
        let run = count.zip(model.rate).map(|(count, rate)| Run {
            first: model.turn.max(self.now),
            spacing: Duration::from_secs_f64(1.0 / rate),
            count,
        });
        if let Some(run) = run {
            model.turn = run.first + run.spacing * run.count;
            if self.dice.one_in(3) {
                // Another worker calls the endpoint as well.
                model.turn += run.spacing * self.dice.below(2 * u64::from(run.count) + 1) as u32;
            }
        }
        let (id, mut out) = (self.models[index].id.clone(), Vec::new());
        self.policy.take_turns(&id, run, self.now, &mut out);
        self.decided(out);
    }

    fn arrive(&mut self, delivery: u64, model: usize, from: From) {
        let mut out = Vec::new();
        let now = self.now;
        let terms = terms(&self.models[model]);
        let arrival =
            self.policy
                .arrive(&terms, from, now, || (delivery, model, from, now), &mut out);
        match arrival {
            Arrival::Go(lane) => self.goes((delivery, model, from, now), lane),
            Arrival::Park(hold) => self.parks(delivery, model, from, hold),
            Arrival::Line(..) => drop(self.in_line.insert(delivery, (model, from, now))),
        }
        self.decided(out);
    }

    fn decided(&mut self, out: Vec<Decision<InLine>>) {
        for decision in out {
            match decision {
                Decision::Go(one, lane) => {
                    self.in_line.remove(&one.0).unwrap();
                    self.goes(one, lane);
                }
                Decision::Park((delivery, model, from, since), hold) => {
                    self.in_line.remove(&delivery).unwrap();
                    let waited = self.now - since;
                    assert!(waited < SLOT_PATIENCE + millis(800), "{waited:?}");
                    self.parks(delivery, model, from, hold);
                }
            }
        }
    }

    fn goes(&mut self, (delivery, index, from, since): InLine, lane: usize) {
        let now = self.now;
        let model = &mut self.models[index];
        model.in_flight += 1;
        self.in_flight += 1;
        *self.tenants.entry(model.tenant.clone()).or_default() += 1;
        if let Some(rate) = model.rate {
            model.began.push_back(now);
            while model
                .began
                .front()
                .is_some_and(|at| now - *at >= Duration::from_secs(1))
            {
                model.began.pop_front();
            }
            assert!(
                model.began.len() <= rate.ceil() as usize + 1,
                "more than {rate} in a second"
            );
        }
        if now >= model.heals || matches!(model.temper, Temper::Answers(1..=20)) {
            self.waits.push(now - since);
        }
        let temper = if now >= model.heals {
            Temper::Answers(2)
        } else {
            model.temper
        };
        let (takes, code) = match temper {
            Temper::Answers(ms) => (millis(ms), 0),
            Temper::Queues(ms) => {
                model.busy_until = model.busy_until.max(now) + millis(ms);
                if model.busy_until - now > TIMEOUT {
                    (TIMEOUT, 1)
                } else {
                    (model.busy_until - now, 0)
                }
            }
            Temper::Hangs => (TIMEOUT, 1),
            Temper::Fails => (millis(1), 2),
            Temper::Flaky(n) if self.dice.one_in(n) => (millis(2), 2),
            Temper::Flaky(_) => (millis(5), 0),
            Temper::Throttles(n, pause) if self.dice.one_in(n) => (millis(2), pause),
            Temper::Throttles(..) => (millis(3), 0),
        };
        let _ = from;
        // The code travels in the delivery's number, so that the event stays comparable.
        self.at(
            now + takes,
            Happens::Ends(index, lane, delivery * 10_000 + code),
        );
    }

    fn ends(&mut self, index: usize, lane: usize, coded: u64) {
        let (delivery, code) = (coded / 10_000, coded % 10_000);
        let model = &mut self.models[index];
        model.in_flight -= 1;
        self.in_flight -= 1;
        *self.tenants.get_mut(&model.tenant).unwrap() -= 1;
        let healthy = End {
            verdict: Verdict::Healthy,
            latency: millis(2),
            overloaded: false,
            pause: None,
        };
        let end = match code {
            // A few end without saying anything, as one does that cannot be rendered.
            0 if delivery % 97 == 0 => None,
            0 => Some(healthy),
            1 => Some(End {
                verdict: Verdict::TimedOut,
                latency: TIMEOUT,
                ..healthy
            }),
            2 => Some(End {
                verdict: Verdict::Failed,
                ..healthy
            }),
            pause => Some(End {
                verdict: Verdict::Failed,
                overloaded: true,
                pause: Some(millis(pause)),
                ..healthy
            }),
        };
        let mut out = Vec::new();
        self.policy.ended(lane, end, self.now, &mut out);
        self.held -= 1;
        if code == 0 {
            self.done += 1;
        } else {
            // It waits in the store for its retry.
            self.models[index].parked.push_back(delivery);
        }
        self.decided(out);
    }

    fn parks(&mut self, delivery: u64, model: usize, _: From, _: Hold) {
        self.parked += 1;
        self.held -= 1;
        self.models[model].parked.push_back(delivery);
    }

    fn schedule(&mut self) {
        let mut moved = 0;
        let holders: HashSet<&EndpointId> = self
            .models
            .iter()
            .filter(|model| !model.parked.is_empty())
            .map(|model| &model.id)
            .collect();
        self.policy.keep_backlogs(&holders, self.now);
        let mut worth = self.policy.worth_taking();
        for index in 0..self.models.len() {
            let model = &self.models[index];
            if model.parked.is_empty() {
                continue;
            }
            let id = model.id.clone();
            self.policy.note_backlog(&id, true);
            let room = self
                .policy
                .room(&terms(model), 0, self.now)
                .min(worth)
                .min(500);
            let taken: Vec<u64> = {
                let parked = &mut self.models[index].parked;
                let some = room.min(parked.len());
                parked.drain(..some).collect()
            };
            if room > 0 {
                self.policy.note_backlog(&id, taken.len() == room);
            }
            worth -= taken.len();
            moved += taken.len();
            for delivery in taken {
                self.held += 1;
                self.arrive(delivery, index, From::Store);
            }
        }
        if self.done < self.accepted || !self.events.is_empty() {
            self.at(
                self.now + millis(if moved == 0 { 200 } else { 20 }),
                Happens::Scheduler,
            );
        }
    }

    fn check(&mut self) {
        assert!(self.in_flight <= self.rules.slots);
        assert_eq!(self.policy.load(), (self.in_flight, self.in_line.len()));
        for model in &self.models {
            assert!(model.in_flight <= model.max_in_flight, "{model:?}");
        }
        if let Some(limit) = self.rules.tenant_limit {
            assert!(self.tenants.values().all(|in_flight| *in_flight <= limit));
        }
        // While its tenant has room, an endpoint without a request under way whose rate is not
        // limited never waits.
        {
            for (index, from, since) in self.in_line.values() {
                let model = &self.models[*index];
                let weight = self.rules.weights[&model.tenant];
                let under_way = self.tenants.get(&model.tenant).copied().unwrap_or_default();
                let share = 8.0 * weight * (self.rules.slots - self.in_flight) as f64;
                let idle = model.in_flight == 0
                    && (under_way as f64) < share
                    && model.rate.is_none()
                    && self.rules.tenant_limit.is_none()
                    && *from != From::Store;
                assert!(
                    !idle || self.now - *since <= millis(50),
                    "idle, and work waits: {model:?}"
                );
            }
        }
    }
}

fn tenant(n: u64) -> TenantId {
    TenantId::parse(&format!("t{n}")).unwrap()
}

fn terms(model: &Model) -> Terms<'_> {
    Terms {
        endpoint: &model.id,
        tenant: &model.tenant,
        max_in_flight: model.max_in_flight,
        rate: model.rate,
    }
}

/// How many loads are tried; more with the environment variable.
fn loads() -> u64 {
    std::env::var("POSTHASTE_TEST_LOADS")
        .ok()
        .and_then(|loads| loads.parse().ok())
        .unwrap_or(40)
}

#[test]
fn thousands_of_random_loads_keep_every_promise() {
    let mut sums = (0, 0, 0);
    for seed in 0..loads() {
        let mut world = World::new(seed);
        let run = std::panic::AssertUnwindSafe(|| world.run());
        if let Err(cause) = std::panic::catch_unwind(run) {
            eprintln!(
                "the load of seed {seed} failed; slots: {}",
                world.rules.slots
            );
            std::panic::resume_unwind(cause);
        }
        sums = (
            sums.0 + world.accepted,
            sums.1 + world.parked,
            sums.2 + world.waits.len(),
        );
    }
    eprintln!(
        "{} deliveries, parked {} times; {} waits",
        sums.0, sums.1, sums.2
    );
}
