//! The live workers, and how the limits of endpoints are divided among them. Pure: the store keeps
//! the membership ([`crate::store::workers`]), each worker's beat asks for it and admits by it.
//!
//! # The protocol
//!
//! An endpoint may have `max_in_flight` requests in flight over all workers together. Each live
//! worker has a [share](Members::share) of that, and the shares add up to the limit exactly. A
//! change of the membership takes the next number, the epoch. Workers learn of it one after the
//! other, so a share that grew is used only when nobody can still be using what it grew by:
//!
//! 1. A worker admits by the membership that it saw last, and never by an older one.
//! 2. It acknowledges that epoch with its next beat, except for the endpoints at which more is in
//!    flight than its share there: those follow when enough has ended ([`Standing::settle`]).
//! 3. A worker starts nothing at an endpoint until each member that joined before it has
//!    acknowledged, there, the epoch in which it joined ([`Members::is_ready`]), or is gone.
//! 4. A worker starts nothing when its lease has ended by its own, monotonic clock, counted from
//!    before it asked: the others may have divided its share among themselves.
//! 5. A worker leaves when nothing of it is in flight any more.
//!
//! Two properties of the shares make that enough, and the tests below show both. Who joins makes no
//! other share grow, and who leaves makes none shrink. And of two memberships, one gives every
//! worker that is in both at least as much as the other does. So, of members that are ready, let
//! each use its share in a membership of its own: one of these memberships gives all of them at
//! least what they use, and its shares add up to the limit.
//!
//! What it cannot promise: a worker that cannot renew its lease, as it is frozen or cut off from
//! the store, may still have requests in flight when the lease has ended, beside those that the
//! others start in its place. A killed worker has none. A worker that was started again is another
//! one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::id::EndpointId;
use super::time::Timestamp;
use crate::chance;

/// The most endpoints that a worker acknowledges an epoch without: with more, it does not
/// acknowledge the epoch yet. Bounds what a beat writes.
pub const MAX_EXCEPTIONS: usize = 1_000;

/// One run of a worker. A worker that is started again has another, also under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub Uuid);

impl WorkerId {
    /// A new id.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        // The random part is that of `chance`: shares of limits go by the order of workers' ids.
        let millis = u64::try_from(now.as_micros() / 1_000).unwrap_or(0);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&chance::bits().to_be_bytes());
        random[8..].copy_from_slice(&chance::bits().to_be_bytes()[..2]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

impl std::fmt::Display for WorkerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which membership a worker keeps to: it starts nothing above its shares there, and has nothing
/// more in flight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The epoch of that membership. 0: none yet, as the worker has just begun.
    pub epoch: i64,
    /// The endpoints at which more is in flight than its share, each with the epoch that it
    /// acknowledged there; at most [`MAX_EXCEPTIONS`].
    pub except: BTreeMap<EndpointId, i64>,
}

impl Acknowledged {
    /// The epoch that is acknowledged for that endpoint.
    #[must_use]
    pub fn at(&self, endpoint: &EndpointId) -> i64 {
        self.except.get(endpoint).copied().unwrap_or(self.epoch)
    }

    /// What is acknowledged when at the endpoints `over`, and at no others, more is in flight than
    /// the shares of the membership of `epoch` allow.
    fn next(&self, epoch: i64, over: impl IntoIterator<Item = EndpointId>) -> Self {
        let mut except = BTreeMap::new();
        for endpoint in over {
            if except.len() == MAX_EXCEPTIONS {
                return self.clone();
            }
            let acknowledged = self.at(&endpoint);
            except.insert(endpoint, acknowledged);
        }
        Self { epoch, except }
    }
}

/// A live worker, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The run of the worker.
    pub id: WorkerId,
    /// What its operator calls the worker.
    pub name: String,
    /// The first epoch that the worker is a member in.
    pub joined: i64,
    /// The membership that it keeps to.
    pub acknowledged: Acknowledged,
}

