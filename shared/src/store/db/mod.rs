//! What differs between SQLite and Postgres: connections, transactions, and how many rows go into
//! one statement. Queries are written once, in the SQL that both understand.

mod migrations;
pub(super) mod postgres;
pub(super) mod row;
#[cfg(feature = "simulation")]
pub(super) mod simulated;
pub(super) mod sqlite;
mod writes;

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;
use super::fitness::Finding;
use crate::domain::time::Timestamp;
pub(super) use row::{Reader, Row};

/// The kind of database behind the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// SQLite: one file, one writer.
    Sqlite,
    /// Postgres: a server, 13 or later.
    Postgres,
}

/// A database that the store speaks to.
///
/// Statements carry their name as first-line comment. Parameters are `$1`, `$2`, … In a batch
/// statement `{rows}` stands for the batch as a table named `u`; such a statement has no other
/// parameters. `{skip_locked}` stands for what passes over rows `d` that another transaction holds.
#[async_trait]
pub(super) trait Driver: Send + Sync {
    fn kind(&self) -> DatabaseKind;
    /// A query that changes nothing and is answered from indexes.
    async fn read(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError>;
    /// A query that changes nothing and may read whole tables.
    async fn scan(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError>;
    /// A query over a batch that changes nothing. An empty batch answers nothing.
    async fn read_batch(&self, sql: &'static str, batch: Batch) -> Result<Answer, StoreError>;
    /// One statement in a transaction of its own.
    async fn write(&self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError>;
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError>;
    async fn migrate(&self) -> Result<(), StoreError>;
    /// What of the database is not as it should be.
    async fn findings(&self) -> Result<Vec<Finding>, StoreError>;
    /// The schema's version; 0 when there is none.
    async fn schema_version(&self) -> Result<i64, StoreError>;
    /// The version that this program needs.
    fn needed_version(&self) -> i64;
    /// Whether the last write was refused for something that reading does not show.
    fn writes_are_refused(&self) -> bool;
    /// Whether the disk was found full within the last seconds.
    fn disk_was_full(&self) -> bool;
    async fn server_time(&self) -> Result<Timestamp, StoreError>;
    /// Why there was no connection in time, as far as that can be found out soon.
    async fn no_connection(&self) -> sqlx::Error {
        sqlx::Error::PoolTimedOut
    }
    async fn close(&self);
}

/// An open transaction; rolled back when dropped.
#[async_trait]
pub(super) trait Transaction: Send {
    async fn run(&mut self, sql: &str, params: Vec<Param>) -> Result<Answer, StoreError>;
    /// An empty batch does nothing.
    async fn run_batch(&mut self, sql: &'static str, batch: Batch) -> Result<Answer, StoreError>;
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// What a statement answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// Rows inserted, updated or deleted.
    pub(super) affected: u64,
}

/// A parameter, typed also when it is NULL, as Postgres wants it.
#[derive(Debug, Clone)]
pub(super) enum Param {
    Text(Option<String>),
    Int(Option<i64>),
    Real(Option<f64>),
    Bytes(Option<Vec<u8>>),
    Uuid(Option<Uuid>),
}

/// A column's type in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Bytes,
    Uuid,
}

impl Param {
    /// Text. Postgres cannot hold U+0000, so that becomes U+FFFD in both databases.
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Some(clean(text.as_ref()).into_owned()))
    }

    pub(super) fn text_opt(text: Option<impl AsRef<str>>) -> Self {
        Self::Text(text.map(|text| clean(text.as_ref()).into_owned()))
    }

    pub(super) const fn int(number: i64) -> Self {
        Self::Int(Some(number))
    }

    pub(super) const fn int_opt(number: Option<i64>) -> Self {
        Self::Int(number)
    }

    pub(super) fn count(number: u32) -> Self {
        Self::Int(Some(i64::from(number)))
    }

    pub(super) const fn time(at: Timestamp) -> Self {
        Self::Int(Some(at.as_micros()))
    }

    pub(super) fn time_opt(at: Option<Timestamp>) -> Self {
        Self::Int(at.map(Timestamp::as_micros))
    }

    pub(super) fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(Some(bytes.as_ref().to_vec()))
    }

    pub(super) fn bytes_opt(bytes: Option<impl AsRef<[u8]>>) -> Self {
        Self::Bytes(bytes.map(|bytes| bytes.as_ref().to_vec()))
    }

    pub(super) const fn uuid(id: Uuid) -> Self {
        Self::Uuid(Some(id))
    }
}

impl Param {
    /// A value of our own types as JSON.
    pub(super) fn json<T: serde::Serialize>(value: &T) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "structs and lists of texts and numbers always serialise"
        )]
        let text = serde_json::to_string(value).expect("JSON of our own types");
        Self::text(text)
    }

    /// Bytes that it takes on the wire.
    fn size(&self) -> usize {
        4 + match self {
            Self::Text(text) => text.as_ref().map_or(0, String::len),
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
            Self::Int(_) | Self::Real(_) => 8,
            Self::Uuid(_) => 16,
        }
    }
}

/// Text as [`Param::text`] keeps it.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{FFFD}").into()
    } else {
        text.into()
    }
}

