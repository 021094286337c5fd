//! The embedded broker, and what only it must do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_shared::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use posthaste_shared::broker::{Broker, BrokerError, Message};
use posthaste_shared::clock::ManualClock;
use posthaste_shared::domain::notification::Priority;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::{Store, StoreOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tempfile::TempDir;

use super::bench::{Bench, ids, message, messages, publish, run, take, until};
use super::proxy::Proxy;

/// A queue in a database of its own. Each client has a store of its own, as another process would.
pub(crate) struct Embedded {
    url: String,
    clock: Arc<ManualClock>,
    options: EmbeddedOptions,
    place: Place,
}

enum Place {
    File(TempDir),
    Schema { server: String, name: String },
}

impl Embedded {
    pub(crate) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("posthaste.db").display());
        Self::new(url, Place::File(folder)).await
    }

    pub(crate) async fn on_postgres() -> Self {
        let server = std::env::var("POSTHASTE_TEST_POSTGRES_URL").expect(
            "set POSTHASTE_TEST_POSTGRES_URL to a Postgres, such as \
             postgres://postgres@127.0.0.1:5432/postgres",
        );
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        run_sql(&server, format!("CREATE SCHEMA {name}")).await;
        let separator = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{separator}options=-csearch_path%3D{name}");
        Self::new(url, Place::Schema { server, name }).await
    }

    async fn new(url: String, place: Place) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(
            1_767_225_600_000_000,
        )));
        let poll = Duration::from_millis(5);
        let heartbeat = Duration::from_millis(50);
        let options = EmbeddedOptions {
            poll,
            heartbeat,
            ..EmbeddedOptions::default()
        };
        let bench = Self {
            url,
            clock,
            options,
            place,
        };
        let store = bench.store().await;
        store.migrate().await.unwrap();
        store.close().await;
        bench
    }

    async fn store(&self) -> Store {
        let options = StoreOptions {
            max_connections: 4,
            ..StoreOptions::new(Secret::new(&self.url))
        };
        Store::connect(&options).await.unwrap()
    }

    async fn open(&self, options: EmbeddedOptions) -> EmbeddedBroker {
        let clock = Arc::clone(&self.clock);
        EmbeddedBroker::new(self.store().await, clock, options)
    }

    /// Deletes the rows of all consumers, as a person might.
    async fn forget_consumers(&self) {
        let text = "DELETE FROM queue_consumers";
        match &self.place {
            Place::File(_) => {
                let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
                connection
                    .execute("PRAGMA busy_timeout = 20000")
                    .await
                    .unwrap();
                connection.execute(text).await.unwrap();
            }
            Place::Schema { .. } => run_sql(&self.url, text.to_owned()).await,
        }
    }

    async fn behind_a_proxy(&self) -> (Proxy, EmbeddedBroker) {
        let mut url = url::Url::parse(&self.url).unwrap();
        let proxy = Proxy::to(format!(
            "{}:{}",
            url.host_str().unwrap(),
            url.port().unwrap_or(5432)
        ))
        .await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.address.port())).unwrap();
        // The proxy looks for what is said.
        url.query_pairs_mut().append_pair("sslmode", "disable");
        let options = StoreOptions {
            acquire_timeout: Duration::from_millis(300),
            ..StoreOptions::new(Secret::new(url.as_str()))
        };
        let store = Store::connect(&options).await.unwrap();
        let clock = Arc::clone(&self.clock);
        (
            proxy,
            EmbeddedBroker::new(store, clock, self.options.clone()),
        )
    }
}

async fn run_sql(url: &str, text: String) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(text)).await.unwrap();
}

#[async_trait]
impl Bench for Embedded {
    async fn client(&self) -> Arc<dyn Broker> {
        Arc::new(self.open(self.options.clone()).await)
    }

    async fn clean_up(&self) {
        match &self.place {
            Place::File(folder) => assert!(folder.path().exists()),
            Place::Schema { server, name } => {
                run_sql(server, format!("DROP SCHEMA {name} CASCADE")).await
            }
        }
    }
}

struct Handle(Arc<Embedded>);

#[async_trait]
impl Bench for Handle {
    async fn client(&self) -> Arc<dyn Broker> {
        self.0.client().await
    }

    async fn clean_up(&self) {
        self.0.clean_up().await;
    }
}

/// Makes each test once for each database.
macro_rules! embedded_tests {
    ($($name:ident: |$bench:ident| $body:block)*) => {
        $(async fn $name($bench: Arc<Embedded>) $body)*
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let bench = super::Arc::new(super::Embedded::on_sqlite().await);
                let handle = super::Handle(super::Arc::clone(&bench));
                super::run(handle, async |_: &dyn super::Bench| super::$name(bench).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let bench = super::Arc::new(super::Embedded::on_postgres().await);
                let handle = super::Handle(super::Arc::clone(&bench));
                super::run(handle, async |_: &dyn super::Bench| super::$name(bench).await).await;
            })*
        }
    };
}

