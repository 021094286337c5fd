//! Scripts: JavaScript or TypeScript that an endpoint's owner wrote, run in the worker for a
//! delivery.
//!
//! [`compile`] checks a source and makes bytecode of it, once; [`Engine::call`] loads that into a
//! fresh engine, in a thread of its own, for every call. Nothing survives from call to call, and
//! every call has its limits: time, memory, stack, output, requests.
//!
//! The engine is QuickJS-ng, by rquickjs: alive, a megabyte of C, starts in well under a
//! millisecond, and can be interrupted and limited from within. V8 (rusty_v8, deno_core) is some 60
//! MB and ends the process when it has no memory; Boa is slower and cannot be limited in memory; a
//! JavaScript runtime as a program of its own would have to be there. oxc parses and drops types:
//! alive, exact about places, and it knows all of TypeScript; swc (`swc_ts_fast_strip`) would do as
//! well.
//!
//! A call of the guide's sample without its request takes 0.8 ms (median, Rust unoptimised, two
//! cores): a thread, an engine, the prelude's 37 KiB of bytecode, the script, and the end of it
//! all.

mod bytecode;
mod call;
mod check;
mod child;
mod compile;
mod compiler;
mod console;
mod crowd;
mod engine;
mod enums;
mod fetch;
mod gate;
mod host;
mod natives;
mod nesting;
mod position;
mod run;
mod turns;
mod work;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::send::SendError;
use position::Position;
use posthaste_shared::domain::hops::Hops;

pub use child::{COMPILE_COMMAND, compile_for_parent};
pub use compiler::{Compiler, Uncompiled};
pub use engine::Engine;

/// The longest source: Authgear's limit for its own scripts.
pub const MAX_SOURCE_BYTES: usize = 100 * 1024;
/// What the engine may use for one call, or to compile one script. A call without data needs about
/// 1 MiB.
pub const MEMORY_BYTES: usize = 32 * 1024 * 1024;
/// How deep the engine's own stack may get: calls some thousands deep.
const STACK_BYTES: usize = 512 * 1024;
/// The longest JSON that a script may return.
pub const MAX_RETURNED_BYTES: usize = 256 * 1024;
/// How much of what a script writes to the console is kept.
pub const CONSOLE_BYTES: usize = 4 * 1024;
/// Scripts that compute at once in a worker, of all tenants together. A tenant that has some gets
/// more while it has fewer than half as many as are free.
pub const MAX_RUNNING: usize = 64;
/// Calls that wait for the network or a timer without taking one of those places. Further ones keep
/// theirs while they wait. Each may have [`MEMORY_BYTES`], so both together bound what scripts
/// take: 6 GiB.
pub const MAX_WAITING: usize = 128;
/// Calls that go on after their deadline in an operation of the engine that cannot be stopped, and
/// for which others get their places. Further ones keep theirs.
const MAX_OVERSTAYING: usize = 16;
/// Once a tenant has this number of such calls, its other calls wait until one ends.
const MAX_OVERSTAYING_EACH: usize = 2;
/// Timers that a call may have waiting.
const MAX_TIMERS: usize = 1_000;
/// Requests that a call may make.
const MAX_FETCHES: usize = 20;
/// The largest body of a request.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// A script that can be called; cheap to clone.
#[derive(Debug, Clone)]
pub struct Script(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    bytecode: bytecode::Bytecode,
    map: position::Map,
    /// Calls that go on though nobody waits for them: for a moment, or in an operation that cannot
    /// be stopped.
    overstaying: watch::Sender<usize>,
}

impl Compiled {
    fn new(bytecode: bytecode::Bytecode, map: position::Map) -> Self {
        Self {
            bytecode,
            map,
            overstaying: watch::Sender::new(0),
        }
    }

    /// What it takes in memory, about.
    fn bytes(&self) -> usize {
        self.bytecode.bytes() + size_of_val(self.map.pairs())
    }
}

/// Checks and compiles a module of TypeScript or JavaScript whose default export is a function, in
/// this process and on the calling thread: some milliseconds for an ordinary source. A source
/// written to be large or slow to compile takes as long and as much memory as it needs;
/// [`Compiler`] bounds both.
///
/// # Errors
/// What is wrong with it, and where.
pub fn compile(source: &str) -> Result<Script, ScriptProblem> {
    compile::compile(source).map(|compiled| Script(Arc::new(compiled)))
}

/// Why a source is not a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptProblem {
    /// Of the source as written, from 1; `None` where the problem is with the whole of it.
    pub line: Option<u32>,
    /// The column in characters, from 1; `None` where the problem is with the whole of it.
    pub column: Option<u32>,
    /// What is wrong with the source, and what it must be.
    pub message: String,
}

impl ScriptProblem {
    fn new(position: Option<Position>, message: String) -> Self {
        Self {
            line: position.map(|at| at.line),
            column: position.map(|at| at.column),
            message,
        }
    }

    const fn of_all(message: String) -> Self {
        Self {
            line: None,
            column: None,
            message,
        }
    }
}

impl fmt::Display for ScriptProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(formatter, "line {line}, column {column}: ")?;
        }
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ScriptProblem {}

/// How a script is called.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// When it must be over.
    pub deadline: Instant,
    /// Whether it may make requests.
    pub network: bool,
    /// What its requests say of how often Posthaste has sent what they come from.
    pub hops: Hops,
    /// How what it returns is written.
    pub returns: Returns,
}

/// How what a script returns is written as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// As `JSON.stringify` writes it.
    Json,
    /// As an object with what the script returned in `returned`, or in `problem` why JSON cannot
    /// hold that: what `JSON.stringify` leaves out in silence is refused.
    Strict,
}

/// The result of a call.
#[derive(Debug)]
pub struct Called {
    /// What the script returned, or why it did not.
    pub result: Result<Returned, ScriptError>,
    /// What it wrote to the console, a line for each call, up to [`CONSOLE_BYTES`] and a note that
    /// it was cut.
    pub console: String,
}

/// What a script returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returned {
    /// The value that the script returned, as JSON text of up to [`MAX_RETURNED_BYTES`].
    Json(String),
    /// `undefined`, a function or a symbol, which JSON does not have.
    Nothing,
}

/// Why a script did not return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It was not called: there is no place for it now. It can be called later.
    #[error("as many scripts run as may")]
    Busy,
    /// The deadline came first.
    #[error("the script did not end in time")]
    TimedOut,
    /// It wanted more than [`MEMORY_BYTES`].
    #[error("the script used more than {} MiB of memory", MEMORY_BYTES / 1024 / 1024)]
    OutOfMemory,
    /// A request of its own failed, and it did not catch that.
    #[error("{text}")]
    Fetch {
        /// Why the request failed.
        error: SendError,
        /// In words, with the place in the script.
        text: String,
    },
    /// The script threw an error, or what it did amounts to one.
    #[error("{text}")]
    Threw {
        /// The error, with the place in the script.
        text: String,
    },
    /// It could not be called at all.
    #[error("{text}")]
    Unusable {
        /// Why it could not be called, as a sentence.
        text: String,
    },
}
