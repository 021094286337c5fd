//! `posthaste dead`: the dead-letter queue, through the API.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::{Done, Failure};
use crate::global::{ClientFlags, Global};
use crate::output::{items, text, time};

/// The most dead letters that the API shows or moves in one request.
const MAX_PER_REQUEST: u32 = 1_000;

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
        /// At most so many, up to 1000
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show one dead letter with the beginning of its body
    Show {
        /// Its id, as `dead list` shows it
        id: String,
    },
    /// Put dead letters back on the work queue
    #[command(after_help = "Examples:\n  posthaste dead redrive 0192f0c4-…\n  posthaste dead redrive --all")]
    Redrive {
        /// Their ids
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}

/// Does it.
pub(crate) async fn run(global: &Global, args: DeadArgs) -> Done {
    let client = global.client(&args.client)?;
    match args.command {
        DeadCommand::List { limit } => list(global, &client, limit).await,
        DeadCommand::Show { id } => show(global, &client, &id).await,
        DeadCommand::Redrive { ids, all } => redrive(global, &client, &ids, all).await,
    }
}

async fn fetch(client: &Client, limit: u32) -> Result<Value, Failure> {
    Ok(client.get(&["v1", "dead-letters"], &[("limit", Some(limit.to_string()))]).await?)
}

async fn list(global: &Global, client: &Client, limit: u32) -> Done {
    let output = global.output();
    let letters = fetch(client, limit).await?;
    if output.json {
        output.document(&letters)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |letter: &Value| {
        let detail: String = text(letter, "detail").chars().take(80).collect();
        vec![text(letter, "id"), text(letter, "reason"), time(letter, "died_at"), text(letter, "size"), detail]
    };
    output.table(&["id", "reason", "died", "bytes", "detail"], items(&letters).iter().map(row).collect())?;
    Ok(ExitCode::SUCCESS)
}

async fn show(global: &Global, client: &Client, id: &str) -> Done {
    let output = global.output();
    let letters = fetch(client, MAX_PER_REQUEST).await?;
    let Some(letter) = items(&letters).iter().find(|letter| text(letter, "id") == id) else {
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

async fn redrive(global: &Global, client: &Client, ids: &[String], all: bool) -> Done {
    let body = if all { json!({"all": true}) } else { json!({ "ids": ids }) };
    let mut redriven = 0;
    loop {
        let answer: Value = client.post(&["v1", "dead-letters", "redrive"], &body).await?;
        let moved = answer.get("redriven").and_then(Value::as_u64).unwrap_or(0);
        redriven += moved;
        if !all || moved < u64::from(MAX_PER_REQUEST) {
            break;
        }
    }
    let output = global.output();
    if output.json {
        output.document(&json!({ "redriven": redriven }))?;
    } else {
        let (letters, are) = if redriven == 1 { ("letter", "is") } else { ("letters", "are") };
        output.line(format_args!("{redriven} dead {letters} {are} back on the work queue."))?;
    }
    let missing = (ids.len() as u64).saturating_sub(redriven);
    if missing > 0 {
        let message = format!("{missing} of the {} ids named no dead letter", ids.len());
        return Err(Failure::new(message).hint("posthaste dead list"));
    }
    Ok(ExitCode::SUCCESS)
}
