//! Endpoints that fail, ask for a pause, or slow down.

use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::id::EndpointId;

use super::{Arrival, Desk, FAILED, OK, TIMED_OUT, lane, ms};
use crate::pipeline::admit::breaker::{BreakerRules, Change};
use crate::pipeline::admit::end::End;
use crate::pipeline::admit::policy::Rules;
use crate::pipeline::admit::terms::From;

#[test]
fn a_breaker_opens_probes_and_closes_with_a_slow_start() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    assert_eq!(desk.crowd("e", 32, 50), (32, 18, 0));
    for n in 1..10 {
        assert_eq!(desk.end(0, FAILED), None, "{n}");
    }
    let opened = desk.end(0, FAILED);
    assert!(
        matches!(
            opened,
            Some(Change::Opened {
                first: true,
                failures: 10,
                ..
            })
        ),
        "{opened:?}"
    );
    // What was in line is parked, and fresh work as well, without a slot.
    assert!(desk.parked.iter().all(|(_, hold)| *hold == Hold::Breaker));
    assert_eq!(
        desk.ask("e", 32, From::Broker, 1),
        Arrival::Park(Hold::Breaker)
    );
    assert_eq!(desk.room("e", 32), 0);
    // All that was under way fails, too.
    let (in_flight, _) = desk.policy.load();
    for _ in 0..in_flight {
        assert_eq!(desk.end(0, FAILED), None);
    }
    // One probe a time, at twice the distance each.
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        desk.pass(Duration::from_secs(seconds) - ms(1));
        assert_eq!(
            desk.ask("e", 32, From::Broker, 1),
            Arrival::Park(Hold::Breaker)
        );
        desk.pass(ms(1));
        assert_eq!(desk.room("e", 32), 1);
        assert_eq!(desk.crowd("e", 32, 5), (1, 0, 4));
        assert!(matches!(
            desk.end(0, FAILED),
            Some(Change::Opened { first: false, .. })
        ));
    }
    desk.pass(Duration::from_secs(30));
    assert_eq!(desk.crowd("e", 32, 1), (1, 0, 0));
    assert_eq!(desk.end(0, OK), Some(Change::Closed));
    // Doubling with each round that went well.
    for allowed in [1, 2, 4, 8, 16, 32, 32] {
        let before = desk.policy.load().0;
        assert_eq!(before, 0);
        let (went, _, _) = desk.crowd("e", 32, allowed);
        let (more, line, _) = desk.crowd("e", 32, 1);
        assert_eq!((went, more), (allowed as usize, 0), "{line}");
        desk.went.clear();
        for _ in 0..allowed {
            desk.end(0, OK);
        }
        // Those that were let out of the line belong to the next round, which begins empty.
        while desk.policy.load().0 > 0 {
            let mut out = Vec::new();
            desk.policy.ended(0, None, desk.now, &mut out);
            desk.keep(out);
        }
    }
}

#[test]
fn a_breaker_can_be_turned_off() {
    let mut desk = Desk::new(Rules {
        breaker: BreakerRules {
            failures: 0,
            ..BreakerRules::default()
        },
        ..Rules::of_slots(64)
    });
    for _ in 0..100 {
        let arrival = desk.ask("e", 32, From::Broker, 1);
        assert_eq!(desk.end(lane(&arrival), TIMED_OUT), None);
    }
}

#[test]
fn an_endpoint_that_fails_half_of_the_time_is_left_alone_too() {
    let mut desk = Desk::new(Rules::of_slots(64));
    let mut opened = None;
    for n in 0..40 {
        let arrival = desk.ask("e", 32, From::Broker, n);
        let Arrival::Go(lane) = arrival else { break };
        desk.pass(ms(100));
        opened = opened.or(desk.end(lane, if n % 2 == 0 { OK } else { FAILED }));
    }
    assert!(
        matches!(opened, Some(Change::Opened { first: true, .. })),
        "{opened:?}"
    );
    // A tenth is what a working endpoint may have.
    for n in 0..400 {
        let arrival = desk.ask("flaky", 32, From::Broker, n);
        desk.pass(ms(20));
        assert_eq!(
            desk.end(lane(&arrival), if n % 10 == 0 { FAILED } else { OK }),
            None
        );
    }
}

#[test]
fn retry_after_pauses_the_endpoint_with_all_its_work() {
    let mut desk = Desk::new(Rules::of_slots(64));
    assert_eq!(desk.crowd("e", 4, 8), (4, 4, 0));
    desk.end(
        0,
        End {
            overloaded: true,
            pause: Some(ms(700)),
            ..FAILED
        },
    );
    assert_eq!(desk.parked.len(), 4);
    assert_eq!(
        desk.ask("e", 4, From::Store, 1),
        Arrival::Park(Hold::RetryAfter)
    );
    assert_eq!(desk.room("e", 4), 0);
    desk.pass(ms(700));
    // What was under way before ends; then requests begin with one.
    for _ in 0..3 {
        let mut out = Vec::new();
        desk.policy.ended(0, None, desk.now, &mut out);
    }
    assert_eq!(desk.crowd("e", 4, 3), (1, 2, 0));
}

#[test]
fn an_endpoint_that_queues_gets_fewer_at_once_and_one_that_is_just_slower_does_not() {
    // One request after the other, 20 ms each: whatever is in flight waits for all before it.
    let mut queues = Desk::new(Rules::of_slots(1024));
    // A single one first, to see how quick it can be.
    let arrival = queues.ask("e", 32, From::Broker, 0);
    queues.pass(ms(20));
    queues.end(
        lane(&arrival),
        End {
            latency: ms(20),
            ..OK
        },
    );
    for _ in 0..20 {
        let arrival = queues.ask("e", 32, From::Broker, 0);
        queues.pass(ms(20));
        queues.end(
            lane(&arrival),
            End {
                latency: ms(20),
                ..OK
            },
        );
    }
    let mut in_flight = 0;
    for _ in 0..2_000 {
        while matches!(queues.ask("e", 32, From::Broker, 0), Arrival::Go(_)) {}
        in_flight = queues.policy.load().0;
        queues.pass(ms(20));
        queues.end(
            0,
            End {
                latency: ms(20 * in_flight as u64),
                ..OK
            },
        );
    }
    assert!((2..=14).contains(&in_flight), "{in_flight}");
    // From 20 ms to 600 ms for every request, whatever the concurrency.
    let mut slower = Desk::new(Rules::of_slots(1024));
    for n in 0..3_000 {
        let latency = if n < 500 { ms(20) } else { ms(600) };
        while matches!(slower.ask("e", 32, From::Broker, 0), Arrival::Go(_)) {}
        slower.pass(latency / 32);
        slower.end(0, End { latency, ..OK });
    }
    assert!(slower.policy.load().0 >= 30, "{:?}", slower.policy.load());
}

#[test]
fn the_probe_is_the_oldest_that_waits() {
    let mut desk = Desk::new(Rules::of_slots(1024));
    desk.crowd("e", 32, 20);
    for _ in 0..10 {
        desk.end(0, FAILED);
    }
    assert_eq!(desk.room("e", 32), 0);
    desk.pass(ms(1_000));
    let e = EndpointId::parse("e").unwrap();
    desk.policy.note_backlog(&e, true);
    assert_eq!(
        desk.ask("e", 32, From::Broker, 100),
        Arrival::Park(Hold::Breaker)
    );
    assert_eq!(desk.room("e", 32), 1);
    let probe = desk.ask("e", 32, From::Store, 101);
    assert!(matches!(probe, Arrival::Go(_)), "{probe:?}");
}
