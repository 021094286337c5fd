//! `PUT /v1/endpoints/{uid}`: an endpoint as it is to be, created or updated.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use posthaste_shared::domain::audit::Action;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::view::EndpointView;
use url::Url;

use crate::http::auth::Admin;
use crate::http::callers::Caller;
use crate::http::endpoints::check::{check, check_called_urls, check_scripts, check_url, no_url};
use crate::http::endpoints::create::{make, replace};
use crate::http::endpoints::edit::{TRIES, edit, edit_conflict, not_inserted};
use crate::http::endpoints::input::CreatedEndpoint;
use crate::http::endpoints::input::EndpointDraft;
use crate::http::endpoints::name::{EndpointName, EndpointTenant, IfMatch, shown};
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::JsonBytes;
use crate::http::request::json::parse;
use crate::http::state::Api;

/// Create or update an endpoint
///
/// By a uid of your choice, or by the id of an endpoint that exists. Members that are left out are
/// reset to their defaults, except `secret` and `enabled`, which stay as they are. A new secret
/// signs beside the old one for a day. Repeating the request changes nothing. `If-None-Match: *`
/// only creates, `If-Match` only updates.
#[utoipa::path(
    put, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "put_endpoint",
    params(
        ("id" = EndpointId, Path, description = "The endpoint's uid or id"),
        EndpointTenant,
        IfMatch,
    ),
    request_body = EndpointDraft,
    responses(
        (
            status = 200,
            description = "The endpoint existed and now is as the request describes it",
            body = CreatedEndpoint,
        ),
        (
            status = 201,
            description = "The endpoint is created, with its new secret",
            body = CreatedEndpoint,
        ),
    )
)]
pub(in crate::http) async fn put(
    State(api): State<Arc<Api>>,
    Admin(caller): Admin,
    name: EndpointName,
    JsonBytes(body): JsonBytes,
) -> Result<Response, Problem> {
    let draft: EndpointDraft = parse(&body)?;
    let (name, tenant) = within_tenant(name, &caller, &draft)?;
    // Once, before the tries: looking a name up may take 2 s.
    let url = match &draft.url {
        Some(text) => check_url(&api, text).await?,
        None if !draft.wire_format.has_url() => no_url(),
        None => {
            return Err(Problem::field(
                Code::Invalid,
                "url",
                "is missing: give the URL that requests go to, https://…",
            ));
        }
    };
    // Somebody else may create or delete it in between.
    for _ in 0..TRIES {
        let there = name.look_up(&api, &caller).await?;
        // Each time round: what was created in between must not be updated by `If-None-Match: *`.
        name.precondition.check(there.as_ref())?;
        let done = match there {
            Some(_) => update(&api, &caller, &name, &draft, &url).await,
            None => create(&api, &caller, &name, draft.clone(), &tenant, url.clone()).await,
        };
        match done {
            Err(problem) if matches!(problem.code, Code::NotFound | Code::UidTaken) => {}
            done => return done,
        }
        // An id of ours that is not there is not created.
        name.uid().map_err(|_| {
            let detail = "there is no such endpoint; to create one by PUT, name it by a uid of \
                          your own: 1 to 64 letters, digits, _ or -, and not ep_ in front";
            Problem::new(Code::NotFound, detail)
        })?;
    }
    Err(edit_conflict())
}

/// The tenant is named by the body or the query; both must say the same.
fn within_tenant(
    mut name: EndpointName,
    caller: &Caller,
    draft: &EndpointDraft,
) -> Result<(EndpointName, TenantId), Problem> {
    let named = match (&draft.tenant, &name.tenant) {
        (Some(body), Some(query)) if body != query => {
            return Err(Problem::field(
                Code::Invalid,
                "tenant",
                "does not match the tenant in the query",
            ));
        }
        (body, query) => body.clone().or_else(|| query.clone()),
    };
    let tenant = caller.tenant_or_default(named.as_ref())?;
    let uid = name.uid().ok();
    if let (Some(written), true) = (&draft.uid, draft.uid != uid) {
        return Err(Problem::field(
            Code::Invalid,
            "uid",
            format!("is {written}, but the path names another endpoint"),
        ));
    }
    name.tenant = named;
    Ok((name, tenant))
}

async fn create(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    draft: EndpointDraft,
    tenant: &TenantId,
    url: Url,
) -> Result<Response, Problem> {
    let now = api.clock.now();
    let draft = EndpointDraft {
        uid: Some(name.uid()?),
        ..draft
    };
    let (endpoint, secret) = make(api, draft, tenant.clone(), url, now)?;
    check(api, &endpoint)?;
    check_called_urls(api, None, &endpoint).await?;
    check_scripts(api, None, &endpoint).await?;
    let act = caller.act(
        Action::EndpointCreate,
        Some(endpoint.id.as_str()),
        Some(tenant),
        now,
    );
    let store = api.store.for_act(act);
    let saved = store
        .insert_endpoint_within(&endpoint, api.settings.tenant_max_endpoints)
        .await
        .map_err(not_inserted)?;
    let view = CreatedEndpoint {
        endpoint: EndpointView::of(&saved, now),
        secret,
    };
    Ok(shown(StatusCode::CREATED, &saved, view))
}

async fn update(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    draft: &EndpointDraft,
    url: &Url,
) -> Result<Response, Problem> {
    let now = api.clock.now();
    let changed = edit(
        api,
        caller,
        name,
        Action::EndpointChange,
        |endpoint: &mut Endpoint| {
            replace(api, draft, url, endpoint, now)?;
            check(api, endpoint)
        },
    )
    .await?;
    let view = CreatedEndpoint {
        endpoint: EndpointView::of(&changed, now),
        secret: None,
    };
    Ok(shown(StatusCode::OK, &changed, view))
}
