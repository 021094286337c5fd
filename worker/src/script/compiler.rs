//! Compiles scripts under bounds: a few at a time, none of them on the threads of the async
//! runtime, each in a process of its own with bounds on its time and memory.
//!
//! A source of a kilobyte can be made to take gigabytes or minutes, and neither the parser, the
//! transformer nor the engine's compiler can be interrupted. What is known to grow is refused
//! before (`nesting.rs`, `enums.rs`); the process is for what is not known. It costs a few
//! milliseconds, once for each script.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::domain::id::TenantId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::child::{self, COMPILE_COMMAND, CPU_SECONDS, HEAP_BYTES, MAX_ANSWER_BYTES};
use super::gate::{Bounds, Gate};
use super::{Compiled, MAX_SOURCE_BYTES, Script, ScriptProblem, compile};

/// How many compile at once, at most one of them for a tenant while others may want to; and how
/// many wait.
const BOUNDS: Bounds = Bounds {
    places: 2,
    waiting: 256,
    waiting_each: 32,
};
/// How long one may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one may take, waiting for the processor included: it has a low priority.
const LONGEST: Duration = Duration::from_secs(20);

/// Compiles scripts; cheap to clone. All clones share the bound on how many compile at once.
#[derive(Debug, Clone)]
pub struct Compiler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Where,
    gate: Gate,
}

#[derive(Debug)]
enum Where {
    Program(PathBuf),
    InProcess,
}

/// Why there is no script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Uncompiled {
    /// The source is not a script: it is refused with this problem.
    #[error(transparent)]
    Refused(#[from] ScriptProblem),
    /// Nothing is known about the source: it can be tried again.
    #[error("{0}")]
    Busy(&'static str),
}

const TOO_MANY: Uncompiled =
    Uncompiled::Busy("too many scripts are being compiled now; try again in some seconds");
const NO_PROCESS: Uncompiled = Uncompiled::Busy(
    "the process that compiles scripts did not answer; the log says more; try again in some \
     seconds",
);

impl Compiler {
    /// Compiles in processes of the program at `program`, which must pass on to
    /// [`super::compile_for_parent`] when its only argument is [`COMPILE_COMMAND`].
    #[must_use]
    pub fn in_processes(program: PathBuf) -> Self {
        Self::new(Where::Program(program))
    }

    /// Compiles in threads of this process. A source that is made for it can then take all memory
    /// and any time: for programs whose scripts are all their own, and for tests.
    #[must_use]
    pub fn in_threads() -> Self {
        Self::new(Where::InProcess)
    }

    fn new(place: Where) -> Self {
        Self(Arc::new(Inner {
            place,
            gate: Gate::new(BOUNDS),
        }))
    }

    /// Compiles a source for a tenant, once it is its turn.
    ///
    /// # Errors
    /// What is wrong with the source; or that it could not be found out now.
    pub async fn compile(&self, tenant: &TenantId, source: &str) -> Result<Script, Uncompiled> {
        if source.len() > MAX_SOURCE_BYTES {
            // Said without a process.
            return Ok(super::compile(source)?);
        }
        let place = tokio::time::timeout(PATIENCE, self.0.gate.place(tenant)).await;
        let Ok(Ok(_place)) = place else {
            return Err(TOO_MANY);
        };
        let compiled = match &self.0.place {
            Where::Program(program) => in_process(program, source).await?,
            Where::InProcess => {
                let source = source.to_owned();
                tokio::task::spawn_blocking(move || compile::compile(&source))
                    .await
                    .map_err(|_| NO_PROCESS)??
            }
        };
        Ok(Script(Arc::new(compiled)))
    }
}

async fn in_process(program: &PathBuf, source: &str) -> Result<Compiled, Uncompiled> {
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "a script could not be compiled: the process for it cannot be \
                                 started or asked");
        NO_PROCESS
    };
    let mut command = Command::new(program);
    // Nothing of this process's environment is its business: there are credentials in it.
    command
        .arg(COMPILE_COMMAND)
        .env_clear()
        // The program's allocator reserves a gibibyte of addresses at its start. They would count
        // against the bound of memory, which is one of addresses.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
    let asked = tokio::time::timeout(LONGEST, ask(&mut child, source)).await;
    let Ok(answered) = asked else {
        tracing::warn!("a script was not compiled within {LONGEST:?}: this machine is too busy");
        return Err(TOO_MANY);
    };
    let (answer, status) = answered.map_err(failed)?;
    match child::read(&answer) {
        Some(compiled) if status.success() => Ok(compiled?),
        _ => Err(died(status)),
    }
}

