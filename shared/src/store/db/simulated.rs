//! SQLite for `tests/simulation`: the same SQL, run in the caller's own thread, behind a [`Gate`]
//! that decides what becomes of each call.
//!
//! In the caller's own thread, because the simulation is in virtual time, which goes on whenever
//! nothing is left to run: with `SqliteDriver`, whose statements run in threads of sqlx, an answer
//! would take seconds or hours of it, never the same number twice. Waiting for another's
//! transaction takes virtual time, as it takes real time otherwise.
//!
//! Behind the feature `simulation`: see `Cargo.toml`.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, Statement};
use sqlx::error::{DatabaseError, ErrorKind};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::row::{Columns, Value};
use super::sqlite::{CHUNKS, SCHEMA_VERSION, Texts, without_locks};
use super::{Answer, Batch, DatabaseKind, Driver, Param, Row, Transaction, failed, migrations};
use crate::domain::delivery::Status;
use crate::domain::id::{DeliveryId, EventId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::fitness::Finding;

/// How long a transaction waits for another's, as `SqliteDriver`'s do.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Notes every change of a delivery and every new event, within the transaction that makes it.
const NOTES: &str = "
    CREATE TEMP TABLE changes (
        id BLOB, type TEXT, status TEXT, wait TEXT, round BIGINT, attempt_count BIGINT
    );
    CREATE TEMP TRIGGER delivery_created AFTER INSERT ON main.deliveries BEGIN
        INSERT INTO changes VALUES (new.id, NULL, new.status, new.wait, new.round,
            new.attempt_count);
    END;
    CREATE TEMP TRIGGER delivery_changed AFTER UPDATE ON main.deliveries BEGIN
        INSERT INTO changes VALUES (new.id, NULL, new.status, new.wait, new.round,
            new.attempt_count);
    END;
    CREATE TEMP TRIGGER event_created AFTER INSERT ON main.events BEGIN
        INSERT INTO changes (id, type) VALUES (new.id, new.type);
    END;";
const CHANGES: &str = "SELECT id, type, status, wait, round, attempt_count FROM temp.changes";

/// A call of the store's, as a [`Gate`] sees it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// What it does.
    pub step: Step,
    /// The query's name, as in its first line; `begin` and `commit` for those.
    pub query: &'a str,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reads, outside of a transaction.
    Read,
    /// Begins a transaction.
    Begin,
    /// Runs a statement in a transaction.
    Statement,
    /// Commits a transaction.
    Commit,
    /// Writes in one statement, which is committed with it.
    Write,
}

/// The answer of a database that cannot be reached.
#[derive(Debug, Clone, Copy)]
pub struct Unavailable;

/// Stands before the database.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Before a call has any effect.
    ///
    /// # Errors
    /// In the place of the call, which has no effect then.
    async fn before(&self, call: Call<'_>) -> Result<(), Unavailable>;

    /// After the effect of a call, before its answer.
    ///
    /// # Errors
    /// In the place of the answer. A transaction is rolled back by it, unless it was committed.
    async fn after(&self, call: Call<'_>) -> Result<(), Unavailable>;

    /// Is given what was committed, in order, at the moment of the commit.
    fn committed(&self, changes: Vec<Change>);

    /// The fault that is planted in the store, to be found.
    fn planted(&self) -> Option<Planted> {
        None
    }
}

/// Something that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A delivery is in this state now.
    Delivery {
        /// Which one.
        id: DeliveryId,
        /// Its status.
        status: Status,
        /// What a pending one waits for: `in_flight`, `retry`, `scheduled` or `parked`.
        wait: Option<String>,
        /// Its round.
        round: u32,
        /// Its attempts so far, of all rounds.
        attempt_count: u32,
    },
    /// An event is in the outbox.
    Event {
        /// Which one.
        id: EventId,
        /// Its type.
        kind: String,
    },
}

/// A fault of the store's that `tests/simulation` plants and has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Events are written in a transaction of their own, after that of what they report.
    EventOutsideTransaction,
    /// What is claimed is not put under a lease.
    LeaseNotExtended,
}

/// A database that is used by one simulation after another. Clones are the same database.
#[derive(Clone)]
pub struct SimulatedDatabase(Arc<Inner>);

struct Inner {
    connections: Mutex<Connections>,
    /// Whose turn it is to write.
    turn: Arc<tokio::sync::Mutex<()>>,
    texts: Texts,
    /// Every table, and whether the migrations put rows into it.
    tables: Vec<(String, bool)>,
}

