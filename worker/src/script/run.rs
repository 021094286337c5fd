//! The running side of a call: a fresh engine, the prelude, the script, and the loop that serves
//! it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use http::StatusCode;
use rquickjs::promise::PromiseState;
use rquickjs::{
    ArrayBuffer, CatchResultExt as _, Context, Ctx, Error, Function, Object, Persistent, Promise,
    Runtime, Value,
};

use super::fetch;
use super::host::{self, Host};
use super::turns::Pace;
use super::work::{Event, Work};
use super::{
    MAX_RETURNED_BYTES, MEMORY_BYTES, Returned, Returns, STACK_BYTES, ScriptError, bytecode,
};
use crate::send::Reply;
use crate::send::SendError;

/// Runs the script in an engine of its own, until its result, its deadline or its caller's end.
pub(super) fn run(work: Work) -> Result<Returned, ScriptError> {
    let refused = |_| ScriptError::OutOfMemory;
    let runtime = Runtime::new().map_err(refused)?;
    runtime.set_memory_limit(MEMORY_BYTES);
    runtime.set_max_stack_size(STACK_BYTES);
    let cancelled = Arc::clone(&work.cancelled);
    let deadline = work.deadline;
    let pace = Rc::new(RefCell::new(Pace::new(
        Arc::clone(&work.shared.turns),
        work.tenant.clone(),
    )));
    let own_pace = Rc::clone(&pace);
    let go_on = move || {
        own_pace
            .borrow_mut()
            .go_on(&|| is_over(&cancelled, deadline))
    };
    // The engine calls this every so often while it computes; `true` ends the script with an error
    // that it cannot catch.
    runtime.set_interrupt_handler(Some(Box::new(move || !go_on())));
    let rejections = Rejections::default();
    rejections.track(&runtime);
    let context = Context::full(&runtime).map_err(refused)?;
    context.with(|ctx| {
        let result = Running::new(&ctx, &work, pace).and_then(|running| {
            let result = running.run();
            running.report(&rejections);
            result
        });
        // They hold values of the engine, which wants them back before it ends.
        rejections.forget();
        result
    })
}

fn is_over(cancelled: &AtomicBool, deadline: Instant) -> bool {
    cancelled.load(Ordering::Relaxed) || Instant::now() >= deadline
}

/// A call in its engine.
struct Running<'a, 'js> {
    ctx: Ctx<'js>,
    work: &'a Work,
    host: Rc<Host>,
    prelude: Prelude<'js>,
    pace: Rc<RefCell<Pace>>,
    /// What the script threw in the end, which is reported as its error and nowhere else.
    failure: RefCell<Option<Value<'js>>>,
}

/// The functions of the prelude that are called from here.
struct Prelude<'js> {
    /// Calls the default export: function, argument as JSON; a promise of the result as JSON.
    call: Function<'js>,
    /// The same for a transform, whose result is written strictly.
    call_transform: Function<'js>,
    /// Runs the timer of an id.
    fire: Function<'js>,
    /// Says what was thrown.
    explain: Function<'js>,
    /// Resolves the promise of a request with its answer.
    answered: Function<'js>,
    /// Rejects the promise of a request with the reason why there is no answer.
    unanswered: Function<'js>,
}

impl<'a, 'js> Running<'a, 'js> {
    fn new(ctx: &Ctx<'js>, work: &'a Work, pace: Rc<RefCell<Pace>>) -> Result<Self, ScriptError> {
        let host = Rc::new(Host::new(work));
        let prelude =
            Prelude::load(ctx, &host)
                .catch(ctx)
                .map_err(|error| ScriptError::Unusable {
                    text: format!("the script engine cannot start: {error}"),
                })?;
        Ok(Self {
            ctx: ctx.clone(),
            work,
            host,
            prelude,
            pace,
            failure: RefCell::default(),
        })
    }

