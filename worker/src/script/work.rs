//! What the parts of a call have in common: the work itself, what wakes it, and its place among the
//! calls of the worker.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::TenantId;
use tokio_util::sync::CancellationToken;

use super::console::Console;
use super::crowd::Crowd;
use super::gate::{Bounds, Gate, Place};
use super::turns::Turns;
use super::{MAX_OVERSTAYING, MAX_OVERSTAYING_EACH, MAX_RUNNING, MAX_WAITING, Returns, Script};
use crate::send::{Reply, SendError, Sender};

/// Calls that wait for a place: more than a worker has slots by default.
const WAITING_FOR_PLACE: usize = 4_096;

/// A call to make.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) script: Script,
    pub(super) tenant: TenantId,
    pub(super) argument: String,
    pub(super) network: bool,
    pub(super) hops: Hops,
    pub(super) returns: Returns,
    pub(super) deadline: Instant,
    pub(super) shared: Arc<Shared>,
    /// The call's place among those that compute.
    pub(super) held: Arc<Held>,
    pub(super) sender: Sender,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) cancelled: Arc<AtomicBool>,
    /// The same, for what can be waited for.
    pub(super) stopped: CancellationToken,
    pub(super) console: Console,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) received: mpsc::Receiver<Event>,
}

/// What wakes a script that waits.
#[derive(Debug)]
pub(super) enum Event {
    /// The caller gave up.
    Cancelled,
    /// A request has finished.
    Fetched {
        /// The prelude's number of it.
        id: u32,
        /// The answer, or why there is none.
        result: std::result::Result<Reply, SendError>,
    },
}

/// What the calls of a worker share.
#[derive(Debug)]
pub(super) struct Shared {
    /// A place for each that computes.
    pub(super) places: Gate,
    /// Those that wait for the network or a timer, without a place.
    pub(super) waiting: Crowd,
    /// Those that go on after their deadline, without a place.
    pub(super) overstaying: Crowd,
    /// Of those that compute for long.
    pub(super) turns: Arc<Turns>,
}

impl Shared {
    pub(super) fn new() -> Self {
        // Half of the processors, at most, go to scripts that compute for long.
        let turns = thread::available_parallelism().map_or(1, |processors| processors.get() / 2);
        let bounds = Bounds {
            places: MAX_RUNNING,
            waiting: WAITING_FOR_PLACE,
            // Half: one tenant must not fill the line, or the calls of the others would be refused.
            waiting_each: WAITING_FOR_PLACE / 2,
        };
        Self {
            places: Gate::new(bounds),
            waiting: Crowd::new(MAX_WAITING, MAX_WAITING),
            overstaying: Crowd::new(MAX_OVERSTAYING, MAX_OVERSTAYING_EACH),
            turns: Arc::new(Turns::new(turns)),
        }
    }
}

/// The place that a call has, unless it gave it away.
#[derive(Debug)]
pub(super) struct Held(pub(super) Mutex<Option<Place>>);

impl Held {
    /// Takes the place out.
    pub(super) fn take(&self) -> Option<Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Holds a place that was taken again after a wait.
    pub(super) fn put(&self, place: Place) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }
}
