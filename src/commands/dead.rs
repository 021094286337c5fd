//! `posthaste dead`: the dead-letter queue, through the API.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Client;
use crate::failure::{Done, Failure};
use crate::global::{ClientFlags, Global};
use crate::job::{self, Kind, job_id, number};
use crate::output::{Output, age, count, fixed, items, text, time, wrapped};

/// The most dead letters that the API shows or moves in one request.
const MAX_PER_REQUEST: u32 = 1_000;

const KIND: Kind = Kind {
    path: "redrives",
    name: "Redrive",
    command: "posthaste dead redrives",
    position: "redriven",
    thing: "dead letter",
    done: "put back",
    sum,
};

/// Look at the dead-letter queue and re-drive it: messages that could not be read or handled.
#[derive(Debug, Args)]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
enum DeadCommand {
    /// List dead letters, the oldest first
    List {
        /// The most dead letters to list, 1 to 1000
        #[arg(long, default_value_t = 50, value_parser = crate::flags::whole::<u32>(1..=1000))]
        limit: u32,
    },
    /// Show one dead letter with the beginning of its body
    Show {
        /// The id of the dead letter, as `dead list` shows it
        id: String,
    },
    /// Put dead letters back on the work queue
    ///
    /// `--all` is a job that takes those that are there when it begins, and no others. Ctrl-C
    /// cancels it and says how far it got. Letters that cannot be decoded go back as well: they
    /// become dead letters again, unless a newer worker can read them.
    #[command(
        after_help = "Examples:\n  posthaste dead redrive 0192f0c4-…\n  posthaste dead redrive \
                      --all"
    )]
    Redrive {
        /// The ids of the dead letters, as `dead list` shows them
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// Put back all dead letters that are there now
        #[arg(long)]
        all: bool,
        /// With --all: start the job and do not follow it
        #[arg(long, conflicts_with = "ids")]
        no_wait: bool,
    },
    /// Look at the jobs of `dead redrive --all`, or cancel one
    #[command(
        after_help = "Examples:\n  posthaste dead redrives list\n  posthaste dead redrives cancel \
                      0192f0c4-…"
    )]
    Redrives {
        #[command(subcommand)]
        command: RedrivesCommand,
    },
}

#[derive(Debug, Subcommand)]
enum RedrivesCommand {
    /// List redrives, the newest first
    List {
        /// The most redrives to list, 1 to 500
        #[arg(long, default_value_t = 50, value_parser = crate::flags::whole::<u32>(1..=500))]
        limit: u32,
    },
    /// Show how far a redrive is
    Show {
        /// The id of the redrive
        #[arg(value_parser = job_id)]
        id: Uuid,
    },
    /// Stop a redrive: the letters that it has not come to stay where they are
    Cancel {
        /// The id of the redrive
        #[arg(value_parser = job_id)]
        id: Uuid,
    },
}

/// Runs `posthaste dead` with its subcommand.
pub(crate) async fn run(global: &Global, args: DeadArgs) -> Done {
    let client = global.client(&args.client)?;
    match args.command {
        DeadCommand::List { limit } => list(global, &client, limit).await,
        DeadCommand::Show { id } => show(global, &client, &id).await,
        DeadCommand::Redrive {
            all: true, no_wait, ..
        } => redrive_all(global.output(), &client, no_wait).await,
        DeadCommand::Redrive { ids, .. } => redrive(global.output(), &client, &ids).await,
        DeadCommand::Redrives { command } => redrives(global.output(), &client, &command).await,
    }
}

async fn fetch(client: &Client, limit: u32) -> Result<Value, Failure> {
    Ok(client
        .get(
            &["v1", "dead-letters"],
            &[("limit", Some(limit.to_string()))],
        )
        .await?)
}

