//! What of a Postgres server a promise depends on, and what is wrong with it.

use super::super::Row;
use crate::store::StoreError;
use crate::store::fitness::Finding;

/// What [`Properties`] are read from. `reset_val` is what the server says, without what `durably`
/// sets.
pub(super) const PROPERTIES: &str = "-- database.properties
    SELECT current_database()::text, current_setting('server_encoding'),
        current_setting('client_encoding'), current_setting('server_version_num')::bigint,
        pg_is_in_recovery()::text, current_setting('default_transaction_read_only'),
        (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
        current_setting('fsync'), current_setting('full_page_writes')";

/// The oldest server that the queries are written for, as `server_version_num` has it.
const OLDEST_SERVER: i64 = 130_000;

/// What of a database a promise depends on.
pub(super) struct Properties {
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
    pub(super) fn read(row: Row) -> Result<Self, StoreError> {
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

    pub(super) fn findings(&self) -> Vec<Finding> {
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
