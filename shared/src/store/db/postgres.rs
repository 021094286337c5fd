//! Postgres 13 and later.

mod properties;
mod statement;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Postgres};

use super::writes::Writes;
use super::{Answer, Batch, DatabaseKind, Driver, Param, Transaction, failed, in_time, migrations};
use crate::domain::time::Timestamp;
use crate::store::fitness::Finding;
use crate::store::{StoreError, StoreOptions};
use properties::{PROPERTIES, Properties};
use statement::{run, run_batch};

/// The longest that a statement that writes may take, should the server fall silent. It may have to
/// wait for another transaction.
const DEADLINE: Duration = Duration::from_secs(30);
/// The same for a query that is answered from indexes, with the wait for a connection.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// The same for a query that reads whole tables.
const SCAN_DEADLINE: Duration = Duration::from_secs(600);

/// How long the connection may take that is opened to find out why there is none.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

/// How often a migration is tried that comes into a deadlock with processes at work. Postgres ends
/// one of the two; a worker that is ended tries again by itself.
const MIGRATION_TRIES: u32 = 20;
/// How long to wait before the next of them.
const MIGRATION_PAUSE: Duration = Duration::from_millis(250);

/// A pool of connections to a Postgres server.
pub(in crate::store) struct PostgresDriver {
    pool: PgPool,
    writes: Writes,
}

impl PostgresDriver {
    /// Creates the pool; connects at the first call.
    pub(in crate::store) fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let connect: PgConnectOptions =
            options.url.expose().parse().map_err(|_| StoreError::Url {
                // The parser's own words may hold the password.
                problem: "is not a URL of Postgres".to_owned(),
            })?;
        let connect = connect
            .application_name("posthaste")
            .statement_cache_capacity(500);
        let writes = Writes::default();
        let refused = writes.clone();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(2))
            // One on which nothing can be written goes: another may have other settings, or lead to
            // another server.
            .before_acquire(move |_, about| {
                let outlived = refused.has_outlived(about.age);
                Box::pin(async move { Ok(!outlived) })
            })
            .acquire_timeout(options.acquire_timeout)
            .max_lifetime(Duration::from_secs(30 * 60))
            // On each new connection, since these are settings of the session: after a failover
            // another server's defaults count.
            .after_connect(|connection, _| Box::pin(async move { set_up(connection).await }))
            // Lazily: a process starts while the database is down, and reports so by its health
            // checks.
            .connect_lazy_with(connect);
        Ok(Self { pool, writes })
    }

    async fn connection(
        &self,
        sql: &str,
    ) -> Result<sqlx::pool::PoolConnection<Postgres>, StoreError> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(connection),
            // The pool's own error does not say why. One more connection, outside the pool, does.
            Err(sqlx::Error::PoolTimedOut) => Err(failed(sql, self.no_connection().await)),
            Err(error) => Err(failed(sql, error)),
        }
    }
}

#[async_trait]
impl Driver for PostgresDriver {
    fn kind(&self) -> DatabaseKind {
        DatabaseKind::Postgres
    }

    async fn read(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        // The wait for a connection counts as well: whoever reads here is a client who waits, or a
        // loop that tries again.
        let read = async {
            let mut connection = self.connection(sql).await?;
            run(&mut connection, sql, params).await
        };
        in_time(READ_DEADLINE, read).await
    }

    async fn scan(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        let mut connection = self.connection(sql).await?;
        let scan = async {
            let mut transaction = connection.begin().await.map_err(|e| failed(sql, e))?;
            let planned = sqlx::query(WHOLE_TABLES).execute(&mut *transaction).await;
            planned.map_err(|error| failed(sql, error))?;
            let answer = run(&mut transaction, sql, params).await?;
            // Nothing was written: what a failed commit would undo is nothing.
            drop(transaction.commit().await);
            Ok(answer)
        };
        // The wait for a connection is bounded by the pool, and does not use up the time of the
        // scan.
        in_time(SCAN_DEADLINE, scan).await
    }

    async fn read_batch(&self, sql: &'static str, batch: Batch) -> Result<Answer, StoreError> {
        let read = async {
            let mut connection = self.connection(sql).await?;
            run_batch(&mut connection, sql, batch).await
        };
        in_time(READ_DEADLINE, read).await
    }

    async fn write(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        let mut connection = self.connection(sql).await?;
        let answer = in_time(DEADLINE, run(&mut connection, sql, params)).await;
        self.writes.end(answer)
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        let begin = async {
            match self.pool.begin().await {
                Ok(transaction) => Ok(transaction),
                Err(sqlx::Error::PoolTimedOut) => {
                    Err(failed("-- begin", self.no_connection().await))
                }
                Err(error) => Err(failed("-- begin", error)),
            }
        };
        let transaction = in_time(DEADLINE, begin).await?;
        Ok(Box::new(PostgresTransaction {
            transaction,
            writes: self.writes.clone(),
        }))
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut left = MIGRATION_TRIES;
        loop {
            // A connection of its own: where a migration fails, it is closed, and with it goes the
            // lock that it holds.
            let options = PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(READ_DEADLINE);
            let pool = options.connect_lazy_with((*self.pool.connect_options()).clone());
            let done = migrations::POSTGRES.run(&pool).await;
            // Bounded, since a server that fell silent would otherwise keep the migration from
            // reporting its error.
            drop(tokio::time::timeout(READ_DEADLINE, pool.close()).await);
            left -= 1;
            match done {
                Err(error) if left > 0 && is_deadlock(&error) => {
                    tracing::info!(%error, "the migration and a worker were in a deadlock: \
                        trying again");
                    tokio::time::sleep(MIGRATION_PAUSE).await;
                }
                done => return done.map_err(StoreError::Migrate),
            }
        }
    }

