//! What a run is made of, drawn from its seed.

use std::time::Duration;

use posthaste_shared::domain::id::{EndpointId, NotificationId};

use crate::dice::Dice;
use crate::faults::{Kind, Mask};

/// How long faults last.
const FAULTS: std::ops::RangeInclusive<u64> = 6_000..=14_000;

/// A fault that is planted, to show that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Messages are acknowledged when they are handed out, before anything is committed.
    AckBeforeCommit,
    /// Events are written after the transaction of what they report.
    EventOutsideTransaction,
    /// What is claimed from the store is not put under a lease.
    LeaseNotExtended,
    /// Whether a delivery has expired is not looked at after it waited for admission.
    ExpiryUnchecked,
    /// A notification is routed to one of its endpoints twice.
    DuplicateRoute,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::AckBeforeCommit,
        Self::EventOutsideTransaction,
        Self::LeaseNotExtended,
        Self::ExpiryUnchecked,
        Self::DuplicateRoute,
    ];

    /// Its name, for flags.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::EventOutsideTransaction => "event-outside-transaction",
            Self::LeaseNotExtended => "lease-not-extended",
            Self::ExpiryUnchecked => "expiry-unchecked",
            Self::DuplicateRoute => "duplicate-route",
        }
    }

    /// The fault of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// What is changed of the run that a seed makes. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Which of its faults happen.
    pub mask: Mask,
    /// Only these of its notifications, by their numbers from 0.
    pub only: Option<Vec<usize>>,
    /// At most so many workers.
    pub workers: Option<usize>,
    /// A fault that is planted.
    pub planted: Option<Bug>,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed that it was drawn from.
    pub seed: u64,
    /// The workers, each on a machine of its own.
    pub workers: Vec<WorkerPlan>,
    /// The endpoints.
    pub endpoints: Vec<EndpointPlan>,
    /// What producers enqueue.
    pub notifications: Vec<NotificationPlan>,
    /// How much more often than usual each kind of fault happens; 0 for those that do not.
    pub factors: Vec<f64>,
    /// How long there are faults, from the beginning.
    pub faults_for: Duration,
    /// Whether only receivers fail: then nothing may be sent twice.
    pub calm: bool,
    /// Whether `delivery.succeeded` is emitted.
    pub succeeded: bool,
}

/// A worker.
#[derive(Debug, Clone, Copy)]
pub struct WorkerPlan {
    /// Its slots.
    pub slots: usize,
    /// Its prefetch.
    pub prefetch: u16,
    /// The failures that open a breaker.
    pub breaker: u32,
}

/// An endpoint.
#[derive(Debug, Clone, Copy)]
pub struct EndpointPlan {
    /// The whole seconds of its timeout.
    pub timeout: u64,
    /// Its retries after the first attempt.
    pub retries: u32,
    /// Its most requests in flight.
    pub in_flight: u32,
    /// Its most requests a second.
    pub rate: Option<f64>,
    /// Which types it wants.
    pub wants: Wants,
    /// How much more often than usual it fails.
    pub sickness: f64,
}

/// Which types an endpoint wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Every producer's.
    All,
    /// `a.*`.
    A,
    /// `b.*`, and the events of deliveries.
    BAndEvents,
}

impl Wants {
    /// The patterns of its subscription.
    #[must_use]
    pub const fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::All => &[],
            Self::A => &["a.*"],
            Self::BAndEvents => &["b.*", "delivery.*"],
        }
    }

    /// Whether it wants a producer's notification of that type.
    #[must_use]
    pub fn wants(self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::A => kind.starts_with("a."),
            Self::BAndEvents => kind.starts_with("b."),
        }
    }
}

/// What a producer enqueues.
#[derive(Debug, Clone)]
pub struct NotificationPlan {
    /// Its place in the plan of the seed, also its payload.
    pub number: usize,
    /// When, from the beginning.
    pub at: Duration,
    /// What it is.
    pub what: What,
    /// Its type.
    pub kind: &'static str,
    /// The endpoint that it names, by its number; one that is not there names none that exists.
    pub target: Option<usize>,
    /// When it is due, from acceptance.
    pub delay: Option<Duration>,
    /// When it expires, from acceptance.
    pub ttl: Option<Duration>,
    /// How often the producer tries before it gives up.
    pub tries: u32,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A notification under an id of its own.
    Notification,
    /// Another notification under the id of the one with that number.
    SameIdAs(usize),
    /// A notification without an id.
    WithoutId,
    /// Not a notification.
    Unreadable,
}

