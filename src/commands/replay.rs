//! `posthaste replay`: sends again all deliveries that match a filter, and follows the job; and
//! what there is to ask about such jobs.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::domain::delivery::Status;
use posthaste_shared::domain::time::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::client::Client;
use crate::commands::delivery::Filter;
use crate::failure::{Done, Failure};
use crate::global::{ClientFlags, Global};
use crate::job::{self, Kind, job_id, number};
use crate::output::{self, Output, age, count, fixed, items, text, time, wrapped};

/// More deliveries than this are sent again only after a question.
const MANY: u64 = 1_000;
/// So are deliveries that are older than this.
const OLD: Duration = Duration::from_secs(7 * 24 * 3600);

const KIND: Kind = Kind {
    path: "replays",
    name: "Replay",
    command: "posthaste replay",
    position: "matched",
    thing: "delivery",
    done: "looked at",
    sum,
};

/// Send again all deliveries that match a filter: each starts a new round of attempts. Pending ones
/// are left alone.
///
/// Asks first when more than 1,000 deliveries match, or when the oldest of them was created more
/// than 7 days ago; without a terminal it needs --yes for that. Ctrl-C cancels the job and says how
/// far it got.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  posthaste replay --status failed --since 2h --dry-run
  posthaste replay --status failed --since 2h
  posthaste replay --endpoint ep_0192… --status failed --no-wait
  posthaste replay list
  posthaste replay cancel 0192f0c4-…"
)]
pub(crate) struct ReplayArgs {
    #[command(subcommand)]
    command: Option<ReplayCommand>,
    #[command(flatten)]
    filter: Filter,
    /// Say how many deliveries match, and send none
    #[arg(long)]
    dry_run: bool,
    /// Do not ask, however many match
    #[arg(long, short)]
    yes: bool,
    /// Start the job and do not follow it
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
enum ReplayCommand {
    /// List replays, the newest first
    List {
        /// The most replays to list, 1 to 500
        #[arg(long, default_value_t = 50, value_parser = crate::flags::whole::<u32>(1..=500))]
        limit: u32,
    },
    /// Show how far a replay is
    Show {
        /// The id of the replay, a UUID
        #[arg(value_parser = job_id)]
        id: Uuid,
    },
    /// Stop a replay: what it has not come to is not sent again
    Cancel {
        /// The id of the replay, a UUID
        #[arg(value_parser = job_id)]
        id: Uuid,
    },
}

/// Runs `posthaste replay`, or one of its subcommands.
pub(crate) async fn run(global: &Global, args: ReplayArgs) -> Done {
    match &args.command {
        Some(command) => about(global.output(), &global.client(&args.client)?, command).await,
        None => start(global, args).await,
    }
}

async fn about(output: Output, client: &Client, command: &ReplayCommand) -> Done {
    match command {
        ReplayCommand::List { limit } => {
            let page: Value = client
                .get(&["v1", "replays"], &[("limit", Some(limit.to_string()))])
                .await?;
            if output.json {
                output.document(&page)?;
            } else {
                let columns = [
                    fixed("id"),
                    fixed("state"),
                    fixed("age"),
                    fixed("total"),
                    fixed("sent again"),
                    fixed("looked at"),
                    wrapped("filter"),
                ];
                output.table(&columns, items(&page).iter().map(row).collect())?;
            }
        }
        ReplayCommand::Show { id } => {
            print(
                output,
                &client.get(&["v1", "replays", &id.to_string()], &[]).await?,
            )?;
        }
        ReplayCommand::Cancel { id } => return job::stop(output, client, &KIND, *id).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(global: &Global, args: ReplayArgs) -> Done {
    let members: Map<String, Value> = args
        .filter
        .members()
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect();
    // The API refuses this, too, but names members; here the answer can show flags.
    if members.keys().all(|name| name == "tenant") {
        return Err(
            Failure::wrong_use("a replay needs a filter besides the tenant")
                .hint("for example: posthaste replay --status failed --since 2h"),
        );
    }
    if args.filter.status == [Status::Pending] {
        return Err(Failure::wrong_use(
            "--status pending cannot be replayed: pending deliveries are sent anyway",
        ));
    }
    let client = global.client(&args.client)?;
    let output = global.output();
    // Asked even without --dry-run: the number decides whether a confirmation is needed.
    let dry_run = [("dry_run", Some("true".to_owned()))];
    let would: Value = client
        .post_with(&["v1", "deliveries", "replay"], &dry_run, &members)
        .await?;
    if args.dry_run {
        if output.json {
            output.document(&would)?;
        } else {
            output.line(format_args!(
                "{}. Nothing was sent again.",
                matching(&would)
            ))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && needs_asking(&would, SystemClock.now()) && ask(&would)? == Answer::No {
        return Err(Failure::new("nothing was sent again"));
    }
    // More may match by now than when it was asked; the job counts again and says its own total.
    let begun: Value = client
        .post(&["v1", "deliveries", "replay"], &members)
        .await?;
    let (_, code) = job::see_through(output, &client, &KIND, begun, args.no_wait).await?;
    Ok(code)
}

fn begun_text(replay: &Value) -> String {
    let id = text(replay, "id");
    format!("Replay {id} has begun. Ask for it: posthaste replay show {id}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

fn needs_asking(would: &Value, now: Timestamp) -> bool {
    // A time that cannot be read, from a newer API, does not count as old.
    let oldest = Timestamp::parse(&text(would, "oldest")).ok();
    number(would, "matched") > MANY || oldest.is_some_and(|oldest| oldest < now.before(OLD))
}

/// Asks on the terminal.
fn ask(would: &Value) -> Result<Answer, Failure> {
    let what = matching(would);
    // Both, or nobody would see the question, or could answer it.
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::wrong_use(format!(
            "{what}: sending more than {MANY}, or any older than 7 days, needs a confirmation"
        ))
        .hint(
            "pass --yes to send them again, or narrow the filter; --dry-run only says how \
                   many match",
        ));
    }
    // On stderr, so that what is piped on is the result alone.
    output::ask(format_args!("{what}. Send them again? [y/N] "))?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    // Enter alone is no, as [y/N] says.
    let yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(if yes { Answer::Yes } else { Answer::No })
}

fn matching(would: &Value) -> String {
    let matched = number(would, "matched");
    let deliveries = count(matched, "delivery");
    let verb = if matched == 1 { "matches" } else { "match" };
    match text(would, "oldest").is_empty() {
        true => format!("{deliveries} {verb}"),
        false => format!(
            "{deliveries} {verb}, created from {} to {}",
            time(would, "oldest"),
            time(would, "newest")
        ),
    }
}

/// How far a replay got, in a sentence.
fn sum(replay: &Value) -> String {
    let looked = number(replay, "matched");
    let again = number(replay, "replayed");
    let left = number(replay, "skipped");
    match text(replay, "state").as_str() {
        "done" => format!(
            "Looked at {}: sent again {again}, left alone {left}{}.",
            count(looked, "delivery"),
            why_left(left)
        ),
        "cancelled" => format!(
            "Replay {} is cancelled. It had looked at {looked} of {}: sent again {again}, left \
             alone {left}.",
            text(replay, "id"),
            // The total was counted when the job began; more may match since.
            count(number(replay, "total").max(looked), "delivery")
        ),
        _ => begun_text(replay),
    }
}

/// Why some were left alone.
const fn why_left(left: u64) -> &'static str {
    match left {
        0 => "",
        _ => " (pending, expired, or their endpoint is gone)",
    }
}

fn print(output: Output, replay: &Value) -> Result<(), Failure> {
    if output.json {
        return Ok(output.document(replay)?);
    }
    Ok(output.facts(&[
        ("replay", text(replay, "id")),
        ("state", text(replay, "state")),
        ("filter", filter(replay)),
        ("begun", time(replay, "created_at")),
        ("finished", time(replay, "finished_at")),
        ("total", text(replay, "total")),
        ("looked at", text(replay, "matched")),
        ("sent again", text(replay, "replayed")),
        ("left alone", text(replay, "skipped")),
    ])?)
}

fn row(replay: &Value) -> Vec<String> {
    vec![
        text(replay, "id"),
        text(replay, "state"),
        age(replay, "created_at"),
        text(replay, "total"),
        text(replay, "replayed"),
        text(replay, "matched"),
        filter(replay),
    ]
}

fn filter(replay: &Value) -> String {
    let members = replay.get("filter").and_then(Value::as_object);
    let member = |(name, value): (&String, &Value)| {
        let values = match value {
            Value::Array(values) => values.iter().map(word).collect::<Vec<_>>().join(","),
            one => word(one),
        };
        format!("{name}={values}")
    };
    members
        .into_iter()
        .flatten()
        .map(member)
        .collect::<Vec<_>>()
        .join(" ")
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_filter_is_shown_with_all_its_values() {
        let replay = json!({"filter": {"status": ["failed", "expired"], "status_code": 503}});
        assert_eq!(filter(&replay), "status=failed,expired status_code=503");
    }

    #[test]
    fn many_and_old_deliveries_are_asked_about() {
        let now = Timestamp::parse("2026-02-01T00:00:00Z").unwrap();
        let would = |matched: u64, oldest: &str| json!({"matched": matched, "oldest": oldest});
        assert!(!needs_asking(&would(1_000, "2026-01-31T00:00:00Z"), now));
        assert!(needs_asking(&would(1_001, "2026-01-31T00:00:00Z"), now));
        assert!(needs_asking(&would(1, "2026-01-01T00:00:00Z"), now));
        assert!(!needs_asking(&json!({"matched": 0, "oldest": null}), now));
    }

    #[test]
    fn a_cancelled_replay_says_how_far_it_got() {
        let replay = json!({
            "id": "r", "state": "cancelled", "total": 9, "matched": 5, "replayed": 4, "skipped": 1,
        });
        assert!(
            sum(&replay).contains("looked at 5 of 9 deliveries: sent again 4, left alone 1"),
            "{}",
            sum(&replay)
        );
    }
}
