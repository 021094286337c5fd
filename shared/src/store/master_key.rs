//! The store's master key: which one it is, and changing it while everything runs.
//!
//! The table `master_key` has one row with a check value, encrypted with the key that encrypts.
//! Every process that has a key looks at it when it starts, and again before it encrypts something,
//! at most every [`LOOK_EVERY`]. A process with two keys (`POSTHASTE_MASTER_KEY` and `…_PREVIOUS`)
//! encrypts with the one that opens the check value; one that has no such key encrypts nothing, and
//! ends. So the change is: give every process both keys; encrypt the check value with the new one;
//! encrypt everything again, as often as it takes until nothing is left of the old key; take the
//! old key away.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::cipher::{Cipher, CipherError};
use super::db::Param;
use super::{Store, StoreError, round};
use crate::domain::id::DeliveryId;

/// How old what a process knows of the check value may be when it encrypts something.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After the check value has changed, so long may things still be written with the old key:
/// [`LOOK_EVERY`], and a transaction that began before.
pub const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// Rows that are looked at in one step.
const STEP: u32 = 200;

/// When a process last looked at the check value.
#[derive(Debug, Default)]
pub(super) struct Looked(Mutex<Option<Instant>>);

/// What was done to encrypt everything again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Rows that were looked at.
    pub looked_at: u64,
    /// Those that were encrypted with the old key, by what they are.
    pub renewed: BTreeMap<&'static str, u64>,
    /// Rows that neither key opens.
    pub unreadable: u64,
}

/// Where one pass over everything stands.
#[derive(Debug, Default)]
pub struct Pass {
    part: usize,
    after: Option<Vec<Param>>,
    /// What it did so far.
    pub done: Renewed,
}

/// Something that lies encrypted in rows of a table.
struct Part {
    what: &'static str,
    /// The first rows: the columns of the order, then the encrypted one. `$1`: how many.
    first: &'static str,
    /// Those after the row of `$2` and `$3`.
    next: &'static str,
    /// `$1`, `$2`: the row; `$3`: what is to be there, `$4`: what was. Changed meanwhile, it stays
    /// as it is.
    write: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Endpoint,
    Answer,
    Round,
}

const PARTS: [Part; 3] = [
    Part {
        what: "endpoints",
        first: "-- master_key.endpoints
            SELECT created_at, id, confidential FROM endpoints ORDER BY created_at, id LIMIT $1",
        next: "-- master_key.endpoints_after
            SELECT created_at, id, confidential FROM endpoints WHERE (created_at, id) > ($2, $3)
            ORDER BY created_at, id LIMIT $1",
        write: "-- master_key.endpoint
            UPDATE endpoints SET confidential = $3
            WHERE created_at = $1 AND id = $2 AND confidential = $4",
        kind: Kind::Endpoint,
    },
    Part {
        what: "answers",
        first: "-- master_key.answers
            SELECT caller, name, answer FROM idempotent_answers ORDER BY caller, name LIMIT $1",
        next: "-- master_key.answers_after
            SELECT caller, name, answer FROM idempotent_answers WHERE (caller, name) > ($2, $3)
            ORDER BY caller, name LIMIT $1",
        write: "-- master_key.answer
            UPDATE idempotent_answers SET answer = $3
            WHERE caller = $1 AND name = $2 AND answer = $4",
        kind: Kind::Answer,
    },
    // Finished deliveries keep nothing.
    Part {
        what: "deliveries",
        first: "-- master_key.deliveries
            SELECT created_at, id, kept FROM deliveries
            WHERE status = 'pending' AND kept IS NOT NULL
            ORDER BY created_at, id LIMIT $1",
        next: "-- master_key.deliveries_after
            SELECT created_at, id, kept FROM deliveries
            WHERE status = 'pending' AND kept IS NOT NULL AND (created_at, id) > ($2, $3)
            ORDER BY created_at, id LIMIT $1",
        write: "-- master_key.delivery
            UPDATE deliveries SET kept = $3 WHERE created_at = $1 AND id = $2 AND kept = $4",
        kind: Kind::Round,
    },
];

impl Store {
    /// Whether the master key is the store's. A store that knows of none yet takes this one, unless
    /// it has secrets that the key does not open. Without a key nothing is looked at.
    ///
    /// # Errors
    /// [`CipherError::NotOfStore`] when it is not.
    pub async fn check_master_key(&self) -> Result<(), StoreError> {
        let Some(cipher) = self.cipher.as_deref() else {
            return Ok(());
        };
        if let Some(value) = self.check_value().await? {
            return Ok(cipher.adopt(&value)?);
        }
        self.adopt_key_of_endpoints(cipher).await?;
        const INSERT: &str = "-- master_key.insert
            INSERT INTO master_key (id, check_value) VALUES (1, $1) ON CONFLICT (id) DO NOTHING";
        self.driver
            .write(INSERT, vec![Param::bytes(cipher.check_value())])
            .await?;
        // Another process may have been quicker, with another key.
        match self.check_value().await? {
            Some(value) => Ok(cipher.adopt(&value)?),
            None => Err(CipherError::NotOfStore.into()),
        }
    }

