//! API keys: only their hashes are kept.

use super::db::{Param, Row};
use super::{Store, StoreError};
use crate::domain::id::{KeyId, TenantId};
use crate::domain::key::{ApiKey, Scope};
use crate::domain::time::Timestamp;

/// The columns of a key, as [`read`] reads them.
macro_rules! columns {
    () => {
        "id, name, tenant, scopes, created_at, expires_at, last_used_at, revoked_at"
    };
}

impl Store {
    /// Keeps a new key by the SHA-256 of its text.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_key(&self, key: &ApiKey, hash: &[u8; 32]) -> Result<(), StoreError> {
        const SQL: &str = "-- api_keys.insert
            INSERT INTO api_keys (id, hash, name, tenant, scopes, created_at, expires_at,
                last_used_at, revoked_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
        let params = vec![
            Param::text(key.id.as_str()),
            Param::bytes(hash),
            Param::text(&key.name),
            Param::text_opt(key.tenant.as_ref().map(TenantId::as_str)),
            Param::text(scopes.join(",")),
            Param::time(key.created_at),
            Param::time_opt(key.expires_at),
            Param::time_opt(key.last_used_at),
            Param::time_opt(key.revoked_at),
        ];
        self.write_noted(SQL, params, None).await.map(drop)
    }

    /// The key with that hash, also when it was revoked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        const SQL: &str = concat!(
            "-- api_keys.by_hash\nSELECT ",
            columns!(),
            " FROM api_keys WHERE hash = $1"
        );
        let answer = self.driver.read(SQL, vec![Param::bytes(hash)]).await?;
        answer.rows.into_iter().next().map(read).transpose()
    }

    /// All keys, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        const SQL: &str = concat!(
            "-- api_keys.list\nSELECT ",
            columns!(),
            " FROM api_keys ORDER BY created_at, id"
        );
        self.driver
            .read(SQL, vec![])
            .await?
            .rows
            .into_iter()
            .map(read)
            .collect()
    }

    /// Notes that the key was used at `now`, unless a use at `unless_since` or later is noted
    /// already: several processes note the uses of the same key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_key_use(
        &self,
        id: &KeyId,
        now: Timestamp,
        unless_since: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- api_keys.note_use
            UPDATE api_keys SET last_used_at = $2
            WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $3)";
        let params = vec![
            Param::text(id.as_str()),
            Param::time(now),
            Param::time(unless_since),
        ];
        // How many rows changed does not matter: another process may have noted it a moment before,
        // or the key was removed.
        self.driver.write(SQL, params).await.map(drop)
    }

    /// The key works no longer. Returns whether it did until now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_key(&self, id: &KeyId, now: Timestamp) -> Result<bool, StoreError> {
        const SQL: &str = "-- api_keys.revoke\nUPDATE api_keys SET revoked_at = $2 WHERE id = $1 \
                           AND revoked_at IS NULL";
        let params = vec![Param::text(id.as_str()), Param::time(now)];
        let answer = self.write_noted(SQL, params, None).await?;
        Ok(answer.affected == 1)
    }
}

fn read(row: Row) -> Result<ApiKey, StoreError> {
    let mut row = row.reader("api_keys");
    let id = row.word(|text| KeyId::parse(text).ok())?;
    row.named(&id);
    Ok(ApiKey {
        id,
        name: row.text()?,
        tenant: row.word_opt(|text| TenantId::parse(text).ok())?,
        scopes: row.word(|text| {
            text.split(',')
                .filter(|name| !name.is_empty())
                .map(Scope::parse)
                .collect()
        })?,
        created_at: row.time()?,
        expires_at: row.time_opt()?,
        last_used_at: row.time_opt()?,
        revoked_at: row.time_opt()?,
    })
}
