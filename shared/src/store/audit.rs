//! What was done by whom. It is written in the transaction of what was done: neither is there
//! without the other.

use std::sync::Arc;

use uuid::Uuid;

use super::db::{Answer, Param, Transaction};
use super::page::{List, Page, PageRequest};
use super::query::Query;
use super::{Store, StoreError};
use crate::domain::audit::{Act, Action, AuditEntry};
use crate::domain::id::{KeyId, TenantId, uuid_v7};
use crate::domain::time::Timestamp;

const INSERT: &str = "-- audit.insert
    INSERT INTO audit (id, at, key_id, key_name, action, object, tenant, request_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Which entries are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// The API key that it was done with.
    pub key_id: Option<KeyId>,
    /// The id of what it was done to.
    pub object: Option<String>,
    /// What was done.
    pub action: Option<Action>,
    /// The tenant that it belongs to.
    pub tenant: Option<TenantId>,
    /// Done at this time or later.
    pub since: Option<Timestamp>,
    /// Done before this time.
    pub until: Option<Timestamp>,
}

impl Store {
    /// The same store for one act of somebody: whatever changes something by it writes down who did
    /// it, in the same transaction.
    #[must_use]
    pub fn for_act(&self, act: Act) -> Self {
        Self {
            act: Some(Arc::new(act)),
            ..self.clone()
        }
    }

    /// Writes down what was done outside of the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_act(&self, act: &Act) -> Result<(), StoreError> {
        self.driver.write(INSERT, params(act, None)).await.map(drop)
    }

    /// Writes down, in the transaction, whose act this is; `object` is the id of what was created.
    pub(super) async fn noted(
        &self,
        tx: &mut dyn Transaction,
        object: Option<&str>,
    ) -> Result<(), StoreError> {
        match &self.act {
            Some(act) => tx.run(INSERT, params(act, object)).await.map(drop),
            None => Ok(()),
        }
    }

    /// One statement, with whose act it is in the same transaction if it changes something.
    pub(super) async fn write_noted(
        &self,
        sql: &str,
        params: Vec<Param>,
        object: Option<&str>,
    ) -> Result<Answer, StoreError> {
        if self.act.is_none() {
            return self.driver.write(sql, params).await;
        }
        let mut tx = self.driver.begin().await?;
        let answer = tx.run(sql, params).await?;
        if answer.affected > 0 {
            self.noted(tx.as_mut(), object).await?;
        }
        tx.commit().await?;
        Ok(answer)
    }

    /// What was done, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        page: &PageRequest,
    ) -> Result<Page<AuditEntry>, StoreError> {
        const LIST: List = List {
            what: "audit entry",
            table: "audit",
            time: "at",
            id: &["id"],
        };
        let mut query = Query::new(
            "-- audit.list
            SELECT a.id, a.at, a.key_id, a.key_name, a.action, a.object, a.tenant, a.request_id
            FROM audit a WHERE true",
        );
        let text = |text: &str| Param::text(text);
        query.and_opt(
            "a.key_id = ?",
            filter.key_id.as_ref().map(|id| text(id.as_str())),
        );
        query.and_opt("a.object = ?", filter.object.as_deref().map(text));
        query.and_opt("a.action = ?", filter.action.map(|it| text(it.as_str())));
        query.and_opt(
            "a.tenant = ?",
            filter.tenant.as_ref().map(|tenant| text(tenant.as_str())),
        );
        query.and_opt("a.at >= ?", filter.since.map(Param::time));
        query.and_opt("a.at < ?", filter.until.map(Param::time));
        if let Some(cursor) = &page.cursor {
            let id = Uuid::parse_str(&cursor.id).unwrap_or_default();
            query.and(
                "(a.at, a.id) < (?, ?)",
                [Param::int(cursor.micros), Param::uuid(id)],
            );
        }
        query.end(
            " ORDER BY a.at DESC, a.id DESC LIMIT ?",
            [Param::int(page.fetch())],
        );
        let entries = self.readable(&LIST, query.read(self).await?, |row| {
            let id = row.uuid()?;
            row.named(id);
            Ok(AuditEntry {
                id,
                at: row.time()?,
                key_id: row.word(|text| KeyId::parse(text).ok())?,
                key_name: row.text()?,
                action: row.word(Action::parse)?,
                object: row.text_opt()?,
                tenant: row.word_opt(|text| TenantId::parse(text).ok())?,
                request_id: row.text_opt()?,
            })
        });
        Ok(Page::of_readable(entries, page))
    }
}

fn params(act: &Act, object: Option<&str>) -> Vec<Param> {
    vec![
        Param::uuid(uuid_v7(act.at)),
        Param::time(act.at),
        Param::text(act.key_id.as_str()),
        Param::text(&act.key_name),
        Param::text(act.action.as_str()),
        Param::text_opt(object.or(act.object.as_deref())),
        Param::text_opt(act.tenant.as_ref().map(TenantId::as_str)),
        Param::text_opt(act.request_id.as_deref()),
    ]
}
