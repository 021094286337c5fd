//! Lists of notifications.

use super::db::Param;
use super::page::{List, Page, PageRequest};
use super::query::Query;
use super::rows::notification_columns;
use super::several::Several;
use super::{Store, StoreError, rows};
use crate::domain::id::{EndpointId, NotificationType, TenantId};
use crate::domain::notification::Notification;
use crate::domain::time::Timestamp;

/// Which notifications are wanted. The default is all that producers enqueued.
#[derive(Debug, Clone, Default)]
pub struct NotificationFilter {
    /// The tenant that they belong to.
    pub tenant: Option<TenantId>,
    /// Their types: one, or several.
    pub kind: Several<NotificationType>,
    /// The one endpoint that they were enqueued for.
    pub endpoint_id: Option<EndpointId>,
    /// Whether they have no deliveries.
    pub unmatched: Option<bool>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Accepted before this time.
    pub until: Option<Timestamp>,
}

/// A notification and how many deliveries it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The notification as it was accepted.
    pub notification: Notification,
    /// How many deliveries it has.
    pub fan_out: u32,
}

impl Store {
    /// Notifications that match, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_notifications(
        &self,
        filter: &NotificationFilter,
        page: &PageRequest,
    ) -> Result<Page<Listed>, StoreError> {
        const LIST: List = List {
            what: "notification",
            table: "notifications",
            time: "accepted_at",
            id: &["tenant", "id"],
        };
        let mut query = Query::new(concat!(
            "-- notifications.list\nSELECT n.fan_out, ",
            notification_columns!(),
            " FROM notifications n WHERE n.origin = 'producer'"
        ));
        query.and_opt(
            "n.tenant = ?",
            filter
                .tenant
                .as_ref()
                .map(|tenant| Param::text(tenant.as_str())),
        );
        query.and_any("n.type", &filter.kind, |kind| Param::text(kind.as_str()));
        query.and_opt(
            "n.target = ?",
            filter
                .endpoint_id
                .as_ref()
                .map(|id| Param::text(id.as_str())),
        );
        match filter.unmatched {
            // Spelt out: the index on those without deliveries is of no use to a query with a
            // parameter.
            Some(true) => query.and("n.fan_out = 0", []),
            Some(false) => query.and("n.fan_out > 0", []),
            None => {}
        }
        query.and_opt("n.accepted_at >= ?", filter.since.map(Param::time));
        query.and_opt("n.accepted_at < ?", filter.until.map(Param::time));
        if let Some(cursor) = &page.cursor {
            // Ids are unique in their tenant only. No tenant has a space in its name.
            let (tenant, id) = cursor.id.split_once(' ').unwrap_or_default();
            let place = [
                Param::int(cursor.micros),
                Param::text(tenant),
                Param::text(id),
            ];
            query.and("(n.accepted_at, n.tenant, n.id) < (?, ?, ?)", place);
        }
        query.end(
            " ORDER BY n.accepted_at DESC, n.tenant DESC, n.id DESC LIMIT ?",
            [Param::int(page.fetch())],
        );
        let listed = self.readable(&LIST, query.read(self).await?, |row| {
            let fan_out = row.count()?;
            Ok(Listed {
                notification: rows::notification(row)?,
                fan_out,
            })
        });
        Ok(Page::of_readable(listed, page))
    }
}
