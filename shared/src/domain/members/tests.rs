use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn worker(number: u128) -> WorkerId {
    WorkerId(Uuid::from_u128(number))
}

fn endpoint(number: u32) -> EndpointId {
    EndpointId::parse(&format!("ep_{number}")).unwrap()
}

/// The membership of these workers, as `me` sees it.
fn members(me: u128, of: &BTreeSet<u128>) -> Members {
    let member = |number: &u128| Member {
        id: worker(*number),
        name: String::new(),
        joined: 1,
        acknowledged: Acknowledged::default(),
    };
    Members {
        me: worker(me),
        joined: 1,
        epoch: 1,
        live: of.iter().map(member).collect(),
    }
}

fn share(me: u128, of: &BTreeSet<u128>, at: &EndpointId, limit: u32) -> u32 {
    members(me, of).share(at, limit)
}

/// How many requests a worker may have in flight at the endpoint: its share, while its lease runs
/// and it is ready.
fn allowance(standing: &Standing, at: &EndpointId, limit: u32, now: Duration) -> u32 {
    let members = standing.members().filter(|_| standing.holds(now));
    members
        .filter(|members| members.is_ready(at))
        .map_or(0, |members| members.share(at, limit))
}

fn workers() -> impl Strategy<Value = BTreeSet<u128>> {
    prop::collection::btree_set(any::<u128>(), 1..12)
}

proptest! {
    #[test]
    fn shares_are_equal_and_add_up_to_the_limit(
        of in workers(), at in 0..1_000_u32, limit in 0..200_u32,
    ) {
        let at = endpoint(at);
        let shares: Vec<u32> = of.iter().map(|me| share(*me, &of, &at, limit)).collect();
        prop_assert_eq!(shares.iter().sum::<u32>(), limit);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        prop_assert!(most - least <= 1);
    }

    /// A change moves no more than it must: what the newcomer gets, and nothing between the others.
    #[test]
    fn who_joins_only_takes_and_who_leaves_only_gives(
        of in workers(), newcomer in any::<u128>(), at in 0..1_000_u32, limit in 0..200_u32,
    ) {
        prop_assume!(!of.contains(&newcomer));
        let at = endpoint(at);
        let mut with = of.clone();
        with.insert(newcomer);
        let moved: u32 = of
            .iter()
            .map(|me| {
                let (before, after) = (share(*me, &of, &at, limit), share(*me, &with, &at, limit));
                before.checked_sub(after).expect("a share grew as another worker joined")
            })
            .sum();
        prop_assert_eq!(moved, share(newcomer, &with, &at, limit));
    }

    /// What makes it safe that workers see the membership at different times.
    #[test]
    fn of_two_memberships_one_gives_everybody_in_both_at_least_as_much(
        stay in workers(), some in workers(), others in workers(), at in 0..1_000_u32,
        limit in 0..200_u32,
    ) {
        let at = endpoint(at);
        let (one, two): (BTreeSet<_>, BTreeSet<_>) = (&stay | &some, &stay | &others);
        let both = one.intersection(&two);
        let differences: Vec<i64> = both
            .map(|me| [&one, &two].map(|of| i64::from(share(*me, of, &at, limit))))
            .map(|[in_one, in_two]| in_one - in_two)
            .collect();
        let (more, less) = (|by: &i64| *by >= 0, |by: &i64| *by <= 0);
        prop_assert!(differences.iter().all(more) || differences.iter().all(less));
    }
}

#[test]
fn what_is_left_over_is_spread_over_the_workers() {
    let of: BTreeSet<u128> = [1, 2, 3].into();
    let mut each = BTreeMap::new();
    for at in (0..3_000).map(endpoint) {
        let with: Vec<u128> = of
            .iter()
            .copied()
            .filter(|me| share(*me, &of, &at, 1) == 1)
            .collect();
        assert_eq!(with.len(), 1);
        *each.entry(with[0]).or_insert(0) += 1;
    }
    assert!(
        each.values().all(|count| (900..1_100).contains(count)),
        "{each:?}"
    );
}

