//! Runs seeds, shows what was broken and what was found, and repeats one with its trace.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use posthaste_simulation::bench::Bench;
use posthaste_simulation::faults::{Kind, Mask};
use posthaste_simulation::plan::{Bug, Options};
use posthaste_simulation::shrink::shrink;
use posthaste_simulation::sweep::{Limits, Summary, sweep};

/// Simulates whole workers in virtual time, and checks the guarantees.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Ends after so many seconds, whatever is left.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Ends once so many seeds have failed.
    #[arg(long, default_value_t = 1, value_name = "FAILURES")]
    failures: usize,
    /// Runs this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Shows what happened in it, line by line.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Does not make a failure smaller.
    #[arg(long)]
    whole: bool,
    /// Without these kinds of faults.
    #[arg(long, value_delimiter = ',', value_parser = kind, value_name = "KINDS")]
    without: Vec<Kind>,
    /// Without these faults, by their numbers in the trace.
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    skip: Vec<u64>,
    /// No more than so many faults.
    #[arg(long, value_name = "FAULTS")]
    most: Option<u64>,
    /// Only these notifications, by their numbers.
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    only: Option<Vec<usize>>,
    /// At most so many workers.
    #[arg(long)]
    workers: Option<usize>,
    /// Plants a fault, to be found.
    #[arg(long, value_parser = bug, value_name = "BUG")]
    planted: Option<Bug>,
}

fn kind(name: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>();
    Kind::parse(name).ok_or_else(|| format!("is not one of {}", names().join(", ")))
}

fn bug(name: &str) -> Result<Bug, String> {
    let names = || Bug::ALL.map(Bug::name).join(", ");
    Bug::parse(name).ok_or_else(|| format!("is not one of {}", names()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        mask: Mask {
            without: arguments.without.clone(),
            most: arguments.most,
            skip: arguments.skip.clone(),
        },
        only: arguments.only.clone(),
        workers: arguments.workers,
        planted: arguments.planted,
    };
    match arguments.seed {
        Some(seed) => one(&arguments, seed, options),
        None => many(&arguments, &options),
    }
}

fn many(arguments: &Arguments, options: &Options) -> ExitCode {
    let begun = Instant::now();
    let limits = Limits {
        deadline: arguments
            .seconds
            .map(|seconds| begun + Duration::from_secs(seconds)),
        failures: arguments.failures,
        ..Limits::default()
    };
    let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    let summary = match sweep(seeds, options, limits) {
        Ok(summary) => summary,
        Err(error) => {
            eprintln!("the simulation cannot be set up: {error:?}");
            return ExitCode::from(2);
        }
    };
    print!("{}", table(&summary));
    println!(
        "{} seeds, {} requests, {:.1} hours of virtual time in {:.1} s",
        summary.runs,
        summary.requests,
        summary.virtual_time.as_secs_f64() / 3600.0,
        begun.elapsed().as_secs_f64()
    );
    for (seed, violation) in &summary.failures {
        println!("seed {seed} {violation}");
    }
    let Some((seed, _)) = summary.failures.first() else {
        println!("nothing violated");
        return ExitCode::SUCCESS;
    };
    one(arguments, *seed, options.clone())
}

fn table(summary: &Summary) -> String {
    let mut table = String::from("fault                  times   in seeds\n");
    for (kind, (count, runs)) in Kind::ALL
        .iter()
        .zip(summary.faults.iter().zip(&summary.runs_with))
    {
        let _ = writeln!(table, "{:<18} {count:>9} {runs:>10}", kind.name());
    }
    table
}

fn one(arguments: &Arguments, seed: u64, options: Options) -> ExitCode {
    let bench = match Bench::new() {
        Ok(bench) => bench,
        Err(error) => {
            eprintln!("the simulation cannot be set up: {error:?}");
            return ExitCode::from(2);
        }
    };
    let outcome = bench.run(seed, &options, arguments.trace);
    let Some(violation) = outcome.violations.first() else {
        outcome.trace.iter().for_each(|line| println!("{line}"));
        println!(
            "seed {seed}: nothing violated, {} requests, {:x}",
            outcome.requests, outcome.hash
        );
        return ExitCode::SUCCESS;
    };
    let smaller = if arguments.whole || arguments.trace {
        options
    } else {
        shrink(&bench, seed, &options, violation)
    };
    let outcome = bench.run(seed, &smaller, true);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    for violation in &outcome.violations {
        println!("VIOLATED {violation}");
    }
    println!("again: {}", command(seed, &smaller));
    ExitCode::FAILURE
}

/// What repeats a run.
fn command(seed: u64, options: &Options) -> String {
    let mut command = format!("simulate --seed {seed} --trace");
    let joined = |all: &[String]| all.join(",");
    let without: Vec<String> = options
        .mask
        .without
        .iter()
        .map(|it| it.name().into())
        .collect();
    let skip: Vec<String> = options.mask.skip.iter().map(u64::to_string).collect();
    let only = options.only.iter().flatten().map(usize::to_string);
    let only: Vec<String> = only.collect();
    for (flag, values) in [("without", without), ("skip", skip), ("only", only)] {
        if !values.is_empty() {
            let _ = write!(command, " --{flag} {}", joined(&values));
        }
    }
    if let Some(most) = options.mask.most {
        let _ = write!(command, " --most {most}");
    }
    if let Some(workers) = options.workers {
        let _ = write!(command, " --workers {workers}");
    }
    if let Some(bug) = options.planted {
        let _ = write!(command, " --planted {}", bug.name());
    }
    command
}