struct Connections {
    writer: Connection,
    /// Sees what is committed, and nothing of a transaction that is open.
    reader: Connection,
}

impl SimulatedDatabase {
    /// Opens a file that was migrated before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        open(path).map_err(|error| refused("-- open", error))
    }

    /// Brings it back to how the migrations left it. Nobody may be using it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reset(&self) -> Result<(), StoreError> {
        let connections = self.0.connections();
        let sql: Vec<String> = (self.0.tables.iter())
            .map(|(table, filled)| {
                let empty = format!("DELETE FROM main.{table};");
                let fill = format!("INSERT INTO main.{table} SELECT * FROM temp.first_{table};");
                if *filled { empty + &fill } else { empty }
            })
            .collect();
        let sql = format!("BEGIN;{}DELETE FROM temp.changes;COMMIT;", sql.concat());
        let done = connections.writer.execute_batch(&sql);
        done.map_err(|error| refused("-- reset", error))
    }

    /// How a process sees it that is behind `gate`.
    pub(in crate::store) fn driver(&self, gate: Arc<dyn Gate>) -> Arc<dyn Driver> {
        let database = Arc::clone(&self.0);
        Arc::new(SimulatedDriver { database, gate })
    }
}

fn open(path: &Path) -> rusqlite::Result<SimulatedDatabase> {
    let writer = Connection::open(path)?;
    // Nothing here has to outlive a loss of power.
    writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")?;
    writer.set_prepared_statement_cache_capacity(500);
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
        AND name <> '_sqlx_migrations' ORDER BY name";
    let names: Vec<String> = writer
        .prepare(names)?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut tables = Vec::new();
    for table in names {
        let count = format!("SELECT count(*) FROM main.{table}");
        let filled = writer.query_row(&count, [], |row| row.get::<_, i64>(0))? > 0;
        if filled {
            let keep = format!("CREATE TEMP TABLE first_{table} AS SELECT * FROM main.{table}");
            writer.execute_batch(&keep)?;
        }
        tables.push((table, filled));
    }
    writer.execute_batch(NOTES)?;
    let reader = Connection::open(path)?;
    reader.execute_batch("PRAGMA query_only = ON;")?;
    reader.set_prepared_statement_cache_capacity(500);
    Ok(SimulatedDatabase(Arc::new(Inner {
        connections: Mutex::new(Connections { writer, reader }),
        turn: Arc::default(),
        texts: Texts::default(),
        tables,
    })))
}

impl Inner {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What was changed since the last call.
    fn take_changes(&self) -> Result<Vec<Change>, StoreError> {
        let connections = self.connections();
        let rows = run(&connections.writer, CHANGES, &[])?.rows;
        if !rows.is_empty() {
            let cleared = connections.writer.execute("DELETE FROM temp.changes", []);
            cleared.map_err(|error| refused("-- changes", error))?;
        }
        rows.into_iter().map(change).collect()
    }
}

fn change(row: Row) -> Result<Change, StoreError> {
    let mut row = row.reader("changes");
    let id = row.uuid()?;
    if let Some(kind) = row.text_opt()? {
        let id = EventId(id);
        return Ok(Change::Event { id, kind });
    }
    Ok(Change::Delivery {
        id: DeliveryId(id),
        status: row.word(Status::parse)?,
        wait: row.text_opt()?,
        round: row.count()?,
        attempt_count: row.count()?,
    })
}

struct SimulatedDriver {
    database: Arc<Inner>,
    gate: Arc<dyn Gate>,
}

/// The name of a query: its first line.
fn name(sql: &str) -> &str {
    let first = sql.lines().next().unwrap_or_default();
    first.trim_start_matches("--").trim()
}

impl SimulatedDriver {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        self.gate.before(call).await.map_err(StoreError::from)
    }

    async fn after<T>(&self, call: Call<'_>, answer: T) -> Result<T, StoreError> {
        self.gate.after(call).await?;
        Ok(answer)
    }

    async fn turn(&self) -> Result<OwnedMutexGuard<()>, StoreError> {
        let turn = Arc::clone(&self.database.turn).lock_owned();
        tokio::time::timeout(LOCK_TIMEOUT, turn)
            .await
            .map_err(|_| Unavailable.into())
    }
}