#[test]
fn a_newcomer_waits_for_those_before_it_endpoint_by_endpoint() {
    let mut view = members(2, &[1, 2, 3].into());
    (
        view.joined,
        view.epoch,
        view.live[1].joined,
        view.live[2].joined,
    ) = (5, 6, 5, 6);
    let (busy, quiet) = (endpoint(1), endpoint(2));
    view.live[0].acknowledged = Acknowledged {
        epoch: 4,
        except: BTreeMap::new(),
    };
    assert!(!view.is_ready(&quiet));
    // It acknowledges what it has nothing more to end at. Who joined later is not waited for.
    let next = view.live[0].acknowledged.next(5, [busy.clone()]);
    assert_eq!((next.epoch, next.at(&busy), next.at(&quiet)), (5, 4, 5));
    view.live[0].acknowledged = next;
    assert_eq!((view.is_ready(&quiet), view.is_ready(&busy)), (true, false));
    assert_eq!(view.share(&quiet, 9), 3);
}

#[test]
fn too_many_exceptions_acknowledge_nothing() {
    let before = Acknowledged {
        epoch: 4,
        except: BTreeMap::new(),
    };
    let many = u32::try_from(MAX_EXCEPTIONS).unwrap();
    assert_eq!(before.next(5, (0..many).map(endpoint)).epoch, 5);
    assert_eq!(before.next(5, (0..=many).map(endpoint)), before);
}

#[test]
fn nothing_is_allowed_before_the_first_beat_and_after_the_lease() {
    let (begin, lease) = (Duration::from_secs(3), Duration::from_secs(5));
    let mut standing = Standing::default();
    assert_eq!(allowance(&standing, &endpoint(1), 9, begin), 0);
    standing.see(members(1, &[1].into()), begin, lease);
    let late = begin + lease;
    assert_eq!(
        allowance(&standing, &endpoint(1), 9, late - Duration::from_millis(1)),
        9
    );
    assert_eq!(allowance(&standing, &endpoint(1), 9, late), 0);
}

/// What the store does at a beat, a worker with its requests in flight, and what may happen.
mod simulation {
    use super::*;

    /// As `store/workers.rs` keeps it.
    #[derive(Default)]
    pub(super) struct Table {
        epoch: i64,
        live: BTreeMap<WorkerId, (Member, Duration)>,
    }

    impl Table {
        fn drop_ended(&mut self, now: Duration, but: WorkerId) {
            let before = self.live.len();
            self.live.retain(|id, (_, end)| *id == but || *end > now);
            self.epoch += i64::from(before != self.live.len());
        }

        fn beat(&mut self, me: WorkerId, acknowledged: &Acknowledged, now: Duration) -> Members {
            self.drop_ended(now, me);
            let end = now + LEASE;
            if let Some((member, lease_end)) = self.live.get_mut(&me) {
                member.acknowledged = acknowledged.clone();
                *lease_end = end;
            } else {
                self.epoch += 1;
                let mut acknowledged = acknowledged.clone();
                if acknowledged.epoch == 0 {
                    acknowledged.epoch = self.epoch;
                }
                let joined = self.epoch;
                let name = String::new();
                self.live.insert(
                    me,
                    (
                        Member {
                            id: me,
                            name,
                            joined,
                            acknowledged,
                        },
                        end,
                    ),
                );
            }
            Members {
                me,
                joined: self.live[&me].0.joined,
                epoch: self.epoch,
                live: self
                    .live
                    .values()
                    .map(|(member, _)| member.clone())
                    .collect(),
            }
        }
    }

    pub(super) const LEASE: Duration = Duration::from_millis(500);

    pub(super) struct Worker {
        id: WorkerId,
        standing: Standing,
        in_flight: BTreeMap<EndpointId, u32>,
        /// An answer of the store that has not arrived yet.
        answer: Option<(Members, Duration)>,
        leaving: bool,
    }

    impl Worker {
        fn over(&self, limits: &BTreeMap<EndpointId, u32>) -> Vec<EndpointId> {
            let Some(members) = self.standing.members() else {
                return Vec::new();
            };
            let over = |(at, count): &(&EndpointId, &u32)| **count > members.share(at, limits[*at]);
            self.in_flight
                .iter()
                .filter(over)
                .map(|(at, _)| at.clone())
                .collect()
        }
    }

    #[derive(Debug, Clone)]
    pub(super) enum Step {
        Begin,
        Ask(usize),
        Answer(usize),
        Settle(usize),
        Start(usize, u32),
        End(usize, u32),
        Leave(usize),
        Kill(usize),
        Wait(u64),
    }

