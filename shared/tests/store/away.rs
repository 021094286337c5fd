//! A Postgres that takes connections and falls silent.

use std::time::Duration;

use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::store::{Store, StoreOptions};
use tokio::time::Instant;

use super::bench::{Bench, on_postgres};
use super::proxy::Proxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_holds_up_reads_and_closing_for_a_short_time_only() {
    on_postgres(async |bench: &Bench| {
        let mut url = url::Url::parse(bench.options.url.expose()).unwrap();
        let proxy = Proxy::to(format!(
            "{}:{}",
            url.host_str().unwrap(),
            url.port().unwrap_or(5432)
        ))
        .await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.address.port())).unwrap();
        let options = StoreOptions {
            url: Secret::new(url.as_str()),
            ..bench.options.clone()
        };
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
