//! Each rule of the policy by itself.

mod shares;
mod sick;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::id::{EndpointId, TenantId};

use super::{Arrival, Decision, Policy, Rules, Terms};
use crate::pipeline::admit::agree::tests::membership;
use crate::pipeline::admit::breaker::{Change, Verdict};
use crate::pipeline::admit::end::End;
use crate::pipeline::admit::pace::Run;
use crate::pipeline::admit::terms::{From, Moment, PATIENCE, SLOT_PATIENCE};

const OK: End = End {
    verdict: Verdict::Healthy,
    latency: Duration::from_millis(2),
    overloaded: false,
    pause: None,
};
const FAILED: End = End {
    verdict: Verdict::Failed,
    ..OK
};
const TIMED_OUT: End = End {
    verdict: Verdict::TimedOut,
    latency: Duration::from_secs(5),
    ..OK
};

/// A policy with its clock.
struct Desk {
    policy: Policy<u32>,
    now: Moment,
    /// Who went, with their lanes, and who was parked, from the line.
    went: Vec<(u32, usize)>,
    parked: Vec<(u32, Hold)>,
    /// The next turn of each endpoint with a rate limit.
    turns: HashMap<EndpointId, Moment>,
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Desk {
    fn new(rules: Rules) -> Self {
        let mut policy = Policy::new(rules);
        policy.see(
            membership(1),
            (ms(0), Duration::MAX),
            ms(1),
            &mut Vec::new(),
        );
        Self {
            policy,
            now: ms(1),
            went: Vec::new(),
            parked: Vec::new(),
            turns: HashMap::new(),
        }
    }

    fn ask(&mut self, name: &str, max_in_flight: usize, from: From, number: u32) -> Arrival {
        self.ask_of("t", name, max_in_flight, None, from, number)
    }

    fn ask_of(
        &mut self,
        tenant: &str,
        name: &str,
        max_in_flight: usize,
        rate: Option<f64>,
        from: From,
        number: u32,
    ) -> Arrival {
        let mut out = Vec::new();
        let terms = Terms {
            endpoint: &EndpointId::parse(name).unwrap(),
            tenant: &TenantId::parse(tenant).unwrap(),
            max_in_flight,
            rate,
        };
        let arrival = self
            .policy
            .arrive(&terms, from, self.now, || number, &mut out);
        self.keep(out);
        arrival
    }

    fn room(&mut self, name: &str, max_in_flight: usize) -> usize {
        self.room_beside(name, max_in_flight, 0)
    }

    fn room_beside(&mut self, name: &str, max_in_flight: usize, taken: usize) -> usize {
        let terms = Terms {
            endpoint: &EndpointId::parse(name).unwrap(),
            tenant: &TenantId::parse("t").unwrap(),
            max_in_flight,
            rate: None,
        };
        self.policy.room(&terms, taken, self.now)
    }

    fn end(&mut self, lane: usize, end: End) -> Option<Change> {
        let mut out = Vec::new();
        let change = self.policy.ended(lane, Some(end), self.now, &mut out);
        self.keep(out);
        change
    }

    /// Time goes by, and the policy looks whenever it wants to.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.policy.next().filter(|next| *next <= until) {
            self.now = next.max(self.now);
            let mut out = Vec::new();
            self.policy.advance(self.now, &mut out);
            self.keep(out);
        }
        self.now = until;
    }

    /// Takes note of decisions, and gives out turns that are wanted as a store would that nobody
    /// else asks, from the last one on.
    fn keep(&mut self, mut out: Vec<Decision<u32>>) {
        for demand in self.policy.demands(self.now) {
            let spacing = Duration::from_secs_f64(1.0 / demand.rate_per_second);
            let next = self.turns.entry(demand.endpoint.clone()).or_default();
            let run = Run {
                first: (*next).max(self.now),
                spacing,
                count: demand.turns,
            };
            *next = run.first + spacing * run.count;
            self.policy
                .take_turns(&demand.endpoint, Some(run), self.now, &mut out);
        }
        for decision in out {
            match decision {
                Decision::Go(number, lane) => self.went.push((number, lane)),
                Decision::Park(number, hold) => self.parked.push((number, hold)),
            }
        }
    }

    /// How many of `many` arrivals go, wait, and are parked.
    fn crowd(&mut self, name: &str, max_in_flight: usize, many: u32) -> (usize, usize, usize) {
        let mut sums = (0, 0, 0);
        for number in 0..many {
            match self.ask(name, max_in_flight, From::Broker, number) {
                Arrival::Go(_) => sums.0 += 1,
                Arrival::Line(..) => sums.1 += 1,
                Arrival::Park(_) => sums.2 += 1,
            }
        }
        sums
    }
}

