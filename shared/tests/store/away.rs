//! Databases that fall silent, and that end what was begun.

use std::time::Duration;

use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::store::record::Recorded;
use posthaste_shared::store::{Store, StoreOptions};
use tokio::time::Instant;

use super::bench::{Bench, at, new, notification, on_postgres, retry};
use super::proxy::Proxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_holds_up_reads_and_closing_for_a_short_time_only() {
    on_postgres(async |bench: &Bench| {
        let (proxy, options) = behind_a_proxy(bench).await;
        let store = Store::connect(&options).await.unwrap();
        store.check_schema().await.unwrap();
        proxy.mute();
        let asked = Instant::now();
        let key = [(TenantId::default(), "key".to_owned())];
        let answers = tokio::join!(
            store.endpoints_version(),
            store.next_due(),
            store.look_up(&[]),
            store.finish(&key)
        );
        assert!(answers.0.unwrap_err().is_transient());
        assert!(answers.1.unwrap_err().is_transient());
        assert!(answers.2.unwrap_err().is_transient());
        assert!(answers.3.unwrap_err().is_transient());
        assert!(
            asked.elapsed() < Duration::from_secs(12),
            "{:?}",
            asked.elapsed()
        );
        let closing = Instant::now();
        store.close().await;
        assert!(
            closing.elapsed() < Duration::from_secs(3),
            "{:?}",
            closing.elapsed()
        );
    })
    .await;
}

/// As when a firewall forgets connections: nobody closes them, and nothing comes on them any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fell_silent_cost_no_place() {
    on_postgres(async |bench: &Bench| {
        let (proxy, options) = behind_a_proxy(bench).await;
        let options = StoreOptions {
            max_connections: 2,
            ..options
        };
        let store = Store::connect(&options).await.unwrap();
        store.check_schema().await.unwrap();
        proxy.mute();
        let answers = tokio::join!(store.endpoints_version(), store.next_due());
        assert!(answers.0.is_err() && answers.1.is_err());
        proxy.unmute();
        let asked = Instant::now();
        while store.endpoints_version().await.is_err() {
            assert!(asked.elapsed() < Duration::from_secs(15), "not in time");
        }
        store.close().await;
    })
    .await;
}

/// As with a full disk, where SQLite ends the transaction before anybody asks it to.
#[tokio::test]
async fn a_transaction_that_sqlite_ends_by_itself_is_the_last_of_no_connection() {
    super::bench::on_sqlite(async |bench: &Bench| {
        let store = &bench.store;
        bench
            .sql(
                "CREATE TRIGGER full BEFORE INSERT ON deliveries
                BEGIN SELECT RAISE(ROLLBACK, 'no room'); END",
            )
            .await;
        let record = new(&notification("n-1"), "ep_1", retry(1));
        for _ in 0..3 {
            let refused = store.record(std::slice::from_ref(&record), at(0)).await;
            let refused = format!("{:?}", refused.unwrap_err());
            assert!(refused.contains("no room"), "{refused}");
        }
        bench.sql("DROP TRIGGER full").await;
        let kept = store.record(std::slice::from_ref(&record), at(0)).await;
        assert_eq!(kept.unwrap(), [Recorded::Kept]);
    })
    .await;
}

/// A proxy before the database, and how to open the store through it.
async fn behind_a_proxy(bench: &Bench) -> (Proxy, StoreOptions) {
    let mut url = url::Url::parse(bench.options.url.expose()).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let proxy = Proxy::to(server).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(proxy.address.port())).unwrap();
    let options = StoreOptions {
        url: Secret::new(url.as_str()),
        ..bench.options.clone()
    };
    (proxy, options)
}
