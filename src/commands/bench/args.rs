//! What `posthaste bench` may be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::when;

const EXAMPLES: &str = "Examples:
  posthaste bench                               20,000 deliveries, embedded, nothing to set up
  posthaste bench steady --rate 500 --duration 1m --json-file steady.json
  posthaste bench sick-neighbours --sick 10 --sickness hang --control --runs 5
  posthaste bench limits --workers 3 --limit 50 --duration 60s
  POSTHASTE_DATABASE_URL=postgres://db/posthaste POSTHASTE_BROKER_URL=amqp://mq \\
    posthaste bench backlog --messages 100000 --workers 2 --json > backlog.json";

/// Measure how fast Posthaste is on this machine
///
/// Starts a receiver, Posthaste's processes and a load, all on loopback, and prints what came out:
/// deliveries per second, latencies, processor time and memory of each process. Without settings
/// everything is embedded, in a temporary directory. With POSTHASTE_DATABASE_URL and
/// POSTHASTE_BROKER_URL it measures with these servers, in a schema and under a name prefix of its
/// own, which are removed afterwards.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// What to measure: one of these scenarios
    #[arg(value_enum, default_value_t = Scenario::Backlog)]
    pub(super) scenario: Scenario,
    /// How many notifications are enqueued, 1 to 10,000,000 [default: 20000; with a rate: as many
    /// as fit in the duration]
    #[arg(long, value_name = "N", value_parser = crate::flags::whole::<u32>(1..=10_000_000))]
    pub(super) messages: Option<u32>,
    /// Notifications enqueued per second, by a schedule that is fixed beforehand, 0.1 to 1000000
    /// [default: 500 in steady, sick-neighbours and outage; otherwise as fast as possible]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// How long notifications are enqueued at the rate, and how long accept and limits take
    /// [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    pub(super) duration: Option<Duration>,
    /// With a rate: the beginning of the load, which latencies leave out [default: 3s]
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    pub(super) warm_up: Option<Duration>,
    /// With a rate: how the schedule spaces notifications [default: even]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) arrivals: Option<Arrivals>,
    /// Endpoints that notifications go to in turn, 1 to 10,000, the sick ones included [default:
    /// 100; 1 in backlog and limits; 10 in parked; 11 in behind-slow]
    #[arg(long, value_name = "N", value_parser = crate::flags::whole::<u32>(1..=10_000))]
    pub(super) endpoints: Option<u32>,
    /// Tenants that the endpoints belong to in turn, 1 to 10,000
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = crate::flags::whole::<u32>(1..=10_000))]
    pub(super) tenants: u32,
    /// Size of each payload, 32 to 1,000,000 bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1_000,
          value_parser = crate::flags::whole::<u32>(32..=1_000_000))]
    pub(super) payload: u32,
    /// Worker processes, 1 to 64 [default: 1; 3 in limits]
    #[arg(long, value_name = "N", value_parser = crate::flags::whole::<u32>(1..=64))]
    pub(super) workers: Option<u32>,
    /// The endpoints' `max_in_flight` [default: Posthaste's own]
    #[arg(long, value_name = "N", value_parser = crate::flags::whole::<u32>(1..))]
    pub(super) max_in_flight: Option<u32>,
    /// How often everything is repeated, 1 to 100, each time from the beginning; prints minimum,
    /// median and maximum
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = crate::flags::whole::<u32>(1..=100))]
    pub(super) runs: u32,
    /// Where the order of endpoints and the payloads come from: the same number, the same load
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) seed: u64,
    /// How long a run may take to deliver everything after the last notification was enqueued
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = when::duration)]
    pub(super) deadline: Duration,
    /// sick-neighbours: how many of the endpoints are sick [default: 10]
    #[arg(long, value_name = "N", help_heading = "Options of one scenario")]
    pub(super) sick: Option<u32>,
    /// sick-neighbours: what is wrong with them [default: hang]
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        help_heading = "Options of one scenario"
    )]
    pub(super) sickness: Option<Sickness>,
    /// sick-neighbours: percent of the notifications that go to them, 0 to 99 [default: their share
    /// of the endpoints]
    #[arg(long, value_name = "PERCENT", help_heading = "Options of one scenario",
          value_parser = crate::flags::whole::<u8>(0..=99))]
    pub(super) sick_share: Option<u8>,
    /// sick-neighbours: they belong to a tenant of their own
    #[arg(long, help_heading = "Options of one scenario")]
    pub(super) sick_tenant: bool,
    /// sick-neighbours, parked: before each run one with none sick, or none parked, and compare
    #[arg(long, help_heading = "Options of one scenario")]
    pub(super) control: bool,
    /// slow, behind-slow, and the sickness `slow`: how long receivers take to answer [default:
    /// 200ms; 50ms; 4s]
    #[arg(long, value_name = "DURATION", help_heading = "Options of one scenario",
          value_parser = when::duration)]
    pub(super) delay: Option<Duration>,
    /// behind-slow: notifications for the other endpoints, enqueued after all of the slow one's
    /// [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Options of one scenario",
          value_parser = crate::flags::whole::<u32>(1..=1_000_000))]
    pub(super) behind: Option<u32>,
    /// outage: how long the receiver is down, in the middle [default: a third of the duration]
    #[arg(long, value_name = "DURATION", help_heading = "Options of one scenario",
          value_parser = when::duration)]
    pub(super) outage: Option<Duration>,
    /// accept: notifications in each request, 1 to 1000 [default: 1]
    #[arg(long, value_name = "N", help_heading = "Options of one scenario",
          value_parser = crate::flags::whole::<u32>(1..=1_000))]
    pub(super) batch: Option<u32>,
    /// accept: requests that are open at the same time, 1 to 512 [default: 64]
    #[arg(long, value_name = "N", help_heading = "Options of one scenario",
          value_parser = crate::flags::whole::<u32>(1..=512))]
    pub(super) connections: Option<u32>,
    /// limits: the endpoint's `rate_limit_per_second`, 1 to 10000 [default: 50]
    #[arg(long, value_name = "PER_SECOND", help_heading = "Options of one scenario",
          value_parser = crate::flags::whole::<u32>(1..=10_000))]
    pub(super) limit: Option<u32>,
    /// parked: deliveries that wait for dead endpoints before the load begins [default: 10000]
    #[arg(long, value_name = "N", help_heading = "Options of one scenario",
          value_parser = crate::flags::whole::<u32>(1..=10_000_000))]
    pub(super) parked: Option<u32>,
    /// parked: whether their endpoints are disabled or refuse connections [default: disabled]
    #[arg(
        long,
        value_enum,
        value_name = "WHY",
        help_heading = "Options of one scenario"
    )]
    pub(super) parked_by: Option<ParkedBy>,
    /// backlog: a program to run after each run with the same load, and compare, such as
    /// `target/release/examples/bare_pipeline`
    #[arg(long, value_name = "PROGRAM", help_heading = "Options of one scenario")]
    pub(super) against: Option<PathBuf>,
    /// backlog: an argument for that program; may be repeated
    #[arg(
        long,
        value_name = "ARGUMENT",
        help_heading = "Options of one scenario",
        requires = "against",
        allow_hyphen_values = true
    )]
    pub(super) against_arg: Vec<String>,
    /// Write the results as JSON into this file, too (`--json` prints them in place of the table)
    #[arg(long, value_name = "FILE")]
    pub(super) json_file: Option<PathBuf>,
    /// The database server to measure with: postgres://… (also POSTHASTE_DATABASE_URL; others can
    /// see a password here in `ps`)
    #[arg(long, value_name = "URL")]
    pub(super) database_url: Option<String>,
    /// The broker to measure with: amqp://…, amqps://… or embedded (also POSTHASTE_BROKER_URL;
    /// others can see a password here in `ps`)
    #[arg(long, value_name = "URL")]
    pub(super) broker_url: Option<String>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scenario {
    /// Enqueue everything first, then start the workers and drain it
    Backlog,
    /// Enqueue at a steady rate: latencies
    Steady,
    /// A backlog of notifications that go to every endpoint each
    FanOut,
    /// A steady rate, with some of the endpoints sick: latencies of the healthy ones
    SickNeighbours,
    /// A backlog for receivers that take their time to answer
    Slow,
    /// A backlog for one slow endpoint, and behind it in the queue a few notifications for others
    BehindSlow,
    /// A steady rate; in the middle the receiver is down for a while
    Outage,
    /// Accepting notifications alone, as fast as the API can, without a worker
    Accept,
    /// A rate limit over several workers, of which one is killed and one is added
    Limits,
    /// A backlog while many deliveries wait for dead endpoints
    Parked,
}

