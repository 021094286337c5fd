//! What can be done with endpoints, for whoever serves it: the JSON handlers beside this file, or
//! the pages of the console. Each checks what the caller may do.

use std::collections::HashMap;

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::view::EndpointView;
use posthaste_shared::store::endpoints::EndpointFilter;
use serde::Deserialize;

use crate::http::callers::Caller;
use crate::http::endpoints::edit::{edit, find, switch};
use crate::http::endpoints::name::EndpointName;
use crate::http::problem::Problem;
use crate::http::request::page::{self, PageView};
use crate::http::state::Api;
use crate::http::wire_formats::TestReport;

/// Which endpoints to list.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EndpointQuery {
    /// The tenant that owns them. Default: the key's tenant, else every tenant.
    pub tenant: Option<TenantId>,
    /// Only enabled endpoints (`true`) or only disabled ones (`false`). Default: both.
    pub enabled: Option<bool>,
    /// The most endpoints on a page, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Lists endpoints, the oldest first.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the query is wrong; the store failed.
pub async fn list(
    api: &Api,
    caller: &Caller,
    query: EndpointQuery,
) -> Result<PageView<EndpointView>, Problem> {
    caller.must(Scope::Read)?;
    let filter = EndpointFilter {
        tenant: caller.tenant(query.tenant.as_ref())?,
        enabled: query.enabled,
    };
    let now = api.clock.now();
    let mut page = page::list(
        query.limit,
        query.cursor.as_deref(),
        async |page| api.store.endpoints(&filter, &page).await,
        |endpoint| EndpointView::of(&endpoint, now),
    )
    .await?;
    // One question for the whole page.
    let ids = page.items.iter().map(|endpoint| &endpoint.id);
    let mut health = api.store.endpoints_health(ids, now).await?;
    page.items = page
        .items
        .into_iter()
        .map(|endpoint| {
            let health = health.remove(&endpoint.id);
            endpoint.with(health)
        })
        .collect();
    Ok(page)
}

/// Shows an endpoint, by its id, without its secrets.
///
/// # Errors
/// The caller may not read; there is no such endpoint for this caller; the store failed.
pub async fn show(api: &Api, caller: &Caller, id: &EndpointId) -> Result<EndpointView, Problem> {
    let name = EndpointName::of(id.clone());
    find_shown(api, caller, &name).await.map(|(_, view)| view)
}

/// The endpoint with what may be shown of it.
pub(super) async fn find_shown(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
) -> Result<(Endpoint, EndpointView), Problem> {
    caller.must(Scope::Read)?;
    let endpoint = find(api, caller, name).await?;
    let now = api.clock.now();
    let health = api.store.endpoint_health(&endpoint.id, now).await?;
    let view = EndpointView::of(&endpoint, now).with(health);
    Ok((endpoint, view))
}

/// The URLs of those of the endpoints that there are and that this caller may see, for lists of
/// what has only their ids. From memory, where they are known for a second.
///
/// # Errors
/// The caller may not read; the store failed.
pub async fn urls(
    api: &Api,
    caller: &Caller,
    ids: impl Iterator<Item = &EndpointId>,
) -> Result<HashMap<EndpointId, String>, Problem> {
    caller.must(Scope::Read)?;
    let known = api.directory.find_all(&api.store, ids).await?;
    let seen = known
        .into_iter()
        .filter(|endpoint| caller.sees(&endpoint.tenant));
    Ok(seen
        .map(|endpoint| (endpoint.id.clone(), endpoint.url.to_string()))
        .collect())
}

/// Enables or disables an endpoint, by its id.
///
/// # Errors
/// The caller may not manage; there is no such endpoint for this caller; the store failed.
pub async fn enable(
    api: &Api,
    caller: &Caller,
    id: &EndpointId,
    enabled: bool,
) -> Result<EndpointView, Problem> {
    let endpoint = switched(api, caller, &EndpointName::of(id.clone()), enabled).await?;
    Ok(EndpointView::of(&endpoint, api.clock.now()))
}

/// The endpoint, enabled or disabled.
pub(super) async fn switched(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    enabled: bool,
) -> Result<Endpoint, Problem> {
    caller.must(Scope::Admin)?;
    edit(api, caller, name, |endpoint| {
        switch(endpoint, enabled);
        Ok(())
    })
    .await
}

/// Sends the example of its wire format to an endpoint, once. Nothing is queued or recorded.
///
/// # Errors
/// The caller may not manage; there is no such endpoint for this caller; the store failed.
pub async fn test(api: &Api, caller: &Caller, id: &EndpointId) -> Result<TestReport, Problem> {
    caller.must(Scope::Admin)?;
    let endpoint = find(api, caller, &EndpointName::of(id.clone())).await?;
    Ok(api.wire_formats.test(&endpoint, None).await)
}
