//! What can be done with endpoints, for whoever serves it: the JSON handlers beside this file, or
//! the pages of the console. Each checks what the caller may do.

use std::collections::HashMap;
use std::time::Duration;

use posthaste_shared::domain::audit::Action;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::view::EndpointView;
use posthaste_shared::store::endpoints::EndpointFilter;
use serde::Deserialize;

use crate::http::callers::Caller;
use crate::http::endpoints::check::{check, check_called_urls, check_scripts, check_url, no_url};
use crate::http::endpoints::create::{apply, make};
use crate::http::endpoints::edit::{TRIES, edit, edit_conflict, find, not_inserted, switch};
use crate::http::endpoints::input::{
    CreatedEndpoint, DEFAULT_OVERLAP_SECONDS, EndpointDraft, EndpointPatch, RotateRequest,
    RotatedSecret,
};
use crate::http::endpoints::name::{EndpointName, Precondition};
use crate::http::problem::{Code, Problem};
use crate::http::request::page::{self, PageView};
use crate::http::state::Api;
use crate::http::wire_formats::TestReport;

/// The longest that an old secret may sign on: 30 days.
const MAX_OVERLAP_SECONDS: u64 = 30 * 24 * 3600;

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
    let action = if enabled {
        Action::EndpointEnable
    } else {
        Action::EndpointDisable
    };
    edit(api, caller, name, action, |endpoint| {
        switch(endpoint, enabled);
        Ok(())
    })
    .await
}

/// Creates an endpoint, with its new secret where Posthaste makes one.
///
/// # Errors
/// The caller may not manage or is bound to another tenant; the draft is wrong; the store failed.
pub async fn create(
    api: &Api,
    caller: &Caller,
    draft: EndpointDraft,
) -> Result<CreatedEndpoint, Problem> {
    created(api, caller, draft).await.map(|(_, view)| view)
}

/// The endpoint of a draft, saved, and what its creator is shown.
pub(super) async fn created(
    api: &Api,
    caller: &Caller,
    draft: EndpointDraft,
) -> Result<(Endpoint, CreatedEndpoint), Problem> {
    caller.must(Scope::Admin)?;
    if draft
        .uid
        .as_ref()
        .is_some_and(|uid| uid.as_str().starts_with("ep_"))
    {
        return Err(Problem::field(
            Code::Invalid,
            "uid",
            "must not begin with ep_: such ids are generated by Posthaste",
        ));
    }
    let tenant = caller.tenant_or_default(draft.tenant.as_ref())?;
    let url = match &draft.url {
        Some(text) => check_url(api, text).await?,
        None if !draft.wire_format.has_url() => no_url(),
        None => {
            return Err(Problem::field(
                Code::Invalid,
                "url",
                "is missing: give the URL that requests go to, https://…",
            ));
        }
    };
    // After the look-up of the URL, which may take 2 s: the times of the endpoint are those of its
    // making.
    let now = api.clock.now();
    let (endpoint, secret) = make(api, draft, tenant, url, now)?;
    // The cheap checks first: names are looked up and scripts compiled only for what is else right.
    check(api, &endpoint)?;
    check_called_urls(api, None, &endpoint).await?;
    check_scripts(api, None, &endpoint).await?;
    let (id, tenant) = (endpoint.id.as_str(), &endpoint.tenant);
    let act = caller.act(Action::EndpointCreate, Some(id), Some(tenant), now);
    let store = api.store.for_act(act);
    let saved = store
        .insert_endpoint_within(&endpoint, api.settings.tenant_max_endpoints)
        .await
        .map_err(not_inserted)?;
    let view = CreatedEndpoint {
        endpoint: EndpointView::of(&saved, now),
        secret,
    };
    Ok((saved, view))
}

/// An endpoint as a form shows it, and the version that [`change`] compares.
///
/// # Errors
/// As [`show`].
pub async fn for_editing(
    api: &Api,
    caller: &Caller,
    id: &EndpointId,
) -> Result<(EndpointView, String), Problem> {
    let (endpoint, view) = find_shown(api, caller, &EndpointName::of(id.clone())).await?;
    Ok((view, endpoint.version.to_string()))
}

/// Changes an endpoint that still has this version.
///
/// # Errors
/// The caller may not manage; there is no such endpoint for this caller; somebody else has changed
/// it; the patch is wrong; the store failed.
pub async fn change(
    api: &Api,
    caller: &Caller,
    id: &EndpointId,
    version: &str,
    patch: EndpointPatch,
) -> Result<EndpointView, Problem> {
    let mut name = EndpointName::of(id.clone());
    name.precondition = Precondition::Matches(vec![format!("\"{version}\"")]);
    let changed = changed(api, caller, &name, patch).await?;
    Ok(EndpointView::of(&changed, api.clock.now()))
}

