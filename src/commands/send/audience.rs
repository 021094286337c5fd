//! Whether anybody will get what was sent. A notification that no endpoint subscribes to is
//! accepted all the same, so whoever sends one by hand would wait in vain.

use posthaste_producer::enqueue::accept;
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::view::EndpointView;
use serde_json::Value;

use crate::client::{ApiError, Client};
use crate::output::{items, text};

/// What to say when no enabled endpoint subscribes to this notification; `None` when one does, or
/// when it cannot be known, as with a key that may only enqueue.
pub(super) async fn warning(client: &Client, draft: &NotificationDraft) -> Option<String> {
    // The API refuses an endpoint that does not exist, so this one is delivered to.
    if draft.endpoint_id.is_some() {
        return None;
    }
    let tenant = draft.tenant.clone();
    let of = tenant
        .as_ref()
        .map(|tenant| format!(" of the tenant {tenant}"))
        .unwrap_or_default();
    // As the API accepts it, so that its phone number is found in the same place.
    let notification = accept(
        draft.clone(),
        tenant.clone().unwrap_or_default(),
        SystemClock.now(),
        None,
    )
    .ok()?;
    let phone_number = notification.phone_number();
    let mut cursor = None;
    let mut disabled = false;
    loop {
        let page = page(client, tenant.as_ref().map(ToString::to_string), cursor)
            .await
            .ok()?;
        for item in items(&page) {
            // An endpoint of a newer version may be of a kind that is not known here: it may
            // subscribe.
            let endpoint: EndpointView = serde_json::from_value(item.clone()).ok()?;
            if endpoint
                .subscription
                .wants(&notification.kind, phone_number.as_deref())
            {
                if endpoint.enabled {
                    return None;
                }
                disabled = true;
            }
        }
        cursor = Some(text(&page, "next_cursor")).filter(|cursor| !cursor.is_empty());
        if cursor.is_none() {
            break;
        }
    }
    let kind = &notification.kind;
    Some(if disabled {
        format!(
            "warning: the endpoints{of} that subscribe to {kind} are disabled: nothing is sent \
             before one is enabled"
        )
    } else {
        format!(
            "warning: no endpoint{of} subscribes to {kind}, so it is delivered to no one; \
             `posthaste endpoint list` shows who subscribes to what"
        )
    })
}

/// Without a tenant the key's own counts, or `default`.
async fn page(
    client: &Client,
    tenant: Option<String>,
    cursor: Option<String>,
) -> Result<Value, ApiError> {
    let query = [
        ("tenant", tenant),
        ("limit", Some("500".to_owned())),
        ("cursor", cursor),
    ];
    client.get(&["v1", "endpoints"], &query).await
}
