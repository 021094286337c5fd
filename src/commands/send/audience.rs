//! Whether anybody will get what was sent. A notification that no endpoint subscribes to is
//! accepted all the same, so whoever sends some by hand would wait in vain.

use std::collections::BTreeMap;

use posthaste_producer::enqueue::accept;
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::view::EndpointView;
use serde_json::Value;

use crate::client::{ApiError, Client};
use crate::output::{self, items, text};

/// The most warnings; what else nobody gets is counted in the last one.
const MOST: usize = 10;
/// The most tenants whose endpoints are asked for and kept; of others nothing is said.
const MOST_TENANTS: usize = 100;

/// Who gets what was sent, by the endpoints that there were when their tenant came first.
#[derive(Default)]
pub(super) struct Audience {
    tenants: BTreeMap<Option<TenantId>, Option<Vec<EndpointView>>>,
    /// What nobody gets, by tenant and type: the first [`MOST`].
    missed: BTreeMap<(Option<TenantId>, String), Missed>,
    /// How many notifications of other types nobody gets.
    others: u64,
}

#[derive(Default)]
struct Missed {
    notifications: u64,
    /// Somebody subscribes, and is disabled.
    disabled: bool,
}

impl Audience {
    /// Looks whether somebody gets this notification, which was accepted. Says nothing where that
    /// cannot be known, as with a key that may only enqueue.
    pub(super) async fn add(&mut self, client: &Client, draft: &NotificationDraft) {
        // The API refuses an endpoint that does not exist, so this one is delivered to.
        if draft.endpoint_id.is_some() {
            return;
        }
        let tenant = draft.tenant.clone();
        if !self.tenants.contains_key(&tenant) {
            if self.tenants.len() >= MOST_TENANTS {
                return;
            }
            let found = endpoints(client, tenant.as_ref()).await;
            self.tenants.insert(tenant.clone(), found);
        }
        let Some(Some(endpoints)) = self.tenants.get(&tenant) else {
            return;
        };
        // As the API accepts it, so that its phone number is found in the same place.
        let of = tenant.clone().unwrap_or_default();
        let Ok(notification) = accept(draft.clone(), of, SystemClock.now(), None) else {
            return;
        };
        let phone_number = notification.phone_number();
        let mut subscribed = endpoints.iter().filter(|endpoint| {
            let subscription = &endpoint.subscription;
            subscription.wants(&notification.kind, phone_number.as_deref())
        });
        let disabled = match subscribed.next() {
            Some(first) if first.enabled || subscribed.any(|endpoint| endpoint.enabled) => return,
            found => found.is_some(),
        };
        let key = (tenant, notification.kind.to_string());
        if self.missed.len() >= MOST && !self.missed.contains_key(&key) {
            self.others += 1;
            return;
        }
        let missed = self.missed.entry(key).or_default();
        missed.notifications += 1;
        missed.disabled |= disabled;
    }

    /// What to say of what nobody gets.
    pub(super) fn warnings(&self) -> Vec<String> {
        let one = |((tenant, kind), missed): (&(Option<TenantId>, String), &Missed)| {
            let of = tenant
                .as_ref()
                .map(|tenant| format!(" of the tenant {tenant}"))
                .unwrap_or_default();
            let count = match missed.notifications {
                1 => String::new(),
                more => format!(" ({})", output::count(more, "notification")),
            };
            if missed.disabled {
                format!(
                    "warning: the endpoints{of} that subscribe to {kind} are disabled{count}, so \
                     it is delivered to no one, also once they are enabled again"
                )
            } else {
                format!(
                    "warning: no endpoint{of} subscribes to {kind}{count}, so it is delivered to \
                     no one; `posthaste endpoint list` shows who subscribes to what"
                )
            }
        };
        let mut all: Vec<String> = self.missed.iter().map(one).collect();
        if self.others > 0 {
            all.push(format!(
                "warning: nobody gets {} of other types, either",
                output::count(self.others, "notification")
            ));
        }
        all
    }
}

/// The endpoints of a tenant; without one, of the key's own, or of `default`. `None` where they
/// cannot be read: an endpoint of a newer version may be of a kind that is not known here.
async fn endpoints(client: &Client, tenant: Option<&TenantId>) -> Option<Vec<EndpointView>> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let page = page(client, tenant, cursor).await.ok()?;
        for item in items(&page) {
            all.push(serde_json::from_value(item.clone()).ok()?);
        }
        cursor = Some(text(&page, "next_cursor")).filter(|cursor| !cursor.is_empty());
        if cursor.is_none() {
            return Some(all);
        }
    }
}

async fn page(
    client: &Client,
    tenant: Option<&TenantId>,
    cursor: Option<String>,
) -> Result<Value, ApiError> {
    let query = [
        ("tenant", tenant.map(ToString::to_string)),
        ("limit", Some("500".to_owned())),
        ("cursor", cursor),
    ];
    client.get(&["v1", "endpoints"], &query).await
}
