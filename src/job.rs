//! Jobs that the services work off: following one with its progress, and stopping it with Ctrl-C.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::client::{ApiError, Client};
use crate::failure::{Done, Failure, INTERRUPTED};
use crate::output::{self, Output, count, text};

/// How often the job is asked for.
const POLL: Duration = Duration::from_millis(300);
/// How often progress is told where stderr is not a terminal.
pub(crate) const TELL: Duration = Duration::from_secs(5);
/// How long the API may be away while a job is followed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kind of job, and how to speak of it.
pub(crate) struct Kind {
    /// The collection in the API, such as `replays`.
    pub(crate) path: &'static str,
    /// What the job is called, with a capital letter.
    pub(crate) name: &'static str,
    /// What one is asked about with, such as `posthaste replay`.
    pub(crate) command: &'static str,
    /// The member that says how far it is, out of `total`.
    pub(crate) position: &'static str,
    /// What is counted, such as `dead letter`.
    pub(crate) thing: &'static str,
    /// What `position` is the number of, such as `looked at`.
    pub(crate) done: &'static str,
    /// A job in a sentence: how far it is, or what it did.
    pub(crate) sum: fn(&Value) -> String,
}

/// A number of a job.
pub(crate) fn number(job: &Value, member: &str) -> u64 {
    job.get(member).and_then(Value::as_u64).unwrap_or(0)
}

/// What a command does with a job that it has begun: follows it, unless it should not wait, and
/// prints how far it got. The exit code is that of the command.
///
/// # Errors
/// The API is away for too long, or refuses; the job goes on meanwhile.
pub(crate) async fn see_through(
    output: Output,
    client: &Client,
    kind: &Kind,
    begun: Value,
    no_wait: bool,
) -> Result<(Value, ExitCode), Failure> {
    let (job, code) = if no_wait {
        (begun, ExitCode::SUCCESS)
    } else {
        follow(client, kind, begun).await?
    };
    print(output, kind, &job)?;
    Ok((job, code))
}

/// Parses a job's id.
pub(crate) fn job_id(text: &str) -> Result<Uuid, &'static str> {
    Uuid::parse_str(text).map_err(|_| "must be a job's id, a UUID: `list` shows them")
}

/// Cancels a job for a command, and prints how far it got.
///
/// # Errors
/// As [`cancel`]; the job was finished before.
pub(crate) async fn stop(output: Output, client: &Client, kind: &Kind, id: Uuid) -> Done {
    let job = cancel(client, kind, &id.to_string()).await?;
    // A job that finished in the meantime comes back as it is.
    if text(&job, "state") != "cancelled" {
        return Err(Failure::new(format!(
            "{} {id} is finished already: {}",
            kind.name.to_lowercase(),
            (kind.sum)(&job)
        )));
    }
    print(output, kind, &job)?;
    Ok(ExitCode::SUCCESS)
}

fn print(output: Output, kind: &Kind, job: &Value) -> io::Result<()> {
    if output.json {
        output.document(job)
    } else {
        output.line((kind.sum)(job))
    }
}

/// Says on stderr which job it is, shows how far it is until it is finished, and cancels it at
/// Ctrl-C. The job as it stands then, and the exit code for it.
async fn follow(client: &Client, kind: &Kind, job: Value) -> Result<(Value, ExitCode), Failure> {
    let id = text(&job, "id");
    let total = number(&job, "total");
    say(&format!(
        "{} {id} has begun: {}. Ctrl-C cancels it.",
        kind.name,
        count(total, kind.thing)
    ))?;
    let interrupted = interrupt()?;
    tokio::pin!(interrupted);
    tokio::select! {
        finished = until_finished(client, kind, job, &id) => {
            let job = finished?;
            // Somebody else may have cancelled it.
            let was_cancelled = text(&job, "state") == "cancelled";
            let code = if was_cancelled { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            Ok((job, code))
        }
        () = &mut interrupted => {
            Ok((cancel(client, kind, &id).await?, ExitCode::from(INTERRUPTED)))
        }
    }
}

/// Cancels a job; as it stands then.
///
/// # Errors
/// The API is away, or the job is finished.
async fn cancel(client: &Client, kind: &Kind, id: &str) -> Result<Value, Failure> {
    match client
        .post(&["v1", kind.path, id, "cancel"], &json!({}))
        .await
    {
        Ok(job) => Ok(job),
        Err(ApiError::Refused { status, .. }) if status == reqwest::StatusCode::CONFLICT => {
            Ok(client.get(&["v1", kind.path, id], &[]).await?)
        }
        Err(error) => {
            let failure = Failure::from(error);
            let message = format!(
                "the job could not be cancelled and goes on: {}",
                failure.message()
            );
            Err(Failure::new(message).hint(format!("{} cancel {id}", kind.command)))
        }
    }
}

async fn until_finished(
    client: &Client,
    kind: &Kind,
    mut job: Value,
    id: &str,
) -> Result<Value, Failure> {
    let mut progress = Progress::new(kind, number(&job, "total"));
    let mut answered = Instant::now();
    while text(&job, "state") == "running" {
        progress.show(&job)?;
        tokio::time::sleep(POLL).await;
        match client.get(&["v1", kind.path, id], &[]).await {
            Ok(now) => {
                job = now;
                answered = Instant::now();
            }
            Err(ApiError::Unreachable(_) | ApiError::Busy { .. })
                if answered.elapsed() < PATIENCE => {}
            Err(error) => {
                let failure = Failure::from(error);
                let message = format!(
                    "the job goes on, but cannot be followed: {}",
                    failure.message()
                );
                return Err(
                    Failure::new(message).hint(format!("ask for it: {} show {id}", kind.command))
                );
            }
        }
    }
    progress.bar.finish_and_clear();
    Ok(job)
}

/// How far a job is: a bar on a terminal, else a line now and then.
struct Progress<'a> {
    kind: &'a Kind,
    bar: ProgressBar,
    total: u64,
    told: Instant,
    /// What was last told: standing still is told once.
    trouble: String,
}

impl<'a> Progress<'a> {
    fn new(kind: &'a Kind, total: u64) -> Self {
        let bar = output::progress(total, kind.done);
        Self {
            kind,
            bar,
            total,
            told: Instant::now(),
            trouble: String::new(),
        }
    }

    fn show(&mut self, job: &Value) -> io::Result<()> {
        let position = number(job, self.kind.position);
        self.bar.set_position(position);
        let trouble = text(job, "last_error");
        if !trouble.is_empty() && trouble != self.trouble {
            self.bar
                .suspend(|| say(&format!("it waits and tries again: {trouble}")))?;
        }
        self.trouble = trouble;
        if self.told.elapsed() >= TELL && !io::stderr().is_terminal() {
            self.told = Instant::now();
            say(&format!(
                "{} {position} of {}",
                self.kind.done,
                count(self.total.max(position), self.kind.thing)
            ))?;
        }
        Ok(())
    }
}

/// Returns at Ctrl-C or SIGTERM.
pub(crate) fn interrupt() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A line on stderr, so that what is piped on is the result alone.
pub(crate) fn say(line: &str) -> io::Result<()> {
    output::tell(format_args!("posthaste: {line}"))
}
