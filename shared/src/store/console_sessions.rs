//! Who is signed in to the web console, and the links that sign in once. A session's id and a
//! link's token are known here by their hashes alone, so that nobody signs in with what a copy of
//! the database has.

use super::db::{Param, Row};
use super::{Store, StoreError};
use crate::domain::id::KeyId;
use crate::domain::time::Timestamp;

/// Somebody who is signed in to the web console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleSession {
    /// The API key that signed in.
    pub key_id: KeyId,
    /// The SHA-256 of that key, by which it is looked up at each request.
    pub key_hash: [u8; 32],
    /// Whether the session only looks, whatever the key may do.
    pub look_only: bool,
    /// When the key signed in.
    pub created_at: Timestamp,
    /// When the session was last used, exact to a minute.
    pub used_at: Timestamp,
}

impl Store {
    /// Keeps a new session by the SHA-256 of its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_console_session(
        &self,
        id_hash: &[u8; 32],
        session: &ConsoleSession,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- console_sessions.insert
            INSERT INTO console_sessions (id_hash, key_id, key_hash, look_only, created_at, used_at)
            VALUES ($1, $2, $3, $4, $5, $6)";
        let params = vec![
            Param::bytes(id_hash),
            Param::text(session.key_id.as_str()),
            Param::bytes(session.key_hash),
            Param::int(i64::from(session.look_only)),
            Param::time(session.created_at),
            Param::time(session.used_at),
        ];
        self.write_noted(SQL, params, None).await.map(drop)
    }

    /// The session whose id has that hash, however old it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_session(
        &self,
        id_hash: &[u8; 32],
    ) -> Result<Option<ConsoleSession>, StoreError> {
        const SQL: &str = "-- console_sessions.by_id
            SELECT key_id, key_hash, look_only, created_at, used_at
            FROM console_sessions WHERE id_hash = $1";
        let answer = self.driver.read(SQL, vec![Param::bytes(id_hash)]).await?;
        answer.rows.into_iter().next().map(read).transpose()
    }

    /// Notes that the session is used at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_console_use(
        &self,
        id_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // Two processes may note a use at the same time, in any order: the later one stays.
        const SQL: &str = "-- console_sessions.note_use
            UPDATE console_sessions SET used_at = $2 WHERE id_hash = $1 AND used_at < $2";
        let params = vec![Param::bytes(id_hash), Param::time(now)];
        self.driver.write(SQL, params).await.map(drop)
    }

    /// Ends the session with that id, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_console_session(&self, id_hash: &[u8; 32]) -> Result<(), StoreError> {
        const SQL: &str = "-- console_sessions.delete
            DELETE FROM console_sessions WHERE id_hash = $1";
        let answer = self.driver.write(SQL, vec![Param::bytes(id_hash)]);
        answer.await.map(drop)
    }

    /// Removes the sessions that were last used before `used` and the links from before `made`:
    /// they are of no use any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_old_sign_ins(
        &self,
        used: Timestamp,
        made: Timestamp,
    ) -> Result<(), StoreError> {
        const SESSIONS: &str = "-- console_sessions.remove_old
            DELETE FROM console_sessions WHERE used_at < $1";
        const LINKS: &str = "-- console_links.remove_old
            DELETE FROM console_links WHERE created_at < $1";
        self.driver.write(SESSIONS, vec![Param::time(used)]).await?;
        self.driver.write(LINKS, vec![Param::time(made)]).await?;
        Ok(())
    }

    /// Keeps a link by the SHA-256 of its token; it signs in the key with `key_hash`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_console_link(
        &self,
        hash: &[u8; 32],
        key_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- console_links.insert
            INSERT INTO console_links (hash, key_hash, created_at) VALUES ($1, $2, $3)";
        let params = vec![Param::bytes(hash), Param::bytes(key_hash), Param::time(now)];
        self.write_noted(SQL, params, None).await.map(drop)
    }

    /// Uses a link up: the hash of the key that it signs in, if it was created at `since` or later
    /// and nobody used it before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn use_console_link(
        &self,
        hash: &[u8; 32],
        since: Timestamp,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        const FIND: &str = "-- console_links.by_hash
            SELECT key_hash FROM console_links WHERE hash = $1 AND created_at >= $2";
        const USE: &str = "-- console_links.use
            DELETE FROM console_links WHERE hash = $1";
        let params = vec![Param::bytes(hash), Param::time(since)];
        let answer = self.driver.read(FIND, params).await?;
        let Some(row) = answer.rows.into_iter().next() else {
            return Ok(None);
        };
        let mut row = row.reader("console_links");
        let key_hash = hash_in(&mut row)?;
        // Of two that come at the same time one deletes the row, and only that one signs in.
        let used = self.driver.write(USE, vec![Param::bytes(hash)]).await?;
        Ok((used.affected == 1).then_some(key_hash))
    }
}

fn read(row: Row) -> Result<ConsoleSession, StoreError> {
    let mut row = row.reader("console_sessions");
    Ok(ConsoleSession {
        key_id: row.word(|text| KeyId::parse(text).ok())?,
        key_hash: hash_in(&mut row)?,
        look_only: row.int()? != 0,
        created_at: row.time()?,
        used_at: row.time()?,
    })
}

fn hash_in(row: &mut super::db::Reader) -> Result<[u8; 32], StoreError> {
    let bytes = row.bytes()?;
    let length = bytes.len();
    <[u8; 32]>::try_from(bytes)
        .map_err(|_| row.corrupt(format!("a hash has 32 bytes, this one has {length}")))
}