    fn run(&self) -> Result<Returned, ScriptError> {
        let default = self.default_export().map_err(unusable)?;
        let call = match self.work.returns {
            Returns::Json => &self.prelude.call,
            Returns::Strict => &self.prelude.call_transform,
        };
        let call = call.call::<_, Promise<'_>>((default, self.work.argument.as_str()));
        let promise = call.map_err(|error| self.failed(&error))?;
        self.drive(&promise)?;
        let returned: Option<String> = self.result(&promise)?;
        match returned {
            None => Ok(Returned::Nothing),
            Some(json) if json.len() > MAX_RETURNED_BYTES => {
                let text = format!(
                    "the script returned {} bytes of JSON; {MAX_RETURNED_BYTES} are allowed",
                    json.len()
                );
                Err(ScriptError::Threw { text })
            }
            Some(json) => Ok(Returned::Json(json)),
        }
    }

    /// Runs the top level, and finds the default export.
    fn default_export(&self) -> Result<Function<'js>, ScriptError> {
        let module = self
            .work
            .script
            .0
            .bytecode
            .load(&self.ctx)
            .map_err(|error| self.failed(&error))?;
        let (module, promise) = module.eval().map_err(|error| self.failed(&error))?;
        self.drive(&promise)?;
        let _: Value<'_> = self.result(&promise)?;
        let default: Value<'_> = module
            .namespace()
            .and_then(|exports| exports.get("default"))
            .map_err(|error| self.failed(&error))?;
        let kind = match default.type_name() {
            "int" | "float" => "number",
            "bool" => "boolean",
            kind => kind,
        };
        Function::from_value(default).map_err(|_| ScriptError::Unusable {
            text: format!("the default export must be a function; it is of type {kind}"),
        })
    }

    /// Serves the script until the promise is settled.
    fn drive(&self, promise: &Promise<'js>) -> Result<(), ScriptError> {
        loop {
            // All jobs before the next event or timer, as in a browser, where promises come before
            // timers.
            while promise.state() == PromiseState::Pending
                && !self.is_over()
                && self.ctx.execute_pending_job()
            {}
            if self.is_over() {
                return Err(ScriptError::TimedOut);
            }
            if promise.state() != PromiseState::Pending {
                return Ok(());
            }
            self.next()?;
        }
    }

    /// Serves what comes next: an event, a timer; waits where there is none yet.
    fn next(&self) -> Result<(), ScriptError> {
        // Events before timers: a script with a timer of 0 ms that sets itself again must not keep
        // its answers waiting.
        if let Ok(event) = self.work.received.try_recv() {
            return self.serve(event);
        }
        let due = self.host.timers.borrow_mut().take_due(Instant::now());
        if let Some(timer) = due {
            let fired = self.prelude.fire.call::<_, ()>((timer,));
            return self.shown(fired);
        }
        let timer = self.host.timers.borrow().next();
        // Nothing can settle the promise any more. Waiting would hold the memory of the call until
        // its deadline.
        if timer.is_none() && !self.host.fetches.any() {
            let text = "the script waits for what can never come: its promise is pending, and no \
                        request or timer is";
            return Err(ScriptError::Threw {
                text: text.to_owned(),
            });
        }
        let until = timer.map_or(self.work.deadline, |timer| timer.min(self.work.deadline));
        // Before the wait, others get the turn; after it, the time that was waited must not count
        // as computing.
        self.pace.borrow_mut().rest();
        let received = self.without_place(|| {
            self.work
                .received
                .recv_timeout(until.saturating_duration_since(Instant::now()))
                .ok()
        });
        self.pace.borrow_mut().rest();
        // Nothing came: a timer is due or the time is up, and the loop looks at both.
        received.map_or(Ok(()), |event| self.serve(event))
    }

    /// Waits for something without the call's place, where as many may wait so; takes one again
    /// after. Where none comes before the call is over, its loop ends it.
    fn without_place<T>(&self, wait: impl FnOnce() -> T) -> T {
        let Some(counted) = self.work.shared.waiting.enter(&self.work.tenant) else {
            // Too many wait without a place already: this call keeps its place, which bounds the
            // memory of all.
            return wait();
        };
        drop(self.work.held.take());
        let waited = wait();
        let again = async {
            tokio::select! {
                place = self.work.shared.places.place_again(&self.work.tenant) => place.ok(),
                () = self.work.stopped.cancelled() => None,
                () = tokio::time::sleep_until(self.work.deadline.into()) => None,
            }
        };
        if let Some(place) = self.work.runtime.block_on(again) {
            self.work.held.put(place);
        }
        // Counted as waiting until it has a place again: else more calls than the two bounds allow
        // could hold memory meanwhile.
        drop(counted);
        waited
    }

    fn serve(&self, event: Event) -> Result<(), ScriptError> {
        match event {
            // The flag that comes with it has ended the loop.
            Event::Cancelled => Ok(()),
            Event::Fetched { id, result } => {
                // The script aborted the request, and its promise was rejected then.
                if !self.host.fetches.ended(id, &result) {
                    return Ok(());
                }
                self.fetched(id, result)
                    .map_err(|error| self.failed(&error))
            }
        }
    }

    fn fetched(&self, id: u32, result: Result<Reply, SendError>) -> rquickjs::Result<()> {
        match result {
            Ok(reply) => {
                let words = StatusCode::from_u16(reply.status)
                    .ok()
                    .and_then(|status| status.canonical_reason());
                let body = ArrayBuffer::new_copy(self.ctx.clone(), &reply.body)?;
                let headers = fetch::flat(&reply);
                let cut = fetch::cut(&reply);
                self.prelude.answered.call((
                    id,
                    reply.status,
                    words.unwrap_or_default(),
                    headers,
                    body,
                    cut,
                ))
            }
            Err(error) => {
                let told = error.error();
                self.prelude.unanswered.call((id, told.code, told.text))
            }
        }
    }

    /// An error of a callback that nobody awaits goes to the console.
    fn shown(&self, result: rquickjs::Result<()>) -> Result<(), ScriptError> {
        let Err(error) = result else { return Ok(()) };
        let thrown = self.thrown(&error);
        match self.explain(&thrown) {
            // The time was up: the callback did not fail by itself.
            ScriptError::TimedOut => Err(ScriptError::TimedOut),
            error => {
                self.host.console.line(&format!("Uncaught {error}"));
                Ok(())
            }
        }
    }

    fn result<T: rquickjs::FromJs<'js>>(&self, promise: &Promise<'js>) -> Result<T, ScriptError> {
        match promise.result() {
            Some(result) => result.map_err(|error| self.failed(&error)),
            None => Err(ScriptError::TimedOut),
        }
    }

    /// What the script failed with.
    fn failed(&self, error: &Error) -> ScriptError {
        let thrown = self.thrown(error);
        let explained = self.explain(&thrown);
        *self.failure.borrow_mut() = Some(thrown);
        explained
    }

    /// What was thrown. An error of the bindings becomes what it says.
    fn thrown(&self, error: &Error) -> Value<'js> {
        if error.is_exception() {
            return self.ctx.catch();
        }
        rquickjs::IntoJs::into_js(error.to_string(), &self.ctx).unwrap_or_else(|_| self.ctx.catch())
    }

    fn explain(&self, thrown: &Value<'js>) -> ScriptError {
        if self.is_over() {
            return ScriptError::TimedOut;
        }
        // The engine throws null when there is no memory left for an error. That a script throws
        // null itself cannot be told from it.
        if thrown.is_null() {
            return ScriptError::OutOfMemory;
        }
        let explained = self
            .prelude
            .explain
            .call::<_, Object<'_>>((thrown.clone(),))
            .and_then(|told| Told::read(&told));
        match explained {
            Ok(told) => self.told(told),
            Err(_) if self.is_over() => ScriptError::TimedOut,
            Err(error) => {
                // Nothing can be said without memory; and an error that cannot even be described is
                // not worth more words.
                let memory = is_out_of_memory(thrown) || is_out_of_memory(&self.thrown(&error));
                let text = "the script threw what cannot be shown".to_owned();
                if memory {
                    ScriptError::OutOfMemory
                } else {
                    ScriptError::Threw { text }
                }
            }
        }
    }

    fn told(&self, told: Told) -> ScriptError {
        if told.text == OUT_OF_MEMORY {
            return ScriptError::OutOfMemory;
        }
        let position = told
            .stack
            .and_then(|stack| self.work.script.0.map.of_stack(&stack, bytecode::SCRIPT));
        let text = match position {
            Some(at) => format!("{} (line {}, column {})", told.text, at.line, at.column),
            None => told.text,
        };
        match told.fetch.and_then(|id| self.host.fetches.failure(id)) {
            // Known by the id of the request: a script can throw an error with any text, and the
            // retry policy must not depend on that.
            Some(error) => ScriptError::Fetch { error, text },
            None => ScriptError::Threw { text },
        }
    }

    /// Rejections that nobody handled go to the console, except the one that is the result.
    fn report(&self, rejections: &Rejections) {
        for reason in rejections.unhandled(&self.ctx) {
            // The rejection that ended the call is its error already.
            if self.failure.borrow().as_ref() != Some(&reason) && !self.is_over() {
                self.host
                    .console
                    .line(&format!("Unhandled rejection: {}", self.explain(&reason)));
            }
        }
    }

    fn is_over(&self) -> bool {
        is_over(&self.work.cancelled, self.work.deadline)
    }
}