fn lane(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Go(lane) => *lane,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_endpoint_that_answers_is_never_parked_however_much_waits() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    assert_eq!(desk.crowd("e", 32, 2_048), (32, 2_016, 0));
    let lane = 0;
    // The worker itself is busy: 32 answers every 20 ms.
    for _ in 0..1_000 {
        desk.pass(ms(20));
        for _ in 0..32 {
            desk.end(
                lane,
                End {
                    latency: ms(20),
                    ..OK
                },
            );
            assert!(!matches!(
                desk.ask("e", 32, From::Broker, 0),
                Arrival::Park(_)
            ));
        }
    }
    assert!(desk.parked.is_empty());
}

#[test]
fn what_would_wait_for_long_is_parked_at_once() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    let first = desk.crowd("slow", 32, 32);
    assert_eq!(first, (32, 0, 0));
    // 50 ms each, so 640 a second: two seconds' worth waits.
    desk.pass(ms(50));
    for _ in 0..32 {
        desk.end(
            0,
            End {
                latency: ms(50),
                ..OK
            },
        );
    }
    let (went, line, parked) = desk.crowd("slow", 32, 4_000);
    assert_eq!(went, 32);
    assert!((1_000..=1_400).contains(&line), "{line}");
    assert_eq!(went + line + parked, 4_000);
    // Once half of the window waits for one that is not what keeps the worker busy, less may wait.
    assert_eq!(
        desk.ask("slow", 32, From::Broker, 1),
        Arrival::Park(Hold::MaxInFlight)
    );
    assert!(matches!(
        desk.ask("other", 32, From::Broker, 1),
        Arrival::Go(_)
    ));
}

#[test]
fn work_of_an_endpoint_that_hangs_waits_for_two_seconds_at_the_most() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    assert_eq!(desk.crowd("hangs", 32, 100), (32, 68, 0));
    desk.pass(PATIENCE - ms(60));
    assert!(desk.parked.is_empty());
    desk.pass(ms(120));
    assert_eq!(desk.parked.len(), 68);
    assert!(
        desk.parked
            .iter()
            .all(|(_, hold)| *hold == Hold::MaxInFlight)
    );
    // From now on little waits: nothing has ended for two seconds.
    assert!(desk.crowd("hangs", 32, 100).2 >= 60);
}

#[test]
fn a_worker_that_stood_still_does_not_blame_its_endpoints() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    desk.crowd("e", 32, 100);
    desk.pass(ms(100));
    desk.now += Duration::from_secs(25);
    let mut out = Vec::new();
    desk.policy.advance(desk.now, &mut out);
    assert!(out.is_empty());
    desk.end(0, OK);
    assert_eq!(desk.went.len(), 1);
}

#[test]
fn endpoints_that_hang_leave_slots_for_the_others() {
    let mut desk = Desk::new(Rules::of_slots(100));
    for n in 0..9 {
        desk.crowd(&format!("hangs-{n}"), 1_000, 100);
    }
    let (in_flight, _) = desk.policy.load();
    assert!((70..=88).contains(&in_flight), "{in_flight}");
    for _ in 0..1_000 {
        let arrival = desk.ask("healthy", 10, From::Broker, 0);
        desk.end(lane(&arrival), OK);
    }
}

#[test]
fn a_tenant_with_a_thousand_hanging_endpoints_leaves_slots_for_the_others() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    for n in 0..1_000 {
        desk.ask(&format!("hangs-{n}"), 32, From::Broker, n);
        desk.ask(&format!("hangs-{n}"), 32, From::Broker, n);
    }
    let (in_flight, _) = desk.policy.load();
    assert!((900..=920).contains(&in_flight), "{in_flight}");
    for number in 0..30 {
        let arrival = desk.ask_of("other", "healthy", 200, None, From::Broker, number);
        assert!(matches!(arrival, Arrival::Go(_)), "{number}: {arrival:?}");
    }
}