impl From<Unavailable> for StoreError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable(sqlx::Error::PoolTimedOut)
    }
}

#[async_trait]
impl Driver for SimulatedDriver {
    fn kind(&self) -> DatabaseKind {
        DatabaseKind::Sqlite
    }

    async fn read(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        let (step, query) = (Step::Read, name(sql));
        self.before(Call { step, query }).await?;
        let answer = run(&self.database.connections().reader, sql, &params)?;
        self.after(Call { step, query }, answer).await
    }

    async fn scan(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        self.read(sql, params).await
    }

    async fn read_batch(&self, sql: &'static str, batch: Batch) -> Result<Answer, StoreError> {
        let (step, query) = (Step::Read, name(sql));
        self.before(Call { step, query }).await?;
        let database = &self.database;
        let answer = run_batch(&database.connections().reader, &database.texts, sql, batch)?;
        self.after(Call { step, query }, answer).await
    }

    async fn write(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        let (step, query) = (Step::Write, name(sql));
        self.before(Call { step, query }).await?;
        let turn = self.turn().await?;
        let answer = run(&self.database.connections().writer, sql, &params)?;
        self.gate.committed(self.database.take_changes()?);
        drop(turn);
        self.after(Call { step, query }, answer).await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        let (step, query) = (Step::Begin, "begin");
        self.before(Call { step, query }).await?;
        let turn = self.turn().await?;
        execute(&self.database, "BEGIN IMMEDIATE")?;
        let transaction = SimulatedTransaction {
            driver: Self {
                database: Arc::clone(&self.database),
                gate: Arc::clone(&self.gate),
            },
            is_open: true,
            put_off: Vec::new(),
            turn: Some(turn),
        };
        self.after(
            Call { step, query },
            Box::new(transaction) as Box<dyn Transaction>,
        )
        .await
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn findings(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(Vec::new())
    }

    async fn schema_version(&self) -> Result<i64, StoreError> {
        let rows = self.read(SCHEMA_VERSION, vec![]).await?.rows;
        rows.into_iter()
            .next()
            .map_or(Ok(0), |row| row.reader("schema").int())
    }

    fn needed_version(&self) -> i64 {
        migrations::newest(&migrations::SQLITE)
    }

    fn writes_are_refused(&self) -> bool {
        false
    }

    fn disk_was_full(&self) -> bool {
        false
    }

    async fn server_time(&self) -> Result<Timestamp, StoreError> {
        Err(Unavailable.into())
    }

    async fn close(&self) {}
}

struct SimulatedTransaction {
    driver: SimulatedDriver,
    is_open: bool,
    /// What [`Planted::EventOutsideTransaction`] leaves for afterwards.
    put_off: Vec<(&'static str, Batch)>,
    /// Until the transaction has ended.
    turn: Option<OwnedMutexGuard<()>>,
}

impl SimulatedTransaction {
    /// Whether the statement is left out by a planted fault.
    fn is_left_out(&self, query: &str) -> bool {
        match self.driver.gate.planted() {
            Some(Planted::LeaseNotExtended) => query == "claims.lease",
            Some(Planted::EventOutsideTransaction) => query == "events.insert_batch",
            None => false,
        }
    }
}

#[async_trait]
impl Transaction for SimulatedTransaction {
    async fn run(&mut self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        let (step, query) = (Step::Statement, name(sql));
        self.driver.before(Call { step, query }).await?;
        let answer = run(&self.driver.database.connections().writer, sql, &params)?;
        self.driver.after(Call { step, query }, answer).await
    }