/// The name and the type of a column in a batch.
pub(super) type ColumnKind = (&'static str, Kind);

/// Lists of columns as one; does not compile where they are not `N` together.
pub(super) const fn join<const N: usize>(lists: &[&[ColumnKind]]) -> [ColumnKind; N] {
    let mut joined = [("", Kind::Text); N];
    let mut filled = 0;
    let mut list = 0;
    while list < lists.len() {
        let mut index = 0;
        while index < lists[list].len() {
            joined[filled] = lists[list][index];
            filled += 1;
            index += 1;
        }
        list += 1;
    }
    assert!(filled == N, "a column has no name");
    joined
}

/// Rows that go to the database in one statement, or a few.
#[derive(Debug)]
pub(super) struct Batch {
    columns: &'static [ColumnKind],
    /// The values, row after row.
    values: Vec<Param>,
}

impl Batch {
    pub(super) const fn new(columns: &'static [ColumnKind]) -> Self {
        Self {
            columns,
            values: Vec::new(),
        }
    }

    /// Adds a row: a value for each column, in order.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = Param>) {
        let before = self.values.len();
        self.values.extend(row);
        // In release builds as well: a short row would shift the values of all rows behind it.
        assert_eq!(
            self.values.len() - before,
            self.columns.len(),
            "a row has a value for each column"
        );
    }

    /// The rows in pieces of about `bytes` at the most; a longer row is a piece of its own.
    fn pieces(&self, bytes: usize) -> Vec<Range<usize>> {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        let mut room = 0;
        for (row, values) in self.values.chunks(self.columns.len()).enumerate() {
            let size: usize = values.iter().map(Param::size).sum();
            match pieces.last_mut() {
                Some(piece) if size <= room => piece.end = row + 1,
                // A row that is larger than a whole piece still goes, alone: refusing it here would
                // fail a batch for the sake of memory.
                _ => {
                    pieces.push(row..row + 1);
                    room = bytes;
                }
            }
            room = room.saturating_sub(size);
        }
        pieces
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() / self.columns.len()
    }
}

/// Gives up after `limit`.
pub(super) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(limit, work)
        .await
        // Passing: a server that is silent now may answer the next try.
        .unwrap_or(Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)))
}

/// The error of a statement: passing, or our fault.
fn failed(sql: &str, error: sqlx::Error) -> StoreError {
    if is_passing(&error) {
        return StoreError::Unavailable(error);
    }
    let first = sql
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    let query = first.trim().trim_start_matches("--").trim().to_owned();
    StoreError::Refused {
        query,
        source: error,
    }
}

/// Whether the same statement may go through later.
fn is_passing(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::Io(_)
        | E::Tls(_)
        | E::PoolTimedOut
        | E::PoolClosed
        | E::WorkerCrashed
        | E::BeginFailed
        // A connection that is cut in the middle of an answer can show up as one.
        | E::Protocol(_) => true,
        E::Database(database) => database.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

/// Whether the values that were to be written are at fault.
pub(super) fn is_about_data(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| is_data_code(&code))
}

fn is_data_code(code: &str) -> bool {
    if code.len() == 5 {
        // 22 data exception, 23 integrity constraint, 54000 program limit exceeded.
        return code.starts_with("22") || code.starts_with("23") || code == "54000";
    }
    // Primary codes: TOOBIG, CONSTRAINT, MISMATCH.
    code.parse::<u32>()
        .is_ok_and(|code| matches!(code & 0xff, 18..=20))
}

/// SQLSTATE of Postgres (five characters), or the extended result code of SQLite (a number).
fn is_passing_code(code: &str) -> bool {
    if code.len() == 5 {
        // 08 connection, 28 password or role, 40 serialization and deadlock, 53 out of resources,
        // 57 shut down or starting, 58 the server's own disk; 55P03 lock not available, 55000 not
        // in the state for it, 25006 read-only: a standby after a failover; 3D000, 42501, 42P01:
        // the database, the right or the table is missing, as while a server is restored or roles
        // are changed.
        return ["08", "28", "40", "53", "57", "58"]
            .iter()
            .any(|class| code.starts_with(class))
            || matches!(
                code,
                "55P03" | "55000" | "25006" | "3D000" | "42501" | "42P01"
            );
    }
    // Primary codes: PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN, PROTOCOL
    // (locking).
    code.parse::<u32>()
        .is_ok_and(|code| matches!(code & 0xff, 3 | 5..=8 | 10 | 13..=15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_passing_errors_from_our_own() {
        for code in [
            "40001", "40P01", "57P01", "57P03", "08006", "53300", "28P01", "3D000", "42501",
            "42P01", "55000", "5", "6", "8", "14", "261", "517", "3850",
        ] {
            assert!(is_passing_code(code), "{code}");
        }
        for code in ["23505", "22021", "42601", "1", "19", "1555", "2067"] {
            assert!(!is_passing_code(code), "{code}");
        }
    }

    #[test]
    fn tells_values_at_fault_from_a_database_at_fault() {
        for code in [
            "22021", "22003", "23505", "23514", "54000", "18", "19", "20", "1555", "2067", "275",
        ] {
            assert!(is_data_code(code) && !is_passing_code(code), "{code}");
        }
        for code in [
            "42601", "42P01", "42703", "28P01", "53100", "XX000", "1", "5", "8", "10", "13", "14",
            "26",
        ] {
            assert!(!is_data_code(code), "{code}");
        }
    }

    #[test]
    fn pieces_hold_every_row_once() {
        let mut batch = Batch::new(&[("key", Kind::Int), ("text", Kind::Text)]);
        for length in [10, 10, 200, 10, 60, 10, 10] {
            batch.push([Param::count(1), Param::text("x".repeat(length))]);
        }
        // A row of text takes 16 bytes beside the text.
        let pieces = batch.pieces(100);
        assert_eq!(pieces, [0..2, 2..3, 3..4, 4..5, 5..7]);
        assert_eq!(batch.pieces(10_000).first(), Some(&(0..7)));
        assert!(Batch::new(&[("key", Kind::Int)]).pieces(100).is_empty());
    }

    #[test]
    fn a_refused_query_is_named() {
        let error = failed("-- deliveries.list\nSELECT 1", sqlx::Error::RowNotFound);
        assert!(matches!(error, StoreError::Refused { query, .. } if query == "deliveries.list"));
    }
}
