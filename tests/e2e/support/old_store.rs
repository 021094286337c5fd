//! A store with the schema of an earlier version, and rows as programs of that version wrote them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr as _;

use sqlx::migrate::{Migration, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    SqliteConnection,
};
use uuid::Uuid;

use super::Place;

/// A value of a column.
#[derive(Debug, Clone)]
pub enum Cell {
    Text(String),
    Int(i64),
    Bytes(Vec<u8>),
    Id(Uuid),
}

/// A column as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub kind: String,
    /// Whether whoever inserts a row must name it.
    pub required: bool,
}

/// Columns by table and name.
pub type Schema = BTreeMap<(String, String), Column>;

/// A connection of its own to a test's store.
pub enum OldStore {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// The versions of the schema that ever landed, the oldest first.
pub async fn landed(place: &Place) -> Vec<i64> {
    let migrator = Migrator::new(folder(is_sqlite(place)))
        .await
        .expect("migrations");
    migrator.iter().map(|migration| migration.version).collect()
}

fn is_sqlite(place: &Place) -> bool {
    place.database_url.starts_with("sqlite")
}

fn folder(sqlite: bool) -> PathBuf {
    let database = if sqlite { "sqlite" } else { "postgres" };
    [env!("CARGO_MANIFEST_DIR"), "migrations", database]
        .iter()
        .collect()
}

impl OldStore {
    /// Brings a new store to a version, with the very migrations of that time.
    pub async fn at(place: &Place, version: i64) -> Self {
        let mut store = Self::open(place).await;
        let all = Migrator::new(folder(is_sqlite(place)))
            .await
            .expect("migrations");
        let until_then: Vec<Migration> = all
            .iter()
            .filter(|migration| migration.version <= version)
            .cloned()
            .collect();
        let migrator = Migrator::with_migrations(until_then);
        match &mut store {
            Self::Sqlite(connection) => migrator.run(connection).await,
            Self::Postgres(connection) => migrator.run(connection).await,
        }
        .expect("migrated");
        store
    }

    /// A connection to the store as it is.
    pub async fn open(place: &Place) -> Self {
        let url = &place.database_url;
        if is_sqlite(place) {
            let options = SqliteConnectOptions::from_str(url)
                .expect("a URL")
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal);
            Self::Sqlite(options.connect().await.expect("SQLite"))
        } else {
            Self::Postgres(PgConnection::connect(url).await.expect("Postgres"))
        }
    }

    /// Every column of every table; partitions are not tables of their own.
    pub async fn schema(&mut self) -> Schema {
        type Found = (String, String, String, i64);
        const SQLITE: &str = r#"
            SELECT t.name, c.name, c.type,
                CAST(c."notnull" = 1 AND c.dflt_value IS NULL AS INTEGER)
            FROM sqlite_master t, pragma_table_info(t.name) c
            WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'
                AND t.name <> '_sqlx_migrations'"#;
        const POSTGRES: &str = "
            SELECT t.relname::text, c.attname::text, format_type(c.atttypid, c.atttypmod),
                (c.attnotnull AND NOT c.atthasdef AND c.attidentity = '')::int::bigint
            FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid
            WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p')
                AND NOT t.relispartition AND t.relname <> '_sqlx_migrations'
                AND c.attnum > 0 AND NOT c.attisdropped";
        let found: Vec<Found> = match self {
            Self::Sqlite(connection) => sqlx::query_as(SQLITE).fetch_all(connection).await,
            Self::Postgres(connection) => sqlx::query_as(POSTGRES).fetch_all(connection).await,
        }
        .expect("the columns");
        let column = |(table, name, kind, required): Found| {
            let required = required == 1;
            ((table, name), Column { kind, required })
        };
        found.into_iter().map(column).collect()
    }

    /// The tables in which nothing is.
    pub async fn empty_tables(&mut self) -> Vec<String> {
        let tables: BTreeSet<String> = self
            .schema()
            .await
            .into_keys()
            .map(|(table, _)| table)
            .collect();
        let mut empty = Vec::new();
        for table in tables {
            if self.number(&format!("SELECT count(*) FROM {table}")).await == 0 {
                empty.push(table);
            }
        }
        empty
    }

    /// The one number that a query returns.
    pub async fn number(&mut self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => sqlx::query_scalar(sql).fetch_one(connection).await,
            Self::Postgres(connection) => sqlx::query_scalar(sql).fetch_one(connection).await,
        }
        .expect("a number")
    }

    /// Runs a statement.
    pub async fn run(&mut self, sql: &str) {
        let text = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => connection.execute(text).await.map(drop),
            Self::Postgres(connection) => connection.execute(text).await.map(drop),
        }
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Inserts a row with those of the columns that `known` has: what a program of that schema
    /// writes. Nothing where it knows no such table.
    pub async fn insert(&mut self, known: &Schema, table: &str, row: &[(&str, Cell)]) {
        let has = |column: &str| known.contains_key(&(table.to_owned(), column.to_owned()));
        let row: Vec<_> = row.iter().filter(|(name, _)| has(name)).collect();
        if row.is_empty() {
            return;
        }
        let names: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> = row.iter().map(|(_, cell)| self.literal(cell)).collect();
        let (names, values) = (names.join(", "), values.join(", "));
        self.run(&format!("INSERT INTO {table} ({names}) VALUES ({values})"))
            .await;
    }

    fn literal(&self, cell: &Cell) -> String {
        let hex = |bytes: &[u8]| -> String {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            digits.concat()
        };
        match (cell, self) {
            (Cell::Text(text), _) => format!("'{}'", text.replace('\'', "''")),
            (Cell::Int(number), _) => number.to_string(),
            (Cell::Bytes(bytes), Self::Postgres(_)) => format!("'\\x{}'::bytea", hex(bytes)),
            (Cell::Bytes(bytes), Self::Sqlite(_)) => format!("X'{}'", hex(bytes)),
            (Cell::Id(id), Self::Postgres(_)) => format!("'{id}'"),
            (Cell::Id(id), Self::Sqlite(_)) => format!("X'{}'", id.simple()),
        }
    }
}
