//! From flags to what is done: defaults filled in, what does not fit together refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::args::{Arrivals, BenchArgs, ParkedBy, Scenario, Sickness};
use super::clock::nanos;
use super::receiver::{Manner, Orders};
use crate::failure::Failure;

/// As many numbers as a payload has digits for.
const MOST: f64 = 10_000_000.0;
/// How long notifications are enqueued at a rate.
const DURATION: Duration = Duration::from_secs(30);
/// The beginning that latencies leave out.
const WARM_UP: Duration = Duration::from_secs(3);
/// The index of an endpoint that stands for all of them.
pub(super) const ALL: u32 = u32::MAX;

/// What a run does.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Plan {
    pub(super) scenario: Scenario,
    pub(super) messages: u32,
    /// Notifications per second; `None`: as fast as possible.
    pub(super) rate_per_second: Option<f64>,
    #[serde(serialize_with = "milliseconds", rename = "duration_ms")]
    pub(super) duration: Duration,
    #[serde(serialize_with = "milliseconds", rename = "warm_up_ms")]
    pub(super) warm_up: Duration,
    pub(super) arrivals: Arrivals,
    pub(super) endpoints: u32,
    pub(super) tenants: u32,
    pub(super) payload_bytes: u32,
    pub(super) workers: u32,
    pub(super) max_in_flight: Option<u32>,
    pub(super) runs: u32,
    pub(super) seed: u64,
    #[serde(skip)]
    pub(super) deadline: Duration,
    /// The last so many endpoints are sick.
    pub(super) sick: u32,
    pub(super) sickness: Option<Sickness>,
    /// The part of the notifications that goes to them, 0 to 1.
    pub(super) sick_share: Option<f64>,
    pub(super) sick_tenant: bool,
    /// Each run has a control before it, in which everything is well.
    pub(super) control: bool,
    #[serde(serialize_with = "milliseconds", rename = "delay_ms")]
    pub(super) delay: Duration,
    /// The last notifications, which go to the others when all of the slow endpoint's are enqueued.
    pub(super) behind: u32,
    #[serde(serialize_with = "milliseconds", rename = "outage_ms")]
    pub(super) outage: Duration,
    pub(super) batch: u32,
    pub(super) connections: u32,
    pub(super) limit_per_second: Option<u32>,
    pub(super) parked: u32,
    pub(super) parked_by: ParkedBy,
    /// Another program that has the same load after each run.
    pub(super) against: Option<Program>,
}

/// A program to compare with.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
}

/// A notification of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shot {
    /// When it is due, in nanoseconds from the beginning; 0 where there is no rate.
    pub(super) at: u64,
    /// The endpoint that it is for, or [`ALL`].
    pub(super) endpoint: u32,
}

impl Plan {
    /// Checks flags and fills in defaults.
    ///
    /// # Errors
    /// Flags that do not fit together: wrong use.
    pub(super) fn of(args: &BenchArgs) -> Result<Self, Failure> {
        use Scenario::{
            Accept, Backlog, BehindSlow, FanOut, Limits, Outage, Parked, SickNeighbours, Slow,
            Steady,
        };
        let scenario = args.scenario;
        refuse_strangers(args)?;
        let paced = matches!(scenario, Steady | SickNeighbours | Outage);
        let rate = args.rate.or_else(|| paced.then_some(500.0));
        let duration = args.duration.unwrap_or(DURATION);
        let warm_up = match rate {
            Some(_) => args.warm_up.unwrap_or(WARM_UP),
            None => Duration::ZERO,
        };
        refuse_times(args, rate.is_some())?;
        let limit = (scenario == Limits).then_some(args.limit.unwrap_or(50));
        let behind = if scenario == BehindSlow {
            args.behind.unwrap_or(1_000)
        } else {
            0
        };
        let messages = match (args.messages, rate, limit) {
            (Some(messages), ..) => f64::from(messages),
            (None, Some(rate), _) => rate * (warm_up + duration).as_secs_f64(),
            (None, None, Some(limit)) => f64::from(limit) * duration.as_secs_f64(),
            (None, None, None) if scenario == FanOut => 200.0,
            (None, None, None) if scenario == Accept => 2_000_000.0,
            (None, None, None) => 20_000.0,
        } + f64::from(behind);
        if !(1.0..=MOST).contains(&messages) {
            return Err(Failure::wrong_use(format!(
                "this would be {messages:.0} notifications: choose --rate and --duration so that \
                 they are 1 to 10,000,000"
            )));
        }
        let endpoints = args.endpoints.unwrap_or(match scenario {
            Backlog | Limits | Accept => 1,
            Parked => 10,
            BehindSlow => 11,
            Steady | FanOut | SickNeighbours | Slow | Outage => 100,
        });
        let sick = if scenario == SickNeighbours {
            args.sick.unwrap_or(10)
        } else {
            0
        };
        if sick >= endpoints {
            return Err(Failure::wrong_use(format!(
                "--sick {sick}: at least one of the {endpoints} endpoints (--endpoints) must be \
                 healthy"
            )));
        }
        let sickness = (sick > 0).then_some(args.sickness.unwrap_or(Sickness::Hang));
        if scenario == BehindSlow && endpoints < 2 {
            return Err(Failure::wrong_use(
                "--endpoints must be 2 or more in behind-slow: a slow one, and others behind it",
            ));
        }
        let usual_delay = match scenario {
            Slow => 200,
            BehindSlow => 50,
            _ => 4_000,
        };
        let outage = if scenario == Outage {
            args.outage.unwrap_or(duration / 3)
        } else {
            Duration::ZERO
        };
        if outage > duration {
            return Err(Failure::wrong_use(
                "--outage must not be longer than --duration",
            ));
        }
        Ok(Self {
            scenario,
            // At most MOST.
            messages: messages as u32,
            rate_per_second: rate,
            duration,
            warm_up,
            arrivals: args.arrivals.unwrap_or(Arrivals::Even),
            endpoints,
            tenants: args.tenants,
            payload_bytes: args.payload,
            workers: match scenario {
                Accept => 0,
                Limits => args.workers.unwrap_or(3),
                _ => args.workers.unwrap_or(1),
            },
            max_in_flight: args.max_in_flight,
            runs: args.runs,
            seed: args.seed,
            deadline: args.deadline,
            sick,
            sickness,
            sick_share: args.sick_share.map(|percent| f64::from(percent) / 100.0),
            sick_tenant: args.sick_tenant,
            control: args.control,
            delay: args.delay.unwrap_or(Duration::from_millis(usual_delay)),
            behind,
            outage,
            batch: args.batch.unwrap_or(1),
            connections: args.connections.unwrap_or(64),
            limit_per_second: limit,
            parked: if scenario == Parked {
                args.parked.unwrap_or(10_000)
            } else {
                0
            },
            parked_by: args.parked_by.unwrap_or(ParkedBy::Disabled),
            against: args
                .against
                .as_deref()
                .map(program)
                .transpose()?
                .map(|path| Program {
                    path,
                    arguments: args.against_arg.clone(),
                }),
        })
    }

