//! `posthaste replay`: sends again all deliveries that match a filter, and follows the job.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use posthaste_shared::domain::delivery::Status;
use serde_json::{Map, Value};

use crate::client::Client;
use crate::delivery::Filter;
use crate::failure::{Done, Failure};
use crate::global::{ClientFlags, Global};
use crate::output::{self, text};

/// How often the job is looked at.
const POLL: Duration = Duration::from_millis(500);

/// Send again all deliveries that match a filter: each starts a new round of attempts. Pending ones are left alone.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  posthaste replay --status failed --since 2h\n  posthaste replay --endpoint ep_0192… --status expired --no-wait"
)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    filter: Filter,
    /// Start the job and do not follow it
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    client: ClientFlags,
}

/// Does it.
pub(crate) async fn run(global: &Global, args: ReplayArgs) -> Done {
    let members: Map<String, Value> =
        args.filter.members().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
    if members.keys().all(|name| name == "tenant") {
        return Err(Failure::wrong_use("a replay needs a filter besides the tenant")
            .hint("for example: posthaste replay --status failed --since 2h"));
    }
    if args.filter.status == Some(Status::Pending) {
        return Err(Failure::wrong_use("pending deliveries are on their way already; name another status"));
    }
    let client = global.client(&args.client)?;
    let mut job: Value = client.post(&["v1", "deliveries", "replay"], &members).await?;
    if !args.no_wait {
        job = follow(&client, job).await?;
    }
    let output = global.output();
    if output.json {
        output.document(&job)?;
    } else if text(&job, "state") == "done" {
        let (matched, replayed, skipped) = (text(&job, "matched"), text(&job, "replayed"), text(&job, "skipped"));
        output.line(format_args!(
            "Looked at {matched} deliveries: {replayed} are sent again, {skipped} were left alone."
        ))?;
    } else {
        output.line(format_args!("Replay {} has begun.", text(&job, "id")))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn follow(client: &Client, mut job: Value) -> Result<Value, Failure> {
    let bar = output::progress(0, "replayed");
    let id = text(&job, "id");
    while text(&job, "state") != "done" {
        bar.set_position(job.get("replayed").and_then(Value::as_u64).unwrap_or(0));
        tokio::time::sleep(POLL).await;
        job = client.get(&["v1", "replays", &id], &[]).await?;
    }
    bar.finish_and_clear();
    Ok(job)
}
