//! The membership of the workers.

use std::time::Duration;

use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::members::{Acknowledged, Members, WorkerId};
use posthaste_shared::store::workers::Beat;
use posthaste_shared::store::{DatabaseKind, Store};
use uuid::Uuid;

use super::bench::{Bench, at, endpoint_id};

const LEASE: Duration = Duration::from_secs(60);

fn worker(number: u128) -> WorkerId {
    WorkerId(Uuid::from_u128(number))
}

/// How many of `limit` requests in flight are the worker's to make now.
fn allowance(members: &Members, at: &EndpointId, limit: u32) -> u32 {
    if members.is_ready(at) {
        members.share(at, limit)
    } else {
        0
    }
}

/// A beat of a worker that acknowledges that epoch, in that second by SQLite's clock.
async fn beat(store: &Store, number: u128, epoch: i64, second: i64) -> Members {
    let acknowledged = Acknowledged {
        epoch,
        ..Acknowledged::default()
    };
    let beat = Beat {
        worker: worker(number),
        name: "a worker",
        acknowledged: &acknowledged,
        lease: LEASE,
    };
    store.beat(&beat, at(second)).await.unwrap()
}

fn ids(members: &Members) -> Vec<u128> {
    members
        .live
        .iter()
        .map(|member| member.id.0.as_u128())
        .collect()
}

/// Ends the lease of a worker, as time does. On SQLite a beat 100 s later would do the same.
async fn end_lease(bench: &Bench, number: u128) {
    let id = match bench.store.kind() {
        DatabaseKind::Sqlite => format!("x'{number:032x}'"),
        DatabaseKind::Postgres => format!("'{}'", worker(number)),
    };
    bench
        .sql(&format!(
            "UPDATE workers SET lease_until = 5 WHERE id = {id}"
        ))
        .await;
}

pub(crate) async fn workers_join_acknowledge_and_leave(bench: &Bench) {
    let store = &bench.store;
    let first = beat(store, 1, 0, 0).await;
    assert_eq!((first.joined, first.epoch, ids(&first)), (1, 1, vec![1]));
    assert_eq!(allowance(&first, &endpoint_id("ep_1"), 8), 8, "it is alone");
    assert_eq!(beat(store, 1, 1, 1).await.epoch, 1, "nothing changed");

    let second = beat(store, 2, 0, 1).await;
    assert_eq!(
        (second.joined, second.epoch, ids(&second)),
        (2, 2, vec![1, 2])
    );
    assert_eq!(second.live[0].name, "a worker");
    assert!(!second.is_ready(&endpoint_id("ep_1")));
    let first = beat(store, 1, 1, 2).await;
    assert_eq!(
        (
            first.joined,
            first.epoch,
            first.share(&endpoint_id("ep_1"), 8)
        ),
        (1, 2, 4)
    );

    // The first one still has too much in flight at one endpoint.
    let acknowledged = Acknowledged {
        epoch: 2,
        except: [(endpoint_id("ep_busy"), 1)].into(),
    };
    let partly = Beat {
        worker: worker(1),
        name: "a worker",
        acknowledged: &acknowledged,
        lease: LEASE,
    };
    store.beat(&partly, at(3)).await.unwrap();
    let second = beat(store, 2, 2, 3).await;
    assert_eq!(second.live[0].acknowledged, acknowledged);
    assert_eq!(allowance(&second, &endpoint_id("ep_1"), 8), 4);
    assert_eq!(allowance(&second, &endpoint_id("ep_busy"), 8), 0);

    assert!(store.leave(worker(1)).await.unwrap());
    assert!(!store.leave(worker(1)).await.unwrap());
    let second = beat(store, 2, 2, 4).await;
    assert_eq!((second.joined, second.epoch, ids(&second)), (2, 3, vec![2]));
    assert_eq!(allowance(&second, &endpoint_id("ep_busy"), 8), 8);
    assert_eq!(store.live_workers(at(5)).await.unwrap(), second.live);
}

pub(crate) async fn who_does_not_renew_is_dropped_and_joins_anew(bench: &Bench) {
    let store = &bench.store;
    for number in 1..=3 {
        beat(store, number, 0, 0).await;
    }
    end_lease(bench, 2).await;
    let first = beat(store, 1, 3, 1).await;
    assert_eq!((first.epoch, ids(&first)), (4, vec![1, 3]));
    assert_eq!(beat(store, 3, 3, 1).await.epoch, 4, "it is dropped once");

    // It was frozen, and believes that it keeps to the epoch 3.
    let second = beat(store, 2, 3, 2).await;
    assert_eq!(
        (second.joined, second.epoch, ids(&second)),
        (5, 5, vec![1, 2, 3])
    );
    assert!(!second.is_ready(&endpoint_id("ep_1")));
    assert_eq!(
        second.live[1].acknowledged.epoch, 3,
        "it may have requests of its old share"
    );
}

pub(crate) async fn a_store_that_was_away_costs_nobody_its_membership(bench: &Bench) {
    let store = &bench.store;
    beat(store, 1, 0, 0).await;
    beat(store, 2, 0, 0).await;
    end_lease(bench, 1).await;
    end_lease(bench, 2).await;
    // The first to come back is late as well.
    let first = beat(store, 1, 2, 1).await;
    assert_eq!((first.joined, first.epoch, ids(&first)), (1, 2, vec![1, 2]));
    let second = beat(store, 2, 2, 1).await;
    assert_eq!((second.joined, second.epoch), (2, 2));

    // Who does not come back is dropped by the next beat.
    end_lease(bench, 1).await;
    end_lease(bench, 2).await;
    assert_eq!(ids(&beat(store, 1, 2, 2).await), [1, 2]);
    assert_eq!(ids(&beat(store, 1, 2, 3).await), [1]);
}

pub(crate) async fn a_wrong_clock_ends_nobodys_lease(bench: &Bench) {
    if bench.store.kind() == DatabaseKind::Sqlite {
        // All its processes share the machine's clock, so that what is given counts.
        beat(&bench.store, 1, 0, 0).await;
        assert_eq!(ids(&beat(&bench.store, 2, 0, 59).await), [1, 2]);
        assert_eq!(ids(&beat(&bench.store, 2, 2, 61).await), [2]);
        return;
    }
    beat(&bench.store, 1, 0, 0).await;
    let far_ahead = beat(&bench.store, 2, 0, 1_000_000_000).await;
    assert_eq!(ids(&far_ahead), [1, 2]);
    assert_eq!(ids(&beat(&bench.store, 1, 1, 0).await), [1, 2]);
}

pub(crate) async fn workers_that_join_at_once_agree(bench: &Bench) {
    let store = &bench.store;
    let mut joins = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let store = store.clone();
        joins.spawn(async move { beat(&store, number, 0, 0).await });
    }
    let views = joins.join_all().await;
    let mut joined: Vec<i64> = views.iter().map(|view| view.joined).collect();
    joined.sort_unstable();
    assert_eq!(joined, [1, 2, 3, 4, 5, 6, 7, 8]);
    for view in &views {
        // Of one moment: whoever joined up to its epoch is in it, and nobody else.
        let of: Vec<i64> = view.live.iter().map(|member| member.joined).collect();
        assert_eq!(i64::try_from(of.len()).unwrap(), view.epoch);
        assert!(of.iter().all(|joined| *joined <= view.epoch));
    }
    let all = beat(store, 1, 1, 0).await;
    let shares: u32 = all
        .live
        .iter()
        .map(|member| {
            Members {
                me: member.id,
                ..all.clone()
            }
            .share(&endpoint_id("ep_1"), 11)
        })
        .sum();
    assert_eq!(shares, 11);
}
