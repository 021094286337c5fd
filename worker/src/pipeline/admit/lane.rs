//! One endpoint in admission: its requests under way, its work in line, and what is known of how
//! it answers.

use std::collections::VecDeque;
use std::time::Duration;

use posthaste_shared::domain::delivery::Hold;
use posthaste_shared::domain::id::EndpointId;

use super::breaker::Breaker;
use super::limit::Limit;
use super::pace::Pace;
use super::terms::{From, Moment};

/// A delivery in line.
#[derive(Debug)]
pub(super) struct Waiter<W> {
    pub(super) ticket: u64,
    pub(super) since: Moment,
    pub(super) whom: W,
}

/// The queues of a lane, in the order of their first letter's claim: see [`Line::pop`].
#[derive(Debug)]
pub(super) struct Line<W> {
    /// From the broker, `high` priority.
    high: VecDeque<Waiter<W>>,
    /// From the broker.
    fresh: VecDeque<Waiter<W>>,
    /// From the store.
    stored: VecDeque<Waiter<W>>,
    /// Counts the turns, so that `high` does not keep the others waiting for ever.
    turn: u8,
    /// Of the other two the last that went was one from the store.
    stored_went: bool,
}

impl<W> Line<W> {
    const fn new() -> Self {
        Self {
            high: VecDeque::new(),
            fresh: VecDeque::new(),
            stored: VecDeque::new(),
            turn: 0,
            stored_went: false,
        }
    }

