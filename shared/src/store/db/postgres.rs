//! Postgres 13 and later.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Either, Postgres, Row as _, TypeInfo as _,
};
use uuid::Uuid;

use super::row::{Columns, Value};
use super::{Answer, Batch, DatabaseKind, Driver, Kind, Param, Row, Transaction, failed, in_time};
use crate::domain::time::Timestamp;
use crate::store::fitness::Finding;
use crate::store::{StoreError, StoreOptions};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

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

/// The most bytes of parameters in a statement, roughly. sqlx does not set TCP_NODELAY, so that the
/// end of a longer message waits up to 40 ms for a delayed acknowledgement (measured: 5 ms for 50
/// rows, 95 ms for 100); several short statements are far quicker.
const STATEMENT_BYTES: usize = 12 * 1024;

/// A pool of connections to a Postgres server.
pub(in crate::store) struct PostgresDriver {
    pool: PgPool,
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
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(2))
            .acquire_timeout(options.acquire_timeout)
            .max_lifetime(Duration::from_secs(30 * 60))
            // On each new connection, since it is a setting of the session: after a failover
            // another server's default counts.
            .after_connect(|connection, _| Box::pin(async move { durably(connection).await }))
            // Lazily: a process starts while the database is down, and reports so by its health
            // checks.
            .connect_lazy_with(connect);
        Ok(Self { pool })
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
        // The wait for a connection is bounded by the pool, and does not use up the time of the
        // scan.
        in_time(SCAN_DEADLINE, run(&mut connection, sql, params)).await
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
        in_time(DEADLINE, run(&mut connection, sql, params)).await
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
        Ok(Box::new(PostgresTransaction(transaction)))
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
            let done = MIGRATIONS.run(&pool).await;
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
        MIGRATIONS
            .iter()
            .map(|migration| migration.version)
            .max()
            .unwrap_or(0)
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

/// What [`Properties`] are read from. `reset_val` is what the server says, without [`durably`].
const PROPERTIES: &str = "-- database.properties
    SELECT current_database()::text, current_setting('server_encoding'),
        current_setting('client_encoding'), current_setting('server_version_num')::bigint,
        pg_is_in_recovery()::text, current_setting('default_transaction_read_only'),
        (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
        current_setting('fsync'), current_setting('full_page_writes')";

/// The oldest server that the queries are written for, as `server_version_num` has it.
const OLDEST_SERVER: i64 = 130_000;

/// What of a database a promise depends on.
struct Properties {
    database: String,
    server_encoding: String,
    client_encoding: String,
    version: i64,
    is_standby: bool,
    is_read_only: bool,
    synchronous_commit: String,
    /// Whether `fsync` and `full_page_writes` are on.
    survives_power_loss: bool,
}

impl Properties {
    fn read(row: Row) -> Result<Self, StoreError> {
        let mut row = row.reader("database");
        Ok(Self {
            database: row.text()?,
            server_encoding: row.text()?,
            client_encoding: row.text()?,
            version: row.int()?,
            is_standby: row.text()? == "true",
            is_read_only: row.text()? == "on",
            synchronous_commit: row.text_opt()?.unwrap_or_default(),
            survives_power_loss: row.text()? == "on" && row.text()? == "on",
        })
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let database = &self.database;
        if self.server_encoding != "UTF8" {
            let problem = format!(
                "the database {database} has the encoding {}, which cannot hold every text that \
                 is delivered",
                self.server_encoding
            );
            let remedy = "create one with UTF8 (`createdb -E UTF8 -T template0 NAME`), set \
                          POSTHASTE_DATABASE_URL to it \
                          and run `posthaste migrate`; `pg_dump` brings the old one's data along";
            findings.push(Finding::refused(problem, remedy));
        }
        if self.client_encoding != "UTF8" {
            let problem = format!(
                "connections to the database {database} have the encoding {}",
                self.client_encoding
            );
            findings.push(Finding::refused(
                problem,
                "let no pooler or role set client_encoding to anything but UTF8",
            ));
        }
        if self.version < OLDEST_SERVER {
            let problem = format!(
                "the server is Postgres {}, and 13 is the oldest that will do",
                self.version / 10_000
            );
            findings.push(Finding::refused(problem, "upgrade the server"));
        }
        if self.is_standby {
            let problem = format!(
                "the server of the database {database} is a standby, which cannot be written to"
            );
            let remedy =
                "let POSTHASTE_DATABASE_URL name the primary; after a failover, start this again";
            findings.push(Finding::refused(problem, remedy));
        } else if self.is_read_only {
            let problem = format!(
                "transactions on the database {database} are read-only \
                 (default_transaction_read_only)"
            );
            let remedy = format!(
                "ALTER DATABASE {database} SET default_transaction_read_only = off, or ALTER ROLE \
                 … where the role sets it"
            );
            findings.push(Finding::refused(problem, remedy));
        }
        if self.synchronous_commit == "off" {
            let problem = "synchronous_commit is off on the server; Posthaste turns it on in its \
                           own connections";
            findings.push(Finding::doubtful(
                problem,
                "turn it on, so that nobody relies on the other",
            ));
        }
        if !self.survives_power_loss {
            let problem = "fsync or full_page_writes is off: what was accepted can be lost, and \
                           the database destroyed, \
                           when the server loses its power";
            findings.push(Finding::doubtful(
                problem,
                "turn both on, unless this is for tests",
            ));
        }
        findings
    }
}

/// Accepted means durable: a server that confirms a commit before it is on the disk is told not to.
/// Any other value (`local`, `remote_apply`, …) is the operator's choice between replicas.
async fn durably(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    const SQL: &str = "SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off'";
    // Only where it is off: setting it always would undo stricter values, such as `remote_apply`.
    sqlx::query(SQL).execute(connection).await.map(drop)
}

fn is_deadlock(error: &MigrateError) -> bool {
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = error else {
        return false;
    };
    cause
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "40P01")
}

