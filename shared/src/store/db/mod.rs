//! What differs between SQLite and Postgres.

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// One file.
    Sqlite,
    /// A server.
    Postgres,
}

/// A database that the store speaks to.
pub trait Driver: Send + Sync {}