#[test]
fn nothing_is_taken_out_of_the_store_for_a_tenant_that_has_its_share() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    let mut under_way = Vec::new();
    for n in 0..1_000 {
        if let Arrival::Go(lane) = desk.ask(&format!("hangs-{n}"), 32, From::Broker, n) {
            under_way.push(lane);
        }
    }
    // An eighth of its share may wait in line for what becomes free.
    let in_line = under_way.len().div_ceil(8);
    let mut taken = 0;
    for n in 0..1_000 {
        taken += desk.room_beside(&format!("idle-{n}"), 32, taken);
    }
    assert_eq!(taken, in_line);
    for n in 0..in_line {
        let name = format!("idle-{n}");
        let arrival = desk.ask(&name, 32, From::Store, 2_000);
        assert!(matches!(arrival, Arrival::Line(..)), "{arrival:?}");
    }
    assert_eq!(desk.room("idle-999", 32), 0);
    // Another may be taken when one of them goes, after the fresh work that lined up before.
    for lane in under_way {
        if desk.went.iter().any(|(number, _)| *number == 2_000) {
            break;
        }
        assert_eq!(desk.room("idle-999", 32), 0);
        desk.end(lane, OK);
    }
    assert!(desk.room("idle-999", 32) > 0);
}

#[test]
fn a_tenant_without_a_slot_gets_into_line_while_others_have_them_all() {
    let mut desk = Desk::new(Rules::of_slots(8));
    let mut under_way = Vec::new();
    for n in 0..100 {
        let (tenant, name) = (format!("busy-{n}"), format!("endpoint-{n}"));
        if let Arrival::Go(lane) = desk.ask_of(&tenant, &name, 32, None, From::Broker, n) {
            under_way.push(lane);
        }
    }
    assert_eq!(under_way.len(), 8);
    assert_eq!(desk.room("parked", 32), 1);
    let arrival = desk.ask("parked", 32, From::Store, 1_000);
    assert!(matches!(arrival, Arrival::Line(..)), "{arrival:?}");
    assert_eq!(desk.room("parked", 32), 0);
}

#[test]
fn tenants_get_slots_by_their_weights() {
    let weights = [(TenantId::parse("heavy").unwrap(), 3.0)];
    let mut desk = Desk::new(Rules {
        weights: Arc::new(weights.into_iter().collect()),
        ..Rules::of_slots(16)
    });
    let mut under_way = std::collections::VecDeque::new();
    for number in 0..400 {
        for (tenant, number) in [("light", number), ("heavy", 1_000 + number)] {
            let name = format!("{tenant}-{}", number % 100);
            if let Arrival::Go(lane) = desk.ask_of(tenant, &name, 8, None, From::Broker, number) {
                under_way.push_back(lane);
            }
        }
    }
    // Each request takes as long as any other.
    for _ in 0..200 {
        desk.now += ms(1);
        let known = desk.went.len();
        let lane = under_way.pop_front().unwrap();
        desk.end(lane, OK);
        under_way.extend(desk.went[known..].iter().map(|(_, lane)| *lane));
    }
    let heavy = desk
        .went
        .iter()
        .filter(|(number, _)| *number >= 1_000)
        .count();
    let light = desk.went.len() - heavy;
    assert!(
        heavy >= light * 2 && heavy <= light * 4,
        "{heavy} to {light}"
    );
}

#[test]
fn high_priority_goes_first_and_nobody_waits_for_ever() {
    let mut desk = Desk::new(Rules::of_slots(16));
    let held = desk.ask("e", 1, From::Broker, 0);
    for number in 1..=40 {
        desk.ask("e", 1, From::Broker, number);
        desk.ask("e", 1, From::BrokerFirst, 100 + number);
        desk.ask("e", 1, From::Store, 200 + number);
    }
    for _ in 0..40 {
        desk.end(lane(&held), OK);
    }
    let count = |from: u32| {
        desk.went
            .iter()
            .filter(|(n, _)| (from..from + 100).contains(n))
            .count()
    };
    assert_eq!((count(100), count(0) + count(200)), (30, 10));
    assert!(count(0) >= 4 && count(200) >= 4, "{:?}", desk.went);
}

