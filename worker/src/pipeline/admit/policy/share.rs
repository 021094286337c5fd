//! What this worker may use of endpoints' limits, which hold over all workers: a share of
//! `max_in_flight` by the membership, and turns under a rate limit from the store.

use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::members::{Acknowledged, Members};
use posthaste_shared::store::turns::TurnDemand;

use super::{Decision, Policy, TRIES};
use crate::pipeline::admit::lane::Lane;
use crate::pipeline::admit::pace::Run;
use crate::pipeline::admit::terms::Moment;

impl<W> Policy<W> {
    /// What the next beat acknowledges: the membership that was seen last, except for endpoints at
    /// which more is in flight than this worker's share.
    pub fn acknowledge(&mut self) -> Acknowledged {
        let over = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.in_flight > lane.max_in_flight)
            .map(|(_, lane)| lane.id.clone());
        self.standing.settle(over);
        self.standing.acknowledged().clone()
    }

    /// A beat was answered, that was sent at `asked`: the shares are those of `members`.
    pub fn see(
        &mut self,
        members: Members,
        (asked, lease): (Moment, Duration),
        now: Moment,
        out: &mut Vec<Decision<W>>,
    ) {
        let seen = self.standing.members().map(|members| members.epoch);
        let changed = seen != Some(members.epoch);
        self.standing.see(members, asked, lease);
        // Mostly nothing changed since the last beat. Then thousands of endpoints have the shares
        // that they had, and only those are looked at that somebody else may still be using.
        let concerned = |(key, lane): (usize, &Lane<W>)| (changed || !lane.settled).then_some(key);
        let keys: Vec<usize> = self.lanes.iter().filter_map(concerned).collect();
        for key in keys {
            self.share(key);
            let lane = &self.lanes[key];
            if lane.settled && lane.max_in_flight == 0 {
                self.park_line(key, Hold::MaxInFlight, out);
            }
            self.offer(key);
        }
        // What waited for the lease to be renewed is in its rings, and goes now.
        let tries = self.lanes.len().max(TRIES);
        self.pump(now, tries, out);
    }

    /// Whether this worker has a share of every endpoint that it knows, and has told the others so:
    /// then nothing is to be done before the next beat.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let Some(members) = self.standing.members() else {
            return false;
        };
        let acknowledged = self.standing.acknowledged();
        acknowledged.epoch == members.epoch
            && acknowledged.except.is_empty()
            && self.lanes.iter().all(|(_, lane)| lane.settled)
            && members.is_ready_everywhere()
    }

    /// Divides the lane's `max_in_flight`.
    pub(super) fn share(&mut self, key: usize) {
        let lane = &mut self.lanes[key];
        let Some(members) = self.standing.members() else {
            return;
        };
        let limit = u32::try_from(lane.of_all).unwrap_or(u32::MAX);
        lane.max_in_flight = members.share(&lane.id, limit) as usize;
        lane.settled = members.is_ready(&lane.id);
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> u32 {
        let live = self
            .standing
            .members()
            .map_or(1, |members| members.live.len());
        u32::try_from(live).unwrap_or(u32::MAX).max(1)
    }

    /// Whether there are turns to be reserved.
    #[must_use]
    pub fn needs_turns(&self) -> bool {
        !self.turnless.is_empty()
    }

    /// The turns that are to be reserved now. Each is to be answered by [`Policy::take_turns`].
    pub fn demands(&mut self, now: Moment) -> Vec<TurnDemand> {
        let mut demands = Vec::new();
        for key in self.turnless.drain() {
            let Some(lane) = self.lanes.get_mut(key) else {
                continue;
            };
            let turns = lane.turns_wanted(now);
            if let Some(rate_per_second) = lane.pace.rate().filter(|_| turns > 0) {
                lane.pace.ask();
                demands.push(TurnDemand {
                    endpoint: lane.id.clone(),
                    rate_per_second,
                    turns,
                });
            }
        }
        demands
    }

    /// Turns of an endpoint were reserved; `None`: they could not be, and are asked for again.
    pub fn take_turns(
        &mut self,
        endpoint: &EndpointId,
        run: Option<Run>,
        now: Moment,
        out: &mut Vec<Decision<W>>,
    ) {
        let Some(key) = self.by_endpoint.get(endpoint).copied() else {
            return;
        };
        self.lanes[key].pace.answered(run);
        self.await_turn(key, now);
        self.offer(key);
        self.pump(now, TRIES, out);
    }
}