/// The membership in one epoch, as one of its members was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// The member that was told.
    pub me: WorkerId,
    /// The first epoch that this member is a member in. Greater than before: its lease had ended,
    /// and it joined anew.
    pub joined: i64,
    /// The number of the membership: it grows when a worker joins, leaves or is dropped.
    pub epoch: i64,
    /// The live workers, this one included, in the order of their ids.
    pub live: Vec<Member>,
}

impl Members {
    /// How many of an endpoint's `limit` requests in flight are this worker's. The shares of the
    /// members are equal, and add up to `limit`; what is left over goes, one each, to the members
    /// that rendezvous hashing of endpoint and worker puts first.
    #[must_use]
    pub fn share(&self, endpoint: &EndpointId, limit: u32) -> u32 {
        let count = u32::try_from(self.live.len()).unwrap_or(u32::MAX).max(1);
        let (each, left) = (limit / count, limit % count);
        if left == 0 {
            return each;
        }
        let mine = rank(self.me, endpoint);
        let before = self.live.iter().map(|member| rank(member.id, endpoint));
        let before = before.filter(|other| *other > mine).count();
        each + u32::from(u32::try_from(before).is_ok_and(|before| before < left))
    }

    /// Whether this worker may use its share at that endpoint: all that were members before it
    /// keep to a membership with it in.
    #[must_use]
    pub fn is_ready(&self, endpoint: &EndpointId) -> bool {
        self.live
            .iter()
            .filter(|member| member.joined < self.joined)
            .all(|member| member.acknowledged.at(endpoint) >= self.joined)
    }

    /// Whether [`Members::is_ready`] at every endpoint.
    #[must_use]
    pub fn is_ready_everywhere(&self) -> bool {
        self.live
            .iter()
            .filter(|member| member.joined < self.joined)
            .all(|member| {
                let acknowledged = &member.acknowledged;
                acknowledged.epoch >= self.joined
                    && acknowledged
                        .except
                        .values()
                        .all(|epoch| *epoch >= self.joined)
            })
    }
}

/// Where a worker comes for what is left over at an endpoint; the greatest first. Worker ids tell
/// equal hashes apart.
fn rank(worker: WorkerId, endpoint: &EndpointId) -> (u64, WorkerId) {
    let hash = Sha256::new()
        .chain_update(worker.0.as_bytes())
        .chain_update(endpoint.as_str().as_bytes())
        .finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    (u64::from_be_bytes(first), worker)
}

/// A worker's place in the membership, from beat to beat: what it may start, and what it
/// acknowledges. Its times count from a moment of the worker's choice, by a clock that never goes
/// back.
#[derive(Debug, Default)]
pub struct Standing {
    members: Option<Members>,
    acknowledged: Acknowledged,
    lease_end: Duration,
}

impl Standing {
    /// What the next beat acknowledges.
    #[must_use]
    pub const fn acknowledged(&self) -> &Acknowledged {
        &self.acknowledged
    }

    /// The membership that was seen last.
    #[must_use]
    pub const fn members(&self) -> Option<&Members> {
        self.members.as_ref()
    }

    /// A beat was answered: from now on `members` counts, until `lease` has passed since `asked`,
    /// the moment before the beat was sent. To be followed by [`Standing::settle`].
    pub fn see(&mut self, members: Members, asked: Duration, lease: Duration) {
        // An answer that was overtaken by a later one is of no use: memberships only go forward.
        if self
            .members
            .as_ref()
            .is_none_or(|seen| seen.epoch <= members.epoch)
        {
            self.members = Some(members);
            self.lease_end = self.lease_end.max(asked.saturating_add(lease));
        }
    }

    /// Acknowledges the membership that was seen last, except for `over`: all endpoints at which
    /// this worker has more in flight than its share there ([`Members::share`]).
    pub fn settle(&mut self, over: impl IntoIterator<Item = EndpointId>) {
        if let Some(members) = &self.members {
            self.acknowledged = self.acknowledged.next(members.epoch, over);
        }
    }

    /// Whether the lease runs: before the first beat was answered, and after a lease that was not
    /// renewed, this worker starts nothing.
    #[must_use]
    pub fn holds(&self, now: Duration) -> bool {
        now < self.lease_end
    }
}

#[cfg(test)]
mod tests;
