//! What can go wrong, how often, and how often it did.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dice::Dice;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident, $name:literal, $rate:literal;)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name, for tables and flags.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// What happens, in a sentence.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Self::$kind => concat!($($doc),+).trim(),)* }
            }

            /// How probable it is, each time that it could happen.
            const fn rate(self) -> f64 {
                match self { $(Self::$kind => $rate,)* }
            }
        }
    };
}

kinds! {
    /// A call of the store fails and has no effect.
    StoreRefused, "store-refused", 0.006;
    /// A call of the store has its effect, and its answer is lost.
    StoreAnswerLost, "store-answer-lost", 0.006;
    /// A call of the store takes up to 2 s, before or after its effect.
    StoreDelayed, "store-delayed", 0.01;
    /// The store answers nothing to a worker for up to 6 s.
    StoreAway, "store-away", 0.06;
    /// The broker refuses a message.
    PublishRefused, "publish-refused", 0.06;
    /// A publish fails, and the message is not on the queue.
    PublishFailed, "publish-failed", 0.06;
    /// A message is on the queue, and its confirm is lost.
    ConfirmLost, "confirm-lost", 0.06;
    /// A publish takes up to 3 s.
    PublishDelayed, "publish-delayed", 0.06;
    /// An acknowledgement is lost with its connection: the message is redelivered.
    AckLost, "ack-lost", 0.04;
    /// An acknowledgement arrives up to 3 s late.
    AckDelayed, "ack-delayed", 0.06;
    /// A worker's connection to the broker is lost: its messages are redelivered, also to others,
    /// and its acknowledgements of them are ignored.
    ConnectionLost, "connection-lost", 0.1;
    /// A message comes once more, also one that was acknowledged long ago.
    Duplicated, "duplicated", 0.2;
    /// A message goes to another place of the queue.
    Reordered, "reordered", 0.2;
    /// The broker does not answer questions about itself.
    BrokerMute, "broker-mute", 0.2;
    /// A process is killed at one of its calls, before or after the effect, and started again.
    Killed, "killed", 0.0016;
    /// A worker is told to stop, and started again.
    Stopped, "stopped", 0.06;
    /// The clock of a worker's machine jumps by up to 15 s, forth or back.
    ClockJumped, "clock-jumped", 0.06;
    /// The clock of a worker's machine runs up to 5 % fast or slow.
    ClockDrifts, "clock-drifts", 0.2;
    /// Nobody listens at the endpoint's address.
    ConnectRefused, "connect-refused", 0.03;
    /// Connecting takes up to 3 s.
    ConnectSlow, "connect-slow", 0.03;
    /// The receiver answers 500, 502 or 503.
    Answered5xx, "answered-5xx", 0.1;
    /// The receiver answers 400, 404 or 422.
    Answered4xx, "answered-4xx", 0.02;
    /// The receiver answers 410.
    AnsweredGone, "answered-410", 0.01;
    /// The receiver answers 429 or 503 with `Retry-After`.
    Throttled, "throttled", 0.03;
    /// The receiver reads the request and never answers.
    Hung, "hung", 0.02;
    /// The receiver acts on the request and closes the connection without an answer.
    HungUp, "hung-up", 0.03;
    /// The receiver's answer breaks off in its head.
    BrokenOff, "broken-off", 0.02;
    /// The receiver answers 200, and its body never ends.
    Endless, "endless", 0.02;
    /// The receiver takes up to 3 s to answer.
    Slow, "slow", 0.06;
    /// The receiver answers with what is not HTTP.
    Garbage, "garbage", 0.02;
}

impl Kind {
    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether a receiver makes it, or the network on the way there. By such faults alone nothing
    /// is ever sent twice.
    #[must_use]
    pub const fn is_of_receiver(self) -> bool {
        self as usize >= Self::ConnectRefused as usize
    }
}

/// Which of the faults of a seed happen: for making a run smaller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    /// None of these kinds.
    pub without: Vec<Kind>,
    /// None after so many.
    pub most: Option<u64>,
    /// Not these, by their number from 1.
    pub skip: Vec<u64>,
}

/// The faults of a run.
#[derive(Debug)]
pub struct Faults(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    on: bool,
    /// The probability of each kind.
    rates: Vec<f64>,
    dice: Vec<Dice>,
    counts: Vec<u64>,
    number: u64,
    mask: Mask,
}

impl Faults {
    /// The faults of a seed: each kind as often as usual times its factor.
    #[must_use]
    pub fn new(seed: u64, factors: &[f64], mask: Mask) -> Self {
        let rates = Kind::ALL.iter().zip(factors);
        Self(Mutex::new(Inner {
            on: true,
            rates: rates.map(|(kind, factor)| kind.rate() * factor).collect(),
            dice: (0..Kind::ALL.len())
                .map(|kind| Dice::new(seed, 1_000 + kind as u64))
                .collect(),
            counts: vec![0; Kind::ALL.len()],
            number: 0,
            mask,
        }))
    }

    /// Whether the fault happens now.
    pub fn strikes(&self, kind: Kind) -> bool {
        self.strikes_at(kind, 1.0)
    }

    /// Whether the fault happens now, where it is so many times as probable as usual.
    pub fn strikes_at(&self, kind: Kind, factor: f64) -> bool {
        let mut inner = self.inner();
        let index = kind as usize;
        let probability = inner.rates[index] * factor;
        // Drawn in any case: a mask changes nothing but what it masks.
        let struck = inner.dice[index].chance(probability);
        if !struck || !inner.on || inner.mask.without.contains(&kind) {
            return false;
        }
        inner.number += 1;
        let number = inner.number;
        if inner.mask.most.is_some_and(|most| number > most) || inner.mask.skip.contains(&number) {
            return false;
        }
        inner.counts[index] += 1;
        true
    }

    /// Draws something about a fault that happens.
    pub fn draw<T>(&self, kind: Kind, draw: impl FnOnce(&mut Dice) -> T) -> T {
        draw(&mut self.inner().dice[kind as usize])
    }

    /// No faults from now on.
    pub fn end(&self) {
        self.inner().on = false;
    }

    /// Whether there may be faults.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.inner().on
    }

    /// How often each kind happened.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.inner().counts.clone()
    }

    /// How many there were that the mask had a say in.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.inner().number
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