impl NotificationPlan {
    /// Its id; `None` for a message without one.
    #[must_use]
    pub fn id(&self) -> Option<NotificationId> {
        let number = match self.what {
            What::Notification => self.number,
            What::SameIdAs(other) => other,
            What::WithoutId | What::Unreadable => return None,
        };
        NotificationId::parse(&format!("n-{number}")).ok()
    }
}

/// The id of the endpoint with that number.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "letters, an underscore and digits are an id"
)]
pub fn endpoint_id(number: usize) -> EndpointId {
    EndpointId::parse(&format!("ep_{number}")).expect("an id")
}

impl Plan {
    /// The run of a seed, as far as the options let it be.
    #[must_use]
    pub fn of(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::new(seed, 1);
        let calm = dice.chance(0.125);
        let workers = dice.within(1..=3).max(if calm { 2 } else { 1 });
        let workers: Vec<WorkerPlan> = (0..workers).map(|_| WorkerPlan::draw(&mut dice)).collect();
        let endpoints = (0..dice.within(1..=3)).map(|_| EndpointPlan::draw(&mut dice));
        let endpoints: Vec<EndpointPlan> = endpoints.collect();
        let faults_for = dice.millis(FAULTS);
        let succeeded = dice.chance(0.2);
        let factors = factors(&mut Dice::new(seed, 2), calm);
        let mut notifications = notifications(&mut Dice::new(seed, 3), endpoints.len(), faults_for);
        let mut plan = Self {
            seed,
            workers,
            endpoints,
            notifications: Vec::new(),
            factors,
            faults_for,
            calm,
            succeeded,
        };
        if let Some(only) = &options.only {
            notifications.retain(|one| only.contains(&one.number));
        }
        plan.notifications = notifications;
        if let Some(most) = options.workers {
            plan.workers.truncate(most.max(1));
        }
        plan
    }
}

impl WorkerPlan {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            slots: dice.pick([1, 2, 4, 32]),
            prefetch: dice.pick([1, 4, 64]),
            breaker: dice.pick([0, 3, 10]),
        }
    }
}

impl EndpointPlan {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            timeout: dice.pick([1, 2]),
            retries: dice.pick([0, 1, 2, 4]),
            in_flight: dice.pick([1, 2, 32]),
            rate: dice.chance(0.15).then_some(2.0),
            wants: dice.pick([Wants::All, Wants::All, Wants::A, Wants::BAndEvents]),
            sickness: dice.pick([0.2, 1.0, 1.0, 5.0]),
        }
    }
}

fn factors(dice: &mut Dice, calm: bool) -> Vec<f64> {
    let severity = dice.pick([0.3, 1.0, 1.0, 3.0]);
    let factor = |kind: &Kind| {
        let drawn = dice.chance(0.6);
        let on = if calm { kind.is_of_receiver() } else { drawn };
        if on { severity } else { 0.0 }
    };
    Kind::ALL.iter().map(factor).collect()
}

fn notifications(dice: &mut Dice, endpoints: usize, until: Duration) -> Vec<NotificationPlan> {
    let count = dice.pick([1, 3, 6, 10, 16]);
    // Half of the runs begin with a burst, for which there is not room everywhere at once.
    let spread = if dice.chance(0.5) {
        300
    } else {
        until.as_millis() as u64
    };
    let one = |number| {
        let what = match dice.within(0..=39) {
            0 if number > 0 => What::SameIdAs(dice.index(number)),
            1 => What::WithoutId,
            2 => What::Unreadable,
            _ => What::Notification,
        };
        let target = dice.chance(0.2).then(|| dice.index(endpoints + 1));
        let delay = dice.chance(0.15).then(|| dice.millis(500..=5_000));
        let ttl = dice
            .chance(0.3)
            .then(|| delay.unwrap_or_default() + dice.millis(300..=6_000));
        NotificationPlan {
            number,
            at: dice.millis(0..=spread),
            what,
            kind: dice.pick(["a.one", "a.two", "b.one", "c.one"]),
            target,
            delay,
            ttl,
            tries: if dice.chance(0.1) { 1 } else { u32::MAX },
        }
    };
    (0..count).map(one).collect()
}