    async fn run_batch(&mut self, sql: &'static str, batch: Batch) -> Result<Answer, StoreError> {
        let (step, query) = (Step::Statement, name(sql));
        self.driver.before(Call { step, query }).await?;
        if self.is_left_out(query) {
            self.put_off.push((sql, batch));
            return Ok(Answer::default());
        }
        let database = &self.driver.database;
        let answer = run_batch(&database.connections().writer, &database.texts, sql, batch)?;
        self.driver.after(Call { step, query }, answer).await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let (step, query) = (Step::Commit, "commit");
        self.driver.before(Call { step, query }).await?;
        execute(&self.driver.database, "COMMIT")?;
        self.is_open = false;
        let changes = self.driver.database.take_changes()?;
        self.driver.gate.committed(changes);
        self.turn = None;
        self.driver.after(Call { step, query }, ()).await?;
        for (sql, batch) in std::mem::take(&mut self.put_off) {
            if self.driver.gate.planted() == Some(Planted::EventOutsideTransaction) {
                let (step, query) = (Step::Write, name(sql));
                self.driver.before(Call { step, query }).await?;
                let _turn = self.driver.turn().await?;
                let database = &self.driver.database;
                run_batch(&database.connections().writer, &database.texts, sql, batch)?;
                self.driver.gate.committed(database.take_changes()?);
            }
        }
        Ok(())
    }
}

impl Drop for SimulatedTransaction {
    fn drop(&mut self) {
        if self.is_open {
            // An error: SQLite has rolled it back by itself.
            let _ = execute(&self.driver.database, "ROLLBACK");
        }
    }
}

fn execute(database: &Inner, sql: &str) -> Result<(), StoreError> {
    let done = database.connections().writer.execute_batch(sql);
    done.map_err(|error| refused(sql, error))
}

fn run(connection: &Connection, sql: &str, params: &[Param]) -> Result<Answer, StoreError> {
    let text = without_locks(sql);
    let mut answer = Answer::default();
    collect(connection, &text, params, &mut answer).map_err(|error| refused(sql, error))?;
    Ok(answer)
}

fn run_batch(
    connection: &Connection,
    texts: &Texts,
    sql: &'static str,
    batch: Batch,
) -> Result<Answer, StoreError> {
    let mut answer = Answer::default();
    let mut left = batch.values.as_slice();
    for size in CHUNKS {
        while left.len() >= size * batch.columns.len() {
            let (piece, rest) = left.split_at(size * batch.columns.len());
            left = rest;
            let text = texts.of(sql, &batch, size);
            collect(connection, &text, piece, &mut answer).map_err(|error| refused(sql, error))?;
        }
    }
    Ok(answer)
}

fn collect(
    connection: &Connection,
    text: &str,
    params: &[Param],
    answer: &mut Answer,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(text)?;
    bind(&mut statement, params)?;
    let columns: Columns = (statement.column_names().into_iter())
        .map(Into::into)
        .collect();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let values = (0..columns.len()).map(|index| row.get_ref(index).map(value));
        let values = values.collect::<Result<_, _>>()?;
        answer.rows.push(Row {
            columns: Arc::clone(&columns),
            values,
        });
    }
    drop(rows);
    if !statement.readonly() {
        answer.affected += connection.changes();
    }
    Ok(())
}

/// `$3` is the third parameter wherever it stands, as for sqlx. SQLite itself takes it for a name.
fn bind(statement: &mut Statement<'_>, params: &[Param]) -> rusqlite::Result<()> {
    for index in 1..=statement.parameter_count() {
        let numbered = (statement.parameter_name(index))
            .and_then(|name| name.trim_start_matches(['$', '?']).parse::<usize>().ok());
        let place = numbered.unwrap_or(index);
        let param = place.checked_sub(1).and_then(|place| params.get(place));
        statement.raw_bind_parameter(index, param.map_or(Sql::Null, sql_value))?;
    }
    Ok(())
}

fn sql_value(param: &Param) -> Sql {
    match param {
        Param::Text(value) => value.clone().into(),
        Param::Int(value) => (*value).into(),
        Param::Real(value) => (*value).into(),
        Param::Bytes(value) => value.clone().into(),
        Param::Uuid(value) => value.map(|id: Uuid| id.as_bytes().to_vec()).into(),
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

/// The error in the terms of sqlx, by which the store tells a duplicate from a fault.
fn refused(sql: &str, error: rusqlite::Error) -> StoreError {
    let extended = match &error {
        rusqlite::Error::SqliteFailure(failure, _) => failure.extended_code,
        _ => 1,
    };
    let error = Refusal { extended, error };
    failed(sql, sqlx::Error::Database(Box::new(error)))
}

#[derive(Debug, thiserror::Error)]
#[error("{error}")]
struct Refusal {
    extended: i32,
    error: rusqlite::Error,
}

impl DatabaseError for Refusal {
    fn message(&self) -> &str {
        "SQLite refused it"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.extended.to_string().into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        match self.extended {
            // SQLITE_CONSTRAINT_PRIMARYKEY and SQLITE_CONSTRAINT_UNIQUE.
            1555 | 2067 => ErrorKind::UniqueViolation,
            _ => ErrorKind::Other,
        }
    }
}
