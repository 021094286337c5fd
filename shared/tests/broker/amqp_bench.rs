//! RabbitMQ to test with: a client with names of its own, a way through a proxy, foreign clients.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Channel, Connection, ConnectionProperties};
use posthaste_shared::broker::Broker;
use posthaste_shared::broker::amqp::{AmqpBroker, AmqpOptions};
use posthaste_shared::clock::SystemClock;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::telemetry::metrics::Metrics;

use super::bench::{Bench, DEADLINE};
use super::proxy::Proxy;

/// How long queues are left before they are deleted.
const SETTLING: Duration = Duration::from_secs(1);

/// Waits until the broker answers: a busy one may take longer for it than a publisher waits.
pub(crate) async fn connected(broker: &dyn Broker) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while let Err(error) = broker.ping().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not connected in time: {error}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// RabbitMQ, with a name prefix for each test.
pub(crate) struct RabbitMq {
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) metrics: Arc<Metrics>,
}

impl RabbitMq {
    pub(crate) fn new() -> Self {
        let url = std::env::var("POSTHASTE_TEST_AMQP_URL").expect(
            "set POSTHASTE_TEST_AMQP_URL to a RabbitMQ, such as amqp://guest:guest@127.0.0.1:5672",
        );
        Self {
            url,
            prefix: format!("test-{}", uuid::Uuid::new_v4().simple()),
            metrics: Arc::new(Metrics::new()),
        }
    }

    pub(crate) fn options(&self) -> AmqpOptions {
        let master_keys = vec![Secret::new("a master key of the tests, 32 or longer")];
        AmqpOptions {
            name_prefix: self.prefix.clone(),
            master_keys,
            ..AmqpOptions::new(Secret::new(&self.url))
        }
    }

    pub(crate) async fn open(&self, options: AmqpOptions) -> Arc<AmqpBroker> {
        Arc::new(
            AmqpBroker::connect(options, Arc::clone(&self.metrics), Arc::new(SystemClock))
                .await
                .unwrap(),
        )
    }

    /// A client through a proxy.
    pub(crate) async fn through(&self, proxy: &Proxy) -> Arc<AmqpBroker> {
        self.open(AmqpOptions {
            url: Secret::new(self.url_through(proxy)),
            ..self.options()
        })
        .await
    }

    pub(crate) fn url_through(&self, proxy: &Proxy) -> String {
        let mut url = url::Url::parse(&self.url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.address.port())).unwrap();
        url.into()
    }

    pub(crate) async fn proxy(&self) -> Proxy {
        let url = url::Url::parse(&self.url).unwrap();
        Proxy::to(format!(
            "{}:{}",
            url.host_str().unwrap(),
            url.port().unwrap_or(5672)
        ))
        .await
    }

    pub(crate) fn name(&self, suffix: &str) -> lapin::types::ShortString {
        format!("{}.{suffix}", self.prefix).into()
    }

    /// A foreign client.
    pub(crate) async fn channel(&self) -> (Connection, Channel) {
        let connection = Connection::connect(&self.url, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }
}

#[async_trait]
impl Bench for RabbitMq {
    async fn client(&self) -> Arc<dyn Broker> {
        let broker = self.open(self.options()).await;
        connected(&*broker).await;
        broker
    }

    async fn clean_up(&self) {
        let (connection, channel) = self.channel().await;
        // Not at once: where a queue with at-least-once dead-lettering is deleted while RabbitMQ
        // still starts the worker for its dead letters, that may end the supervisor of all such
        // workers, and with it every such queue (rabbitmq/rabbitmq-server#16652, seen on 4.0.5).
        tokio::time::sleep(SETTLING).await;
        for queue in ["work", "dead", "listener"] {
            channel
                .queue_delete(self.name(queue), QueueDeleteOptions::default())
                .await
                .unwrap();
        }
        for exchange in ["notifications", "dead", "events"] {
            channel
                .exchange_delete(self.name(exchange), ExchangeDeleteOptions::default())
                .await
                .unwrap();
        }
        connection.close(200, "OK".into()).await.unwrap();
    }
}

macro_rules! rabbitmq_test {
    ($name:ident, $bench:ident, $body:block) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let $bench = Arc::new(RabbitMq::new());
            run(Handle(Arc::clone(&$bench)), async |_: &dyn Bench| $body).await;
        }
    };
}

pub(crate) use rabbitmq_test;

pub(crate) struct Handle(pub(crate) Arc<RabbitMq>);

#[async_trait]
impl Bench for Handle {
    async fn client(&self) -> Arc<dyn Broker> {
        self.0.client().await
    }

    async fn clean_up(&self) {
        self.0.clean_up().await;
    }
}
