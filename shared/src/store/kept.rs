//! Notifications with several deliveries, kept in memory for a while: a retry of one delivery then
//! reads the delivery alone. Else a notification with a thousand recipients would be read, and
//! understood, a thousand times.

use std::sync::Arc;

use moka::sync::Cache;

use crate::domain::id::{NotificationId, TenantId};
use crate::domain::notification::Notification;
use crate::domain::time::Timestamp;

/// The most memory that they take, in bytes, by estimate. What does not fit is read again.
const MEMORY: u64 = 64 * 1024 * 1024;
/// What a text takes once it was read, beside itself: it becomes maps and lists.
const READ: usize = 6;
/// What a notification takes beside its texts.
const FIXED: usize = 1024;

/// The notifications. Cheap to clone.
#[derive(Clone)]
pub(super) struct Kept(Cache<(TenantId, NotificationId), Arc<Notification>>);

impl Default for Kept {
    fn default() -> Self {
        let weigh =
            |_: &(TenantId, NotificationId), notification: &Arc<Notification>| weight(notification);
        Self(Cache::builder().max_capacity(MEMORY).weigher(weigh).build())
    }
}

impl Kept {
    /// The notification of that name which was accepted then. Once retention has removed it,
    /// another may be enqueued under its name, by another process too: it was accepted at another
    /// time.
    pub(super) fn get(
        &self,
        name: &(TenantId, NotificationId),
        accepted_at: Timestamp,
    ) -> Option<Arc<Notification>> {
        self.0
            .get(name)
            .filter(|known| known.accepted_at == accepted_at)
    }

    /// Whether it is this very one, from this message, that was put here.
    pub(super) fn has(&self, notification: &Arc<Notification>) -> bool {
        self.0
            .get(&name(notification))
            .is_some_and(|known| Arc::ptr_eq(&known, notification))
    }

    /// Keeps a notification as it is in the database.
    pub(super) fn put(&self, notification: &Arc<Notification>) {
        self.0.insert(name(notification), Arc::clone(notification));
    }
}

fn name(notification: &Notification) -> (TenantId, NotificationId) {
    (notification.tenant.clone(), notification.id.clone())
}

fn weight(notification: &Notification) -> u32 {
    let members = [
        Some(&notification.payload),
        notification.recipient.as_ref(),
        notification.overrides.as_ref(),
    ];
    let texts: usize = members
        .into_iter()
        .flatten()
        .map(|json| json.as_str().len())
        .sum();
    u32::try_from(FIXED + texts.saturating_mul(1 + READ)).unwrap_or(u32::MAX)
}
