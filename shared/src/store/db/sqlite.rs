//! SQLite: one file, in WAL mode, one writer at a time. Several processes may have it open.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Either, Row as _, Sqlite, TypeInfo as _,
    ValueRef as _,
};

use super::row::{Columns, Value};
use super::writes::Writes;
use super::{Answer, Batch, DatabaseKind, Driver, Param, Row, Transaction, failed, migrations};
use crate::domain::time::Timestamp;
use crate::store::fitness::Finding;
use crate::store::{StoreError, StoreOptions};

pub(super) const SCHEMA_VERSION: &str = "-- schema.version\nSELECT CAST(COALESCE(max(version), 0) \
    AS BIGINT) FROM _sqlx_migrations WHERE success";

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// Rows in one statement. Few sizes, so that prepared statements are used again and again; the
/// largest stays far below SQLite's 32,766 parameters with some twenty columns.
pub(super) const CHUNKS: [usize; 5] = [256, 64, 16, 4, 1];

/// A SQLite file, with one writing and several reading connections.
pub(in crate::store) struct SqliteDriver {
    writer: SqlitePool,
    readers: SqlitePool,
    writes: Writes,
    texts: Texts,
    path: PathBuf,
}

impl SqliteDriver {
    /// Opens the file; creates it, readable for its owner alone, when there is none.
    pub(in crate::store) async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let path = path_of(options.url.expose())?;
        // Created here with its rights, before SQLite would create it with those of the umask: the
        // file holds payloads and keys.
        create(&path).map_err(|error| not_writable(&path, &error))?;
        // FULL: a commit is on the disk before it is confirmed, also when the power fails.
        let connect = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(500);
        // Connections to a file do not go stale, so none is closed for its age.
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .acquire_timeout(options.acquire_timeout.max(BUSY_TIMEOUT))
                .idle_timeout(None)
                .max_lifetime(None)
        };
        // SQLite has one writer at a time. With one connection, waiting for it is a queue in this
        // process; with several, all but one would poll the file's lock.
        let writer = pool(1)
            // SQLite ends a transaction by itself when the disk is full, and then sqlx's count of
            // open transactions is wrong for ever: that connection begins none any more.
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
            .connect_with(connect.clone())
            .await
            .map_err(|error| failed("-- open", error))?;
        // `query_only` turns a write that went to a reader by mistake into an error; it would
        // escape the queue for the writer.
        let readers = pool(READERS).connect_lazy_with(connect.pragma("query_only", "ON"));
        Ok(Self {
            writer,
            readers,
            writes: Writes::default(),
            texts: Texts::default(),
            path,
        })
    }
}

fn path_of(url: &str) -> Result<PathBuf, StoreError> {
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))
        .unwrap_or_default();
    // A database in memory would be a different one for each connection of the pools.
    if path.is_empty() || path.contains(":memory:") || path.contains('?') {
        return Err(StoreError::Url {
            problem: "does not name a file".to_owned(),
        });
    }
    Ok(PathBuf::from(path))
}

fn not_writable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unfit {
        problem: format!("{} cannot be opened for writing: {error}", path.display()),
        remedy: "let this process's user write to the file and to its directory, where SQLite \
                 keeps two more"
            .to_owned(),
    }
}

