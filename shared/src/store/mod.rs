//! The store: state, time and truth, in SQLite or Postgres. SQL lives here and nowhere else.
//!
//! [`Store`] is written once; what differs between the two databases is behind the `db::Driver`
//! trait and its two implementations. One file an aggregate, one function a query, one conformance
//! suite (`shared/tests/store.rs`) for both databases. `now` always comes in as an argument.

pub mod accounting;
pub mod audit;
pub mod cipher;
pub mod claims;
pub mod console_sessions;
mod db;
pub mod deliveries;
mod delivery_types;
pub mod endpoints;
pub mod events;
mod expiry;
mod first_attempt;
pub mod fitness;
pub mod health;
mod id_conflicts;
pub mod idempotency;
pub mod idempotent_answers;
mod kept;
pub mod keys;
mod leases;
pub mod master_key;
pub mod notification_list;
pub mod notifications;
pub mod outage;
pub mod overview;
pub mod page;
mod partitions;
mod query;
pub(crate) mod queue;
pub mod record;
pub mod redrives;
pub mod replays;
pub mod retention;
mod round;
mod rows;
pub mod scratch;
pub mod several;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod stats;
pub mod turns;
mod unreadable;
pub mod worker_reports;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use cipher::Cipher;
pub use db::DatabaseKind;
use db::Driver;
use db::postgres::PostgresDriver;
use db::sqlite::SqliteDriver;
use kept::Kept;
use unreadable::Unreadable;

use crate::domain::audit::Act;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// Everything durable. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    driver: Arc<dyn Driver>,
    cipher: Option<Arc<Cipher>>,
    looked: Arc<master_key::Looked>,
    unreadable: Arc<Unreadable>,
    kept: Kept,
    /// Whose act it is that this store is used for.
    act: Option<Arc<Act>>,
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is locked or is restarting: try again later; nothing was
    /// changed.
    #[error("the store cannot be reached now")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused: our fault, or a value that it cannot hold.
    #[error("the store refused the query {query}")]
    Refused {
        /// The query's name, as in its first line.
        query: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The schema is older than this program's, or newer and without what this program needs.
    #[error("the store's schema is at version {found}, this program needs {needed}: \
             {}", if found > needed { "start the newer \
                                       program" } else { "run `posthaste migrate`" })]
    Schema {
        /// In the database; 0 when there is none.
        found: i64,
        /// What this program was built with.
        needed: i64,
    },
    /// The database is of a kind that no promise can be kept on.
    #[error("the store cannot be used: {problem}; {remedy}")]
    Unfit {
        /// What is wrong with the database.
        problem: String,
        /// What the operator should do.
        remedy: String,
    },
    /// A migration of the schema failed.
    #[error("migrating the store failed")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The database URL cannot be used.
    #[error(
        "the database URL {problem}: use sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// Secrets are to be read or written and there is no master key, or it is not the one they were
    /// encrypted with.
    #[error("{0}")]
    Cipher(#[from] cipher::CipherError),
    /// There is a row with that id already.
    #[error("{table} has {id} already")]
    Taken {
        /// The table that the row is in.
        table: &'static str,
        /// The id that is taken.
        id: String,
    },
    /// There are as many rows as there may be.
    #[error("{table} has {most} already, which is the limit")]
    Full {
        /// The table that is full.
        table: &'static str,
        /// The most rows that there may be.
        most: u64,
    },
    /// A row holds what this program cannot read.
    #[error("{table} {id} in the store cannot be read: {column}: {problem}")]
    Corrupt {
        /// The table that the row is in.
        table: &'static str,
        /// The id of the row; empty where that cannot be read either.
        id: String,
        /// The column, as the query names it.
        column: String,
        /// What is wrong with the value.
        problem: String,
    },
}

impl StoreError {
    /// Whether the same call may go through later, unchanged.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether the very values that were to be written are at fault, so that no repair of the
    /// database mends it: they break a constraint, are too large, or are not of the column's type.
    #[must_use]
    pub fn is_about_data(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if db::is_about_data(source))
    }

    /// Whether a row was to be inserted that is there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Refused { source: sqlx::Error::Database(error), .. }
            if error.is_unique_violation())
    }
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The database's URL: `sqlite://PATH` or `postgres://…`.
    pub url: Secret,
    /// Encrypts endpoints' secrets, at least 32 characters. `None`: they can neither be read nor
    /// written.
    pub master_key: Option<Secret>,
    /// Reads what was encrypted before the master key was changed; counts only beside `master_key`.
    pub previous_master_key: Option<Secret>,
    /// The most connections at once, 2 or more. SQLite has one writer whatever this says.
    pub max_connections: u32,
    /// How long to wait for a free connection, or for the database to come back, before a call
    /// fails.
    pub acquire_timeout: Duration,
}

