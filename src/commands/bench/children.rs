//! The processes under measurement: this same program, started anew.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::calls::Caller;
use super::place::Place;
use super::usage::Watched;
use crate::failure::{Done, Failure};

/// This program, also where its file was replaced meanwhile.
const SELF: &str = "/proc/self/exe";
/// The first argument of a child. It is not a command for users.
pub(super) const CHILD: &str = "bench-child";
/// How long a process may take until it is ready.
const START: Duration = Duration::from_secs(60);
/// How long one may take to end what it does.
const STOP: Duration = Duration::from_secs(60);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(20);
/// How much of a log is shown of a process that failed, in lines.
const SHOWN: usize = 12;

/// What a child does first: it becomes `program`, which ends when the bench, with the process id
/// `bench`, does.
pub(super) fn become_child(
    bench: &str,
    program: &OsString,
    arguments: impl Iterator<Item = OsString>,
) -> Done {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
    // It may have ended before the line above.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.as_deref() != Some(bench) {
        return Ok(ExitCode::FAILURE);
    }
    Err(std::process::Command::new(program)
        .args(arguments)
        .exec()
        .into())
}

/// A command of this program that becomes a child.
pub(super) fn command(arguments: &[&str]) -> Command {
    command_of(Path::new(SELF), arguments)
}

/// A command of any program that becomes a child.
pub(super) fn command_of(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(SELF);
    command
        .arg(CHILD)
        .arg(std::process::id().to_string())
        .arg(program)
        .args(arguments)
        .kill_on_drop(true);
    command
}

/// A process that serves HTTP: `api`, `worker` or `up`.
pub(super) struct Process {
    /// What it is called in the results.
    pub(super) name: String,
    /// What it says of itself: health, metrics and perhaps the API.
    pub(super) caller: Caller,
    child: Child,
    pid: u32,
}

impl Process {
    /// Starts a command and waits until it is ready.
    ///
    /// # Errors
    /// With the end of its log when it does not start.
    pub(super) async fn start(
        place: &Place,
        name: &str,
        arguments: &[&str],
    ) -> Result<Self, Failure> {
        let log = place.dir().join(format!("{name}.log"));
        let file = std::fs::File::create(&log)?;
        let mut command = command(&place.arguments(arguments));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::from(file.try_clone()?))
            .stderr(Stdio::from(file));
        place.set_environment(&mut command);
        let mut child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        let deadline = Instant::now() + START;
        let caller = loop {
            if let Some(address) = address(&log) {
                let caller = Caller::new(address, place.admin_key())?;
                if caller.is_ready().await {
                    break caller;
                }
            }
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let what = if ended.is_some() {
                    "ended at its start"
                } else {
                    "was not ready in time"
                };
                return Err(Failure::new(format!(
                    "`posthaste {}` {what}; its log ends with:\n{}",
                    arguments.join(" "),
                    end_of(&log)
                )));
            }
            tokio::time::sleep(POLL).await;
        };
        Ok(Self {
            name: name.to_owned(),
            caller,
            child,
            pid,
        })
    }

    /// For counting what it uses.
    pub(super) fn watched(&self) -> Watched {
        Watched {
            name: self.name.clone(),
            pid: self.pid,
            server: false,
        }
    }

    /// Ends it as a supervisor would, so that it gives back nothing that it has recorded.
    ///
    /// # Errors
    /// When it does not end in time.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // An error: it has ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(ended) => Ok(ended.map(drop)?),
            Err(_) => Err(Failure::new(format!(
                "{} did not end within {} s of SIGTERM",
                self.name,
                STOP.as_secs()
            ))),
        }
    }

    /// Kills it. Nothing that it holds is needed any more.
    pub(super) async fn kill(mut self) {
        let _ = self.child.kill().await;
    }
}

/// Runs a command to its end.
///
/// # Errors
/// With what it said when it fails.
pub(super) async fn run(place: &Place, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = command(&place.arguments(arguments));
    place.set_environment(&mut command);
    let output = command.stdin(Stdio::null()).output().await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    // `reconcile` fails when the books do not balance, and says so in its JSON.
    if output.status.success() || printed.starts_with('{') {
        return Ok(printed);
    }
    Err(Failure::new(format!(
        "`posthaste {}` failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// The address that a log names.
fn address(log: &Path) -> Option<std::net::SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    let (_, rest) = text.split_once("listening on http://")?;
    rest.split(char::is_whitespace).next()?.parse().ok()
}

pub(super) fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
