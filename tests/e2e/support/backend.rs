//! A test's own store and broker: a file, a schema, a name prefix.

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use tempfile::TempDir;
use uuid::Uuid;

use super::required;

/// Which store and broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    EmbeddedSqlite,
    EmbeddedPostgres,
    RabbitSqlite,
    RabbitPostgres,
}

/// Where a test's data is. Everything goes when this is dropped.
pub struct Place {
    pub dir: TempDir,
    pub database_url: String,
    pub broker_url: String,
    pub prefix: String,
    schema: Option<(String, String)>,
}

impl Place {
    pub async fn new(backend: Backend) -> Self {
        use Backend::{EmbeddedPostgres, EmbeddedSqlite, RabbitPostgres, RabbitSqlite};
        let dir = tempfile::tempdir().expect("a temporary directory");
        let name = format!("t{}", Uuid::new_v4().simple());
        let (database_url, schema) = match backend {
            EmbeddedSqlite | RabbitSqlite => (
                format!("sqlite://{}", dir.path().join("store.db").display()),
                None,
            ),
            EmbeddedPostgres | RabbitPostgres => {
                let server = required("POSTHASTE_TEST_POSTGRES_URL");
                (
                    schema_url(&server, &name).await,
                    Some((server, name.clone())),
                )
            }
        };
        let broker_url = match backend {
            EmbeddedSqlite | EmbeddedPostgres => "embedded".to_owned(),
            RabbitSqlite | RabbitPostgres => required("POSTHASTE_TEST_AMQP_URL"),
        };
        Self {
            dir,
            database_url,
            broker_url,
            prefix: name,
            schema,
        }
    }

    /// With a database that the test made itself, and the queue in it.
    pub fn at(database_url: String) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let prefix = format!("t{}", Uuid::new_v4().simple());
        Self {
            dir,
            database_url,
            broker_url: "embedded".to_owned(),
            prefix,
            schema: None,
        }
    }

    /// The program's environment for this place.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("POSTHASTE_DATABASE_URL", self.database_url.clone()),
            ("POSTHASTE_BROKER_URL", self.broker_url.clone()),
            ("POSTHASTE_NAME_PREFIX", self.prefix.clone()),
            ("POSTHASTE_ADMIN_KEY", super::api::ADMIN_KEY.to_owned()),
            ("POSTHASTE_API_KEY", super::api::ADMIN_KEY.to_owned()),
            (
                "POSTHASTE_MASTER_KEY",
                "a-master-key-for-tests-0123456789abcdef".to_owned(),
            ),
            ("POSTHASTE_EGRESS_ALLOW", "127.0.0.0/8,::1".to_owned()),
            ("POSTHASTE_EGRESS_HTTP", "allow".to_owned()),
            ("POSTHASTE_LISTEN", "127.0.0.1:0".to_owned()),
            ("POSTHASTE_DATABASE_MAX_CONNECTIONS", "4".to_owned()),
        ]
    }
}

/// Makes a schema and gives the URL that leads into it.
async fn schema_url(server: &str, schema: &str) -> String {
    let pool = sqlx::PgPool::connect(server).await.expect("Postgres");
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
        .execute(&pool)
        .await
        .expect("a schema");
    pool.close().await;
    let separator = if server.contains('?') { '&' } else { '?' };
    format!("{server}{separator}options=-csearch_path%3D{schema}")
}

impl Drop for Place {
    fn drop(&mut self) {
        let schema = self.schema.take();
        let broker = self.broker_url.clone();
        let prefix = self.prefix.clone();
        // A thread with a runtime of its own: dropping happens inside one. What cannot be removed
        // (a server that a test took down) goes with its server.
        let tidy = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let _ = tokio::time::timeout(
                    std::time::Duration::from_secs(10),
                    remove(schema, broker, prefix),
                )
                .await;
            });
        });
        let _ = tidy.join();
    }
}

async fn remove(schema: Option<(String, String)>, broker: String, prefix: String) {
    if let Some((server, schema)) = schema
        && let Ok(pool) = sqlx::PgPool::connect(&server).await
    {
        let _ = sqlx::query(sqlx::AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE")))
            .execute(&pool)
            .await;
        pool.close().await;
    }
    if broker != "embedded"
        && let Ok(connection) =
            lapin::Connection::connect(&broker, lapin::ConnectionProperties::default()).await
        && let Ok(channel) = connection.create_channel().await
    {
        for queue in ["work", "dead", "test-events"] {
            let _ = channel
                .queue_delete(
                    format!("{prefix}.{queue}").into(),
                    QueueDeleteOptions::default(),
                )
                .await;
        }
        for exchange in ["notifications", "dead", "events"] {
            let name = format!("{prefix}.{exchange}").into();
            let _ = channel
                .exchange_delete(name, ExchangeDeleteOptions::default())
                .await;
        }
        let _ = connection.close(200, "done".into()).await;
    }
}