fn create(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut options = std::fs::OpenOptions::new();
    // Never truncated: the file may be a database that is in use.
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[async_trait]
impl Driver for SqliteDriver {
    fn kind(&self) -> DatabaseKind {
        DatabaseKind::Sqlite
    }

    async fn read(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        let mut connection = self
            .readers
            .acquire()
            .await
            .map_err(|error| failed(sql, error))?;
        run(&mut connection, sql, params).await
    }

    async fn scan(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        self.read(sql, params).await
    }

    async fn read_batch(&self, sql: &'static str, batch: Batch) -> Result<Answer, StoreError> {
        let mut connection = self
            .readers
            .acquire()
            .await
            .map_err(|error| failed(sql, error))?;
        run_batch(&mut connection, &self.texts, sql, batch).await
    }

    async fn write(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        let mut connection = self
            .writer
            .acquire()
            .await
            .map_err(|error| failed(sql, error))?;
        self.writes.end(run(&mut connection, sql, params).await)
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        // IMMEDIATE: waits here for other processes; a transaction that begins by reading could not
        // wait later.
        let begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        let begun = begun.map_err(|error| failed("-- begin", error));
        Ok(Box::new(SqliteTransaction {
            transaction: self.writes.step(begun)?,
            writes: self.writes.clone(),
            texts: self.texts.clone(),
        }))
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        migrations::SQLITE
            .run(&self.writer)
            .await
            .map_err(StoreError::Migrate)
    }

    async fn findings(&self) -> Result<Vec<Finding>, StoreError> {
        let mut findings = Vec::new();
        let path = self.path.display();
        let mode = self
            .read("-- database.journal_mode\nPRAGMA journal_mode", vec![])
            .await?
            .rows
            .into_iter()
            .next();
        let mode = mode
            .map(|row| row.reader("database").text())
            .transpose()?
            .unwrap_or_default();
        if mode != "wal" {
            let problem =
                format!("{path} has the journal mode {mode:?} and could not be brought to WAL");
            let remedy = "end the other programs that have it open, and keep it on a local disk";
            findings.push(Finding::refused(problem, remedy));
        }
        if let Some(kind) = network_file_system(&self.path) {
            let problem = format!(
                "{path} is on a network file system ({kind}), where SQLite's locks cannot be \
                 relied on"
            );
            findings.push(Finding::doubtful(
                problem,
                "keep it on a local disk, or use Postgres",
            ));
        }
        Ok(findings)
    }

    async fn schema_version(&self) -> Result<i64, StoreError> {
        const EXISTS: &str =
            "-- schema.exists\nSELECT name FROM sqlite_master WHERE name = '_sqlx_migrations'";
        if self.read(EXISTS, vec![]).await?.rows.is_empty() {
            return Ok(0);
        }
        let version = self.read(SCHEMA_VERSION, vec![]).await?;
        version
            .rows
            .into_iter()
            .next()
            .map_or(Ok(0), |row| row.reader("schema").int())
    }

    fn needed_version(&self) -> i64 {
        migrations::newest(&migrations::SQLITE)
    }

    fn writes_are_refused(&self) -> bool {
        self.writes.are_refused()
    }

    fn disk_was_full(&self) -> bool {
        self.writes.found_full()
    }

    async fn server_time(&self) -> Result<Timestamp, StoreError> {
        const SQL: &str =
            "-- server.time\nSELECT CAST(round(unixepoch('subsec') * 1000000.0) AS INTEGER)";
        let answer = self.read(SQL, vec![]).await?;
        answer
            .rows
            .into_iter()
            .next()
            .map_or(Ok(Timestamp::from_micros(0)), |row| {
                row.reader("server").time()
            })
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The kind of a network file system that the path is on; `None` for a local disk, or where it
/// cannot be told.
fn network_file_system(path: &Path) -> Option<String> {
    const KINDS: [&str; 9] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "fuse.sshfs",
        "fuse.glusterfs",
    ];
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let kind = file_system_of(&path, &mounts)?;
    KINDS.contains(&kind).then(|| kind.to_owned())
}

/// The kind of the file system that the path is on, by the text of `/proc/self/mountinfo`
/// (proc(5)).
fn file_system_of<'a>(path: &Path, mounts: &'a str) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let (place, kind) = line.split_once(" - ")?;
        let at = Path::new(place.split(' ').nth(4)?);
        path.starts_with(at)
            .then_some((at.components().count(), kind.split(' ').next()?))
    };
    // The innermost counts; of two at one place the later, which covers the other.
    mounts
        .lines()
        .filter_map(mount)
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind)
}

struct SqliteTransaction {
    transaction: sqlx::Transaction<'static, Sqlite>,
    writes: Writes,
    texts: Texts,
}