/// What the prelude says of something that was thrown.
struct Told {
    text: String,
    stack: Option<String>,
    /// The request that failed, if it is that.
    fetch: Option<u32>,
}

impl Told {
    fn read(told: &Object<'_>) -> rquickjs::Result<Self> {
        Ok(Self {
            text: told.get("text")?,
            stack: told.get("stack")?,
            fetch: told.get("fetch")?,
        })
    }
}

const OUT_OF_MEMORY: &str = "InternalError: out of memory";

fn is_out_of_memory(thrown: &Value<'_>) -> bool {
    thrown.is_null()
        || thrown
            .as_exception()
            .and_then(rquickjs::Exception::message)
            .as_deref()
            == Some("out of memory")
}

/// A script that fails before it is called was not called.
fn unusable(error: ScriptError) -> ScriptError {
    match error {
        ScriptError::Threw { text } => ScriptError::Unusable {
            text: format!("the script's top level failed: {text}"),
        },
        other => other,
    }
}

impl<'js> Prelude<'js> {
    fn load(ctx: &Ctx<'js>, host: &Rc<Host>) -> rquickjs::Result<Self> {
        let prelude = bytecode::prelude().map_err(|_| Error::Unknown)?;
        ctx.globals().set("__host", host::object(ctx, host)?)?;
        let (module, promise) = prelude.load(ctx)?.eval()?;
        promise.finish::<()>()?;
        let exports = module.namespace()?;
        Ok(Self {
            call: exports.get("call")?,
            call_transform: exports.get("callTransform")?,
            fire: exports.get("fire")?,
            explain: exports.get("explain")?,
            answered: exports.get("answered")?,
            unanswered: exports.get("unanswered")?,
        })
    }
}