async fn ask(child: &mut Child, source: &str) -> std::io::Result<(Vec<u8>, ExitStatus)> {
    let mut answer = Vec::new();
    if let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) {
        // A process that dies before it has read everything is known by its status.
        let _ = input.write_all(source.as_bytes()).await;
        drop(input);
        output
            .take(MAX_ANSWER_BYTES as u64 + 1)
            .read_to_end(&mut answer)
            .await?;
    }
    Ok((answer, child.wait().await?))
}

/// What the end of a process without an answer says about its source.
#[cfg(unix)]
fn died(status: ExitStatus) -> Uncompiled {
    use std::os::unix::process::ExitStatusExt as _;

    const SIGABRT: i32 = 6;
    const SIGSEGV: i32 = 11;
    const SIGXCPU: i32 = 24;
    let problem = match status.signal() {
        Some(SIGXCPU) => format!("takes more than {CPU_SECONDS} s of processor time to compile"),
        // Memory that is refused ends the process, and so does a stack that is used up.
        Some(SIGABRT | SIGSEGV) => {
            format!(
                "takes more than {} MiB of memory to compile, or is nested too deep",
                HEAP_BYTES / 1024 / 1024
            )
        }
        _ => {
            tracing::error!(%status, "the process that compiles a script ended without an answer");
            return NO_PROCESS;
        }
    };
    Uncompiled::Refused(ScriptProblem::of_all(format!(
        "the script {problem}; make it smaller or simpler"
    )))
}

#[cfg(not(unix))]
fn died(status: ExitStatus) -> Uncompiled {
    tracing::error!(%status, "the process that compiles a script ended without an answer");
    NO_PROCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        TenantId::parse("acme").unwrap()
    }

    /// What ends a process says what is wrong with its source, or that nothing is known of it.
    #[cfg(unix)]
    #[tokio::test]
    async fn what_ends_the_process_is_told() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let ends = [
            ("kill -XCPU $$", "more than 3 s of processor time"),
            ("kill -ABRT $$", "of memory to compile"),
            ("kill -KILL $$", "did not answer"),
            ("exit 0", "did not answer"),
            (
                "echo '{\"Compiled\":{\"bytecode\":9,\"places\":0}}'",
                "did not answer",
            ),
            (
                "cat >/dev/null; echo '{\"Refused\":{\"line\":1,\"column\":2,\"message\":\"so\"}}'",
                "line 1, column 2: so",
            ),
        ];
        for (number, (end, told)) in ends.into_iter().enumerate() {
            let program = folder.path().join(format!("compile-{number}"));
            std::fs::write(&program, format!("#!/bin/sh\nPATH=/bin:/usr/bin\n{end}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let compiler = Compiler::in_processes(program);
            let error = compiler
                .compile(&tenant(), "export default () => 1")
                .await
                .unwrap_err();
            assert!(error.to_string().contains(told), "{end}: {error}");
            let refused = matches!(error, Uncompiled::Refused(_));
            assert_eq!(refused, told != "did not answer", "{end}: {error}");
        }
        let missing = Compiler::in_processes(folder.path().join("missing"));
        assert_eq!(
            missing
                .compile(&tenant(), "export default () => 1")
                .await
                .unwrap_err(),
            NO_PROCESS
        );
    }

    #[tokio::test]
    async fn a_source_that_is_too_long_needs_no_process() {
        let compiler = Compiler::in_processes(PathBuf::from("/nonexistent"));
        let error = compiler
            .compile(&tenant(), &" ".repeat(MAX_SOURCE_BYTES + 1))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("102401 bytes"), "{error}");
    }
}