embedded_tests! {
    high_priority_goes_first: |bench| {
        let broker = bench.client().await;
        let high = |id: &str| Message { priority: Priority::High, ..message(id) };
        publish(&*broker, vec![message("1"), high("2"), message("3"), high("4")]).await;
        let mut consumer = broker.consume(10).await.unwrap();
        let got = take(&mut *consumer, 4).await;
        let order: Vec<_> = got.iter().map(|one| one.message.id.as_deref().unwrap()).collect();
        assert_eq!(order, ["2", "4", "1", "3"]);
        broker.close().await;
    }

    a_dead_consumers_messages_go_to_others: |bench| {
        // Its heartbeat comes once only: as if the process had died.
        let silent = EmbeddedOptions {
            heartbeat: Duration::from_secs(3600),
            ..bench.options.clone()
        };
        let dying = bench.open(silent).await;
        publish(&dying, messages(6)).await;
        let mut held = dying.consume(6).await.unwrap();
        let lost = take(&mut *held, 4).await;
        held.acker().ack(vec![lost[0].tag]).await;
        until("acknowledged", async || dying.depths().await.unwrap()["work"] == 5).await;

        let living = bench.client().await;
        let mut consumer = living.consume(10).await.unwrap();
        assert!(super::bench::is_quiet(&mut *consumer).await, "before its time is over");
        living.close().await;
        let impatient = EmbeddedOptions {
            dead_after: Duration::from_millis(300),
            ..bench.options.clone()
        };
        let living = bench.open(impatient).await;
        let mut consumer = living.consume(10).await.unwrap();
        let got = take(&mut *consumer, 5).await;
        assert!(got.iter().all(|one| one.delivery_count == 1));
        // What the dead one says now counts no more.
        held.acker().ack(lost.iter().map(|one| one.tag).collect()).await;
        held.stop().await;
        assert_eq!(living.depths().await.unwrap()["work"], 5);
        living.close().await;
        dying.close().await;
    }

    a_consumer_whose_row_is_deleted_goes_on_and_loses_nothing: |bench| {
        let broker = bench.client().await;
        publish(&*broker, messages(3)).await;
        let mut consumer = broker.consume(10).await.unwrap();
        take(&mut *consumer, 3).await;
        bench.forget_consumers().await;
        let again = take(&mut *consumer, 3).await;
        assert_eq!(ids(&again), ["0", "1", "2"]);
        assert!(again.iter().all(|one| one.delivery_count == 1));
        publish(&*broker, vec![message("after")]).await;
        assert_eq!(ids(&take(&mut *consumer, 1).await), ["after"]);
        broker.close().await;
    }

    a_dropped_consumer_gives_its_messages_back: |bench| {
        let broker = bench.client().await;
        publish(&*broker, messages(4)).await;
        let mut consumer = broker.consume(4).await.unwrap();
        take(&mut *consumer, 2).await;
        drop(consumer);
        let mut other = broker.consume(10).await.unwrap();
        assert_eq!(ids(&take(&mut *other, 4).await).len(), 4);
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_goes_on_after_its_database_was_away() {
    let bench = Arc::new(Embedded::on_postgres().await);
    run(Handle(Arc::clone(&bench)), async |_: &dyn Bench| {
        let (proxy, broker) = bench.behind_a_proxy().await;
        let mut consumer = broker.consume(10).await.unwrap();
        publish(&broker, messages(2)).await;
        let got = take(&mut *consumer, 2).await;

        proxy.refuse(true);
        proxy.cut();
        let answers = broker.publish(vec![message("lost")]).await;
        assert!(
            matches!(answers[..], [Err(BrokerError::Unavailable(_))]),
            "{answers:?}"
        );
        assert!(broker.ping().await.is_err());
        consumer
            .acker()
            .ack(got.iter().map(|one| one.tag).collect())
            .await;

        proxy.refuse(false);
        until("it answers", async || broker.ping().await.is_ok()).await;
        publish(&broker, vec![message("after")]).await;
        let after = take(&mut *consumer, 1).await;
        assert_eq!(ids(&after), ["after"]);
        consumer.acker().ack(vec![after[0].tag]).await;
        until("acknowledged", async || {
            broker
                .depths()
                .await
                .is_ok_and(|depths| depths["work"] == 0)
        })
        .await;
        broker.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_taken_without_an_answer_come_again() {
    let bench = Arc::new(Embedded::on_postgres().await);
    run(Handle(Arc::clone(&bench)), async |_: &dyn Bench| {
        let publisher = bench.client().await;
        publish(&*publisher, messages(3)).await;
        let (proxy, broker) = bench.behind_a_proxy().await;
        proxy.lose_a_commit();
        let mut consumer = broker.consume(2).await.unwrap();
        let got = take(&mut *consumer, 2).await;
        assert!(
            got.iter().all(|one| one.delivery_count == 0),
            "nobody was handed them"
        );
        consumer
            .acker()
            .ack(got.iter().map(|one| one.tag).collect())
            .await;
        let rest = take(&mut *consumer, 1).await;
        consumer.acker().ack(vec![rest[0].tag]).await;
        until("acknowledged", async || {
            publisher
                .depths()
                .await
                .is_ok_and(|depths| depths["work"] == 0)
        })
        .await;
        broker.close().await;
        publisher.close().await;
    })
    .await;
}
