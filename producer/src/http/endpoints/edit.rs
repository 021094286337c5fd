//! Finding an endpoint and changing it, on top of what others change at the same time.

use posthaste_shared::domain::audit::Action;
use posthaste_shared::domain::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use posthaste_shared::domain::event::Event;
use posthaste_shared::domain::health::HealthChange;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::StoreError;
use posthaste_shared::store::endpoints::Saved;

use crate::http::callers::Caller;
use crate::http::endpoints::check::{check_called_urls, check_scripts};
use crate::http::endpoints::name::EndpointName;
use crate::http::problem::{Code, Problem};
use crate::http::state::Api;

/// How often a change is tried when others change the same endpoint at the same time.
pub(super) const TRIES: u32 = 5;

/// The endpoint, if there is one that this caller may see, and in the state that the request asks
/// for.
pub(super) async fn find(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
) -> Result<Endpoint, Problem> {
    let found = name.look_up(api, caller).await?;
    let endpoint = found.ok_or_else(|| Problem::not_found("endpoint"))?;
    name.precondition.check(Some(&endpoint))?;
    Ok(endpoint)
}

/// Enables or disables; an endpoint that is disabled already keeps its reason.
pub(super) fn switch(endpoint: &mut Endpoint, enabled: bool) {
    if endpoint.is_enabled() != enabled {
        endpoint.status = status(enabled);
    }
}

/// Changes an endpoint and saves it, on top of what others change meanwhile. Enabling and disabling
/// write their event in the same transaction, and all write down who did it.
pub(super) async fn edit(
    api: &Api,
    caller: &Caller,
    name: &EndpointName,
    action: Action,
    mut change: impl FnMut(&mut Endpoint) -> Result<(), Problem>,
) -> Result<Endpoint, Problem> {
    for _ in 0..TRIES {
        let before = find(api, caller, name).await?;
        let mut after = before.clone();
        change(&mut after)?;
        // No new version for a change of nothing: every process would read the endpoint again.
        if after == before {
            return Ok(before);
        }
        // Only what is new is checked: an endpoint saved under a laxer policy can still be
        // disabled.
        check_called_urls(api, Some(&before), &after).await?;
        check_scripts(api, Some(&before), &after).await?;
        let now: Timestamp = api.clock.now();
        after.updated_at = now;
        let event =
            (after.is_enabled() != before.is_enabled()).then(|| Event::of_endpoint(&after, now));
        let (id, tenant) = (after.id.as_str(), &after.tenant);
        let act = caller.act(action, Some(id), Some(tenant), now);
        let store = api.store.for_act(act);
        match store.update_endpoint(&after, event.as_ref()).await? {
            Saved::Saved(saved) => {
                if begins_anew(&before, &saved) {
                    forget_health(api, &saved, now).await;
                }
                return Ok(saved);
            }
            // The change is made again on what the other one saved, so neither is lost.
            Saved::Conflict => {}
            Saved::NotFound => return Err(Problem::not_found("endpoint")),
        }
    }
    Err(edit_conflict())
}

/// Whether what workers know of the endpoint's health is of no use any more.
fn begins_anew(before: &Endpoint, after: &Endpoint) -> bool {
    after.url != before.url || (after.is_enabled() && !before.is_enabled())
}

/// Lets workers call the endpoint at once, instead of with the next probe of its circuit breaker.
async fn forget_health(api: &Api, endpoint: &Endpoint, now: Timestamp) {
    let forgotten = HealthChange::Forgotten {
        endpoint: endpoint.id.clone(),
    };
    if let Err(error) = api.store.report_health(&[forgotten], None, now).await {
        // The change is saved. All that is lost is some seconds.
        tracing::warn!(
            endpoint.id = %endpoint.id,
            %error,
            "workers were not told to call the endpoint at once; the next probe finds out"
        );
    }
}

/// Others were quicker every time.
pub(super) fn edit_conflict() -> Problem {
    Problem::new(
        Code::EditConflict,
        "others keep changing this endpoint; try again",
    )
}

/// Why an endpoint could not be created: its uid is taken, or the tenant has as many endpoints as
/// it may have.
pub(super) fn not_inserted(error: StoreError) -> Problem {
    match error {
        StoreError::Taken { id, .. } => Problem::new(
            Code::UidTaken,
            format!(
                "another endpoint of the tenant has the uid {id}: PUT (--or-update) updates it"
            ),
        ),
        StoreError::Full { most, .. } => {
            let detail =
                format!("the tenant has {most} endpoints, which is the limit: delete one first");
            Problem::new(Code::EndpointLimit, detail)
        }
        other => other.into(),
    }
}

/// Enabled, or disabled by somebody's hand.
pub(super) const fn status(enabled: bool) -> EndpointStatus {
    if enabled {
        EndpointStatus::Enabled
    } else {
        EndpointStatus::Disabled(DisabledReason::Manual)
    }
}