#[test]
fn fresh_work_leaves_half_to_what_was_parked_before() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    assert!(matches!(desk.ask("e", 10, From::Broker, 0), Arrival::Go(0)));
    desk.end(0, OK);
    let id = EndpointId::parse("e").unwrap();
    desk.policy.note_backlog(&id, true);
    let (went, _, _) = desk.crowd("e", 10, 20);
    assert_eq!(went, 5);
    for number in 0..5 {
        assert!(matches!(
            desk.ask("e", 10, From::Store, number),
            Arrival::Go(0)
        ));
    }
    // With the backlog gone fresh work may have everything.
    desk.policy.note_backlog(&id, false);
    desk.end(0, OK);
    assert_eq!(desk.went.len(), 1);
}

#[test]
fn a_rate_limit_spaces_requests_evenly() {
    let mut desk = Desk::new(Rules::of_slots(100));
    let mut sums = (0, 0, 0);
    for number in 0..40 {
        match desk.ask_of("t", "e", 32, Some(10.0), From::Broker, number) {
            Arrival::Go(_) => sums.0 += 1,
            Arrival::Line(..) => sums.1 += 1,
            Arrival::Park(hold) => {
                assert_eq!(hold, Hold::RateLimit);
                sums.2 += 1;
            }
        }
    }
    // Two seconds' worth waits. The first one does so only until the store has given it a turn.
    assert_eq!((sums, desk.went.len()), ((0, 21, 19), 1));
    for turn in 2..=20 {
        desk.pass(ms(100));
        assert_eq!(desk.went.len(), turn);
        desk.end(0, OK);
    }
}

#[test]
fn the_store_is_asked_for_what_an_endpoint_can_do_soon() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    // Unknown: it may have been away, so it begins with one and what would follow.
    assert_eq!(desk.room("e", 32), 2);
    assert_eq!(desk.policy.worth_taking(), 1_024 + 128);
    let arrival = desk.ask("fast", 32, From::Broker, 1);
    desk.pass(ms(2));
    desk.end(
        lane(&arrival),
        End {
            latency: ms(50),
            ..OK
        },
    );
    // 640 a second: half a second's worth, and what is in flight.
    assert_eq!(desk.room("fast", 32), 32 + 320);
}

#[test]
fn work_waits_longer_where_every_slot_is_taken() {
    let mut desk = Desk::new(Rules::of_slots(2));
    desk.ask("a", 32, From::Broker, 0);
    desk.ask("b", 32, From::Broker, 0);
    assert!(matches!(
        desk.ask("c", 32, From::Broker, 7),
        Arrival::Line(..)
    ));
    desk.pass(SLOT_PATIENCE - ms(60));
    assert!(desk.parked.is_empty());
    desk.pass(ms(120));
    assert_eq!(desk.parked, [(7, Hold::Slots)]);
}

#[test]
fn what_waits_for_a_tenants_limit_says_so() {
    let mut desk = Desk::new(Rules {
        tenant_limit: Some(10),
        ..Rules::of_slots(1_000)
    });
    let mut in_flight = 0;
    while matches!(desk.ask("a", 100, From::Broker, in_flight), Arrival::Go(_)) {
        in_flight += 1;
    }
    // The rest is kept for the tenant's other endpoints.
    assert!((4..10).contains(&in_flight), "{in_flight}");
    desk.pass(ms(60_000));
    assert!(!desk.parked.is_empty());
    assert!(desk.parked.iter().all(|(_, hold)| *hold == Hold::Tenant));
}

#[test]
fn a_limit_for_tenants_holds_over_all_endpoints() {
    let mut desk = Desk::new(Rules {
        tenant_limit: Some(3),
        ..Rules::of_slots(1_000)
    });
    for name in ["a", "a", "b"] {
        assert!(matches!(
            desk.ask(name, 32, From::Broker, 0),
            Arrival::Go(_)
        ));
    }
    assert!(matches!(
        desk.ask("c", 32, From::Broker, 9),
        Arrival::Line(..)
    ));
    desk.end(0, OK);
    assert_eq!(
        desk.went.len(),
        1,
        "any of the tenant's requests makes room"
    );
    // A tenant that does not move: parked.
    desk.pass(ms(1_000));
    assert_eq!(
        desk.ask("b", 32, From::Broker, 0),
        Arrival::Park(Hold::Tenant)
    );
    assert!(matches!(
        desk.ask_of("another", "x", 32, None, From::Broker, 0),
        Arrival::Go(_)
    ));
}
