//! How Postgres goes about statements: a plan that it keeps must still be right when the tables
//! have grown. It plans anew when it has analyzed a table, which takes a minute at the least.

use std::time::Duration;

use posthaste_shared::domain::id::NotificationId;
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::store::record::{Before, Record};
use tokio::time::Instant;

use super::bench::{
    Bench, MARGIN, at, delivered, endpoint, endpoint_id, new, notification, on_postgres, parked,
    put, retry,
};

/// More often than Postgres plans a prepared statement for its parameters (five times).
const OFTEN: usize = 12;
/// So many that reading them all stands out.
const ROWS: usize = 3_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_have_grown_are_not_read_as_a_whole() {
    on_postgres(async |bench: &Bench| {
        let store = &bench.store;
        store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
        // Each plan that is kept is made now, while there is next to nothing.
        for n in 0..OFTEN {
            go_through(bench, &format!("small-{n}")).await;
        }
        let rows: Vec<Record> = (0..ROWS)
            .map(|n| new(&notification(&format!("row-{n}")), "ep_2", delivered(1)))
            .collect();
        for some in rows.chunks(500) {
            store.record(some, at(1)).await.unwrap();
        }
        let before = read_as_a_whole(bench).await;
        for n in 0..OFTEN {
            go_through(bench, &format!("large-{n}")).await;
        }
        let after = read_as_a_whole(bench).await;
        assert!(
            after < before + ROWS as i64,
            "{} rows were read without an index",
            after - before
        );
    })
    .await;
}

/// What a worker does with a notification: looks whether it is known, records that it is to be
/// retried and what is parked, takes both out of the store, and records how they ended.
async fn go_through(bench: &Bench, id: &str) {
    let store = &bench.store;
    let key = [(TenantId::default(), NotificationId::parse(id).unwrap())];
    store.look_up(&key).await.unwrap();
    put(store, id, "ep_1", retry(1)).await;
    put(store, &format!("{id}-parked"), "ep_1", parked()).await;
    store.next_due().await.unwrap();
    let mut claimed = store.claim_due(at(2), MARGIN, 9).await.unwrap();
    store.endpoints_with_parked().await.unwrap();
    let wanted = [(endpoint_id("ep_1"), 9)];
    claimed.extend(store.claim_parked(&wanted, at(2), MARGIN).await.unwrap());
    assert_eq!(claimed.len(), 2);
    for one in claimed {
        let mut delivery = one.delivery;
        let before = Before::Known {
            round: delivery.round,
            attempt_count: delivery.attempt_count,
        };
        delivery.state = delivered(3);
        let record = Record {
            delivery,
            before,
            attempt: None,
            kept: None,
            event: None,
            disable: None,
        };
        store.record(&[record], at(3)).await.unwrap();
    }
}

/// How many rows were read without an index so far, once the server has counted what was done.
async fn read_as_a_whole(bench: &Bench) -> i64 {
    const SQL: &str = "SELECT (sum(seq_tup_read) || ' ' || sum(seq_tup_read + idx_tup_fetch))::text
        FROM pg_stat_user_tables WHERE schemaname = current_schema()
            AND relname IN ('deliveries', 'notifications', 'endpoints')";
    let until = Instant::now() + Duration::from_secs(30);
    let mut seen = String::new();
    let mut quiet = 0;
    // Each session tells at most once a second, and only what it has finished.
    while quiet < 25 {
        assert!(Instant::now() < until, "the server goes on counting");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = bench.sql(SQL).await.remove(0);
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
    seen.split(' ').next().unwrap().parse().unwrap()
}