/// The endpoint with the changes of a patch.
pub(super) async fn changed(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    patch: EndpointPatch,
) -> Result<Endpoint, Problem> {
    caller.must(Scope::Admin)?;
    // Before the URL is looked up: for an endpoint that is not there nothing is asked of name
    // servers.
    find(api, caller, name).await?;
    let url = match &patch.url {
        Some(text) => Some((check_url(api, text).await?, text)),
        None => None,
    };
    edit(api, caller, name, Action::EndpointChange, |endpoint| {
        if let Some((url, text)) = &url {
            endpoint.set_url(url.clone(), text);
        }
        if let Some(enabled) = patch.enabled {
            switch(endpoint, enabled);
        }
        apply(patch.clone(), endpoint)?;
        check(api, endpoint)
    })
    .await
}

/// Deletes an endpoint for good, by its id. Its pending deliveries fail.
///
/// # Errors
/// The caller may not manage; there is no such endpoint for this caller; the store failed.
pub async fn delete(api: &Api, caller: &Caller, id: &EndpointId) -> Result<(), Problem> {
    deleted(api, caller, &EndpointName::of(id.clone())).await
}

pub(super) async fn deleted(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
) -> Result<(), Problem> {
    caller.must(Scope::Admin)?;
    for _ in 0..TRIES {
        // As it is now, or the answer says why not: gone, or not in the state that `If-Match` asks
        // for.
        let endpoint = find(api, caller, name).await?;
        let now = api.clock.now();
        let (id, tenant) = (endpoint.id.as_str(), &endpoint.tenant);
        let act = caller.act(Action::EndpointDelete, Some(id), Some(tenant), now);
        let deleted = api.store.for_act(act);
        let deleted = deleted.delete_endpoint(&endpoint.id, Some(endpoint.version), now);
        if deleted.await? {
            return Ok(());
        }
    }
    Err(edit_conflict())
}

/// Rotates the signing secret of an endpoint, by its id.
///
/// # Errors
/// The caller may not manage; there is no such endpoint for this caller; its wire format does not
/// sign, or cannot use the secret; the overlap is too long; the store failed.
pub async fn rotate(
    api: &Api,
    caller: &Caller,
    id: &EndpointId,
    request: RotateRequest,
) -> Result<RotatedSecret, Problem> {
    rotated(api, caller, &EndpointName::of(id.clone()), request).await
}

/// The new secret of an endpoint, and the endpoint with it.
pub(super) async fn rotated(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    request: RotateRequest,
) -> Result<RotatedSecret, Problem> {
    caller.must(Scope::Admin)?;
    let overlap = request.overlap_seconds.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    if overlap > MAX_OVERLAP_SECONDS {
        return Err(Problem::field(
            Code::Invalid,
            "overlap_seconds",
            format!("must be 0 to {MAX_OVERLAP_SECONDS}"),
        ));
    }
    // Read first, since what a secret looks like depends on the wire format.
    let found = find(api, caller, name).await?;
    let format = found.wire_format;
    let (secret, shown) = match request.secret {
        Some(own) => {
            let refused = |problem: String| Problem::field(Code::Invalid, "secret", problem);
            api.wire_formats
                .check_secret(format, &own)
                .map_err(refused)?;
            (own, None)
        }
        None => match api
            .wire_formats
            .new_secret(format, &found.confidential.settings)
        {
            Some(made) => (made.clone(), Some(made)),
            None => {
                return Err(Problem::field(
                    Code::Invalid,
                    "wire_format",
                    format!("{format} does not sign"),
                ));
            }
        },
    };
    let now = api.clock.now();
    let retires_at = now.after(Duration::from_secs(overlap));
    let endpoint = edit(
        api,
        caller,
        name,
        Action::EndpointRotateSecret,
        |endpoint| {
            endpoint
                .confidential
                .rotate(secret.clone(), now, retires_at);
            Ok(())
        },
    )
    .await?;
    let endpoint = EndpointView::of(&endpoint, now);
    Ok(RotatedSecret {
        secret: shown,
        old_secret_retires_at: retires_at,
        endpoint,
    })
}

/// Sends the example of its wire format to an endpoint, once. Nothing is queued or recorded.
///
/// # Errors
/// The caller may not manage; there is no such endpoint for this caller; the store failed.
pub async fn test(api: &Api, caller: &Caller, id: &EndpointId) -> Result<TestReport, Problem> {
    caller.must(Scope::Admin)?;
    let endpoint = find(api, caller, &EndpointName::of(id.clone())).await?;
    tested(api, caller, &endpoint, None).await
}

/// Sends a test to the endpoint, and writes down who did it: before, as what was sent cannot be
/// taken back.
pub(super) async fn tested(
    api: &Api,
    caller: &Caller,
    endpoint: &Endpoint,
    notification: Option<Notification>,
) -> Result<TestReport, Problem> {
    let (id, tenant) = (endpoint.id.as_str(), &endpoint.tenant);
    let now = api.clock.now();
    let act = caller.act(Action::EndpointTest, Some(id), Some(tenant), now);
    api.store.note_act(&act).await?;
    Ok(api.wire_formats.test(endpoint, notification).await)
}