    pub(super) fn step() -> impl Strategy<Value = Step> {
        let who = 0..6_usize;
        prop_oneof![
            2 => Just(Step::Begin),
            20 => who.clone().prop_map(Step::Ask),
            20 => who.clone().prop_map(Step::Answer),
            20 => who.clone().prop_map(Step::Settle),
            30 => (who.clone(), 0..3_u32).prop_map(|(who, at)| Step::Start(who, at)),
            16 => (who.clone(), 0..3_u32).prop_map(|(who, at)| Step::End(who, at)),
            1 => who.clone().prop_map(Step::Leave),
            1 => who.prop_map(Step::Kill),
            6 => (1..100_u64).prop_map(Step::Wait),
        ]
    }

    pub(super) fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
        let limits: BTreeMap<EndpointId, u32> =
            [(endpoint(0), 1), (endpoint(1), 4), (endpoint(2), 7)].into();
        let mut now = Duration::ZERO;
        let mut table = Table::default();
        let mut workers: Vec<Worker> = Vec::new();
        let mut begun = 0;
        for step in steps {
            take(
                step,
                &limits,
                &mut now,
                &mut table,
                &mut workers,
                &mut begun,
            );
            // A worker whose lease ended while it had requests in flight: nothing can be promised
            // of these (see the module), so it ends here, as if it was killed in time.
            let live =
                |worker: &Worker| table.live.get(&worker.id).is_none_or(|(_, end)| *end > now);
            workers.retain(|worker| {
                live(worker) || worker.in_flight.values().all(|count| *count == 0)
            });
            for (at, limit) in &limits {
                let all: u32 = workers
                    .iter()
                    .filter_map(|worker| worker.in_flight.get(at))
                    .sum();
                prop_assert!(all <= *limit, "{} in flight at {}, of {}", all, at, limit);
            }
        }
        Ok(())
    }

    fn take(
        step: Step,
        limits: &BTreeMap<EndpointId, u32>,
        now: &mut Duration,
        table: &mut Table,
        workers: &mut Vec<Worker>,
        begun: &mut u128,
    ) {
        let count = workers.len().max(1);
        let pick = |who: usize| who % count;
        match step {
            Step::Begin if workers.len() < 6 => {
                *begun += 1;
                workers.push(Worker {
                    id: worker(*begun),
                    standing: Standing::default(),
                    in_flight: BTreeMap::new(),
                    answer: None,
                    leaving: false,
                });
            }
            Step::Ask(who) => {
                if let Some(one) = workers
                    .get_mut(pick(who))
                    .filter(|one| one.answer.is_none())
                {
                    let members = table.beat(one.id, one.standing.acknowledged(), *now);
                    one.answer = Some((members, *now));
                }
            }
            Step::Answer(who) => {
                if let Some(one) = workers.get_mut(pick(who))
                    && let Some((members, asked)) = one.answer.take()
                {
                    one.standing.see(members, asked, LEASE);
                }
            }
            Step::Settle(who) => {
                if let Some(one) = workers.get_mut(pick(who)) {
                    let over = one.over(limits);
                    one.standing.settle(over);
                }
            }
            Step::Start(who, at) => {
                let at = endpoint(at);
                if let Some(one) = workers.get_mut(pick(who)).filter(|one| !one.leaving) {
                    let allowed = allowance(&one.standing, &at, limits[&at], *now);
                    let in_flight = one.in_flight.entry(at).or_default();
                    *in_flight += u32::from(*in_flight < allowed);
                }
            }
            Step::End(who, at) => {
                if let Some(one) = workers.get_mut(pick(who)) {
                    let in_flight = one.in_flight.entry(endpoint(at)).or_default();
                    *in_flight = in_flight.saturating_sub(1);
                }
            }
            Step::Leave(who) => {
                if let Some(one) = workers.get_mut(pick(who)) {
                    one.leaving = true;
                    if one.in_flight.values().all(|count| *count == 0) {
                        table.epoch += i64::from(table.live.remove(&one.id).is_some());
                        workers.remove(pick(who));
                    }
                }
            }
            Step::Kill(who) if !workers.is_empty() => {
                workers.remove(pick(who));
            }
            Step::Wait(millis) => *now += Duration::from_millis(millis),
            Step::Begin | Step::Kill(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Workers come, go, are killed and learn of each other late: never is more in flight than the
    /// limit, at any endpoint, over all of them.
    #[test]
    fn limits_hold_over_all_workers(steps in prop::collection::vec(simulation::step(), 1..900)) {
        simulation::run(steps)?;
    }
}
