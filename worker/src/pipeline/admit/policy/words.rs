//! What goes into the policy and what comes out of it.

use std::collections::HashMap;
use std::sync::Arc;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::id::{EndpointId, TenantId};

use crate::pipeline::admit::breaker::BreakerRules;

/// What admission keeps to.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The most requests in flight, 1 to 65,536.
    pub slots: usize,
    /// The most messages of the broker that the worker holds.
    pub window: usize,
    /// The most requests of one tenant. `None`: no limit but its share.
    pub tenant_limit: Option<usize>,
    /// The weights of tenants in their shares; 1 for those that are not in it.
    pub weights: Arc<HashMap<TenantId, f64>>,
    /// When breakers open.
    pub breaker: BreakerRules,
}

impl Rules {
    /// For a number of slots, with the defaults for everything else.
    #[must_use]
    pub fn of_slots(slots: usize) -> Self {
        Self {
            slots,
            window: slots.saturating_mul(2),
            tenant_limit: None,
            weights: Arc::default(),
            breaker: BreakerRules::default(),
        }
    }
}

/// An endpoint as an arrival finds it.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The endpoint.
    pub endpoint: &'a EndpointId,
    /// The tenant that owns it.
    pub tenant: &'a TenantId,
    /// The most requests under way to it, over all workers.
    pub max_in_flight: usize,
    /// Its own rate limit.
    pub rate: Option<f64>,
}

/// The answer to an arrival.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It goes, and has a slot of this lane.
    Go(usize),
    /// It is to be parked.
    Park(Hold),
    /// It is in line, under this ticket, in this lane.
    Line(usize, u64),
}

/// What becomes of work in line.
#[derive(Debug)]
pub enum Decision<W> {
    /// It goes, and has a slot of this lane.
    Go(W, usize),
    /// It is to be parked.
    Park(W, Hold),
}

/// Why nothing of a lane goes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// Another worker may still be using this one's share of it.
    Unsettled,
    /// Its own limit.
    Own,
    /// Its next turn under its rate has not come.
    Turn,
    /// No slot is free.
    Slots,
    /// It has its share of the slots.
    Share,
    /// It has its share of what its tenant's limit allows.
    TenantShare,
    /// Its tenant has what it may have.
    Tenant,
}
