//! `posthaste event`: what Posthaste reports about deliveries and endpoints, through the API.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use posthaste_shared::backoff::Reconnect;
use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::time::Timestamp;
use serde_json::Value;

use crate::client::{ApiError, Client};
use crate::failure::{Done, Failure};
use crate::flags::word;
use crate::global::{ClientFlags, Global};
use crate::output::{self, Output, age, fixed, items, text, time, wrapped};
use crate::when;

/// The API sends something at least every 15 s; after this long without anything the connection is
/// given up.
const SILENCE: Duration = Duration::from_secs(45);

/// Look at events, or follow them: deliveries that failed or expired, endpoints that were disabled.
#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    #[command(subcommand)]
    command: EventCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
enum EventCommand {
    /// Follow events as they happen; comes back by itself when the connection breaks, and misses
    /// none
    #[command(after_help = "Examples:
  posthaste event tail
  posthaste event tail --type delivery.failed --json | jq .data.delivery.last_error
  posthaste event tail --after 1041             go on where an earlier one ended")]
    Tail(TailArgs),
    /// List events, the newest first
    #[command(after_help = "Example:\n  posthaste event list --type endpoint.disabled --since 24h")]
    List(ListArgs),
}

#[derive(Debug, Args)]
struct Filter {
    /// Only events of this type [default: all]
    #[arg(
        long = "type",
        value_name = "TYPE",
        value_parser = word(EventType::ALL.map(EventType::as_str), EventType::parse)
    )]
    kind: Option<EventType>,
    /// Only of this tenant [default: the key's, else all]
    #[arg(long)]
    tenant: Option<TenantId>,
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    filter: Filter,
    /// Begin after the event of this number, as an earlier tail ended with [default: begin now]
    #[arg(long, value_name = "NUMBER")]
    after: Option<i64>,
    /// End after N events
    #[arg(long, value_name = "N")]
    exit_after: Option<u64>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// Only those at this time or later: RFC 3339, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = when::past)]
    since: Option<Timestamp>,
    /// The most events to list, 1 to 500
    #[arg(long, default_value_t = 50, value_parser = crate::flags::whole::<u32>(1..=500))]
    limit: u32,
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("type", self.kind.map(|kind| kind.as_str().to_owned())),
            ("tenant", self.tenant.as_ref().map(ToString::to_string)),
        ]
    }
}

/// Runs `posthaste event` with its subcommand.
pub(crate) async fn run(global: &Global, args: EventArgs) -> Done {
    let client = global.client(&args.client)?;
    match args.command {
        EventCommand::Tail(args) => tail(global.output(), &client, args).await,
        EventCommand::List(args) => list(global.output(), &client, &args).await,
    }
}

