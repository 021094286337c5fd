//! The roll-ups of attempts, and what workers say of themselves.

use std::time::Duration;

use posthaste_shared::domain::attempt::AttemptResult;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::members::{Acknowledged, WorkerId};
use posthaste_shared::domain::stats::{MinuteOfEndpoint, Step, Tally};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::several::Several;
use posthaste_shared::store::stats::StatsFilter;
use posthaste_shared::store::worker_reports::WorkerReport;
use posthaste_shared::store::workers::Beat;
use posthaste_shared::store::{DatabaseKind, Store};
use uuid::Uuid;

use super::bench::{Bench, at, attempt, delivered, endpoint, endpoint_id, parked, put};

const HOUR: i64 = 3_600;

fn report(worker: u128, sequence: i64) -> WorkerReport<'static> {
    WorkerReport {
        worker: WorkerId(Uuid::from_u128(worker)),
        name: "worker-a",
        version: "1.2.3",
        slots: 64,
        in_flight: 3,
        at_limit: &[],
        started_at: at(0),
        sequence,
    }
}

/// So many failures, and half as many successes, at an endpoint in the minute of that second.
fn minute(second: i64, endpoint: &str, failures: u32) -> MinuteOfEndpoint {
    let mut tally = Tally::default();
    for _ in 0..failures {
        tally.note(&attempt(1));
    }
    for _ in 0..failures / 2 {
        let mut good = attempt(2);
        good.error = None;
        good.result = AttemptResult::Success;
        good.duration = Duration::from_millis(800);
        tally.note(&good);
    }
    MinuteOfEndpoint {
        minute: Step::Minute.start_of(at(second)),
        endpoint: endpoint_id(endpoint),
        tally,
    }
}

/// Rows of that step, as second, attempts and successes.
async fn rows(store: &Store, step: Step, filter: &StatsFilter) -> Vec<(i64, u64, u64)> {
    let span = (at(-30 * 24 * HOUR), at(30 * 24 * HOUR));
    let found = store.stats(filter, span, (step, step.seconds())).await;
    let second = |time: Timestamp| (time.as_micros() - at(0).as_micros()) / 1_000_000;
    let found = found.unwrap().into_iter();
    found
        .map(|(time, tally)| (second(time), tally.attempts(), tally.succeeded()))
        .collect()
}

pub(crate) async fn a_report_adds_up_and_one_that_is_sent_again_adds_nothing(bench: &Bench) {
    let store = &bench.store;
    let all = StatsFilter::default();
    let first = [
        minute(0, "ep_1", 4),
        minute(0, "ep_2", 2),
        minute(60, "ep_1", 2),
    ];
    assert!(
        store
            .report_worker(&report(1, 1), &first, at(1))
            .await
            .unwrap()
    );
    let minutes = vec![(0, 9, 3), (60, 3, 1)];
    assert_eq!(rows(store, Step::Minute, &all).await, minutes);
    assert_eq!(rows(store, Step::Hour, &all).await, [(0, 12, 4)]);

    // Its answer was lost, and it comes again.
    let again = store.report_worker(&report(1, 1), &first, at(2)).await;
    assert!(!again.unwrap());
    assert_eq!(rows(store, Step::Minute, &all).await, minutes);
    // The next one adds to the same rows, and so does another worker's first.
    for report in [report(1, 2), report(2, 1)] {
        let more = [minute(0, "ep_1", 2)];
        assert!(store.report_worker(&report, &more, at(11)).await.unwrap());
    }
    assert_eq!(
        rows(store, Step::Minute, &all).await,
        [(0, 15, 5), (60, 3, 1)]
    );
    assert_eq!(rows(store, Step::Hour, &all).await, [(0, 18, 6)]);
    // Without counts there is still the worker to be seen.
    assert!(
        store
            .report_worker(&report(1, 3), &[], at(21))
            .await
            .unwrap()
    );
    assert!(
        !store
            .report_worker(&report(1, 3), &[], at(22))
            .await
            .unwrap()
    );

    let span = (at(0), at(60));
    let found = store.stats(&all, span, (Step::Minute, 60)).await.unwrap();
    let [(_, tally)] = found.as_slice() else {
        panic!("one minute was asked for: {found:?}");
    };
    assert_eq!(tally.of(AttemptResult::ServerError), 10);
    assert_eq!(tally.of(AttemptResult::Success), 5);
    assert_eq!((tally.first_tries(), tally.first_successes()), (10, 0));
    assert_eq!(tally.quantile_ms(0.5), Some(1.75), "two thirds took 1.2 ms");
    assert_eq!(tally.quantile_ms(1.0), Some(1_000.0));
}

