//! Turns under rate limits.

use std::time::Duration;

use posthaste_shared::store::turns::{TurnDemand, Turns};
use posthaste_shared::store::{DatabaseKind, Store};

use super::bench::{Bench, at, endpoint_id};

fn demand(endpoint: &str, rate_per_second: f64, turns: u32) -> TurnDemand {
    TurnDemand {
        endpoint: endpoint_id(endpoint),
        rate_per_second,
        turns,
    }
}

async fn take(store: &Store, endpoint: &str, rate: f64, turns: u32) -> Turns {
    let demand = [demand(endpoint, rate, turns)];
    let mut taken = store.take_turns(&demand, at(0)).await.unwrap();
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

/// Whether it is that long, or less by what the test may have taken so far: Postgres' clock goes
/// on.
fn is_about(first_in: Duration, seconds: f64) -> bool {
    (seconds - 5.0..=seconds + 0.001).contains(&first_in.as_secs_f64())
}

pub(crate) async fn turns_follow_each_other_whoever_takes_them(bench: &Bench) {
    let (one, two) = (&bench.store, bench.another().await);
    let first = take(one, "ep_1", 0.01, 3).await;
    assert_eq!((first.count, first.spacing), (3, Duration::from_secs(100)));
    assert_eq!(first.first_in, Duration::ZERO);
    let second = take(&two, "ep_1", 0.01, 2).await;
    assert!(is_about(second.first_in, 300.0), "{second:?}");
    let third = take(one, "ep_1", 0.01, 1).await;
    assert!(is_about(third.first_in, 500.0), "{third:?}");
    // Another endpoint has turns of its own. Demands for one endpoint are added up.
    let demands = [
        demand("ep_2", 0.1, 1),
        demand("ep_1", 0.01, 1),
        demand("ep_2", 0.1, 2),
    ];
    let both = two.take_turns(&demands, at(0)).await.unwrap();
    assert!(is_about(both[0].first_in, 600.0), "{both:?}");
    assert_eq!((both[1].endpoint.as_str(), both[1].count), ("ep_2", 3));
    assert_eq!(both[1].first_in, Duration::ZERO);
    assert!(
        one.take_turns(&[demand("ep_1", 1.0, 0)], at(0))
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn no_turn_is_lost_or_taken_twice(bench: &Bench) {
    let first_turns = async || -> Vec<i64> {
        let sql = "SELECT CAST(first_turn AS TEXT) FROM rate_turns ORDER BY endpoint_id";
        let rows = bench.sql(sql).await;
        rows.iter().map(|row| row.parse().unwrap()).collect()
    };
    // 600 turns of 1/10 s are a minute, so that none of them is over before all are reserved: the
    // next ones would then begin later.
    let (rate, workers, rounds, each) = (10.0, 4_u32, 15_u32, 20);
    let both = |turns| [demand("ep_a", rate, turns), demand("ep_b", rate, turns)];
    bench.store.take_turns(&both(600), at(0)).await.unwrap();
    let begin = first_turns().await;
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..workers {
        let store = bench.another().await;
        let mut demands = both(each);
        // In another order: they must not wait for each other in a circle.
        if worker % 2 == 0 {
            demands.reverse();
        }
        tasks.spawn(async move {
            for _ in 0..rounds {
                let turns = store.take_turns(&demands, at(0)).await.unwrap();
                assert_eq!([turns[0].count, turns[1].count], [each, each]);
            }
        });
    }
    tasks.join_all().await;
    bench.store.take_turns(&both(1), at(0)).await.unwrap();
    let taken = i64::from(600 + workers * rounds * each);
    let end: Vec<i64> = begin.iter().map(|first| first + taken * 100_000).collect();
    assert_eq!(first_turns().await, end);
}

pub(crate) async fn a_raised_limit_does_not_wait_for_the_old_ones_time(bench: &Bench) {
    let store = &bench.store;
    take(store, "ep_1", 0.01, 100).await;
    // 100 turns are reserved, for 10,000 s. At the new rate that is 10 s.
    let raised = take(store, "ep_1", 10.0, 1).await;
    assert!(is_about(raised.first_in, 10.0), "{raised:?}");
    // A lowered limit begins after what is reserved.
    let lowered = take(store, "ep_1", 0.001, 1).await;
    assert!(is_about(lowered.first_in, 10.1), "{lowered:?}");
    let next = take(store, "ep_1", 0.001, 1).await;
    assert!(is_about(next.first_in, 1_010.1), "{next:?}");
}

pub(crate) async fn a_clock_that_was_set_back_blocks_nothing(bench: &Bench) {
    let store = &bench.store;
    take(store, "ep_1", 1.0, 1).await;
    // As if all of it was reserved by a clock that was an hour ahead.
    bench
        .sql(
            "UPDATE rate_turns SET first_turn = first_turn + 3600000000, \
             taken_at = taken_at + 3600000000",
        )
        .await;
    assert_eq!(take(store, "ep_1", 1.0, 5).await.first_in, Duration::ZERO);
    let next = take(store, "ep_1", 1.0, 1).await;
    assert!(is_about(next.first_in, 5.0), "{next:?}");
}

pub(crate) async fn turns_of_idle_endpoints_are_removed(bench: &Bench) {
    let store = &bench.store;
    take(store, "ep_idle", 100.0, 1).await;
    take(store, "ep_busy", 0.001, 5).await;
    let now = match store.kind() {
        DatabaseKind::Sqlite => at(0),
        DatabaseKind::Postgres => store.server_time().await.unwrap(),
    };
    let later = now.after(Duration::from_secs(60));
    assert_eq!(
        store
            .remove_idle_turns(now.before(Duration::from_secs(60)), 9)
            .await
            .unwrap(),
        0
    );
    assert_eq!(store.remove_idle_turns(later, 9).await.unwrap(), 1);
    let next = take(store, "ep_busy", 0.001, 1).await;
    assert!(is_about(next.first_in, 5_000.0), "{next:?}");
}
