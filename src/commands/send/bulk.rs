//! Sending: in batches, with patience while the other side is away, results as they come.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use posthaste_shared::backoff::Reconnect;
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::domain::id::NotificationId;
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::reading::{self, Objects};
use serde_json::json;
use tokio::time::Instant;

use super::audience::Audience;
use super::lines::{Line, Lines, count};
use super::target::{Answer, Item, Target};
use crate::client::ApiError;
use crate::failure::Failure;
use crate::flags;
use crate::job;
use crate::output::{self, Output};

/// A batch is sent when it has so many bytes, however few notifications: well under the API's
/// default bound.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long one outage is waited for, unless it was said.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Sends notifications and counts the results.
pub(super) struct Sender {
    target: Target,
    output: Output,
    max_wait: Duration,
    /// Whether somebody who was never there is waited for.
    patient: bool,
    quiet: bool,
    audience: Audience,
    bar: ProgressBar,
    accepted: u64,
    rejected: u64,
    /// Lines of the file; 0: not known.
    total: u64,
    /// The first line of the batch that is being sent.
    line: u64,
    /// When progress was last told where stderr is not a terminal.
    told: Instant,
}

/// The outcome of one try: which items are left.
#[derive(Default)]
struct Settled {
    waiting: Vec<Item>,
    why: String,
    retry_after: Option<Duration>,
}

impl Sender {
    pub(super) fn new(
        target: Target,
        output: Output,
        max_wait: Option<Duration>,
        quiet: bool,
    ) -> Self {
        Self {
            target,
            output,
            max_wait: max_wait.unwrap_or(MAX_WAIT),
            patient: max_wait.is_some(),
            quiet,
            audience: Audience::default(),
            bar: ProgressBar::hidden(),
            accepted: 0,
            rejected: 0,
            total: 0,
            line: 0,
            told: Instant::now(),
        }
    }

    /// Whether everything got in.
    pub(super) const fn all_accepted(&self) -> bool {
        self.rejected == 0
    }

    /// Lets go of connections.
    pub(super) async fn close(&self) {
        self.target.close().await;
    }

    /// Sends the notification that came from flags.
    ///
    /// # Errors
    /// It could not be sent.
    pub(super) async fn one(&mut self, draft: NotificationDraft) -> Result<(), Failure> {
        // The id is chosen here, so that a try whose answer got lost can be repeated.
        let draft = named(draft);
        self.batch(vec![Item { line: 0, draft }]).await?;
        self.warn()
    }

    /// Says which of the accepted ones nobody gets.
    fn warn(&self) -> Result<(), Failure> {
        let warnings = self.audience.warnings();
        warnings.iter().try_for_each(|warning| self.tell(warning))
    }

    /// Sends every line of a file.
    ///
    /// # Errors
    /// The file cannot be read, nothing answers, or the wait was too long.
    pub(super) async fn lines(&mut self, path: &Path, batch_size: usize) -> Result<(), Failure> {
        let unreadable =
            |error| Failure::wrong_use(format!("{} cannot be read: {error}", path.display()));
        let mut lines = Lines::open(path).await.map_err(unreadable)?;
        // Only after it was opened: a file that is missing is reported, and not counted as empty.
        self.total = count(path).await;
        self.bar = output::progress(self.total, "sent");
        let interrupted = job::interrupt()?;
        tokio::pin!(interrupted);
        // Stopping drops the request that is being sent. Whether its batch was accepted stays open,
        // and `stopped` says so.
        let all = tokio::select! {
            all = self.each(&mut lines, batch_size) => all,
            () = &mut interrupted => {
                self.bar.finish_and_clear();
                return Err(self.stopped());
            }
        };
        all?;
        self.bar.finish_and_clear();
        self.warn()?;
        if self.rejected > 0 {
            return self.tell(&format!(
                "accepted {}, refused {}",
                output::count(self.accepted, "notification"),
                self.rejected
            ));
        }
        Ok(())
    }