struct PostgresTransaction(sqlx::Transaction<'static, Postgres>);

#[async_trait]
impl Transaction for PostgresTransaction {
    async fn run(&mut self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        in_time(DEADLINE, run(&mut self.0, sql, params)).await
    }

    async fn run_batch(&mut self, sql: &'static str, batch: Batch) -> Result<Answer, StoreError> {
        in_time(DEADLINE, run_batch(&mut self.0, sql, batch)).await
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        in_time(DEADLINE, async {
            self.0
                .commit()
                .await
                .map_err(|error| failed("-- commit", error))
        })
        .await
    }
}

async fn run(
    connection: &mut PgConnection,
    sql: &str,
    params: Vec<Param>,
) -> Result<Answer, StoreError> {
    let mut query = sqlx::query(AssertSqlSafe(with_locks(sql)));
    for param in params {
        query = match param {
            Param::Text(value) => query.bind(value),
            Param::Int(value) => query.bind(value),
            Param::Real(value) => query.bind(value),
            Param::Bytes(value) => query.bind(value),
            Param::Uuid(value) => query.bind(value),
        };
    }
    answer(connection, query)
        .await
        .map_err(|error| failed(sql, error))
}

fn with_locks(sql: &str) -> String {
    sql.replace("{skip_locked}", "FOR UPDATE OF d SKIP LOCKED")
        .replace("{lock}", "FOR UPDATE OF d")
}

/// A batch is one statement, or a few: each column is an array.
async fn run_batch(
    connection: &mut PgConnection,
    sql: &'static str,
    batch: Batch,
) -> Result<Answer, StoreError> {
    let mut whole = Answer::default();
    // Within the caller's transaction, or statement by statement without one: a reader does not
    // need all of it to be of one moment.
    for piece in batch.pieces(STATEMENT_BYTES) {
        let answer = run_piece(connection, sql, piece).await?;
        whole.rows.extend(answer.rows);
        whole.affected += answer.affected;
    }
    Ok(whole)
}

async fn run_piece(
    connection: &mut PgConnection,
    sql: &'static str,
    batch: Batch,
) -> Result<Answer, StoreError> {
    // Arrays and UNNEST, so that the text is the same for every number of rows and is prepared
    // once.
    let mut query = sqlx::query(AssertSqlSafe(
        with_locks(sql).replace("{rows}", &source(&batch)),
    ));
    for column in columns(batch).map_err(|error| failed(sql, error))? {
        query = match column {
            Column::Text(values) => query.bind(values),
            Column::Int(values) => query.bind(values),
            Column::Bytes(values) => query.bind(values),
            Column::Uuid(values) => query.bind(values),
        };
    }
    answer(connection, query)
        .await
        .map_err(|error| failed(sql, error))
}

fn source(batch: &Batch) -> String {
    let arrays: Vec<String> = batch
        .columns
        .iter()
        .enumerate()
        .map(|(index, (_, kind))| {
            let kind = match kind {
                Kind::Text => "text",
                Kind::Int => "bigint",
                Kind::Bytes => "bytea",
                Kind::Uuid => "uuid",
            };
            format!("${}::{kind}[]", index + 1)
        })
        .collect();
    let names: Vec<&str> = batch.columns.iter().map(|(name, _)| *name).collect();
    format!("UNNEST({}) AS u({})", arrays.join(", "), names.join(", "))
}

enum Column {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Uuid(Vec<Option<Uuid>>),
}

/// The batch column by column.
///
/// # Errors
/// A value of another type than its column's, which is a mistake in this program. It is refused
/// and not left out: a column would then be shorter than the others, `UNNEST` would pair its values
/// with the rows before theirs, and fill up the last ones with NULL.
fn columns(batch: Batch) -> Result<Vec<Column>, sqlx::Error> {
    let empty = |(_, kind): &(&str, Kind)| match kind {
        Kind::Text => Column::Text(Vec::new()),
        Kind::Int => Column::Int(Vec::new()),
        Kind::Bytes => Column::Bytes(Vec::new()),
        Kind::Uuid => Column::Uuid(Vec::new()),
    };
    let mut columns: Vec<Column> = batch.columns.iter().map(empty).collect();
    let width = columns.len();
    // The values lie row after row, and Postgres wants a column after the other.
    for (index, value) in batch.values.into_iter().enumerate() {
        match (&mut columns[index % width], value) {
            (Column::Text(values), Param::Text(value)) => values.push(value),
            (Column::Int(values), Param::Int(value)) => values.push(value),
            (Column::Bytes(values), Param::Bytes(value)) => values.push(value),
            (Column::Uuid(values), Param::Uuid(value)) => values.push(value),
            _ => {
                let (name, kind) = batch.columns[index % width];
                // The value itself may be a secret.
                let problem = format!("a value for the column {name} is not of the type {kind:?}");
                return Err(sqlx::Error::Encode(problem.into()));
            }
        }
    }
    Ok(columns)
}

async fn answer(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Answer, sqlx::Error> {
    let mut answer = Answer::default();
    #[expect(
        deprecated,
        reason = "the one call that gives both the rows and their count"
    )]
    let mut stream = query.fetch_many(connection);
    let mut columns = None;
    while let Some(step) = stream.try_next().await? {
        match step {
            Either::Left(result) => answer.affected += result.rows_affected(),
            Either::Right(row) => {
                let names = columns.get_or_insert_with(|| names(&row));
                answer.rows.push(Row {
                    columns: Arc::clone(names),
                    values: decode(&row)?,
                });
            }
        }
    }
    Ok(answer)
}

