//! The waiting side of a call: a place among those that run, a thread, and its result or the deadline.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::console::Console;
use super::host::Event;
use super::run::{self, Work};
use super::turns::Turns;
use super::{Call, Called, Returned, Script, ScriptError};
use crate::send::Sender;

/// The thread's stack: the engine's, and what the functions that it calls need.
const THREAD_STACK_BYTES: usize = super::STACK_BYTES + 1024 * 1024;
/// How long after the deadline a thread is waited for. One that is within a long operation of the engine
/// itself notices later.
const GRACE: Duration = Duration::from_millis(200);
/// Deliveries come first: a script that computes must not take the processor from them.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// What calls share.
pub(super) struct Places {
    /// A permit for each that may run.
    pub(super) running: Arc<Semaphore>,
    /// Of those that compute for long.
    pub(super) turns: Arc<Turns>,
}

pub(super) async fn call(sender: Sender, places: Places, script: &Script, argument: &str, call: Call) -> Called {
    let console = Console::default();
    let Ok(Some(place)) = tokio::time::timeout_at(call.deadline, place(places.running, script)).await else {
        return Called { result: Err(ScriptError::TimedOut), console: String::new() };
    };
    let (events, received) = mpsc::channel();
    let overstay = Arc::new(Overstay::default());
    let stop = Stop {
        cancelled: Arc::new(AtomicBool::new(false)),
        events: events.clone(),
        script: script.clone(),
        overstay: Arc::clone(&overstay),
    };
    let work = Work {
        script: script.clone(),
        argument: argument.to_owned(),
        network: call.network,
        returns: call.returns,
        deadline: call.deadline.into_std(),
        turns: places.turns,
        sender,
        runtime: Handle::current(),
        cancelled: Arc::clone(&stop.cancelled),
        console: console.clone(),
        events,
        received,
    };
    let result = match start(work, place, overstay) {
        Ok(result) => wait(result, call).await,
        Err(error) => Err(error),
    };
    drop(stop);
    Called { result, console: console.text() }
}

/// A place among those that run. A script of which an earlier call goes on after its deadline waits for that:
/// else its next calls would take one place after the other.
async fn place(running: Arc<Semaphore>, script: &Script) -> Option<OwnedSemaphorePermit> {
    script.0.overstaying.subscribe().wait_for(|calls| *calls == 0).await.ok()?;
    running.acquire_owned().await.ok()
}

/// Whether a call goes on after its caller has given it up, known to both its sides.
#[derive(Debug, Default)]
struct Overstay(Mutex<Stay>);

#[derive(Debug, Default, PartialEq, Eq)]
enum Stay {
    #[default]
    Runs,
    Overstays,
    Ended,
}

impl Overstay {
    fn given_up(&self, script: &Script) {
        let mut stay = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *stay == Stay::Runs {
            *stay = Stay::Overstays;
            script.0.overstaying.send_modify(|calls| *calls += 1);
        }
    }

    fn ended(&self, script: &Script) {
        let mut stay = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *stay == Stay::Overstays {
            script.0.overstaying.send_modify(|calls| *calls -= 1);
        }
        *stay = Stay::Ended;
    }
}

/// What a thread gives back at its end, or when it cannot be started.
struct Ends {
    script: Script,
    overstay: Arc<Overstay>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.overstay.ended(&self.script);
    }
}

/// Stops the script when the caller gives up (and is without effect after its end).
struct Stop {
    cancelled: Arc<AtomicBool>,
    events: mpsc::Sender<Event>,
    script: Script,
    overstay: Arc<Overstay>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        // Nobody listens any more when the script has ended.
        let _ = self.events.send(Event::Cancelled);
        self.overstay.given_up(&self.script);
    }
}

type Ran = oneshot::Receiver<Result<Returned, ScriptError>>;

/// Runs the work in a thread, which keeps its place until it ends.
fn start(work: Work, place: OwnedSemaphorePermit, overstay: Arc<Overstay>) -> Result<Ran, ScriptError> {
    let (result, ran) = oneshot::channel();
    let stay = Ends { script: work.script.clone(), overstay, _place: place };
    let body = move || {
        // The priority is the thread's own on Linux; elsewhere, and where it is not allowed, the script runs
        // with the process's.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        let outcome = catch_unwind(AssertUnwindSafe(|| run::run(work)))
            .unwrap_or_else(|_| Err(ScriptError::Unusable { text: "the script engine failed".to_owned() }));
        drop(stay);
        // Nobody waits for it any more when the caller gave up.
        let _ = result.send(outcome);
    };
    thread::Builder::new()
        .name("script".to_owned())
        .stack_size(THREAD_STACK_BYTES)
        .spawn(body)
        .map(|_| ran)
        .map_err(|error| ScriptError::Unusable { text: format!("no thread can be started for the script: {error}") })
}

async fn wait(ran: Ran, call: Call) -> Result<Returned, ScriptError> {
    match tokio::time::timeout_at(call.deadline + GRACE, ran).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ScriptError::Unusable { text: "the script engine failed".to_owned() }),
        Err(_) => {
            tracing::warn!(
                "a script goes on after its deadline, in an operation that cannot be stopped; it keeps its place"
            );
            Err(ScriptError::TimedOut)
        }
    }
}