async fn list(output: Output, client: &Client, args: &ListArgs) -> Done {
    let mut query = args.filter.query();
    query.push(("since", args.since.map(|since| since.to_string())));
    query.push(("limit", Some(args.limit.to_string())));
    let page: Value = client.get(&["v1", "events"], &query).await?;
    if output.json {
        output.document(&page)?;
    } else {
        output.table(
            &[
                fixed("age"),
                fixed("type"),
                fixed("subject"),
                wrapped("what"),
            ],
            items(&page)
                .iter()
                .map(|event| row(event, age(event, "time")))
                .collect(),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Follows until it is told to stop.
async fn tail(output: Output, client: &Client, args: TailArgs) -> Done {
    let mut tail = Tail {
        output,
        after: args.after,
        seen: 0,
        enough: args.exit_after,
    };
    let mut pause = Reconnect::default();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let broken = tokio::select! {
            broken = tail.follow(client, &args.filter, &mut pause) => broken?,
            _ = &mut interrupted => break,
        };
        let Some(why) = broken else { break };
        // On stderr, so that what is piped on is events alone.
        let _ = output::tell(format_args!("{why}; trying again"));
        tokio::select! {
            () = tokio::time::sleep(pause.next()) => {}
            _ = &mut interrupted => break,
        }
    }
    if let (false, Some(after)) = (output.json, tail.after) {
        output.line(format_args!(
            "To go on from here: posthaste event tail --after {after}"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Tail {
    output: Output,
    /// The number of the last event that was seen.
    after: Option<i64>,
    seen: u64,
    enough: Option<u64>,
}

impl Tail {
    /// Follows one connection to its end; why it ended, or `None` when enough was seen.
    async fn follow(
        &mut self,
        client: &Client,
        filter: &Filter,
        pause: &mut Reconnect,
    ) -> Result<Option<String>, Failure> {
        let mut stream = match client
            .open(&["v1", "events", "stream"], &filter.query(), self.after)
            .await
        {
            Ok(stream) => stream,
            // A wrong key stays wrong: trying again would only hide it.
            Err(ApiError::Refused { failure, .. }) => return Err(failure),
            Err(ApiError::Unreachable(failure) | ApiError::Busy { failure, .. }) => {
                // The first time it is worth saying what to do about it.
                return if self.after.is_none() {
                    Err(failure)
                } else {
                    Ok(Some(failure.message().to_owned()))
                };
            }
        };
        // Connected: the next break is a new one, and is not waited for as long as the last.
        pause.reset();
        let mut lines = Lines::default();
        loop {
            let chunk = match tokio::time::timeout(SILENCE, stream.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(Some("the stream ended".to_owned())),
                Ok(Err(error)) => return Ok(Some(format!("the stream broke: {error}"))),
                Err(_) => return Ok(Some("the stream went quiet".to_owned())),
            };
            for event in lines.take(&chunk) {
                self.print(&event)?;
                if self.enough.is_some_and(|enough| self.seen >= enough) {
                    return Ok(None);
                }
            }
        }
    }

    fn print(&mut self, event: &Sent) -> Result<(), Failure> {
        self.after = event.id.or(self.after);
        if event.data.is_empty() {
            // It says where the stream begins.
            return Ok(());
        }
        self.seen += 1;
        if self.output.json {
            return Ok(self.output.line(&event.data)?);
        }
        let event: Value = serde_json::from_str(&event.data)?;
        // Each is new when it is printed: when it happened says more than how long ago.
        let row = row(&event, time(&event, "time"));
        Ok(self.output.line(row.join("  "))?)
    }
}

/// One Server-Sent Event, put together from its lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    id: Option<i64>,
    data: String,
}

/// Puts events together out of what comes in pieces (Server-Sent Events: lines of `name: value`, an
/// empty line ends an event; comments begin with a colon).
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    event: Sent,
}

impl Lines {
    fn take(&mut self, chunk: &[u8]) -> Vec<Sent> {
        self.rest.extend_from_slice(chunk);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                events.extend((event != Sent::default()).then_some(event));
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "id" => self.event.id = value.parse().ok(),
                "data" if self.event.data.is_empty() => value.clone_into(&mut self.event.data),
                "data" => self.event.data.extend(["\n", value]),
                _ => {}
            }
        }
        events
    }
}

fn row(event: &Value, when: String) -> Vec<String> {
    let why = [
        "data.delivery.last_error",
        "data.delivery.reason",
        "data.endpoint.disabled_reason",
        "data.last_error",
        "data.delivery.status",
    ];
    let why = why
        .into_iter()
        .map(|path| text(event, path))
        .find(|text| !text.is_empty());
    let kind = text(event, "type");
    // The error of an endpoint that answers again is what it had until then.
    let before = if kind == EventType::EndpointRecovered.as_str() {
        "before: "
    } else {
        ""
    };
    vec![
        when,
        kind,
        text(event, "subject"),
        why.map(|why| format!("{before}{why}")).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_together_from_pieces() {
        let stream = "id: 6\n: from here\n\nid: 7\nevent: delivery.failed\ndata: \
                      {\"a\":1}\n\n:\n\nid: 8\r\ndata: {\ndata: }\n\nid: 9\ndata: x";
        let sent = |id, data: &str| Sent {
            id: Some(id),
            data: data.to_owned(),
        };
        for size in [1, 2, 5, stream.len()] {
            let mut lines = Lines::default();
            let events: Vec<Sent> = stream
                .as_bytes()
                .chunks(size)
                .flat_map(|piece| lines.take(piece))
                .collect();
            assert_eq!(
                events,
                [sent(6, ""), sent(7, "{\"a\":1}"), sent(8, "{\n}")],
                "in pieces of {size}"
            );
        }
    }
}