type Rejected = (Persistent<Value<'static>>, Persistent<Value<'static>>);

/// Promises that were rejected without a handler, with the reason, while they have none.
#[derive(Clone, Default)]
struct Rejections(Rc<RefCell<Vec<Rejected>>>);

/// The most unhandled rejections that are remembered for the console.
const MAX_REJECTIONS: usize = 20;

impl Rejections {
    fn track(&self, runtime: &Runtime) {
        let rejections = self.clone();
        runtime.set_host_promise_rejection_tracker(Some(Box::new(
            move |ctx, promise, reason, handled| {
                let mut list = rejections.0.borrow_mut();
                if handled {
                    list.retain(|(known, _)| {
                        known.clone().restore(&ctx).ok().as_ref() != Some(&promise)
                    });
                } else if list.len() < MAX_REJECTIONS {
                    list.push((
                        Persistent::save(&ctx, promise),
                        Persistent::save(&ctx, reason),
                    ));
                }
            },
        )));
    }

    fn unhandled<'js>(&self, ctx: &Ctx<'js>) -> Vec<Value<'js>> {
        self.0
            .borrow()
            .iter()
            .filter_map(|(_, reason)| reason.clone().restore(ctx).ok())
            .collect()
    }

    /// The engine wants its values back before it ends.
    fn forget(&self) {
        self.0.borrow_mut().clear();
    }
}
