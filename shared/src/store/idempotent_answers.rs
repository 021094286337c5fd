//! What requests with an `Idempotency-Key` were answered, to be answered so again. Notifications
//! have a way of their own ([`super::idempotency`]): theirs need no answer to be kept.

use super::cipher::CipherError;
use super::db::Param;
use super::{Store, StoreError};
use crate::domain::time::Timestamp;

/// A request that is to be done once.
#[derive(Debug, Clone)]
pub struct OnceOnly {
    /// The API key that it came with.
    pub caller: String,
    /// The request's `Idempotency-Key`, as the client wrote it.
    pub name: String,
    /// SHA-256 of what it asks for: another one with the same key is a mistake.
    pub fingerprint: [u8; 32],
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Nothing: it is to be done now.
    New,
    /// It is being done, or was cut off a moment ago.
    UnderWay,
    /// It was done, and answered so.
    Done(Vec<u8>),
    /// Its key came with another request.
    Mismatch,
    /// It was done, and the answer was encrypted with another master key.
    Unreadable,
}

impl OnceOnly {
    /// What its answer is encrypted for.
    fn sealed_name(&self) -> String {
        format!("answer {} {}", self.caller, self.name)
    }

    fn params(&self) -> Vec<Param> {
        vec![Param::text(&self.caller), Param::text(&self.name)]
    }
}

impl Store {
    /// Claims a request, or tells what is known of it. One that was claimed before `cut_off_before`
    /// and has no answer is claimed anew: whoever did it is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_request(
        &self,
        request: &OnceOnly,
        now: Timestamp,
        cut_off_before: Timestamp,
    ) -> Result<Claimed, StoreError> {
        const CLAIM: &str = "-- idempotent_answers.claim
            INSERT INTO idempotent_answers (caller, name, fingerprint, claimed_at)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (caller, name) DO UPDATE SET claimed_at = $4
            WHERE idempotent_answers.answer IS NULL AND idempotent_answers.claimed_at < $5
                AND idempotent_answers.fingerprint = $3";
        const GET: &str = "-- idempotent_answers.get
            SELECT fingerprint, answer FROM idempotent_answers WHERE caller = $1 AND name = $2";
        let cipher = self.cipher.as_ref().ok_or(CipherError::NoKey)?;
        let mut params = request.params();
        params.extend([
            Param::bytes(request.fingerprint),
            Param::time(now),
            Param::time(cut_off_before),
        ]);
        if self.driver.write(CLAIM, params).await?.affected > 0 {
            return Ok(Claimed::New);
        }
        let Some(row) = self
            .driver
            .read(GET, request.params())
            .await?
            .rows
            .into_iter()
            .next()
        else {
            // It failed a moment ago and was forgotten.
            return Ok(Claimed::UnderWay);
        };
        let mut row = row.reader("idempotent_answers");
        if row.bytes()? != request.fingerprint {
            return Ok(Claimed::Mismatch);
        }
        Ok(match row.bytes_opt()? {
            None => Claimed::UnderWay,
            Some(sealed) => cipher
                .open(&request.sealed_name(), &sealed)
                .map_or(Claimed::Unreadable, Claimed::Done),
        })
    }

    /// Keeps what a claimed request was answered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_answer(&self, request: &OnceOnly, answer: &[u8]) -> Result<(), StoreError> {
        const SQL: &str = "-- idempotent_answers.keep
            UPDATE idempotent_answers SET answer = $3 WHERE caller = $1 AND name = $2";
        let cipher = self.cipher_to_write().await?.ok_or(CipherError::NoKey)?;
        let mut params = request.params();
        params.push(Param::bytes(cipher.seal(&request.sealed_name(), answer)));
        self.driver.write(SQL, params).await.map(drop)
    }

    /// Forgets a claimed request that was not done: it may come again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_request(&self, request: &OnceOnly) -> Result<(), StoreError> {
        const SQL: &str = "-- idempotent_answers.forget
            DELETE FROM idempotent_answers WHERE caller = $1 AND name = $2 AND answer IS NULL";
        self.driver.write(SQL, request.params()).await.map(drop)
    }
}
