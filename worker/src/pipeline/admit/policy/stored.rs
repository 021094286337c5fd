//! What it is worth taking out of the store.

use std::collections::HashSet;
use std::time::Duration;

use posthaste_shared::domain::id::EndpointId;

use super::{Policy, Terms};
use crate::pipeline::admit::terms::Moment;

/// This part of the slots, or of those that a tenant may have, is worth taking out of the store
/// beyond those that are free: it waits in line.
const IN_LINE: usize = 8;
/// For how long work that is taken out of the store is to keep its endpoint busy.
const AHEAD: Duration = Duration::from_millis(500);
/// How long what is known of an endpoint is kept after its last request.
const MEMORY: Duration = Duration::from_secs(120);

impl<W> Policy<W> {
    /// How many deliveries it is worth taking out of the store now, for all endpoints together: as
    /// many as there are free slots, and some that wait in line for one.
    #[must_use]
    pub fn worth_taking(&self) -> usize {
        (self.rules.slots - self.in_flight + self.rules.slots.div_ceil(IN_LINE))
            .saturating_sub(self.waiting_stored)
    }

    /// How many parked deliveries of the endpoint it is worth taking out of the store: as many as
    /// keep it busy for the next half second, and no more than its tenant has slots for, of which
    /// `taken` are being taken already.
    pub fn room(&mut self, terms: &Terms<'_>, taken: usize, now: Moment) -> usize {
        let key = self.known_lane(terms, now);
        let of_endpoint = self.room_of_endpoint(key, now);
        // What is taken out and finds that its tenant has its share is parked again: two writes for
        // nothing, again and again while a tenant has more hanging endpoints than slots.
        let tenant = &self.tenants[self.lanes[key].tenant];
        let left = self.left(tenant);
        // One at the least: while others have every slot, a tenant that has none must be in line
        // for the next.
        let in_line = (tenant.in_flight + left).div_ceil(IN_LINE).max(1);
        of_endpoint.min((left + in_line).saturating_sub(tenant.waiting_stored + taken))
    }

    fn known_lane(&mut self, terms: &Terms<'_>, now: Moment) -> usize {
        let known = self.by_endpoint.contains_key(terms.endpoint);
        let key = self.lane(terms, now);
        if !known {
            // Nothing is known of it, and work has piled up: it may have been away.
            self.lanes[key].limit.slow_start(now);
        }
        key
    }

    fn room_of_endpoint(&mut self, key: usize, now: Moment) -> usize {
        let workers = self.workers();
        let standing = self.standing.holds(now);
        let lane = &mut self.lanes[key];
        if !standing || !lane.settled || lane.max_in_flight == 0 || lane.held(now).is_some() {
            return 0;
        }
        let limit = lane.limit(now);
        if !lane.breaker.is_closed() {
            // The probe, and nobody behind it.
            return 1;
        }
        let taken = lane.in_flight + lane.line.stored();
        let service = lane.service(limit, now);
        let ahead = if service.is_zero() {
            limit
        } else {
            (limit as f64 * AHEAD.as_secs_f64() / service.as_secs_f64()) as usize
        };
        let room = (limit + ahead).saturating_sub(taken);
        match lane.pace.spacing() {
            None => room,
            Some(spacing) => {
                // The others take as many, and turns are given to all in the order of asking.
                let wait = lane.pace.wait(1, now);
                let spacing = spacing.saturating_mul(workers).as_secs_f64();
                let turns = AHEAD.saturating_sub(wait).as_secs_f64() / spacing;
                room.min((turns.ceil() as usize).saturating_sub(lane.line.stored()))
            }
        }
    }

    /// Notes whether the endpoint has parked work.
    pub fn note_backlog(&mut self, endpoint: &EndpointId, backlogged: bool) {
        if let Some(key) = self.by_endpoint.get(endpoint).copied() {
            self.lanes[key].backlogged = backlogged;
            self.offer(key);
        }
    }

    /// Forgets every backlog except those of `endpoints`, and endpoints that were not called for
    /// long.
    pub fn keep_backlogs(&mut self, endpoints: &HashSet<&EndpointId>, now: Moment) {
        self.pauses.retain(|_, (until, _)| *until > now);
        let mut gone = Vec::new();
        for (key, lane) in &mut self.lanes {
            if lane.backlogged && !endpoints.contains(&lane.id) {
                lane.backlogged = false;
            }
            if lane.is_idle(now, MEMORY) {
                gone.push(key);
            }
        }
        for key in gone {
            let lane = self.lanes.remove(key);
            self.lined.remove(&key);
            self.turnless.remove(&key);
            self.by_endpoint.remove(&lane.id);
            let tenant = &mut self.tenants[lane.tenant];
            tenant.lanes -= 1;
            if tenant.lanes == 0 {
                self.ready.remove(&(tenant.time, lane.tenant));
                let tenant = self.tenants.remove(lane.tenant);
                self.by_tenant.remove(&tenant.id);
            }
        }
    }
}