    async fn findings(&self) -> Result<Vec<Finding>, StoreError> {
        let answer = self.read(PROPERTIES, vec![]).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok(Vec::new());
        };
        Properties::read(row).map(|properties| properties.findings())
    }

    async fn schema_version(&self) -> Result<i64, StoreError> {
        let there = self
            .read(
                "-- schema.exists\nSELECT to_regclass('_sqlx_migrations')::text",
                vec![],
            )
            .await?;
        if there
            .rows
            .into_iter()
            .next()
            .map(|row| row.reader("schema").text_opt())
            .transpose()?
            .flatten()
            .is_none()
        {
            return Ok(0);
        }
        let version = self.read(super::sqlite::SCHEMA_VERSION, vec![]).await?;
        version
            .rows
            .into_iter()
            .next()
            .map_or(Ok(0), |row| row.reader("schema").int())
    }

    fn needed_version(&self) -> i64 {
        migrations::newest(&migrations::POSTGRES)
    }

    fn writes_are_refused(&self) -> bool {
        self.writes.are_refused()
    }

    fn disk_was_full(&self) -> bool {
        self.writes.found_full()
    }

    async fn server_time(&self) -> Result<Timestamp, StoreError> {
        const SQL: &str =
            "-- server.time\nSELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let answer = self.read(SQL, vec![]).await?;
        answer
            .rows
            .into_iter()
            .next()
            .map_or(Ok(Timestamp::from_micros(0)), |row| {
                row.reader("server").time()
            })
    }

    /// The pool tries again and again to connect, and says only that it had no connection in time.
    /// Where it has none at all, this tries once more and says what the operating system or the
    /// server says.
    async fn no_connection(&self) -> sqlx::Error {
        // There are connections, and all are in use: the server is fine, and another connection
        // would only add to its load.
        if self.pool.size() > 0 {
            return sqlx::Error::PoolTimedOut;
        }
        let options = self.pool.connect_options();
        let silent = || {
            std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("no answer within {PROBE_DEADLINE:?}"),
            )
        };
        let error = match tokio::time::timeout(PROBE_DEADLINE, PgConnection::connect_with(&options))
            .await
        {
            Ok(Ok(connection)) => {
                drop(tokio::time::timeout(PROBE_DEADLINE, connection.close()).await);
                return sqlx::Error::PoolTimedOut;
            }
            Ok(Err(sqlx::Error::Io(error))) => error,
            Ok(Err(error)) => return error,
            Err(_) => silent(),
        };
        let host = options.get_host();
        let port = options.get_port();
        sqlx::Error::Io(std::io::Error::new(
            error.kind(),
            format!("{host}:{port}: {error}"),
        ))
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// What a session is set to.
///
/// - Accepted means durable: a server that confirms a commit before it is on the disk is told not
///   to. Only where it is off: setting it always would undo stricter values, such as
///   `remote_apply`, which are the operator's choice between replicas.
/// - Statements are planned to go by their indexes. Each is prepared once, and Postgres keeps a
///   plan that it made while the tables were small or not yet analyzed: reading them as a whole,
///   once for each batch, was three fifths of its work in a new installation. Compiling plans
///   (`jit`) takes longer than any of them runs, and would be done for each that has no index to
///   go by, since such a plan then looks dear.
async fn set_up(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    const SQL: &str = "SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off'
        UNION ALL SELECT set_config('enable_seqscan', 'off', false)
        UNION ALL SELECT set_config('jit', 'off', false)";
    sqlx::query(SQL).execute(connection).await.map(drop)
}

/// Undoes [`set_up`]'s choice of plans for one transaction, which reads whole tables.
const WHOLE_TABLES: &str = "SELECT set_config('enable_seqscan', 'on', true)";

fn is_deadlock(error: &MigrateError) -> bool {
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = error else {
        return false;
    };
    cause
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "40P01")
}

struct PostgresTransaction {
    transaction: sqlx::Transaction<'static, Postgres>,
    writes: Writes,
}

#[async_trait]
impl Transaction for PostgresTransaction {
    async fn run(&mut self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        let answer = in_time(DEADLINE, run(&mut self.transaction, sql, params)).await;
        self.writes.step(answer)
    }

    async fn run_batch(&mut self, sql: &'static str, batch: Batch) -> Result<Answer, StoreError> {
        let answer = in_time(DEADLINE, run_batch(&mut self.transaction, sql, batch)).await;
        self.writes.step(answer)
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self {
            transaction,
            writes,
        } = *self;
        let commit = async {
            let committed = transaction.commit().await;
            committed.map_err(|error| failed("-- commit", error))
        };
        writes.end(in_time(DEADLINE, commit).await)
    }
}