    async fn each(&mut self, lines: &mut Lines, batch_size: usize) -> Result<(), Failure> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(line) = lines.next().await? {
            match read(line) {
                Ok((draft, length)) => {
                    bytes += length;
                    batch.push(Item {
                        line: lines.number,
                        draft,
                    });
                }
                Err(problem) => self.reject(lines.number, None, "invalid_json", &problem)?,
            }
            if batch.len() >= batch_size || bytes >= BATCH_BYTES {
                bytes = 0;
                self.batch(std::mem::take(&mut batch)).await?;
            }
        }
        self.batch(batch).await
    }

    /// How far it got when it was stopped by Ctrl-C.
    fn stopped(&self) -> Failure {
        let of = if self.total > 0 {
            format!(" of {}", output::count(self.total, "line"))
        } else {
            String::new()
        };
        let message = format!(
            "stopped: accepted {}{of}, refused {}; those of line {} and after it may or may not \
             have been accepted",
            output::count(self.accepted, "notification"),
            self.rejected,
            // Before the first was sent: from the beginning.
            self.line.max(1)
        );
        Failure::interrupted(message).hint(
            "send the file again from that line; with ids of your own, sending all of it \
                   again is safe as well",
        )
    }

    /// Sends a batch, again and again while the other side is away.
    async fn batch(&mut self, items: Vec<Item>) -> Result<(), Failure> {
        let mut pause = Reconnect::default();
        // Anew for each batch: --max-wait bounds one outage and not the sending of a long file.
        let deadline = Instant::now() + self.max_wait;
        let mut waiting = items;
        if let Some(first) = waiting.first() {
            self.line = first.line;
        }
        while !waiting.is_empty() {
            self.show_progress()?;
            let settled = self.try_once(waiting).await?;
            waiting = settled.waiting;
            if waiting.is_empty() {
                break;
            }
            let wait = pause.next().max(settled.retry_after.unwrap_or_default());
            // Gives up before a wait that would end too late, and not after it.
            if Instant::now() + wait > deadline {
                return Err(self.give_up(&waiting, &settled.why));
            }
            self.bar.set_message("waiting");
            tokio::time::sleep(wait).await;
            self.bar.set_message("sent");
        }
        Ok(())
    }

    /// Says now and then how far it is, where no bar shows it.
    fn show_progress(&mut self) -> Result<(), Failure> {
        if self.told.elapsed() < job::TELL || std::io::stderr().is_terminal() {
            return Ok(());
        }
        self.told = Instant::now();
        let of = if self.total > 0 {
            format!(" of {}", self.total)
        } else {
            String::new()
        };
        self.tell(&format!("{}{of} sent", self.accepted + self.rejected))
    }

    async fn try_once(&mut self, items: Vec<Item>) -> Result<Settled, Failure> {
        let answers = match self.target.send(&items).await {
            Ok(answers) => answers,
            Err(ApiError::Busy {
                retry_after,
                failure,
            }) => {
                return Ok(Settled {
                    waiting: items,
                    why: failure.message().to_owned(),
                    retry_after,
                });
            }
            // Nobody was ever there: unless it was asked for, waiting would only hide a wrong
            // address.
            Err(ApiError::Unreachable(failure)) if self.patient || self.accepted > 0 => {
                return Ok(Settled {
                    waiting: items,
                    why: failure.message().to_owned(),
                    retry_after: None,
                });
            }
            Err(error) => return Err(error.into()),
        };
        self.settle(items, answers).await
    }

    async fn settle(&mut self, items: Vec<Item>, answers: Vec<Answer>) -> Result<Settled, Failure> {
        let mut settled = Settled::default();
        let mut page = String::new();
        for (item, answer) in items.into_iter().zip(answers) {
            match answer {
                Answer::Accepted {
                    accepted_at,
                    deduplicated,
                } => {
                    self.accepted += 1;
                    self.bar.inc(1);
                    if let (Target::Api(client), false) = (&self.target, self.quiet) {
                        self.audience.add(client, &item.draft).await;
                    }
                    let _ = writeln!(page, "{}", self.show(&item, &accepted_at, deduplicated));
                }
                Answer::Rejected { code, why } => {
                    self.reject(item.line, Some(&item.draft), &code, &why)?
                }
                Answer::Later { why, retry_after } => {
                    settled.why = why;
                    settled.retry_after = settled.retry_after.max(retry_after);
                    settled.waiting.push(item);
                }
            }
        }
        // One write for the whole batch: each makes the progress bar draw again.
        if !self.quiet && !page.is_empty() {
            self.bar.suspend(|| self.output.line(page.trim_end()))?;
        }
        Ok(settled)
    }

    fn show(&self, item: &Item, accepted_at: &str, deduplicated: bool) -> String {
        let id = item
            .draft
            .id
            .as_ref()
            .map(NotificationId::as_str)
            .unwrap_or_default();
        if !self.output.json {
            return id.to_owned();
        }
        let mut result =
            json!({"id": id, "accepted_at": accepted_at, "deduplicated": deduplicated});
        if item.line > 0 {
            result["line"] = item.line.into();
        }
        if let Some(tenant) = &item.draft.tenant {
            result["tenant"] = tenant.as_str().into();
        }
        result.to_string()
    }

    /// Says that an item was refused; the others go on.
    fn reject(
        &mut self,
        line: u64,
        draft: Option<&NotificationDraft>,
        code: &str,
        problem: &str,
    ) -> Result<(), Failure> {
        self.rejected += 1;
        self.bar.inc(1);
        if self.output.json {
            let id = draft
                .and_then(|draft| draft.id.as_ref())
                .map(NotificationId::as_str);
            let result = json!({"line": line, "id": id, "code": code, "error": problem});
            self.bar.suspend(|| self.output.ndjson(&result))?;
        }
        let place = if line > 0 {
            format!("line {line}: ")
        } else {
            String::new()
        };
        // A line has members, as the API has them; what came from flags has flags.
        let problem = if line > 0 {
            problem.to_owned()
        } else {
            flags::named(problem)
        };
        self.tell(&format!("{place}{problem}"))
    }

    fn give_up(&self, waiting: &[Item], why: &str) -> Failure {
        let seconds = self.max_wait.as_secs_f64();
        let name = self.target.name();
        let first = waiting.first().map_or(0, |item| item.line);
        let place = if first > 0 {
            format!(
                " at line {first}; {} were accepted before it",
                self.accepted
            )
        } else {
            String::new()
        };
        Failure::new(format!(
            "{name} did not accept it within {seconds} s ({why}); gave up{place}"
        ))
        .hint(
            "wait longer with --max-wait; give notifications ids of your own, so that \
                   sending them again is safe",
        )
    }

    fn tell(&self, text: &str) -> Result<(), Failure> {
        Ok(self
            .bar
            .suspend(|| output::tell(format_args!("posthaste: {text}")))?)
    }
}

