//! `posthaste send`: enqueues from the shell, through the API or straight to the broker.

mod audience;
mod bulk;
mod draft;
mod lines;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use posthaste_shared::config::Profile;
use posthaste_shared::domain::trace_context::TraceContext;

use self::draft::DraftFlags;
use self::target::Target;
use crate::connect;
use crate::failure::{Done, Failure};
use crate::global::{ClientFlags, Global, ServiceFlags};
use crate::when;

const EXAMPLES: &str = "Examples:
  posthaste send --type order.paid --payload '{\"order\": 7}'
  posthaste send --type order.paid --payload @order.json --endpoint ep_0192… --ttl 10m
  posthaste send --type reminder --payload '{}' --delay 1h
  posthaste send --file notifications.ndjson
  generate | posthaste send - --json > accepted.ndjson
  posthaste send --file notifications.ndjson --broker --broker-url amqp://127.0.0.1

Each line of NDJSON is a notification as in the API: {\"type\": …, \"payload\": …, \"id\": …}. \
Lines that are wrong are named on stderr, the others are sent, and the exit code is 1. \
Lines without an id get one before they are first sent, so that a retry never delivers them twice.";

/// Enqueue notifications: one from flags, or many as NDJSON. Prints the id of each.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    draft: DraftFlags,
    /// NDJSON file, a notification a line; `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "payload", "stdin"])]
    file: Option<PathBuf>,
    /// Read NDJSON from stdin, a notification a line
    #[arg(
        value_name = "-",
        value_parser = ["-"],
        hide_possible_values = true,
        conflicts_with_all = ["kind", "payload"]
    )]
    stdin: Option<String>,
    /// Send through the HTTP API (the default)
    #[arg(long, conflicts_with = "broker")]
    api: bool,
    /// Publish straight to the broker, without the API
    #[arg(long)]
    broker: bool,
    /// How long to keep trying while the API or the broker cannot be reached [default: 30s, but an
    /// API that was never reached is not waited for]
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    max_wait: Option<Duration>,
    /// How many notifications to send in a request, 1 to 1000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 500,
        value_parser = crate::flags::whole::<u16>(1..=1000)
    )]
    batch: u16,
    /// W3C trace context that the notifications belong to [default: the variable TRACEPARENT, if it
    /// holds one]
    #[arg(long, value_name = "TRACEPARENT", value_parser = trace_context)]
    traceparent: Option<TraceContext>,
    /// Do not print the ids of what was sent
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    service: ServiceFlags,
}

/// Runs `posthaste send`; exit code 1 when anything was refused.
pub(crate) async fn run(global: &Global, args: SendArgs) -> Done {
    // `--file -` and a bare `-` are the same.
    let input = args.file.or_else(|| args.stdin.map(PathBuf::from));
    if input.is_none() && !args.draft.is_given() {
        return Err(Failure::wrong_use(
            "nothing to send: give --type and --payload, --file FILE, or - for stdin",
        ));
    }
    let mut flags = args.client.settings()?;
    flags.extend(args.service.settings());
    let config = global.start(Profile::Tool, flags)?;
    // Such as tools that run commands within a span leave it. Anything else there is not meant for
    // us.
    let around = || TraceContext::parse(&std::env::var("TRACEPARENT").ok()?);
    let trace = args.traceparent.or_else(around);
    let (target, store) = if args.broker {
        let (broker, store) = connect::publisher(&config).await?;
        (Target::Broker(broker, trace), store)
    } else {
        (
            Target::Api(global.client_of(&config)?.in_trace(trace)),
            None,
        )
    };
    let mut sender = bulk::Sender::new(target, global.output(), args.max_wait, args.quiet);
    let sent = match input {
        None => sender.one(args.draft.read()?).await,
        Some(path) => sender.lines(&path, usize::from(args.batch)).await,
    };
    // Closed even when sending failed; the embedded queue is in the store, which is closed after
    // it.
    sender.close().await;
    if let Some(store) = store {
        store.close().await;
    }
    sent?;
    Ok(if sender.all_accepted() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn trace_context(text: &str) -> Result<TraceContext, String> {
    let example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    TraceContext::parse(text)
        .ok_or_else(|| format!("it must be a W3C trace context such as {example}"))
}