async fn list(global: &Global, client: &Client, limit: u32) -> Done {
    let output = global.output();
    let letters = fetch(client, limit).await?;
    if output.json {
        output.document(&letters)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |letter: &Value| {
        // A detail may quote the message; 80 characters are enough to choose by.
        let detail: String = text(letter, "detail").chars().take(80).collect();
        vec![
            text(letter, "id"),
            text(letter, "reason"),
            age(letter, "died_at"),
            text(letter, "size"),
            detail,
        ]
    };
    output.table(
        &[
            fixed("id"),
            fixed("reason"),
            fixed("age"),
            fixed("bytes"),
            wrapped("detail"),
        ],
        items(&letters).iter().map(row).collect(),
    )?;
    Ok(ExitCode::SUCCESS)
}

async fn show(global: &Global, client: &Client, id: &str) -> Done {
    let output = global.output();
    // The API has no request for a single letter, so the oldest thousand are searched.
    let letters = fetch(client, MAX_PER_REQUEST).await?;
    let Some(letter) = items(&letters)
        .iter()
        .find(|letter| text(letter, "id") == id)
    else {
        let message = format!("there is no dead letter {id} among the oldest {MAX_PER_REQUEST}");
        return Err(Failure::new(message).hint("posthaste dead list"));
    };
    if output.json {
        output.document(letter)?;
        return Ok(ExitCode::SUCCESS);
    }
    output.facts(&[
        ("id", text(letter, "id")),
        ("reason", text(letter, "reason")),
        ("detail", text(letter, "detail")),
        ("died", time(letter, "died_at")),
        ("bytes", text(letter, "size")),
        ("body", text(letter, "body")),
    ])?;
    Ok(ExitCode::SUCCESS)
}

/// Puts the letters with these ids back, as many in a request as the API takes.
async fn redrive(output: Output, client: &Client, ids: &[String]) -> Done {
    let mut redriven = 0;
    let mut undecodable = 0;
    // One that is given twice is one letter.
    let ids: BTreeSet<&String> = ids.iter().collect();
    let ids: Vec<&String> = ids.into_iter().collect();
    // More ids than this are refused in one request.
    for some in ids.chunks(MAX_PER_REQUEST as usize) {
        let answer: Value = client
            .post(&["v1", "dead-letters", "redrive"], &json!({ "ids": some }))
            .await?;
        redriven += number(&answer, "redriven");
        undecodable += number(&answer, "undecodable");
    }
    if output.json {
        output.document(&json!({ "redriven": redriven, "undecodable": undecodable }))?;
    } else {
        output.line(back(redriven))?;
    }
    // On stderr, so that what is piped on is the result alone.
    warn(undecodable)?;
    // For the API an id that names no letter is not an error, so the difference is reported here,
    // after what did go back.
    let missing = (ids.len() as u64).saturating_sub(redriven);
    if missing > 0 {
        let message = format!("{missing} of the {} ids named no dead letter", ids.len());
        return Err(Failure::new(message).hint("posthaste dead list"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn redrive_all(output: Output, client: &Client, no_wait: bool) -> Done {
    let begun: Value = client.post(&["v1", "redrives"], &json!({})).await?;
    let (done, code) = job::see_through(output, client, &KIND, begun, no_wait).await?;
    warn(number(&done, "undecodable"))?;
    Ok(code)
}

async fn redrives(output: Output, client: &Client, command: &RedrivesCommand) -> Done {
    match command {
        RedrivesCommand::List { limit } => {
            let page: Value = client
                .get(&["v1", "redrives"], &[("limit", Some(limit.to_string()))])
                .await?;
            if output.json {
                output.document(&page)?;
            } else {
                let columns = ["id", "state", "age", "total", "redriven", "undecodable"].map(fixed);
                output.table(&columns, items(&page).iter().map(row).collect())?;
            }
        }
        RedrivesCommand::Show { id } => {
            let redrive: Value = client
                .get(&["v1", "redrives", &id.to_string()], &[])
                .await?;
            if output.json {
                output.document(&redrive)?;
            } else {
                output.facts(&[
                    ("redrive", text(&redrive, "id")),
                    ("state", text(&redrive, "state")),
                    ("begun", time(&redrive, "created_at")),
                    ("finished", time(&redrive, "finished_at")),
                    ("total", text(&redrive, "total")),
                    ("redriven", text(&redrive, "redriven")),
                    ("undecodable", text(&redrive, "undecodable")),
                    ("last error", text(&redrive, "last_error")),
                ])?;
            }
        }
        RedrivesCommand::Cancel { id } => return job::stop(output, client, &KIND, *id).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn row(redrive: &Value) -> Vec<String> {
    let count = |name| text(redrive, name);
    vec![
        text(redrive, "id"),
        text(redrive, "state"),
        age(redrive, "created_at"),
        count("total"),
        count("redriven"),
        count("undecodable"),
    ]
}

/// How far a redrive got, in a sentence.
fn sum(redrive: &Value) -> String {
    let id = text(redrive, "id");
    let redriven = number(redrive, "redriven");
    let total = number(redrive, "total");
    let letters = count(total, "dead letter");
    match text(redrive, "state").as_str() {
        // Another redrive, or one by ids, may have taken some of them meanwhile.
        "done" if redriven < total => {
            format!(
                "{} {} of {total} were gone from the queue.",
                back(redriven),
                total - redriven
            )
        }
        "done" => back(redriven),
        // A step that was running is counted only when it ends, after this answer.
        "cancelled" => format!(
            "Redrive {id} is cancelled: {redriven} of {letters} had been put back. \
             A step of up to 100 letters may still be running; see: posthaste dead redrives show \
             {id}"
        ),
        _ => format!(
            "Redrive {id} has begun: {letters}. Ask for it: posthaste dead redrives \
             show {id}"
        ),
    }
}

fn back(redriven: u64) -> String {
    let are = if redriven == 1 { "is" } else { "are" };
    format!(
        "{} {are} back on the work queue.",
        count(redriven, "dead letter")
    )
}

/// Warns of letters that will become dead letters again.
fn warn(undecodable: u64) -> Result<(), Failure> {
    if undecodable > 0 {
        let (them, they, read) = if undecodable == 1 {
            ("it is", "becomes a dead letter", "it")
        } else {
            ("they are", "become dead letters", "them")
        };
        job::say(&format!(
            "warning: {undecodable} of them cannot be decoded: {them} not a notification in JSON \
             and {they} again, unless a newer worker can read {read} (see: posthaste dead list)"
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_says_how_far_it_got() {
        let redrive = |state: &str, redriven: u64| {
            let id = "r";
            json!({"id": id, "state": state, "total": 3, "redriven": redriven})
        };
        assert_eq!(
            sum(&redrive("done", 3)),
            "3 dead letters are back on the work queue."
        );
        assert!(sum(&redrive("done", 2)).ends_with("1 of 3 were gone from the queue."));
        let cancelled = sum(&redrive("cancelled", 1));
        assert!(
            cancelled.starts_with("Redrive r is cancelled: 1 of 3 dead letters had been put back."),
            "{cancelled}"
        );
        assert!(sum(&redrive("running", 0)).contains("posthaste dead redrives show r"));
    }
}