    /// The same load with everything well.
    pub(super) fn control(&self) -> Self {
        Self {
            sickness: None,
            parked: 0,
            ..self.clone()
        }
    }

    /// How many of the endpoints are not among the sick; they are numbered first.
    pub(super) const fn healthy(&self) -> u32 {
        self.endpoints - self.sick
    }

    /// Whether a notification goes to every endpoint.
    pub(super) fn fans_out(&self) -> bool {
        self.scenario == Scenario::FanOut
    }

    /// Deliveries of healthy endpoints that a notification makes.
    pub(super) fn deliveries_of(&self, shot: Shot) -> u32 {
        if shot.endpoint == ALL {
            self.endpoints
        } else {
            u32::from(!self.is_sick(shot.endpoint))
        }
    }

    /// Whether the endpoint is sick in this run.
    pub(super) const fn is_sick(&self, endpoint: u32) -> bool {
        self.sickness.is_some() && endpoint >= self.healthy()
    }

    /// Whether the endpoint is the one that all others wait behind.
    pub(super) fn is_in_front(&self, endpoint: u32) -> bool {
        self.scenario == Scenario::BehindSlow && endpoint == self.endpoints - 1
    }

    /// How the receiver answers.
    pub(super) const fn orders(&self) -> Orders {
        let healthy = match self.scenario {
            Scenario::Slow => Manner::After(self.delay),
            _ => Manner::After(Duration::ZERO),
        };
        let sick = match self.sickness {
            Some(Sickness::Hang) => Manner::Hang,
            Some(Sickness::Error) => Manner::Status(500, None),
            Some(Sickness::Drip) => Manner::DripHead,
            Some(Sickness::DripBody) => Manner::DripBody,
            Some(Sickness::Slow) => Manner::After(self.delay),
            Some(Sickness::Throttle) => Manner::Status(429, Some(5)),
            Some(Sickness::Half) => Manner::Half,
            None if matches!(self.scenario, Scenario::BehindSlow) => Manner::After(self.delay),
            Some(Sickness::Down | Sickness::Refused | Sickness::Unresolvable) | None => {
                Manner::Close
            }
        };
        Orders {
            healthy,
            sick,
            sick_count: self.behind > 0,
        }
    }

    /// The whole load: which endpoint each notification is for, and when it is due.
    pub(super) fn shots(&self) -> Vec<Shot> {
        let mut chance = Chance::new(self.seed);
        let healthy: Vec<u32> = (0..self.healthy()).collect();
        let sick: Vec<u32> = (self.healthy()..self.endpoints).collect();
        let (mut first, mut second) = match self.sick_share {
            _ if self.behind > 0 => (
                Round::new(healthy[..healthy.len() - 1].to_vec()),
                Round::new(vec![self.endpoints - 1]),
            ),
            Some(_) if self.sick > 0 => (Round::new(healthy), Round::new(sick)),
            _ => (
                Round::new((0..self.endpoints).collect()),
                Round::new(Vec::new()),
            ),
        };
        let share = self.sick_share.unwrap_or(0.0);
        let gap = self.rate_per_second.map_or(0.0, |rate| 1e9 / rate);
        let (mut due, mut owed) = (0.0, 0.0);
        let shots = (0..self.messages).map(|number| {
            let at = due as u64;
            due += match self.arrivals {
                Arrivals::Even => gap,
                // The time between two events of a Poisson process.
                Arrivals::Random => -gap * (1.0 - chance.part()).ln(),
            };
            owed += share;
            let endpoint = if self.fans_out() {
                ALL
            } else if number + self.behind < self.messages && self.behind > 0 {
                second.next(&mut chance)
            } else if owed >= 1.0 && self.sick > 0 {
                owed -= 1.0;
                second.next(&mut chance)
            } else {
                first.next(&mut chance)
            };
            Shot { at, endpoint }
        });
        shots.collect()
    }

