//! Which deliveries are wanted, as a condition of a query.

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::domain::delivery::{FailureReason, Hold, Status};
use crate::domain::id::{EndpointId, NotificationId, NotificationType, TenantId};
use crate::domain::time::Timestamp;
use crate::store::db::Param;
use crate::store::query::Query;
use crate::store::several::{self, Several, StatusCode};

/// Which deliveries are wanted. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryFilter {
    /// The tenant that owns the deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Their status: one, or several.
    #[serde(skip_serializing_if = "Several::is_any")]
    #[schema(schema_with = statuses)]
    pub status: Several<Status>,
    /// Why they failed: one reason, or several.
    #[serde(skip_serializing_if = "Several::is_any")]
    #[schema(schema_with = reasons)]
    pub reason: Several<FailureReason>,
    /// The status code that their last attempt was answered with: one, or several.
    #[serde(skip_serializing_if = "Several::is_any")]
    #[schema(schema_with = status_codes)]
    pub status_code: Several<StatusCode>,
    /// What holds them back while they are parked: one, or several.
    #[serde(skip_serializing_if = "Several::is_any")]
    #[schema(schema_with = holds)]
    pub hold: Several<Hold>,
    /// The endpoints that they are for: one, or several.
    #[serde(skip_serializing_if = "Several::is_any")]
    #[schema(schema_with = endpoint_ids)]
    pub endpoint_id: Several<EndpointId>,
    /// The id of the notification that is delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_id: Option<NotificationId>,
    /// The notification's type: one, or several.
    #[serde(rename = "type", skip_serializing_if = "Several::is_any")]
    #[schema(schema_with = kinds)]
    pub kind: Several<NotificationType>,
    /// Created at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Created before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

fn statuses() -> RefOr<Schema> {
    several::schema::<Status>()
}

fn reasons() -> RefOr<Schema> {
    several::schema::<FailureReason>()
}

fn status_codes() -> RefOr<Schema> {
    several::schema::<StatusCode>()
}

fn holds() -> RefOr<Schema> {
    several::schema::<Hold>()
}

fn endpoint_ids() -> RefOr<Schema> {
    several::schema::<EndpointId>()
}

fn kinds() -> RefOr<Schema> {
    several::schema::<NotificationType>()
}

impl DeliveryFilter {
    pub(in crate::store) fn add_to(&self, query: &mut Query) {
        query.and_opt(
            "d.tenant = ?",
            self.tenant
                .as_ref()
                .map(|tenant| Param::text(tenant.as_str())),
        );
        query.and_any("d.endpoint_id", &self.endpoint_id, |id| {
            Param::text(id.as_str())
        });
        query.and_opt(
            "d.notification_id = ?",
            self.notification_id
                .as_ref()
                .map(|id| Param::text(id.as_str())),
        );
        query.and_any("d.type", &self.kind, |kind| Param::text(kind.as_str()));
        query.and_opt("d.created_at >= ?", self.since.map(Param::time));
        query.and_opt("d.created_at < ?", self.until.map(Param::time));
        match self.status.values() {
            [] => {}
            [status] => query.and(status_condition(*status), []),
            several => {
                if !several.contains(&Status::Delivered) {
                    query.and("d.status <> 'delivered'", []);
                }
                query.and_any("d.status", &self.status, |status| {
                    Param::text(status.as_str())
                });
            }
        }
        // What they imply of the status is said, too: the small indexes are of use then.
        if !self.reason.is_any() {
            query.and(status_condition(Status::Failed), []);
            query.and_any("d.reason", &self.reason, |reason| {
                Param::text(reason.as_str())
            });
        }
        if !self.hold.is_any() {
            query.and(status_condition(Status::Pending), []);
            query.and("d.wait = 'parked'", []);
            query.and_any("d.hold", &self.hold, |hold| Param::text(hold.as_str()));
        }
        if !self.status_code.is_any() {
            let code = |code: &StatusCode| Param::int(i64::from(code.number()));
            query.and("(d.attempt_count = 1", []);
            query.and_any("d.first_status_code", &self.status_code, code);
            query.end(
                " OR EXISTS (SELECT 1 FROM attempts a WHERE a.delivery_id = d.id AND a.number = \
                       d.attempt_count",
                [],
            );
            query.and_any("a.status_code", &self.status_code, code);
            query.end("))", []);
        }
    }
}

/// Spelt out, since an index on some statuses alone is of no use to a query whose status is a
/// parameter.
const fn status_condition(status: Status) -> &'static str {
    match status {
        Status::Pending => "d.status = 'pending' AND d.status <> 'delivered'",
        Status::Delivered => "d.status = 'delivered'",
        Status::Failed => "d.status = 'failed' AND d.status <> 'delivered'",
        Status::Expired => "d.status = 'expired' AND d.status <> 'delivered'",
        Status::Cancelled => "d.status = 'cancelled' AND d.status <> 'delivered'",
    }
}