impl StoreOptions {
    /// The defaults: no master keys, 8 connections, 5 s.
    #[must_use]
    pub const fn new(url: Secret) -> Self {
        Self {
            url,
            master_key: None,
            previous_master_key: None,
            max_connections: 8,
            acquire_timeout: Duration::from_secs(5),
        }
    }
}

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The schema's version before; 0: there was none.
    pub from: i64,
    /// The schema's version after it.
    pub to: i64,
}

/// How long [`Store::ping`] waits.
const PING_DEADLINE: Duration = Duration::from_secs(2);
/// How long [`Store::close`] waits.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

impl Store {
    /// Opens the store; does not migrate it. A server that cannot be reached yet is an error only
    /// at the first call.
    ///
    /// # Errors
    /// A URL or master key that cannot be used, or a SQLite file that cannot be opened.
    pub async fn connect(options: &StoreOptions) -> Result<Self, StoreError> {
        let previous = options.previous_master_key.as_ref();
        let cipher = options
            .master_key
            .as_ref()
            .map(|key| Cipher::new(key, previous))
            .transpose()?
            .map(Arc::new);
        let scheme = options.url.expose().split(':').next().unwrap_or_default();
        let driver: Arc<dyn Driver> = match scheme {
            "sqlite" => Arc::new(SqliteDriver::open(options).await?),
            "postgres" | "postgresql" => Arc::new(PostgresDriver::open(options)?),
            _ => {
                return Err(StoreError::Url {
                    problem: "is of no known kind".to_owned(),
                });
            }
        };
        Ok(Self {
            driver,
            cipher,
            looked: Arc::default(),
            unreadable: Arc::default(),
            kept: Kept::default(),
            act: None,
        })
    }

    /// Brings the schema up to date. Several processes may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Migrate`]; [`StoreError::Schema`] when the schema is newer and does not fit
    /// this program.
    pub async fn migrate(&self) -> Result<Migrated, StoreError> {
        self.check_fitness().await?;
        let from = self.driver.schema_version().await?;
        let to = self.driver.needed_version();
        if from > to {
            self.check_schema().await?;
            return Ok(Migrated { from, to: from });
        }
        self.driver.migrate().await?;
        Ok(Migrated { from, to })
    }

    /// Whether this program works with the database: with its kind, its schema, and the master key
    /// of its secrets.
    ///
    /// # Errors
    /// As [`Store::check_schema`] and [`Store::check_master_key`].
    pub async fn check(&self) -> Result<(), StoreError> {
        self.check_schema().await?;
        self.check_master_key().await
    }

    /// Whether this program works with the database, and with the schema: its own version, or a
    /// newer one that says it does.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when it does not; [`StoreError::Unfit`] when the database is of a
    /// kind that cannot be used.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        const OLDEST: &str =
            "-- schema.oldest\nSELECT value FROM versions WHERE name = 'oldest_program'";
        self.check_fitness().await?;
        let found = self.driver.schema_version().await?;
        let needed = self.driver.needed_version();
        if found > needed {
            let row = self
                .driver
                .read(OLDEST, vec![])
                .await?
                .rows
                .into_iter()
                .next();
            if row
                .map(|row| row.reader("versions").int())
                .transpose()?
                .is_some_and(|oldest| oldest <= needed)
            {
                return Ok(());
            }
        }
        if found == needed {
            Ok(())
        } else {
            Err(StoreError::Schema { found, needed })
        }
    }

    /// Whether the database answers, within 2 s; why it does not may take another second.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        const READ: &str = "-- ping\nSELECT 1";
        const WRITE: &str = "-- ping.write
            UPDATE versions SET value = value WHERE name = 'oldest_program'";
        if self.driver.disk_was_full() {
            let full = std::io::Error::new(std::io::ErrorKind::StorageFull, "its disk is full");
            return Err(StoreError::Unavailable(sqlx::Error::Io(full)));
        }
        let ping = async {
            // Only where the last write was refused: whoever looks every second should not write
            // every second.
            if self.driver.writes_are_refused() {
                self.driver.write(WRITE, vec![]).await
            } else {
                self.driver.read(READ, vec![]).await
            }
        };
        match tokio::time::timeout(PING_DEADLINE, ping).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(StoreError::Unavailable(self.driver.no_connection().await)),
        }
    }

    /// The time by the database's clock.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn server_time(&self) -> Result<Timestamp, StoreError> {
        self.driver.server_time().await
    }

    /// Which database it is.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        self.driver.kind()
    }

    /// Closes all connections, within 2 s: a server that says nothing is left alone.
    pub async fn close(&self) {
        if tokio::time::timeout(CLOSE_DEADLINE, self.driver.close())
            .await
            .is_err()
        {
            tracing::warn!("the store does not answer; its connections end with this process");
        }
    }
}