    /// The end of the warm-up, in nanoseconds from the beginning of the load.
    pub(super) fn measured_from(&self) -> u64 {
        nanos(self.warm_up)
    }
}

/// Options that only loads with a schedule have.
fn refuse_times(args: &BenchArgs, paced: bool) -> Result<(), Failure> {
    let timed = paced || matches!(args.scenario, Scenario::Accept | Scenario::Limits);
    let options = [
        ("--duration", args.duration.is_some() && !timed),
        ("--warm-up", args.warm_up.is_some() && !paced),
        ("--arrivals", args.arrivals.is_some() && !paced),
    ];
    for (option, wrong) in options {
        if wrong {
            return Err(Failure::wrong_use(format!(
                "{option} has no meaning in {} without --rate",
                name(args.scenario)
            )));
        }
    }
    Ok(())
}

/// The whole path of a program, which has to be there.
fn program(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| {
        Failure::wrong_use(format!("--against: {}: {error}", path.display())).hint(
            "the one of this repository is built with `cargo build --release --example \
             bare_pipeline`",
        )
    })
}

/// Options that only some scenarios have.
fn refuse_strangers(args: &BenchArgs) -> Result<(), Failure> {
    use Scenario::{Accept, Backlog, BehindSlow, Limits, Outage, Parked, SickNeighbours, Slow};
    let sick = &[SickNeighbours][..];
    let options = [
        ("--sick", args.sick.is_some(), sick),
        ("--sickness", args.sickness.is_some(), sick),
        ("--sick-share", args.sick_share.is_some(), sick),
        ("--sick-tenant", args.sick_tenant, sick),
        ("--control", args.control, &[SickNeighbours, Parked]),
        (
            "--delay",
            args.delay.is_some(),
            &[Slow, SickNeighbours, BehindSlow],
        ),
        ("--behind", args.behind.is_some(), &[BehindSlow]),
        ("--outage", args.outage.is_some(), &[Outage]),
        ("--batch", args.batch.is_some(), &[Accept]),
        ("--connections", args.connections.is_some(), &[Accept]),
        ("--limit", args.limit.is_some(), &[Limits]),
        ("--parked", args.parked.is_some(), &[Parked]),
        ("--against", args.against.is_some(), &[Backlog]),
        ("--parked-by", args.parked_by.is_some(), &[Parked]),
    ];
    for (option, given, scenarios) in options {
        if given && !scenarios.contains(&args.scenario) {
            let names: Vec<String> = scenarios.iter().map(|one| name(*one)).collect();
            return Err(Failure::wrong_use(format!(
                "{option} has no meaning in {}: it is for {}",
                name(args.scenario),
                names.join(" and ")
            )));
        }
    }
    if args.scenario == Accept && args.workers.is_some() {
        return Err(Failure::wrong_use(
            "--workers has no meaning in accept, which measures the API alone",
        ));
    }
    if args.scenario == Scenario::FanOut && args.tenants > 1 {
        return Err(Failure::wrong_use(
            "--tenants has no meaning in fan-out: a notification goes to endpoints of one tenant",
        ));
    }
    if args.scenario == Accept && args.rate.is_some() {
        return Err(Failure::wrong_use(
            "--rate has no meaning in accept, which enqueues as fast as the API answers",
        ));
    }
    Ok(())
}

/// A scenario's name, as it is typed.
pub(super) fn name(scenario: Scenario) -> String {
    use clap::ValueEnum as _;
    scenario
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Everything once in a random order, then everything again in another.
struct Round {
    members: Vec<u32>,
    at: usize,
}

impl Round {
    const fn new(members: Vec<u32>) -> Self {
        Self { members, at: 0 }
    }

    fn next(&mut self, chance: &mut Chance) -> u32 {
        if self.at == 0 {
            // Fisher and Yates.
            for last in (1..self.members.len()).rev() {
                let other = (chance.part() * (last + 1) as f64) as usize;
                self.members.swap(last, other.min(last));
            }
        }
        let next = self.members.get(self.at).copied().unwrap_or(ALL);
        self.at = (self.at + 1) % self.members.len().max(1);
        next
    }
}

/// Numbers at random that are the same for the same seed: `SplitMix64` (Steele, Lea and Flood,
/// 2014).
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to less than 1.
    fn part(&mut self) -> f64 {
        // As many bits as a float holds exactly.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
