//! Whether something keeps an endpoint from one more request, and for how long.

use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;

use super::{Block, Policy, Tenant};
use crate::pipeline::admit::terms::{From, Moment, PATIENCE, PRESSED_PATIENCE, SLOT_PATIENCE};

/// This part of a tenant's slots is a reserve, of which no endpoint gets much.
const RESERVE: usize = 4;
/// This part of the reserve's free slots an endpoint gets at the most.
const OF_RESERVE: usize = 8;
/// A tenant gets this many times as many slots as are free: alone eight ninths of all.
const TENANT_SHARE: f64 = 8.0;
/// While the window is pressed, an endpoint may hold work in line for long only if it completes
/// this part of what the worker completes.
const MAIN: u32 = 8;

impl<W> Policy<W> {
    /// What keeps the lane from one more request.
    pub(super) fn block(&mut self, key: usize, from: From, now: Moment) -> Option<Block> {
        let free = self.rules.slots - self.in_flight;
        let lane = &mut self.lanes[key];
        if !lane.settled || !self.standing.holds(now) {
            return Some(Block::Unsettled);
        }
        let mut limit = lane.limit(now);
        if lane.backlogged && from != From::Store {
            // Rounded up: with a limit of one, fresh work would otherwise get nothing until the
            // backlog is gone.
            limit = limit.div_ceil(2);
        }
        if lane.in_flight >= limit {
            return Some(Block::Own);
        }
        if !lane.pace.may(now) {
            return Some(Block::Turn);
        }
        if free == 0 {
            return Some(Block::Slots);
        }
        let in_flight = lane.in_flight;
        let tenant = &self.tenants[lane.tenant];
        let more = self.left(tenant);
        if more == 0 {
            return Some(Block::Tenant);
        }
        // k endpoints of it that hang get x each, where x = more - all / 4 and more = all - k * x:
        // three quarters of what the tenant may have, divided by k + 1. Of the last quarter an
        // endpoint gets an eighth of what is left.
        let all = tenant.in_flight + more;
        let above_reserve = more.saturating_sub(all / RESERVE);
        if in_flight < above_reserve.max(more.div_ceil(OF_RESERVE)) {
            return None;
        }
        // Of what the tenant's limit allows, or of what the slots leave it.
        let by_limit = self.rules.tenant_limit.is_some_and(|limit| all >= limit);
        Some(if by_limit {
            Block::TenantShare
        } else {
            Block::Share
        })
    }

    /// How many more requests the tenant may have.
    pub(super) fn left(&self, tenant: &Tenant) -> usize {
        let free = self.rules.slots - self.in_flight;
        // `in_flight + more` is to be `share * (free - more)`.
        let share = TENANT_SHARE * tenant.weight;
        let more = (share * free as f64 - tenant.in_flight as f64) / (1.0 + share);
        // Rounded up: while any slot is free, a tenant without requests may have at least one.
        let more = more.max(0.0).ceil() as usize;
        let limit = self.rules.tenant_limit.unwrap_or(usize::MAX);
        more.min(limit.saturating_sub(tenant.in_flight))
    }

    /// How long one more delivery would wait.
    pub(super) fn expected(
        &mut self,
        key: usize,
        from: From,
        block: Block,
        now: Moment,
    ) -> Duration {
        let lane = &mut self.lanes[key];
        let ahead = u32::try_from(lane.line.ahead(from) + 1).unwrap_or(u32::MAX);
        let mut limit = match block {
            Block::Share | Block::TenantShare | Block::Tenant => lane.in_flight.max(1),
            _ => lane.limit(now).max(1),
        };
        if lane.backlogged && from != From::Store {
            limit = limit.div_ceil(2);
        }
        let service = lane.service(limit, now);
        // What waits for its turn alone has a free slot, and waits for no other request to end.
        let free = u32::try_from(limit.saturating_sub(lane.in_flight)).unwrap_or(u32::MAX);
        let behind = ahead.saturating_sub(free);
        let by_limit = service.saturating_mul(behind) / u32::try_from(limit).unwrap_or(u32::MAX);
        let by_turn = lane.pace.wait(ahead, now);
        let stalled = match block {
            // A tenant none of whose requests ends: whoever waits for it holds a message that the
            // broker could hand to another tenant's work.
            Block::Tenant => now.saturating_sub(self.tenants[lane.tenant].progress) * 8,
            // While every slot is taken, parking would cost the store two writes and bring nobody
            // forward. And nobody knows how long another worker takes to give up its share.
            Block::Slots | Block::Unsettled => return Duration::ZERO,
            _ => Duration::ZERO,
        };
        by_limit.max(by_turn).max(stalled)
    }

    /// How long fresh work may wait.
    pub(super) fn patience(&mut self, key: usize, block: Block, now: Moment) -> Duration {
        if matches!(block, Block::Slots | Block::Unsettled) {
            return SLOT_PATIENCE;
        }
        let pressed = self.waiting_fresh * 2 >= self.rules.window;
        let all = self.done.sum(now);
        let lane = &mut self.lanes[key];
        if pressed && lane.done.sum(now).saturating_mul(MAIN) < all {
            PRESSED_PATIENCE
        } else {
            PATIENCE
        }
    }

    pub(super) fn name(&self, block: Block) -> Hold {
        match block {
            Block::Own | Block::Unsettled => Hold::MaxInFlight,
            Block::Turn => Hold::RateLimit,
            Block::TenantShare => Hold::Tenant,
            Block::Tenant if self.rules.tenant_limit.is_some() => Hold::Tenant,
            Block::Slots | Block::Share | Block::Tenant => Hold::Slots,
        }
    }
}