/// What is wrong with a sick endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Sickness {
    /// Takes requests and never answers
    Hang,
    /// Answers 500 at once
    Error,
    /// Sends a byte of its answer's head each second, for ever
    Drip,
    /// Answers 200, then sends a byte of the body each second, for ever
    DripBody,
    /// Answers after --delay
    Slow,
    /// Answers 429 with `Retry-After: 5`
    Throttle,
    /// Refuses connections
    Refused,
    /// Has a name that does not resolve
    Unresolvable,
    /// Answers 500 to every other request
    Half,
    /// Accepts connections and closes them at once
    Down,
}

/// How a schedule spaces notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Arrivals {
    /// Always the same time apart
    Even,
    /// At random, as from many independent producers (a Poisson process)
    Random,
}

/// Why deliveries wait for dead endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ParkedBy {
    /// The endpoints are disabled
    Disabled,
    /// The endpoints refuse connections; the first retry is an hour later
    Refused,
}

fn rate(text: &str) -> Result<f64, String> {
    let number: f64 = text
        .trim_end_matches("/s")
        .parse()
        .map_err(|_| "must be a number, such as 500 or 0.5".to_owned())?;
    if (0.1..=1_000_000.0).contains(&number) {
        Ok(number)
    } else {
        Err("must be 0.1 to 1000000".to_owned())
    }
}
