//! What all parts of a run share: its faults, its books, and its trace.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthaste_shared::domain::id::{DeliveryId, EventId};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::simulation::Change;
use tokio::time::Instant;

use crate::faults::{Faults, Kind};
use crate::plan::{Options, Plan};

/// A run under way.
#[derive(Debug)]
pub struct World {
    /// What it is made of.
    pub plan: Plan,
    /// What was asked of it.
    pub options: Options,
    /// What goes wrong.
    pub faults: Faults,
    /// When it began.
    pub begun: Instant,
    books: Mutex<Books>,
    trace: Mutex<Trace>,
}

/// What happened, as the checks need it.
#[derive(Debug, Default)]
pub struct Books {
    /// The numbers of the notifications that the broker accepted.
    pub accepted: Vec<usize>,
    /// The requests that receivers read to their end.
    pub requests: Vec<Request>,
    /// What the store committed, commit by commit.
    pub commits: Vec<Commit>,
    /// The events that were published, in order, with their types.
    pub published: Vec<(EventId, String)>,
    /// The bodies of dead letters, with the reasons.
    pub dead: Vec<(Vec<u8>, &'static str)>,
    /// What went wrong that must not, found while it ran.
    pub violations: Vec<String>,
}

/// A request that a receiver got.
#[derive(Debug, Clone)]
pub struct Request {
    /// When, since the run began.
    pub at: Duration,
    /// The process that sent it.
    pub process: u32,
    /// The endpoint that got it.
    pub endpoint: usize,
    /// Its `webhook-id`.
    pub delivery: Option<DeliveryId>,
    /// The number in its payload; `None` for an event.
    pub number: Option<usize>,
    /// The sender's clock when it was sent.
    pub clock: Timestamp,
    /// The status that was answered, as far as the sender can have read it.
    pub answered: Option<u16>,
    /// Whether the connection was closed without a byte of an answer, so that the client may have
    /// sent it again within the same attempt.
    pub unanswered: bool,
}

/// What was committed at once.
#[derive(Debug, Clone)]
pub struct Commit {
    /// When, since the run began.
    pub at: Duration,
    /// The process whose transaction it was.
    pub process: u32,
    /// What it changed.
    pub changes: Vec<Change>,
}

#[derive(Debug, Default)]
struct Trace {
    /// `None`: not wanted.
    lines: Option<Vec<String>>,
    /// Of everything that was traced: two runs with the same are the same.
    hash: u64,
}

impl World {
    /// A run that begins now.
    #[must_use]
    pub fn new(plan: Plan, options: Options, traced: bool) -> Self {
        let faults = Faults::new(plan.seed, &plan.factors, options.mask.clone());
        Self {
            plan,
            options,
            faults,
            begun: Instant::now(),
            books: Mutex::default(),
            trace: Mutex::new(Trace {
                lines: traced.then(Vec::new),
                hash: 0xCBF2_9CE4_8422_2325,
            }),
        }
    }

    /// The books.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the run has gone on, in its own time.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether the fault happens now; notes it if so.
    pub fn strikes(&self, kind: Kind, whom: &str) -> bool {
        self.strikes_at(kind, 1.0, whom)
    }

    /// As [`Self::strikes`], where it is so many times as probable as usual.
    pub fn strikes_at(&self, kind: Kind, factor: f64, whom: &str) -> bool {
        let strikes = self.faults.strikes_at(kind, factor);
        if strikes {
            let number = self.faults.number();
            self.note(whom, || format!("FAULT {number} {}", kind.name()));
        }
        strikes
    }

    /// A line of the trace.
    pub fn note(&self, who: &str, what: impl FnOnce() -> String) {
        let at = self.elapsed();
        let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        // FNV-1a, of the time and of whose line it is.
        let bytes = at.as_micros().to_le_bytes();
        for byte in bytes.iter().take(8).chain(who.as_bytes()) {
            trace.hash = (trace.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if let Some(lines) = &mut trace.lines {
            let mut line = String::new();
            let _ = write!(line, "{:>9.3} s  {who:<8} {}", at.as_secs_f64(), what());
            lines.push(line);
        }
    }

    /// Something went wrong that must not.
    pub fn violated(&self, what: String) {
        self.note("CHECK", || what.clone());
        self.books().violations.push(what);
    }

    /// The trace, and what tells it from others.
    pub fn take_trace(&self) -> (Vec<String>, u64) {
        let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        (trace.lines.take().unwrap_or_default(), trace.hash)
    }
}