fn read(line: Line) -> Result<(NotificationDraft, usize), String> {
    let text = match line {
        Line::Text(text) => text,
        Line::TooLong => return Err("the line is longer than 64 MiB".to_owned()),
    };
    let mut reader = serde_json::Deserializer::from_slice(&text);
    // What serde says of the position counts within the line, so only the column is of use.
    let column = |said: String| said.replace(" at line 1 column ", " at column ");
    let draft: NotificationDraft = serde_path_to_error::deserialize(Objects(&mut reader))
        .map_err(|error| column(reading::sentence(&error.path().to_string(), error.inner())))?;
    // A second object on the line would be lost without a word.
    reader.end().map_err(|error| column(error.to_string()))?;
    Ok((named(draft), text.len()))
}

/// With an id, so that a second try is known for what it is.
fn named(mut draft: NotificationDraft) -> NotificationDraft {
    draft
        .id
        .get_or_insert_with(|| NotificationId::generate(SystemClock.now()));
    draft
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_get_ids_and_errors_say_where() {
        let (draft, _) =
            read(Line::Text(br#"{"type":"a","payload":{ "x": 1 }}"#.to_vec())).unwrap();
        assert!(draft.id.is_some());
        assert_eq!(draft.payload.as_str(), r#"{ "x": 1 }"#);
        let problem = read(Line::Text(br#"{"type":"a","payload":1,"typ":2}"#.to_vec()))
            .err()
            .unwrap();
        assert!(
            problem.starts_with("typ is not known: expected"),
            "{problem}"
        );
        assert!(read(Line::TooLong).is_err());
    }
}
