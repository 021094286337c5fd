//! A place to measure in that nobody else uses: a schema of its own in a Postgres database, and how
//! much was written to the server's write-ahead log. `posthaste bench` alone calls this.

use super::{DatabaseKind, Store, StoreError};

/// The name of a schema to be thrown away. Only lower-case letters, digits and `_`, so that it
/// needs no quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScratchSchema(String);

impl ScratchSchema {
    /// `prefix` and `tag`, with what does not belong into a name left out.
    #[must_use]
    pub fn new(prefix: &str, tag: &str) -> Self {
        let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_';
        Self(
            format!("{prefix}_{tag}")
                .chars()
                .filter(allowed)
                .take(60)
                .collect(),
        )
    }

    /// The name as it stands in SQL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Store {
    /// Creates the schema. Needs the right to create schemas in the database.
    ///
    /// # Errors
    /// [`StoreError`]; one that exists already is refused.
    pub async fn create_scratch(&self, schema: &ScratchSchema) -> Result<(), StoreError> {
        let sql = format!("-- scratch.create\nCREATE SCHEMA {}", schema.as_str());
        self.driver.write(&sql, Vec::new()).await.map(drop)
    }

    /// Drops the schema with all that is in it; that there is none is not an error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_scratch(&self, schema: &ScratchSchema) -> Result<(), StoreError> {
        let sql = format!(
            "-- scratch.drop\nDROP SCHEMA IF EXISTS {} CASCADE",
            schema.as_str()
        );
        self.driver.write(&sql, Vec::new()).await.map(drop)
    }

    /// How many bytes the server has written to its write-ahead log, for all of its databases.
    /// `None` for SQLite.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn wal_bytes(&self) -> Result<Option<u64>, StoreError> {
        const SQL: &str = "-- scratch.wal_bytes
            SELECT CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS bigint)";
        if self.driver.kind() == DatabaseKind::Sqlite {
            return Ok(None);
        }
        let answer = self.driver.read(SQL, Vec::new()).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok(None);
        };
        Ok(Some(row.reader("pg_wal").int()?.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_needs_no_quotes() {
        assert_eq!(
            ScratchSchema::new("bench", "A-b;1 \"x").as_str(),
            "bench_b1x"
        );
    }
}
