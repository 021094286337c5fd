//! `posthaste listen`: a local receiver that prints what arrives and verifies signatures. Its core,
//! [`serve`], is also the receiver of `posthaste up --demo`.

mod behaviour;
mod print;
mod server;
mod verify;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::HeaderValue;
use clap::Args;
use posthaste_shared::config::Profile;
use posthaste_shared::domain::secret::Secret;
use tokio::net::TcpListener;

pub(crate) use self::behaviour::{Behaviour, Consent, Rate};
pub(crate) use self::server::serve;
pub(crate) use self::verify::{Format, Verifier};

use crate::failure::{Done, Failure};
use crate::flags::word;
use crate::global::Global;
use crate::when;

const EXAMPLES: &str = "Examples:
  posthaste listen --secret whsec_…             print requests and verify their signatures
  posthaste listen --secret whpk_…              the same with the public key of an ed25519 pair
  posthaste listen --format cometchat-sms --secret user:password
  posthaste listen --format novu-sms --secret 'X-API-KEY: key-123'
  posthaste listen --format cloudevents --consent events.example.com --consent-rate 120
  posthaste listen --status 503                 fail everything: watch the retries
  posthaste listen --fail-first 2               fail twice, then take it
  posthaste listen --rate-limit 5/s --retry-after 3
  posthaste listen --hang                       never answer: watch the timeout
  posthaste listen --json --exit-after 10 > received.ndjson

The exit code is 1 when a signature did not verify. Send something here:
  posthaste endpoint add --url http://127.0.0.1:9000/ && posthaste send --type test --payload '{}'";

/// Receive webhooks locally: print each request and verify its signature. Can be told to fail, hang
/// or throttle.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListenArgs {
    /// The address and port to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Secret to verify with, as the wire format has it: whsec_…, whsk_… or whpk_… (standard), the
    /// signing key (httpsms, novu-push, authgear-sms), user:password (cometchat-sms), 'X-API-KEY:
    /// key-123' (novu-sms); repeatable: one of them must match
    #[arg(
        long = "secret",
        value_name = "SECRET",
        env = "POSTHASTE_LISTEN_SECRET",
        hide_env_values = true
    )]
    secrets: Vec<String>,
    /// What to verify: the proof of a wire format, none, or auto, which detects it from the headers
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "auto",
        value_parser = word(Format::NAMES, Format::parse)
    )]
    format: Format,
    /// HTTP status of the answers, 200 to 599
    #[arg(long, default_value_t = 200, value_parser = crate::flags::whole::<u16>(200..=599))]
    status: u16,
    /// Fail the first N requests (with --status if that is a failure, else 503) and take those
    /// after them
    #[arg(long, value_name = "N")]
    fail_first: Option<u64>,
    /// Never answer, so that senders time out
    #[arg(long)]
    hang: bool,
    /// Wait this long before each answer
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    delay: Option<Duration>,
    /// Retry-After header, in seconds, of answers that are failures
    #[arg(long, value_name = "SECONDS")]
    retry_after: Option<u64>,
    /// The most requests a second, such as 10/s; faster ones are answered 429
    #[arg(long, value_name = "N/s", value_parser = Rate::parse)]
    rate_limit: Option<Rate>,
    /// Body of the answers, as text
    #[arg(long, value_name = "TEXT", default_value = "")]
    body: String,
    /// Consent to deliveries from this origin, a DNS name or *, when asked by an OPTIONS request
    /// (CloudEvents)
    #[arg(long, value_name = "ORIGIN")]
    consent: Option<HeaderValue>,
    /// Consent to at most N requests a minute
    #[arg(
        long,
        value_name = "N",
        requires = "consent",
        value_parser = crate::flags::whole::<u32>(1..)
    )]
    consent_rate: Option<u32>,
    /// Print counts once a second instead of requests
    #[arg(long, short)]
    quiet: bool,
    /// End after N requests
    #[arg(long, value_name = "N")]
    exit_after: Option<u64>,
}

impl ListenArgs {
    fn behaviour(&self) -> Behaviour {
        Behaviour {
            status: self.status,
            fail_first: self.fail_first,
            hang: self.hang,
            delay: self.delay.unwrap_or_default(),
            retry_after: self.retry_after,
            rate_limit: self.rate_limit,
            body: self.body.clone(),
            consent: self.consent.clone().map(|origin| Consent {
                origin,
                rate: self.consent_rate,
            }),
        }
    }
}

/// Receives until it is told to stop, or `--exit-after` requests were answered.
pub(crate) async fn run(global: &Global, args: ListenArgs) -> Done {
    // For logging alone: a receiver needs no store, broker or API.
    global.start(Profile::Tool, Vec::new())?;
    let secrets: Vec<Secret> = args.secrets.iter().map(Secret::new).collect();
    let verifier = Verifier::new(args.format, &secrets).map_err(Failure::wrong_use)?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Failure::new(format!("cannot listen on {}: {error}", args.listen))
            .hint("choose another address with --listen")
    })?;
    let address = listener.local_addr()?;
    let printer = print::Printer::new(global.output(), args.quiet);
    // The listener is bound, so a script may send as soon as it has read this line.
    printer.start(address, verifier.is_checking())?;
    let mut receiver = serve(args.behaviour(), verifier, listener);
    let mut counts = print::Counts::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            received = receiver.next() => {
                let Some(received) = received else { break };
                counts.add(&received);
                printer.received(&received)?;
            }
            // Only --quiet prints counts; the printer knows.
            _ = ticks.tick() => printer.counts(&mut counts)?,
            _ = &mut stop => break,
        }
        if args
            .exit_after
            .is_some_and(|wanted| counts.requests() >= wanted)
        {
            break;
        }
    }
    // Waits for the answers that are under way: the sender of the last request must not see a
    // reset.
    receiver.stop().await;
    printer.end(&counts)?;
    Ok(if counts.unverified() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