#[async_trait]
impl Transaction for SqliteTransaction {
    async fn run(&mut self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError> {
        let answer = run(&mut self.transaction, sql, params).await;
        self.writes.step(answer)
    }

    async fn run_batch(&mut self, sql: &'static str, batch: Batch) -> Result<Answer, StoreError> {
        let answer = run_batch(&mut self.transaction, &self.texts, sql, batch).await;
        self.writes.step(answer)
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let committed = self.transaction.commit().await;
        self.writes
            .end(committed.map_err(|error| failed("-- commit", error)))
    }
}

/// A batch statement by its address, and its number of rows.
type TextKey = (usize, usize);

/// The texts of batch statements, each written once.
#[derive(Clone, Default)]
pub(super) struct Texts(Arc<Mutex<HashMap<TextKey, Arc<str>>>>);

impl Texts {
    pub(super) fn of(&self, sql: &'static str, batch: &Batch, rows: usize) -> Arc<str> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // By address, which is cheaper than hashing a text of some kilobytes for each statement.
        // Constants stay where they are; at worst one text is kept twice.
        let key = (sql.as_ptr().addr(), rows);
        texts
            .entry(key)
            .or_insert_with(|| {
                without_locks(sql)
                    .replace("{rows}", &source(batch, rows))
                    .into()
            })
            .clone()
    }
}

fn source(batch: &Batch, rows: usize) -> String {
    let names: Vec<String> = batch
        .columns
        .iter()
        .enumerate()
        .map(|(index, (name, _))| format!("column{} AS {name}", index + 1))
        .collect();
    let row = format!("({})", vec!["?"; batch.columns.len()].join(","));
    format!(
        "(SELECT {} FROM (VALUES {})) AS u",
        names.join(", "),
        vec![row; rows].join(",")
    )
}

/// There is one writer: nothing to lock.
pub(super) fn without_locks(sql: &str) -> String {
    sql.replace("{skip_locked}", "").replace("{lock}", "")
}

async fn run(
    connection: &mut SqliteConnection,
    sql: &str,
    params: Vec<Param>,
) -> Result<Answer, StoreError> {
    let query = params
        .into_iter()
        .fold(sqlx::query(AssertSqlSafe(without_locks(sql))), bind);
    let mut answer = Answer::default();
    collect(connection, query, &mut answer)
        .await
        .map_err(|error| failed(sql, error))?;
    Ok(answer)
}

async fn run_batch(
    connection: &mut SqliteConnection,
    texts: &Texts,
    sql: &'static str,
    mut batch: Batch,
) -> Result<Answer, StoreError> {
    let mut answer = Answer::default();
    let mut left = batch.len();
    let mut values = std::mem::take(&mut batch.values).into_iter();
    // The largest size that still fits, again and again: 300 rows are 256, then two of 16, then
    // three of 4. Five texts serve every number of rows.
    for size in CHUNKS {
        while left >= size {
            left -= size;
            let query = sqlx::query(AssertSqlSafe(texts.of(sql, &batch, size)));
            let query = values
                .by_ref()
                .take(size * batch.columns.len())
                .fold(query, bind);
            collect(connection, query, &mut answer)
                .await
                .map_err(|error| failed(sql, error))?;
        }
    }
    Ok(answer)
}

fn bind(
    query: Query<'_, Sqlite, SqliteArguments>,
    param: Param,
) -> Query<'_, Sqlite, SqliteArguments> {
    match param {
        Param::Text(value) => query.bind(value),
        Param::Int(value) => query.bind(value),
        Param::Real(value) => query.bind(value),
        Param::Bytes(value) => query.bind(value),
        Param::Uuid(value) => query.bind(value),
    }
}

async fn collect(
    connection: &mut SqliteConnection,
    query: Query<'_, Sqlite, SqliteArguments>,
    answer: &mut Answer,
) -> Result<(), sqlx::Error> {
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
    Ok(())
}

fn names(row: &SqliteRow) -> Columns {
    row.columns()
        .iter()
        .map(|column| column.name().into())
        .collect()
}

fn decode(row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    let values = (0..row.len()).map(|index| {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        // By the type of the value and not of the column: SQLite stores what it is given, and a
        // computed column has no declared type.
        match raw.type_info().name() {
            "INTEGER" => row.try_get_unchecked(index).map(Value::Int),
            "REAL" => row.try_get_unchecked(index).map(Value::Real),
            "BLOB" => row.try_get_unchecked(index).map(Value::Bytes),
            _ => row.try_get_unchecked(index).map(Value::Text),
        }
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_says_which_file_system_it_is() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                      40 22 0:35 /export /srv/data rw shared:1 - nfs4 host:/export rw\n";
        let kind = |path: &str| file_system_of(Path::new(path), mounts);
        assert_eq!(kind("/srv/data/posthaste.db"), Some("nfs4"));
        assert_eq!(kind("/srv/database/posthaste.db"), Some("ext4"));
        assert_eq!(file_system_of(Path::new("/a"), ""), None);
    }
}
