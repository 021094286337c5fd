//! The waiting side of a call: a place among those that compute, a thread, and its result or the
//! deadline.
//!
//! A place is for computing. A call that waits for the network or for a timer gives its place away
//! and takes one again (`run.rs`). One that goes on after its deadline, in an operation of the
//! engine that does not look at the clock, gives it away too, as long as few enough do so; its
//! tenant's calls have to wait once it has [`MAX_OVERSTAYING_EACH`] of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use posthaste_shared::domain::id::TenantId;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::console::Console;
use super::crowd::Counted;
use super::gate::Place;
use super::run;
use super::work::Event;
use super::work::{Held, Shared, Work};
use super::{Call, Called, MAX_OVERSTAYING_EACH, Returned, Script, ScriptError};
use crate::send::Sender;

/// The thread's stack: the engine's, and what the functions that it calls need.
const THREAD_STACK_BYTES: usize = super::STACK_BYTES + 1024 * 1024;
/// How long after the deadline a thread is waited for. One that is within a long operation of the
/// engine itself notices later.
const GRACE: Duration = Duration::from_millis(200);
/// How long a call waits for a place before it is given up as busy: its delivery is parked then, so
/// that it does not hold a slot of the worker meanwhile. As long as deliveries wait for their
/// endpoint.
const PATIENCE: Duration = Duration::from_millis(250);
/// Deliveries come first: a script that computes must not take the processor from them.
#[cfg(target_os = "linux")]
pub(super) const NICE: i32 = 10;

pub(super) struct Asked<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) script: &'a Script,
    pub(super) argument: &'a str,
    pub(super) call: Call,
}

pub(super) async fn call(sender: Sender, shared: Arc<Shared>, asked: Asked<'_>) -> Called {
    let Asked {
        tenant,
        script,
        argument,
        call,
    } = asked;
    let console = Console::default();
    let until = call.deadline.min(Instant::now() + PATIENCE);
    let Ok(Some(place)) = tokio::time::timeout_at(until, place(&shared, tenant, script)).await
    else {
        return Called {
            result: Err(ScriptError::Busy),
            console: String::new(),
        };
    };
    let (events, received) = mpsc::channel();
    let held = Arc::new(Held(Mutex::new(Some(place))));
    let overstay = Arc::new(Overstay::default());
    // Stops the script when it is dropped: at the end, and also where the caller drops this future
    // midway, as a hard stop does.
    let stop = Stop {
        cancelled: Arc::new(AtomicBool::new(false)),
        stopped: CancellationToken::new(),
        events: events.clone(),
        script: script.clone(),
        tenant: tenant.clone(),
        overstay: Arc::clone(&overstay),
        held: Arc::clone(&held),
        shared: Arc::clone(&shared),
    };
    let work = Work {
        script: script.clone(),
        tenant: tenant.clone(),
        argument: argument.to_owned(),
        network: call.network,
        hops: call.hops,
        returns: call.returns,
        deadline: call.deadline.into_std(),
        shared,
        held: Arc::clone(&held),
        sender,
        runtime: Handle::current(),
        cancelled: Arc::clone(&stop.cancelled),
        stopped: stop.stopped.clone(),
        console: console.clone(),
        events,
        received,
    };
    let result = match start(work, held, overstay) {
        Ok(result) => wait(result, call).await,
        Err(error) => Err(error),
    };
    drop(stop);
    Called {
        result,
        console: console.text(),
    }
}

/// A place among those that compute. `None`: the script, or too many of its tenant's, go on after
/// their deadline, and more of them would take one place after the other.
async fn place(shared: &Shared, tenant: &TenantId, script: &Script) -> Option<Place> {
    script
        .0
        .overstaying
        .subscribe()
        .wait_for(|calls| *calls == 0)
        .await
        .ok()?;
    // Looked at after the wait above, and before a place is taken: a tenant whose scripts do not
    // end gets no further one stuck.
    if shared.overstaying.of(tenant) >= MAX_OVERSTAYING_EACH {
        return None;
    }
    shared.places.place(tenant).await.ok()
}

