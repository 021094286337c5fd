//! The store: state, time and truth, in SQLite or Postgres. SQL lives here and nowhere else.
//!
//! [`Store`] is written once; what differs between the two databases is behind the [`db::Driver`]
//! trait and its two implementations. One file an aggregate, one function a query, one conformance
//! suite (`shared/tests/store.rs`) for both databases. `now` always comes in as an argument.

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is locked or is restarting: try again later; nothing was changed.
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
    /// The schema is older or newer than this program's.
    #[error("the store's schema is at version {found}, this program needs {needed}: run `posthaste migrate`{}", if found > needed { " with the newer program, or start that one" } else { "" })]
    Schema {
        /// In the database; 0 when there is none.
        found: i64,
        /// What this program was built with.
        needed: i64,
    },
    /// A migration failed.
    #[error("migrating the store failed")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The database URL cannot be used.
    #[error("the database URL {problem}: use sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE")]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// A row holds what this program cannot read.
    #[error("{table} {id} in the store cannot be read: {problem}")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// Which row.
        id: String,
        /// What is wrong.
        problem: String,
    },
}

impl StoreError {
    /// Whether the same call may go through later, unchanged.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
