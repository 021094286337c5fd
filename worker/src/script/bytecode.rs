//! The engine's bytecode: created once for each script, and once for the prelude, and loaded for
//! every call.

use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Module, Runtime, WriteOptions};
use std::sync::OnceLock;

use super::position::{Position, frame_position};
use super::{MEMORY_BYTES, STACK_BYTES};

/// The name of a script's module, as its stack frames have it.
pub(super) const SCRIPT: &str = "script";
/// The name of the prelude's module.
const PRELUDE: &str = "prelude";

/// The web API in JavaScript: one module, so that its files see each other.
const PRELUDE_SOURCE: &str = concat!(
    include_str!("js/core.js"),
    include_str!("js/console.js"),
    include_str!("js/transform.js"),
    include_str!("js/text.js"),
    include_str!("js/events.js"),
    include_str!("js/url.js"),
    include_str!("js/headers.js"),
    include_str!("js/body.js"),
    include_str!("js/fetch.js"),
    include_str!("js/crypto.js"),
);

/// Bytecode that this program's engine made: in this process, or in a process that this one started
/// of the same program file to compile a script. There is no other way to make one.
#[derive(Debug)]
pub(super) struct Bytecode(Box<[u8]>);

/// What the engine says when its stack is used up.
const TOO_DEEP: &str = "Maximum call stack size exceeded";

/// Why the engine did not take the code.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) position: Option<Position>,
    pub(super) message: String,
}

impl Bytecode {
    /// Loads the module into a context. Nothing of it runs yet.
    ///
    /// # Errors
    /// When there is no memory for it.
    #[expect(
        unsafe_code,
        reason = "the engine's only way to load bytecode; see SAFETY"
    )]
    pub(super) fn load<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<Module<'js>> {
        // SAFETY: the engine wants valid bytecode. `compile` makes a `Bytecode` of what this same
        // engine wrote, and nothing can change it since. `from_child` takes what `compile` made in
        // a process that this one started of its own program file, over a pipe that nobody else
        // has. The engine copies what it needs of it.
        unsafe { Module::load(ctx.clone(), &self.0) }
    }

    /// What a process that compiles for this one wrote. To be called with that alone: see `load`.
    pub(super) fn from_child(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) const fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Compiles a module of plain JavaScript.
pub(super) fn compile(name: &str, code: &str) -> Result<Bytecode, Refused> {
    let broken = |error: rquickjs::Error| Refused {
        position: None,
        message: error.to_string(),
    };
    let runtime = Runtime::new().map_err(broken)?;
    runtime.set_memory_limit(MEMORY_BYTES);
    runtime.set_max_stack_size(STACK_BYTES);
    let context = Context::full(&runtime).map_err(broken)?;
    context.with(|ctx| {
        let options = WriteOptions {
            strip_source: true,
            ..WriteOptions::default()
        };
        let written =
            Module::declare(ctx.clone(), name, code).and_then(|module| module.write(options));
        written
            .catch(&ctx)
            .map(|bytes| Bytecode(bytes.into()))
            .map_err(|error| refused(name, &error))
    })
}

fn refused(name: &str, error: &CaughtError<'_>) -> Refused {
    match error {
        CaughtError::Exception(exception) if exception.message().as_deref() == Some(TOO_DEEP) => {
            Refused {
                position: None,
                message: "the script is nested too deep".to_owned(),
            }
        }
        CaughtError::Exception(exception) => Refused {
            position: exception
                .stack()
                .and_then(|stack| stack.lines().find_map(|frame| frame_position(frame, name))),
            message: exception.message().unwrap_or_else(|| error.to_string()),
        },
        other => Refused {
            position: None,
            message: other.to_string(),
        },
    }
}

/// The prelude, compiled when it is first wanted. It is a part of the program: that it compiles is
/// tested.
pub(super) fn prelude() -> Result<&'static Bytecode, &'static Refused> {
    static PRELUDE_BYTECODE: OnceLock<Result<Bytecode, Refused>> = OnceLock::new();
    PRELUDE_BYTECODE
        .get_or_init(|| compile(PRELUDE, PRELUDE_SOURCE))
        .as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prelude_compiles() {
        assert!(prelude().is_ok(), "{:?}", prelude().err());
        println!("{} bytes of bytecode", prelude().unwrap().0.len());
    }
}