    /// Whether secrets of this store are encrypted with some master key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn needs_master_key(&self) -> Result<bool, StoreError> {
        Ok(self.check_value().await?.is_some())
    }

    async fn check_value(&self) -> Result<Option<Vec<u8>>, StoreError> {
        const GET: &str = "-- master_key.get\nSELECT check_value FROM master_key WHERE id = 1";
        let row = self.driver.read(GET, vec![]).await?.rows.into_iter().next();
        row.map(|row| row.reader("master_key").bytes()).transpose()
    }

    /// A store of an older version: its key is the one that opens its endpoints.
    async fn adopt_key_of_endpoints(&self, cipher: &Cipher) -> Result<(), StoreError> {
        let [endpoints, ..] = &PARTS;
        let rows = self
            .driver
            .read(endpoints.first, vec![Param::count(STEP)])
            .await?
            .rows;
        let mut any = false;
        for row in rows {
            let mut row = row.reader("endpoints");
            let _ = row.int()?;
            let id = row.text()?;
            // A deleted one has no secrets any more.
            let Some(sealed) = row.bytes_opt()? else {
                continue;
            };
            if cipher.adopt_what_opens(&id, &sealed) {
                return Ok(());
            }
            any = true;
        }
        if any {
            Err(CipherError::NotOfStore.into())
        } else {
            Ok(())
        }
    }

    /// The cipher, for encrypting something now. [`CipherError::NotOfStore`] where the key was
    /// changed and this process was not given the new one.
    pub(super) async fn cipher_to_write(&self) -> Result<Option<&Cipher>, StoreError> {
        let Some(cipher) = self.cipher.as_deref() else {
            return Ok(None);
        };
        if self.looked.is_due() {
            if let Some(value) = self.check_value().await? {
                cipher.adopt(&value)?;
            }
            self.looked.now();
        }
        Ok(Some(cipher))
    }

    /// Lets every process encrypt with the configured key from now on. Do this when all of them
    /// have both keys.
    ///
    /// # Errors
    /// [`StoreError`]; [`CipherError::NoKey`].
    pub async fn begin_with_configured_key(&self) -> Result<(), StoreError> {
        const UPDATE: &str =
            "-- master_key.update\nUPDATE master_key SET check_value = $1 WHERE id = 1";
        let cipher = self.cipher.as_deref().ok_or(CipherError::NoKey)?;
        self.check_master_key().await?;
        cipher.adopt_configured();
        self.driver
            .write(UPDATE, vec![Param::bytes(cipher.check_value())])
            .await
            .map(drop)
    }

    /// Goes on with a pass over everything that lies encrypted: one step of a few hundred rows,
    /// which encrypts those again that were encrypted with the previous key. Returns whether the
    /// pass is at its end.
    ///
    /// # Errors
    /// [`StoreError`]; the same step may be tried again.
    pub async fn renew_step(&self, pass: &mut Pass) -> Result<bool, StoreError> {
        let cipher = self.cipher.as_deref().ok_or(CipherError::NoKey)?;
        let Some(part) = PARTS.get(pass.part) else {
            return Ok(true);
        };
        let mut params = vec![Param::count(STEP)];
        let sql = match &pass.after {
            None => part.first,
            Some(after) => {
                params.extend(after.iter().cloned());
                part.next
            }
        };
        let rows = self.driver.scan(sql, params).await?.rows;
        let full = rows.len() >= STEP as usize;
        for row in rows {
            let mut row = row.reader(part.what);
            let (name, at) = match part.kind {
                Kind::Endpoint => {
                    let created = row.int()?;
                    let id = row.text()?;
                    (id.clone(), vec![Param::int(created), Param::text(id)])
                }
                Kind::Answer => {
                    let caller = row.text()?;
                    let name = row.text()?;
                    (
                        format!("answer {caller} {name}"),
                        vec![Param::text(caller), Param::text(name)],
                    )
                }
                Kind::Round => {
                    let created = row.int()?;
                    let id = row.uuid()?;
                    (
                        round::name(&DeliveryId(id)),
                        vec![Param::int(created), Param::uuid(id)],
                    )
                }
            };
            let sealed = row.bytes_opt()?;
            pass.done.looked_at += 1;
            match sealed
                .as_deref()
                .map(|sealed| renewed(cipher, part.kind, &name, sealed))
            {
                None | Some(Ok(None)) => {}
                Some(Ok(Some(new))) => {
                    let mut params = at.clone();
                    params.extend([Param::bytes(new), Param::bytes_opt(sealed)]);
                    self.driver.write(part.write, params).await?;
                    *pass.done.renewed.entry(part.what).or_default() += 1;
                }
                Some(Err(_)) => pass.done.unreadable += 1,
            }
            pass.after = Some(at);
        }
        if !full {
            pass.part += 1;
            pass.after = None;
        }
        Ok(pass.part >= PARTS.len())
    }
}

/// What is to be there in place of `sealed`; `None` where it stays.
fn renewed(
    cipher: &Cipher,
    kind: Kind,
    name: &str,
    sealed: &[u8],
) -> Result<Option<Vec<u8>>, CipherError> {
    let (head, sealed) = match kind {
        Kind::Round => round::split(sealed),
        Kind::Endpoint | Kind::Answer => (&[][..], sealed),
    };
    if sealed.is_empty() {
        return Ok(None);
    }
    Ok(cipher
        .renewed(name, sealed)?
        .map(|new| [head, &new].concat()))
}

impl Looked {
    fn is_due(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none_or(|at| at.elapsed() >= LOOK_EVERY)
    }

    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