/// Whether a call goes on after its caller has given it up, known to both its sides.
#[derive(Debug, Default)]
struct Overstay(Mutex<Stay>);

#[derive(Debug, Default)]
enum Stay {
    #[default]
    Runs,
    /// With what counts it, where it holds no place any more.
    Overstays {
        _counted: Option<Counted>,
    },
    Ended,
}

impl Overstay {
    fn given_up(&self, stop: &Stop) {
        let mut stay = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*stay, Stay::Runs) {
            return;
        }
        // Where too many overstay already, this one keeps its place: their number stays bounded in
        // any case.
        // Under the lock, as `ended` is: the thread may end at this very moment, and what is
        // counted up here must be counted down there once.
        let counted = stop.shared.overstaying.enter(&stop.tenant);
        if counted.is_some() {
            drop(stop.held.take());
        }
        *stay = Stay::Overstays { _counted: counted };
        stop.script.0.overstaying.send_modify(|calls| *calls += 1);
    }

    fn ended(&self, script: &Script) {
        let mut stay = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*stay, Stay::Overstays { .. }) {
            script.0.overstaying.send_modify(|calls| *calls -= 1);
        }
        *stay = Stay::Ended;
    }
}

/// What is released at the end of a thread, or when it cannot be started.
struct Ends {
    script: Script,
    overstay: Arc<Overstay>,
    held: Arc<Held>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.overstay.ended(&self.script);
        drop(self.held.take());
    }
}

/// Stops the script when the caller gives up (and is without effect after its end).
struct Stop {
    cancelled: Arc<AtomicBool>,
    stopped: CancellationToken,
    events: mpsc::Sender<Event>,
    script: Script,
    tenant: TenantId,
    overstay: Arc<Overstay>,
    held: Arc<Held>,
    shared: Arc<Shared>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.stopped.cancel();
        // Nobody listens any more when the script has ended.
        let _ = self.events.send(Event::Cancelled);
        self.overstay.given_up(self);
    }
}

type Ran = oneshot::Receiver<Result<Returned, ScriptError>>;

/// Runs the work in a thread, which keeps its place until it ends.
fn start(work: Work, held: Arc<Held>, overstay: Arc<Overstay>) -> Result<Ran, ScriptError> {
    let (result, ran) = oneshot::channel();
    let stay = Ends {
        script: work.script.clone(),
        overstay,
        held,
    };
    let body = move || {
        // The priority is the thread's own on Linux; elsewhere, and where it is not allowed, the
        // script runs with the process's.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        let outcome = catch_unwind(AssertUnwindSafe(|| run::run(work))).unwrap_or_else(|_| {
            Err(ScriptError::Unusable {
                text: "the script engine failed".to_owned(),
            })
        });
        // Before the result is sent: a caller that calls the script again at once must find the
        // place free.
        drop(stay);
        // Nobody waits for it any more when the caller gave up.
        let _ = result.send(outcome);
    };
    thread::Builder::new()
        .name("script".to_owned())
        .stack_size(THREAD_STACK_BYTES)
        .spawn(body)
        .map(|_| ran)
        .map_err(|error| ScriptError::Unusable {
            text: format!("no thread can be started for the script: {error}"),
        })
}

async fn wait(ran: Ran, call: Call) -> Result<Returned, ScriptError> {
    match tokio::time::timeout_at(call.deadline + GRACE, ran).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ScriptError::Unusable {
            text: "the script engine failed".to_owned(),
        }),
        Err(_) => {
            tracing::warn!(
                "a script goes on after its deadline, in an operation of the engine that cannot \
                 be stopped; it is not called again until that operation ends"
            );
            Err(ScriptError::TimedOut)
        }
    }
}