pub(crate) async fn reports_that_come_at_once_add_up(bench: &Bench) {
    let all = StatsFilter::default();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 1..=4 {
        let store = bench.another().await;
        workers.spawn(async move {
            for sequence in 1..=5 {
                let same: Vec<_> = (0..300)
                    .map(|n| minute(0, &format!("ep_{n:03}"), 2))
                    .collect();
                let report = report(worker, sequence);
                assert!(store.report_worker(&report, &same, at(1)).await.unwrap());
            }
            store.close().await;
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let sum = 4 * 5 * 300 * 3;
    for step in [Step::Minute, Step::Hour] {
        assert_eq!(rows(&bench.store, step, &all).await, [(0, sum, sum / 3)]);
    }
}

pub(crate) async fn stats_are_read_by_endpoint_and_tenant(bench: &Bench) {
    let store = &bench.store;
    for (id, tenant) in [("ep_1", "acme"), ("ep_2", "acme"), ("ep_3", "bolt")] {
        let mut one = endpoint(id);
        one.tenant = TenantId::parse(tenant).unwrap();
        store.insert_endpoint(&one).await.unwrap();
    }
    let counted = [
        minute(0, "ep_1", 2),
        minute(0, "ep_2", 8),
        minute(0, "ep_3", 4),
        minute(0, "ep_unknown", 40),
        minute(300, "ep_2", 8),
    ];
    store
        .report_worker(&report(1, 1), &counted, at(1))
        .await
        .unwrap();
    let of = |endpoint: Option<&str>, tenant: Option<&str>| StatsFilter {
        endpoint: endpoint.map(endpoint_id),
        tenant: tenant.map(|tenant| TenantId::parse(tenant).unwrap()),
    };
    let minutes = async |filter| rows(store, Step::Minute, &filter).await;
    assert_eq!(minutes(of(Some("ep_1"), None)).await, [(0, 3, 1)]);
    assert_eq!(
        minutes(of(None, Some("acme"))).await,
        [(0, 15, 5), (300, 12, 4)]
    );
    assert_eq!(minutes(of(Some("ep_3"), Some("acme"))).await, []);
    let span = (at(0), at(600));
    let both = of(None, Some("acme"));
    let found = store.stats(&both, span, (Step::Minute, 900)).await.unwrap();
    assert_eq!(found.len(), 1, "both minutes lie in the same quarter");
    assert_eq!(found[0].1.attempts(), 27);

    let any = Several::default();
    let worst = async |ids: &Several<EndpointId>, tenant: Option<&str>, limit| {
        let tenant = tenant.map(|tenant| TenantId::parse(tenant).unwrap());
        let found = store.stats_of_endpoints(ids, tenant.as_ref(), at(0), limit);
        let found = found.await.unwrap().into_iter();
        found
            .map(|one| (one.endpoint.as_str().to_owned(), one.tally.attempts()))
            .collect::<Vec<_>>()
    };
    let named = |id: &str, attempts| (id.to_owned(), attempts);
    assert_eq!(
        worst(&any, None, 9).await,
        [named("ep_2", 24), named("ep_3", 6), named("ep_1", 3)]
    );
    assert_eq!(worst(&any, None, 1).await, [named("ep_2", 24)]);
    assert_eq!(worst(&any, Some("bolt"), 9).await, [named("ep_3", 6)]);
    let two: Several<EndpointId> = vec![endpoint_id("ep_1"), endpoint_id("ep_3")].into();
    assert_eq!(worst(&two, Some("acme"), 9).await, [named("ep_1", 3)]);

    for n in 0..3 {
        put(store, &format!("n-{n}"), "ep_1", parked()).await;
    }
    put(store, "n-3", "ep_1", delivered(1)).await;
    let parked = async |most| store.parked_of_endpoints(&two, most).await.unwrap();
    let counted = parked(9).await;
    assert_eq!(counted[&endpoint_id("ep_1")], 3);
    assert_eq!(counted[&endpoint_id("ep_3")], 0);
    assert_eq!(parked(2).await[&endpoint_id("ep_1")], 2, "no further");

    let shares = store.shares_of_endpoints(&two, at(0), 300).await.unwrap();
    let of_first = &shares[&endpoint_id("ep_1")];
    assert_eq!(shares.len(), 2);
    assert_eq!(
        (of_first[0].at, of_first[0].attempts, of_first[0].succeeded),
        (at(0), 3, 1)
    );
    assert!(
        store
            .shares_of_endpoints(&any, at(0), 300)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn old_stats_are_removed_in_steps(bench: &Bench) {
    let store = &bench.store;
    let all = StatsFilter::default();
    let counted = [
        minute(-49 * HOUR, "ep_1", 2),
        minute(-49 * HOUR, "ep_2", 2),
        minute(-10, "ep_1", 2),
    ];
    store
        .report_worker(&report(1, 1), &counted, at(0))
        .await
        .unwrap();
    let remove = async |limit| {
        let (minutes, hours) = (at(-48 * HOUR), at(-60 * HOUR));
        let removed = store.remove_stats(minutes, hours, at(-1), limit);
        removed.await.unwrap()
    };
    assert_eq!(remove(1).await, 1, "a step is no longer than its limit");
    assert_eq!((remove(1).await, remove(1).await), (1, 0));
    assert_eq!(rows(store, Step::Minute, &all).await, [(-60, 3, 1)]);
    assert_eq!(rows(store, Step::Hour, &all).await.len(), 2, "hours stay");
    let removed = store.remove_stats(at(-48 * HOUR), at(1), at(1), 10).await;
    assert_eq!(removed.unwrap(), 4, "three hours and the report");
    assert_eq!(rows(store, Step::Hour, &all).await, []);
}

pub(crate) async fn workers_are_listed_until_they_stop(bench: &Bench) {
    let store = &bench.store;
    // Leases go by the server's clock on Postgres, by the caller's on SQLite.
    let second = match store.kind() {
        DatabaseKind::Sqlite => 0,
        DatabaseKind::Postgres => -1,
    };
    for (number, name) in [(1, "worker-b"), (2, "worker-a")] {
        let beat = Beat {
            worker: WorkerId(Uuid::from_u128(number)),
            name,
            acknowledged: &Acknowledged::default(),
            lease: Duration::from_secs(60),
        };
        store.beat(&beat, at(second)).await.unwrap();
    }
    let said = WorkerReport {
        name: "worker-b",
        at_limit: &[endpoint_id("ep_1")],
        ..report(1, 1)
    };
    store.report_worker(&said, &[], at(5)).await.unwrap();
    store
        .report_worker(&report(3, 1), &[], at(5))
        .await
        .unwrap();
    let listed = store.reported_workers(at(6), 10).await.unwrap();
    let seen: Vec<_> = listed
        .iter()
        .map(|one| (one.worker.0.as_u128(), one.alive, one.said.is_some()))
        .collect();
    // Of the second, which has just started, nothing more is known; the third was killed.
    assert_eq!(seen, [(2, true, false), (1, true, true), (3, false, true)]);
    assert_eq!(listed[1].name, "worker-b");
    let said = listed[1].said.as_ref().unwrap();
    assert_eq!(
        (said.version.as_str(), said.slots, said.in_flight),
        ("1.2.3", 64, 3)
    );
    assert_eq!(said.at_limit, [endpoint_id("ep_1")]);
    assert_eq!((said.started_at, said.at), (at(0), at(5)));

    store
        .remove_worker_report(WorkerId(Uuid::from_u128(3)))
        .await
        .unwrap();
    assert_eq!(store.reported_workers(at(6), 10).await.unwrap().len(), 2);
    assert_eq!(store.reported_workers(at(6), 1).await.unwrap().len(), 1);
}
