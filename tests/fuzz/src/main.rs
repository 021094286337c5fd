//! Fuzzes for as long as it is told.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use posthaste_fuzz::run::{mutations, try_one};
use posthaste_fuzz::{TARGETS, Target};

/// Throws mutations of the corpus at what reads them.
#[derive(Parser)]
struct Arguments {
    /// The target; without one, all in turn.
    target: Option<String>,
    /// How long each target is tried, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds: u64,
    /// Where mutations begin; the same seed makes the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tries this file alone.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted: Vec<&Target> = TARGETS
        .iter()
        .filter(|target| {
            arguments
                .target
                .as_deref()
                .is_none_or(|name| name == target.name)
        })
        .collect();
    if wanted.is_empty() {
        eprintln!("there is no such target; these are:");
        for target in TARGETS {
            eprintln!("  {:<16} {}", target.name, target.about);
        }
        return ExitCode::from(2);
    }
    let mut failed = false;
    for target in wanted {
        let ended = match &arguments.input {
            Some(file) => match std::fs::read(file) {
                Ok(input) => try_one(target, &input).map(|()| 1),
                Err(error) => Err(format!("{}: {error}", file.display())),
            },
            None => {
                let deadline = Instant::now() + Duration::from_secs(arguments.seconds);
                mutations(target, arguments.seed, u64::MAX, deadline)
                    .map_err(|found| found.report(target))
            }
        };
        match ended {
            Ok(tried) => println!("{:<16} {tried} inputs: nothing found", target.name),
            Err(problem) => {
                println!("{problem}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}
