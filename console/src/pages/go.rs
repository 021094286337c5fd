//! `/console/go?id=…`: the page of whatever has this id.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use posthaste_producer::http::operations::{deliveries, endpoints, notification};
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_shared::domain::id::{DeliveryId, EndpointId, NotificationId, TenantId};

use crate::entry::visitor::Visitor;
use crate::pages::ask;
use crate::parts::frame::Section;
use crate::parts::query::segment;
use crate::state::Console;

/// Leads to the page.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::None);
    let id = visitor.query.get("id").unwrap_or_default();
    let path = ask(&console, &frame, find(&console, &visitor, id)).await?;
    Ok(Redirect::to(&frame.link(&path)).into_response())
}

/// A delivery's id is a UUID; else a notification is looked for, whose id its producer chose, and
/// then an endpoint.
async fn find(console: &Console, visitor: &Visitor, id: &str) -> Result<String, Problem> {
    let (api, caller) = (&console.api, &visitor.caller);
    let unknown = || {
        Problem::new(
            Code::NotFound,
            "no delivery, notification or endpoint has this id",
        )
    };
    if let Ok(delivery) = id.parse::<DeliveryId>()
        && found(deliveries::show(api, caller, delivery).await)?.is_some()
    {
        return Ok(format!("/console/deliveries/{delivery}"));
    }
    let tenant = visitor.query.get("tenant");
    let tenant = tenant.and_then(|tenant| TenantId::parse(tenant).ok());
    if let Ok(notification_id) = NotificationId::parse(id) {
        let shown = notification(api, caller, &notification_id, tenant.as_ref()).await;
        if let Some(shown) = found(shown)? {
            let tenant = segment(shown.tenant.as_str());
            return Ok(format!("/console/notifications/{tenant}/{}", segment(id)));
        }
    }
    let endpoint_id = EndpointId::parse(id).map_err(|_| unknown())?;
    let endpoint = found(endpoints::show(api, caller, &endpoint_id).await)?.ok_or_else(unknown)?;
    Ok(format!(
        "/console/endpoints/{}",
        segment(endpoint.id.as_str())
    ))
}

fn found<T>(answer: Result<T, Problem>) -> Result<Option<T>, Problem> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(problem) if problem.code == Code::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}
