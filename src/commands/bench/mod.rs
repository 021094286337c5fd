//! `posthaste bench`: measures how fast Posthaste is here. Receiver, load and measurement in one;
//! what is measured runs in processes of its own.

mod against;
mod args;
mod body;
mod calls;
mod children;
mod clock;
mod findings;
mod load;
mod meter;
mod place;
mod plan;
mod print;
mod receiver;
mod remote;
mod report;
mod stage;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use indicatif::ProgressBar;
use posthaste_shared::config::Profile;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(crate) use self::args::BenchArgs;
use self::place::Servers;
use self::plan::Plan;
use self::report::{Machine, Report, summarise};
use crate::failure::{Done, Failure};
use crate::global::{Global, SettingFlags};
use crate::output;

/// Measures and prints what came out. Exit code 1 when something was lost.
pub(crate) async fn run(global: &Global, args: BenchArgs) -> Done {
    let plan = Plan::of(&args)?;
    let mut flags = SettingFlags::new();
    flags.extend(args.database_url.clone().map(|url| ("database_url", url)));
    flags.extend(args.broker_url.clone().map(|url| ("broker_url", url)));
    // Where the database of `up` lies does not matter here: the bench has one of its own.
    let outside = Global {
        data_dir: None,
        ..global.clone()
    };
    let config = outside.start(Profile::Tool, flags)?;
    let servers = Servers::of(
        &config,
        global.config.as_deref(),
        global.data_dir.as_deref(),
    );
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        store: servers.store(),
        broker: servers.broker(),
        machine: Machine {
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        },
        warnings: warnings(&plan, &servers),
        plan,
        runs: Vec::new(),
        controls: Vec::new(),
        summary: Vec::new(),
    };
    let stopping = until_stopped()?;
    let plan = report.plan.clone();
    for number in 1..=plan.runs {
        let of = format!("{number} of {}", plan.runs);
        if plan.control {
            let progress = Progress::new(&plan, format!("control {of}"));
            let run = stage::run(&plan.control(), &servers, &progress, &stopping).await?;
            report.controls.push(run);
        }
        let progress = Progress::new(&plan, format!("run {of}"));
        let run = stage::run(&plan, &servers, &progress, &stopping).await?;
        report.runs.push(run);
        if let Some(program) = &plan.against {
            let progress = Progress::new(&plan, format!("against {of}"));
            let run = against::run(&plan, program, &servers, &progress, &stopping).await?;
            report.controls.push(run);
        }
    }
    report.summary = summarise(&report.runs, &report.controls);
    if let Some(path) = &args.json_file {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?).map_err(|error| {
            Failure::new(format!("{} cannot be written: {error}", path.display()))
        })?;
    }
    let output = global.output();
    if output.json {
        output.document(&report)?;
    } else {
        print::print(output, &report)?;
    }
    let lost: u64 = report
        .runs
        .iter()
        .chain(&report.controls)
        .map(|run| run.lost)
        .sum();
    Ok(if lost == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How far a run is, on a terminal.
struct Progress {
    bar: ProgressBar,
    label: String,
}

impl Progress {
    fn new(plan: &Plan, label: String) -> Self {
        let bar = output::progress(plan.messages.into(), &label);
        Self { bar, label }
    }

    /// What is done now.
    fn say(&self, what: &str) {
        self.bar.set_message(format!("{}: {what}", self.label));
    }

    /// So many of so many deliveries have arrived.
    fn arrived(&self, count: u64, expected: u64) {
        self.bar.set_length(expected);
        self.bar.set_position(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What makes figures worth less.
fn warnings(plan: &Plan, servers: &Servers) -> Vec<String> {
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push("this is a debug build: its figures mean nothing".to_owned());
    }
    if servers.is_in_memory() {
        warnings.push(
            "the database lies in memory (tmpfs), where commits cost nothing: choose a disk with \
             --data-dir"
                .to_owned(),
        );
    }
    if servers.is_embedded() && plan.workers > 1 {
        warnings.push("several workers share one SQLite file, which has one writer".to_owned());
    }
    warnings
}

/// A token that SIGINT or SIGTERM cancels; a second one ends the program at once, and the kernel
/// its children.
fn until_stopped() -> Result<CancellationToken, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stopping = CancellationToken::new();
    let token = stopping.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if token.is_cancelled() {
                std::process::exit(crate::failure::INTERRUPTED.into());
            }
            token.cancel();
        }
    });
    Ok(stopping)
}

/// What the bench's own children do, which are no commands for users: `None` for other arguments.
pub(crate) fn as_child(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let first = arguments.next()?;
    let done = if first == children::CHILD {
        let bench = arguments.next()?;
        let program = arguments.next()?;
        children::become_child(&bench.to_string_lossy(), &program, arguments)
    } else if first == remote::RECEIVER {
        let orders = arguments.next()?;
        receive(&orders.to_string_lossy())
    } else {
        return None;
    };
    Some(done.unwrap_or_else(|failure| failure.report(false)))
}

fn receive(orders: &str) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(receiver::run(orders));
    runtime.shutdown_background();
    done
}