    pub(super) fn push(&mut self, from: From, waiter: Waiter<W>) {
        match from {
            From::BrokerFirst => self.high.push_back(waiter),
            From::Broker => self.fresh.push_back(waiter),
            From::Store => self.stored.push_back(waiter),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.high.len() + self.fresh.len() + self.stored.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn fresh(&self) -> usize {
        self.high.len() + self.fresh.len()
    }

    pub(super) fn stored(&self) -> usize {
        self.stored.len()
    }

    /// How many go before another one that comes from there.
    pub(super) fn ahead(&self, from: From) -> usize {
        match from {
            From::BrokerFirst => self.high.len(),
            From::Broker => self.fresh() + self.stored.len().min(self.fresh.len()),
            From::Store => self.stored.len() + self.fresh().min(self.stored.len()),
        }
    }

    /// The next to go. `high` comes first, except for every fourth turn; fresh work and work from
    /// the store take turns, so that retries do not starve first attempts, nor the other way round.
    pub(super) fn pop(&mut self, fresh_may: bool) -> Option<(From, Waiter<W>)> {
        self.turn = self.turn.wrapping_add(1);
        let high_first = !self.turn.is_multiple_of(4);
        let mut order = [From::Broker, From::Store];
        if !self.stored_went {
            order.reverse();
        }
        let order = if high_first {
            [From::BrokerFirst, order[0], order[1]]
        } else {
            [order[0], order[1], From::BrokerFirst]
        };
        let (from, waiter) = order
            .into_iter()
            .filter(|from| fresh_may || *from == From::Store)
            .find_map(|from| Some((from, self.queue(from).pop_front()?)))?;
        if from != From::BrokerFirst {
            self.stored_went = from == From::Store;
        }
        Some((from, waiter))
    }

    /// Takes out whoever has waited since before `since`.
    pub(super) fn pop_older(&mut self, from: From, since: Moment) -> Option<Waiter<W>> {
        let queue = self.queue(from);
        if queue.front()?.since > since {
            return None;
        }
        queue.pop_front()
    }

    /// Takes out one that no longer wants to wait.
    pub(super) fn remove(&mut self, from: From, ticket: u64) -> Option<Waiter<W>> {
        let queue = self.queue(from);
        // Tickets grow, so the queue is ordered by them.
        let index = queue
            .binary_search_by_key(&ticket, |waiter| waiter.ticket)
            .ok()?;
        queue.remove(index)
    }

    /// Lets everybody wait longer: the worker itself stood still for so long.
    pub(super) fn forgive(&mut self, gap: Duration) {
        let all = self
            .high
            .iter_mut()
            .chain(&mut self.fresh)
            .chain(&mut self.stored);
        for waiter in all {
            waiter.since += gap;
        }
    }

    fn queue(&mut self, from: From) -> &mut VecDeque<Waiter<W>> {
        match from {
            From::BrokerFirst => &mut self.high,
            From::Broker => &mut self.fresh,
            From::Store => &mut self.stored,
        }
    }
}

/// One endpoint.
#[derive(Debug)]
pub(super) struct Lane<W> {
    pub(super) id: EndpointId,
    pub(super) tenant: usize,
    /// The endpoint's `max_in_flight`, over all workers.
    pub(super) of_all: usize,
    /// This worker's share of it.
    pub(super) max_in_flight: usize,
    /// No other worker may still be using a part of that share.
    pub(super) settled: bool,
    pub(super) in_flight: usize,
    pub(super) line: Line<W>,
    pub(super) limit: Limit,
    pub(super) breaker: Breaker,
    pub(super) pace: Pace,
    /// The store has parked work for it.
    pub(super) backlogged: bool,
    /// Nothing goes before then, for that reason.
    pub(super) paused: Option<(Moment, Hold)>,
    /// It waits for something that it shares with others, in its tenant's ring.
    pub(super) in_ring: bool,
    /// It waits for its turn, in the heap of turns.
    pub(super) in_turns: bool,
    pub(super) done: Recent,
    /// When a request last ended, or the first began.
    pub(super) progress: Moment,
    latency: Option<Duration>,
}

impl<W> Lane<W> {
    pub(super) fn new(id: EndpointId, tenant: usize, now: Moment) -> Self {
        Self {
            id,
            tenant,
            of_all: 0,
            max_in_flight: 0,
            settled: false,
            in_flight: 0,
            line: Line::new(),
            limit: Limit::new(now),
            breaker: Breaker::new(),
            pace: Pace::default(),
            backlogged: false,
            paused: None,
            in_ring: false,
            in_turns: false,
            done: Recent::default(),
            progress: now,
            latency: None,
        }
    }

    /// The most requests that it gets now, whatever the others do.
    pub(super) fn limit(&mut self, now: Moment) -> usize {
        let probes = self.in_flight.saturating_add(self.breaker.admits(now));
        self.limit.of(self.max_in_flight).min(probes)
    }

    /// What keeps it from getting any request, if something does.
    pub(super) fn held(&mut self, now: Moment) -> Option<Hold> {
        if let Some((until, why)) = self.paused {
            if until > now {
                return Some(why);
            }
            self.paused = None;
        }
        (self.breaker.admits(now) == 0).then_some(Hold::Breaker)
    }

    /// How long a request takes: as measured, and as long as nothing has ended for, where that is
    /// longer and the lane is full.
    pub(super) fn service(&self, limit: usize, now: Moment) -> Duration {
        let measured = self.latency.unwrap_or_default();
        if self.in_flight >= limit {
            measured.max(now.saturating_sub(self.progress))
        } else {
            measured
        }
    }

    pub(super) fn measure(&mut self, latency: Duration) {
        // An eighth of each: recent enough for a second, steady enough for one odd answer.
        self.latency = Some(match self.latency {
            None => latency,
            Some(mean) => (mean * 7 + latency) / 8,
        });
    }

    /// How many turns under its rate limit it is worth reserving now.
    pub(super) fn turns_wanted(&mut self, now: Moment) -> u32 {
        self.pace.wanted(self.line.len(), self.done.sum(now))
    }

    /// Whether everything known of it may be forgotten.
    pub(super) fn is_idle(&self, now: Moment, memory: Duration) -> bool {
        self.in_flight == 0
            && self.line.is_empty()
            && !self.in_ring
            && !self.in_turns
            && !self.backlogged
            && self.breaker.is_closed()
            && self.paused.is_none_or(|(until, _)| until <= now)
            && self.pace.is_idle(now)
            && now.saturating_sub(self.progress) > memory
    }
}

/// Counts over the last half to whole second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Recent {
    bucket: u64,
    current: u32,
    last: u32,
}

impl Recent {
    pub(super) fn count(&mut self, now: Moment) {
        self.turn(now);
        self.current += 1;
    }

    pub(super) fn sum(&mut self, now: Moment) -> u32 {
        self.turn(now);
        self.current + self.last
    }

    fn turn(&mut self, now: Moment) {
        let bucket = u64::try_from(now.as_millis() / 500).unwrap_or(u64::MAX);
        if bucket != self.bucket {
            self.last = if bucket == self.bucket + 1 {
                self.current
            } else {
                0
            };
            self.current = 0;
            self.bucket = bucket;
        }
    }
}
