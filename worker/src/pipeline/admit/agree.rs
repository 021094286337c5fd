//! What admission agrees on with the other workers: its share of each endpoint's `max_in_flight`,
//! and its turns under rate limits. The loops that ask the store are in `background::agreement`.

use std::time::Duration;

use posthaste_shared::domain::members::{Acknowledged, Members};
use posthaste_shared::store::turns::{TurnDemand, Turns};

use super::Admission;
use super::pace::Run;
use super::terms::Moment;

impl Admission {
    /// What the next beat tells the other workers, and the moment at which it is asked: the lease
    /// counts from then.
    #[must_use]
    pub fn acknowledge(&self) -> (Acknowledged, Moment) {
        let asked = self.now();
        (self.lock().policy.acknowledge(), asked)
    }

    /// A beat was answered, that was asked at `asked`: this worker's shares are those of `members`,
    /// until the lease ends.
    pub fn see(&self, members: Members, asked: Moment, lease: Duration) {
        self.change(|state, now, out| state.policy.see(members, (asked, lease), now, out));
    }

    /// Whether this worker has a share of every endpoint that it knows, and has told the others so.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.lock().policy.is_settled()
    }

    /// Waits until turns under rate limits are to be reserved.
    pub async fn until_turns_are_wanted(&self) {
        self.0.turns_wanted.notified().await;
    }

    /// The turns that are to be reserved now. All of them are to be answered by
    /// [`Admission::give_turns`].
    #[must_use]
    pub fn demands(&self) -> Vec<TurnDemand> {
        let now = self.now();
        self.lock().policy.demands(now)
    }

    /// The store answered just now: `turns`, in the order of their endpoints' ids, are this
    /// worker's, of those that were `asked` for. What it did not get is asked for again.
    pub fn give_turns(&self, asked: &[TurnDemand], turns: &[Turns]) {
        for demand in asked {
            let given = turns.binary_search_by(|one| one.endpoint.cmp(&demand.endpoint));
            self.change(|state, now, out| {
                let run = given.ok().map(|at| &turns[at]).map(|turns| Run {
                    first: now + turns.first_in,
                    spacing: turns.spacing,
                    count: turns.count,
                });
                state.policy.take_turns(&demand.endpoint, run, now, out);
            });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use posthaste_shared::domain::members::{Acknowledged, Member, Members, WorkerId};
    use uuid::Uuid;

    use super::*;

    /// A membership of `count` workers who all know of each other, seen by the first of them.
    pub(crate) fn membership(count: u128) -> Members {
        let member = |number| Member {
            id: WorkerId(Uuid::from_u128(number)),
            name: String::new(),
            joined: 1,
            acknowledged: Acknowledged::default(),
        };
        Members {
            me: WorkerId(Uuid::from_u128(1)),
            joined: 1,
            epoch: 1,
            live: (1..=count).map(member).collect(),
        }
    }

    impl Admission {
        /// Has everything to itself, for ever.
        pub(crate) fn alone(self) -> Self {
            self.see(membership(1), Moment::ZERO, Duration::MAX);
            self
        }
    }
}
