//! What can be done with deliveries, for whoever serves it: the JSON handlers beside this file, or
//! the pages of the console. Each checks what the caller may do.

use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::audit::Action;
use posthaste_shared::domain::delivery::{Delivery, FailureReason, Hold, Status};
use posthaste_shared::domain::id::{
    DeliveryId, EndpointId, NotificationId, NotificationType, TenantId,
};
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::{AttemptView, DeliveryDetail, DeliveryView};
use posthaste_shared::store::deliveries::{Cancelled, DeliveryFilter, RetriedNow};
use posthaste_shared::store::several::{Several, StatusCode};
use serde::Deserialize;

use crate::http::callers::Caller;
pub use crate::http::deliveries::explain::explain;
use crate::http::endpoints::name;
use crate::http::problem::{Code, Problem};
use crate::http::request::page::{self, PageView};
use crate::http::state::Api;

/// Which deliveries to list.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    /// Their status: one, or several with commas between them.
    #[serde(default)]
    #[param(value_type = Vec<Status>, required = false, style = Form, explode = false)]
    pub status: Several<Status>,
    /// Why they failed: one reason, or several.
    #[serde(default)]
    #[param(value_type = Vec<FailureReason>, required = false, style = Form, explode = false)]
    pub reason: Several<FailureReason>,
    /// The status code that their last attempt was answered with: one, or several.
    #[serde(default)]
    #[param(value_type = Vec<StatusCode>, required = false, style = Form, explode = false)]
    pub status_code: Several<StatusCode>,
    /// What holds them back while they are parked: one, or several.
    #[serde(default)]
    #[param(value_type = Vec<Hold>, required = false, style = Form, explode = false)]
    pub hold: Several<Hold>,
    /// The endpoints that they are for, by id or uid: one, or several.
    #[serde(default)]
    #[param(value_type = Vec<EndpointId>, required = false, style = Form, explode = false)]
    pub endpoint_id: Several<EndpointId>,
    /// The notification that they deliver.
    pub notification_id: Option<NotificationId>,
    /// The tenant that owns them. Default: the key's tenant, else every tenant.
    pub tenant: Option<TenantId>,
    /// The notification's type: one, or several.
    #[serde(rename = "type", default)]
    #[param(value_type = Vec<NotificationType>, required = false, style = Form, explode = false)]
    pub kind: Several<NotificationType>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Accepted before this time.
    pub until: Option<Timestamp>,
    /// The most deliveries on a page, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<DeliveryQuery> for DeliveryFilter {
    fn from(query: DeliveryQuery) -> Self {
        Self {
            tenant: query.tenant,
            status: query.status,
            reason: query.reason,
            status_code: query.status_code,
            hold: query.hold,
            endpoint_id: query.endpoint_id,
            notification_id: query.notification_id,
            kind: query.kind,
            since: query.since,
            until: query.until,
        }
    }
}

/// Lists deliveries, the newest first.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the query is wrong; the store failed.
pub async fn list(
    api: &Api,
    caller: &Caller,
    query: DeliveryQuery,
) -> Result<PageView<DeliveryView>, Problem> {
    caller.must(Scope::Read)?;
    let (limit, cursor) = (query.limit, query.cursor.clone());
    let mut filter = DeliveryFilter::from(query);
    filter.tenant = caller.tenant(filter.tenant.as_ref())?;
    filter.endpoint_id = name::ids(api, caller, filter.tenant.as_ref(), filter.endpoint_id).await?;
    page::list(
        limit,
        cursor.as_deref(),
        async |page| api.store.deliveries(&filter, &page).await,
        |delivery| DeliveryView::from(&delivery),
    )
    .await
}

/// Shows a delivery with its attempts.
///
/// # Errors
/// The caller may not read; there is no such delivery for this caller; the store failed.
pub async fn show(api: &Api, caller: &Caller, id: DeliveryId) -> Result<DeliveryDetail, Problem> {
    caller.must(Scope::Read)?;
    let (delivery, attempts) = find(api, caller, id).await?;
    Ok(DeliveryDetail {
        delivery: DeliveryView::from(&delivery),
        attempts: attempts.iter().map(AttemptView::from).collect(),
    })
}

/// Sends a delivery now: a pending one is due at once, a finished one starts a new round.
///
/// # Errors
/// The caller may not manage; there is no such delivery for this caller; its state does not allow
/// it; the store failed.
pub async fn retry(api: &Api, caller: &Caller, id: DeliveryId) -> Result<DeliveryView, Problem> {
    caller.must(Scope::Admin)?;
    // The store's update knows no callers: whether this one may see the delivery is asked before.
    let (found, _) = find(api, caller, id).await?;
    let (now, name) = (api.clock.now(), id.to_string());
    let act = caller.act(Action::DeliveryRetry, Some(&name), Some(&found.tenant), now);
    match api.store.for_act(act).retry_now(id, now).await? {
        RetriedNow::Done(delivery) => Ok(DeliveryView::from(&delivery)),
        RetriedNow::InFlight => Err(wrong_state("it is being sent at this moment")),
        RetriedNow::Expired => Err(wrong_state(
            "its time ran out: an expired notification is never sent",
        )),
        RetriedNow::EndpointGone => Err(wrong_state("its endpoint was deleted")),
        RetriedNow::NotFound => Err(Problem::not_found("delivery")),
    }
}

/// Cancels a pending delivery: it will not be sent.
///
/// # Errors
/// The caller may not manage; there is no such delivery for this caller; its state does not allow
/// it; the store failed.
pub async fn cancel(api: &Api, caller: &Caller, id: DeliveryId) -> Result<DeliveryView, Problem> {
    caller.must(Scope::Admin)?;
    let (found, _) = find(api, caller, id).await?;
    let (now, name) = (api.clock.now(), id.to_string());
    let act = caller.act(
        Action::DeliveryCancel,
        Some(&name),
        Some(&found.tenant),
        now,
    );
    match api.store.for_act(act).cancel(id, now).await? {
        Cancelled::Done => Ok(DeliveryView::from(&find(api, caller, id).await?.0)),
        Cancelled::NotPending(status) => {
            Err(wrong_state(&format!("it is {} already", status.as_str())))
        }
        Cancelled::InFlight => Err(wrong_state("it is being sent at this moment")),
        Cancelled::NotFound => Err(Problem::not_found("delivery")),
    }
}

fn wrong_state(detail: &str) -> Problem {
    Problem::new(Code::WrongState, detail)
}

/// The delivery, if there is one that this caller may see.
pub(in crate::http) async fn find(
    api: &Api,
    caller: &Caller,
    id: DeliveryId,
) -> Result<(Delivery, Vec<Attempt>), Problem> {
    let found = api.store.delivery(id).await?;
    found
        .filter(|(delivery, _)| caller.sees(&delivery.tenant))
        .ok_or_else(|| Problem::not_found("delivery"))
}