fn names(row: &PgRow) -> Columns {
    row.columns()
        .iter()
        .map(|column| column.name().into())
        .collect()
}

fn decode(row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    let values = row.columns().iter().enumerate().map(|(index, column)| {
        let value = match column.type_info().name() {
            "TEXT" | "VARCHAR" | "NAME" => {
                row.try_get::<Option<String>, _>(index)?.map(Value::Text)
            }
            "INT8" => row.try_get::<Option<i64>, _>(index)?.map(Value::Int),
            "INT4" => row
                .try_get::<Option<i32>, _>(index)?
                .map(|number| Value::Int(number.into())),
            "FLOAT8" => row.try_get::<Option<f64>, _>(index)?.map(Value::Real),
            "BYTEA" => row.try_get::<Option<Vec<u8>>, _>(index)?.map(Value::Bytes),
            "UUID" => row.try_get::<Option<Uuid>, _>(index)?.map(Value::Uuid),
            other => {
                return Err(sqlx::Error::TypeNotFound {
                    type_name: other.to_owned(),
                });
            }
        };
        Ok(value.unwrap_or(Value::Null))
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_type_than_its_columns_is_refused() {
        let mut batch = Batch::new(&[("key", Kind::Uuid), ("round", Kind::Int)]);
        batch.push([Param::uuid(Uuid::nil()), Param::count(1)]);
        batch.push([Param::uuid(Uuid::nil()), Param::Int(None)]);
        assert_eq!(columns(batch).map(|columns| columns.len()).ok(), Some(2));

        let mut batch = Batch::new(&[("key", Kind::Uuid), ("round", Kind::Int)]);
        batch.push([Param::uuid(Uuid::nil()), Param::text("one")]);
        batch.push([Param::uuid(Uuid::nil()), Param::count(2)]);
        let error = columns(batch)
            .err()
            .map(|error| failed("-- a.query", error));
        assert!(
            matches!(&error, Some(StoreError::Refused { query, source })
                if query == "a.query" && source.to_string().contains("column round")),
            "{error:?}"
        );
        assert!(error.is_some_and(|error| !error.is_transient() && !error.is_about_data()));
    }
}
