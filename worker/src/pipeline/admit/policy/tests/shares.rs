//! Limits that hold over all workers.

use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::members::{Acknowledged, Members};

use super::{Arrival, Desk, OK, ms};
use crate::pipeline::admit::agree::tests::membership;
use crate::pipeline::admit::policy::{Policy, Rules, Terms};
use crate::pipeline::admit::terms::From;

const LEASE: Duration = Duration::from_secs(5);

impl Desk {
    fn see(&mut self, members: Members, lease: Duration) {
        let mut out = Vec::new();
        self.policy
            .see(members, (self.now, lease), self.now, &mut out);
        self.keep(out);
    }
}

fn in_flight(desk: &Desk) -> usize {
    desk.policy.load().0
}

#[test]
fn a_worker_uses_its_share_and_no_more() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    desk.see(membership(3), Duration::MAX);
    assert_eq!(desk.crowd("e", 30, 100).0, 10);
    desk.policy.acknowledge();
    // Another one joins: what is above the new share ends, and nothing takes its place.
    let mut four = membership(4);
    (four.epoch, four.live[3].joined) = (2, 2);
    desk.see(four, Duration::MAX);
    let before = desk.policy.acknowledge();
    let e = EndpointId::parse("e").unwrap();
    assert_eq!(
        (before.epoch, before.at(&e)),
        (2, 1),
        "10 are more than 7 or 8"
    );
    for _ in 0..3 {
        desk.end(0, OK);
    }
    assert!((7..=8).contains(&in_flight(&desk)), "{}", in_flight(&desk));
    assert_eq!(desk.policy.acknowledge().at(&e), 2);
}

#[test]
fn a_newcomer_waits_in_line_for_those_before_it() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    let mut two = membership(2);
    (two.epoch, two.joined, two.live[0].joined) = (2, 2, 2);
    two.live[1].acknowledged = Acknowledged {
        epoch: 1,
        ..Acknowledged::default()
    };
    desk.see(two.clone(), LEASE);
    assert!(!desk.policy.is_settled());
    assert_eq!(desk.crowd("e", 8, 6), (0, 6, 0));
    assert_eq!(desk.room("e", 8), 0);
    two.live[1].acknowledged.epoch = 2;
    desk.see(two, LEASE);
    assert_eq!((in_flight(&desk), desk.parked.len()), (4, 0));
    desk.policy.acknowledge();
    assert!(desk.policy.is_settled());
}

#[test]
fn a_share_of_nothing_is_parked_for_the_others() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    desk.see(membership(9), Duration::MAX);
    let arrivals: Vec<Arrival> = (0..40)
        .map(|n| desk.ask(&format!("e{n}"), 1, From::Broker, n))
        .collect();
    let mine = arrivals
        .iter()
        .filter(|one| matches!(one, Arrival::Go(_)))
        .count();
    let parked = arrivals
        .iter()
        .filter(|one| **one == Arrival::Park(Hold::MaxInFlight))
        .count();
    // A ninth of them, more or less.
    assert!((1..=12).contains(&mine) && mine + parked == 40, "{mine}");
}

#[test]
fn nothing_begins_without_a_lease() {
    // The lease that `Desk::new` gives has no end; this one has.
    let mut desk = Desk {
        policy: Policy::new(Rules::of_slots(1024)),
        ..Desk::new(Rules::of_slots(1024))
    };
    assert!(matches!(
        desk.ask("e", 8, From::Broker, 0),
        Arrival::Line(..)
    ));
    desk.see(membership(1), LEASE);
    assert_eq!(desk.went.len(), 1);
    let lane = desk.went[0].1;
    desk.pass(LEASE);
    assert!(matches!(
        desk.ask("e", 8, From::Broker, 1),
        Arrival::Line(..)
    ));
    desk.end(lane, OK);
    desk.pass(ms(100));
    assert_eq!(desk.went.len(), 1);
    desk.see(membership(1), LEASE);
    assert_eq!(desk.went.len(), 2);
}

#[test]
fn what_waits_for_turns_goes_by_those_that_are_this_workers() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    for number in 0..60 {
        let arrival = desk.ask_of("t", "e", 32, Some(50.0), From::Broker, number);
        assert!(matches!(arrival, Arrival::Line(..)));
    }
    let mut ended = 0;
    for _ in 0..100 {
        desk.pass(ms(10));
        while let Some((_, lane)) = desk.went.get(ended).copied() {
            ended += 1;
            desk.end(lane, OK);
        }
    }
    assert!((49..=51).contains(&ended), "{ended}");
    // Of the next turns each of five workers takes a part out of the store.
    let terms = Terms {
        endpoint: &EndpointId::parse("other").unwrap(),
        tenant: &TenantId::parse("t").unwrap(),
        max_in_flight: 1000,
        rate: Some(50.0),
    };
    let of = |workers| {
        let mut desk = Desk::new(Rules::of_slots(1024));
        desk.see(membership(workers), Duration::MAX);
        // Known, so that it does not begin slowly.
        desk.ask("other", 1000, From::Broker, 0);
        desk.policy.room(&terms, 0, desk.now)
    };
    assert_eq!((of(1), of(5)), (25, 5));
}
