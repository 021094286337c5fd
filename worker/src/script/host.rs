//! What a script can reach of the outside: functions in Rust, under one object that only the
//! prelude sees.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rquickjs::{Ctx, Exception, Object, Result};

use super::console::Console;
use super::fetch::{Asked, Fetches};
use super::natives::add;
use super::work::Work;
use super::{MAX_TIMERS, natives};

/// The longest that a timer waits: no call takes as long.
const LONGEST_MS: f64 = 3.6e6;

/// The state of one call that is not in the engine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) console: Console,
    pub(super) fetches: Fetches,
    pub(super) begun: Instant,
    pub(super) timers: RefCell<Timers>,
}

impl Host {
    pub(super) fn new(work: &Work) -> Self {
        Self {
            console: work.console.clone(),
            fetches: Fetches::new(work),
            begun: Instant::now(),
            timers: RefCell::default(),
        }
    }
}

/// Timers that wait, the next first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<(Instant, u32), ()>,
    when: HashMap<u32, Instant>,
}

impl Timers {
    fn set(&mut self, id: u32, at: Instant) {
        // An id that is set again replaces its timer; the old due time would be left behind
        // otherwise.
        self.clear(id);
        // The id makes the key unique: two timers may be due in the same instant.
        self.due.insert((at, id), ());
        self.when.insert(id, at);
    }

    fn clear(&mut self, id: u32) {
        if let Some(at) = self.when.remove(&id) {
            self.due.remove(&(at, id));
        }
    }

    /// When the next timer is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), ())| *at)
    }

    /// Takes the next timer if it is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u32> {
        let ((at, id), ()) = self.due.first_key_value()?;
        let at = *at;
        let id = *id;
        (at <= now).then(|| {
            self.clear(id);
            id
        })
    }
}

/// The object with the functions of `host`.
pub(super) fn object<'js>(ctx: &Ctx<'js>, host: &Rc<Host>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    natives::install(&object)?;
    let of = Rc::clone(host);
    add(&object, "log", move |line: String| of.console.line(&line))?;
    let of = Rc::clone(host);
    add(&object, "now", move || milliseconds(of.begun.elapsed()))?;
    let of = Rc::clone(host);
    add(
        &object,
        "setTimer",
        move |ctx: Ctx<'js>, id: u32, delay: f64| set_timer(&ctx, &of, id, delay),
    )?;
    let of = Rc::clone(host);
    add(&object, "clearTimer", move |id: u32| {
        of.timers.borrow_mut().clear(id)
    })?;
    let of = Rc::clone(host);
    add(&object, "abortFetch", move |id: u32| of.fetches.abort(id))?;
    let of = Rc::clone(host);
    let fetch = move |ctx: Ctx<'js>,
                      id: u32,
                      method: String,
                      url: String,
                      headers: Vec<String>,
                      body: String| {
        // Copied: the request outlives this call into the engine, and goes out from another thread.
        let body = natives::bytes(&ctx, &body)?;
        Ok::<_, rquickjs::Error>(of.fetches.start(
            id,
            Asked {
                method,
                url,
                headers,
                body,
            },
        ))
    };
    add(&object, "fetch", fetch)?;
    Ok(object)
}

/// Whole ones, as a number of JavaScript.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).floor()
}

fn set_timer(ctx: &Ctx<'_>, host: &Host, id: u32, delay: f64) -> Result<()> {
    let mut timers = host.timers.borrow_mut();
    // The engine's memory limit does not count what is kept on this side.
    if timers.when.len() >= MAX_TIMERS {
        return Err(Exception::throw_range(
            ctx,
            &format!("a script may have {MAX_TIMERS} timers waiting"),
        ));
    }
    timers.set(
        id,
        Instant::now() + Duration::from_secs_f64(delay.clamp(0.0, LONGEST_MS) / 1e3),
    );
    Ok(())
}
