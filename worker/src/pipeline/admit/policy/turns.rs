//! Who is next when something becomes free, and who has waited for too long.

use std::cmp::Reverse;
use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;

use super::{Block, Decision, Policy, TRIES, step};
use crate::pipeline::admit::terms::{From, Moment, SLOT_PATIENCE};

/// A longer time between two looks means that the worker itself stood still.
const STOOD_STILL: Duration = Duration::from_millis(500);

impl<W> Policy<W> {
    /// Puts a lane in its tenant's ring, if it has work in line.
    pub(super) fn offer(&mut self, key: usize) {
        let lane = &mut self.lanes[key];
        if lane.in_ring || lane.line.is_empty() {
            return;
        }
        lane.in_ring = true;
        let tenant = &mut self.tenants[lane.tenant];
        if tenant.ring.is_empty() {
            // One that had nothing to do for long does not come before all others for as long.
            tenant.time = tenant.time.max(self.time);
            self.ready.insert((tenant.time, lane.tenant));
        }
        tenant.ring.push_back(key);
    }

    /// Has the lane tried again at its next turn, and more turns reserved if that is worth it.
    pub(super) fn await_turn(&mut self, key: usize, now: Moment) {
        let lane = &mut self.lanes[key];
        if lane.line.is_empty() {
            return;
        }
        if lane.turns_wanted(now) > 0 {
            self.turnless.insert(key);
        }
        if !lane.in_turns
            && let Some(next) = lane.pace.next(now)
        {
            lane.in_turns = true;
            self.turns.push(Reverse((next, key)));
        }
    }

    /// Gives out what is free: tenants by their weights, the endpoints of one in turn.
    pub(super) fn pump(&mut self, now: Moment, tries: usize, out: &mut Vec<Decision<W>>) {
        // Put back at the end, or the same one would be tried again and again.
        let mut in_vain = Vec::new();
        let mut full = Vec::new();
        while in_vain.len() < tries {
            let Some((time, index)) = self.ready.pop_first() else {
                break;
            };
            let Some(key) = self.tenants[index].ring.pop_front() else {
                continue;
            };
            self.lanes[key].in_ring = false;
            let block = self.grant(key, now, out);
            let tenant = &mut self.tenants[index];
            tenant.time = time;
            match block {
                None => {
                    self.time = self.time.max(time);
                    tenant.time += step(tenant.weight);
                    if !self.lanes[key].line.is_empty() {
                        self.lanes[key].in_ring = true;
                        tenant.ring.push_back(key);
                    }
                }
                // Its own requests offer it again when they end.
                Some(Block::Own) => {}
                Some(Block::Turn) => self.await_turn(key, now),
                Some(
                    Block::Unsettled
                    | Block::Slots
                    | Block::Share
                    | Block::TenantShare
                    | Block::Tenant,
                ) => in_vain.push(key),
            }
            let ring = &self.tenants[index].ring;
            match block {
                _ if ring.is_empty() => {}
                // The others of this tenant would try in vain, too.
                Some(Block::Tenant) => full.push(index),
                _ => {
                    self.ready.insert((self.tenants[index].time, index));
                }
            }
            if block == Some(Block::Slots) {
                break;
            }
        }
        for index in full {
            self.ready.insert((self.tenants[index].time, index));
        }
        for key in in_vain {
            self.offer(key);
        }
    }

    /// Lets the next in line of a lane go, or says why not.
    pub(super) fn grant(
        &mut self,
        key: usize,
        now: Moment,
        out: &mut Vec<Decision<W>>,
    ) -> Option<Block> {
        if let Some(block) = self.block(key, From::Store, now) {
            return Some(block);
        }
        let fresh_may = self.block(key, From::Broker, now).is_none();
        let Some((from, waiter)) = self.lanes[key].line.pop(fresh_may) else {
            return Some(Block::Own);
        };
        self.uncount(key, from);
        self.begin(key, now);
        out.push(Decision::Go(waiter.whom, key));
        None
    }

    /// Looks at all lanes with work in line.
    pub(super) fn look(&mut self, now: Moment, out: &mut Vec<Decision<W>>) {
        let gap = now.saturating_sub(self.looked);
        self.looked = now;
        let keys: Vec<usize> = self.lined.iter().copied().collect();
        for key in keys {
            let Some(lane) = self.lanes.get_mut(key) else {
                self.lined.remove(&key);
                continue;
            };
            if lane.line.is_empty() {
                self.lined.remove(&key);
                continue;
            }
            if gap > STOOD_STILL {
                // The endpoints did not get their chance.
                lane.line.forgive(gap);
            }
            self.offer(key);
        }
        self.pump(now, self.lanes.len().max(TRIES), out);
        let keys: Vec<usize> = self.lined.iter().copied().collect();
        for key in keys {
            self.give_up(key, now, out);
        }
    }

    /// Parks what has waited for too long.
    pub(super) fn give_up(&mut self, key: usize, now: Moment, out: &mut Vec<Decision<W>>) {
        let Some(block) = self.block(key, From::Broker, now) else {
            return;
        };
        let patience = self.patience(key, block, now);
        let why = self.lanes[key].held(now).unwrap_or(self.name(block));
        for (from, patience) in [
            (From::Broker, patience),
            (From::BrokerFirst, patience),
            (From::Store, SLOT_PATIENCE),
        ] {
            let Some(since) = now.checked_sub(patience) else {
                continue;
            };
            while let Some(waiter) = self.lanes[key].line.pop_older(from, since) {
                self.uncount(key, from);
                out.push(Decision::Park(waiter.whom, why));
            }
        }
    }

    pub(super) fn park_line(&mut self, key: usize, why: Hold, out: &mut Vec<Decision<W>>) {
        while let Some((from, waiter)) = self.lanes[key].line.pop(true) {
            self.uncount(key, from);
            out.push(Decision::Park(waiter.whom, why));
        }
    }
}
