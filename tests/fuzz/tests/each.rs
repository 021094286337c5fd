//! Each target with its corpus and with mutations of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use posthaste_fuzz::run::{mutations, try_one};
use posthaste_fuzz::{TARGETS, Target, corpus};

/// For how many seconds each target is tried.
const SECONDS: &str = "POSTHASTE_FUZZ_SECONDS";
/// The most inputs of each target, so that a fast machine tries no others than a slow one has.
const MOST: u64 = 100_000;
/// Where mutations begin.
const SEED: &str = "POSTHASTE_FUZZ_SEED";

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn fuzz(name: &str) {
    let target: &Target = TARGETS.iter().find(|target| target.name == name).unwrap();
    for (file, input) in corpus::inputs(target) {
        if let Err(problem) = try_one(target, &input) {
            panic!("{name}: {file} of its corpus: {problem}");
        }
    }
    let deadline = Instant::now() + Duration::from_secs(number(SECONDS, 10));
    match mutations(target, number(SEED, 1), MOST, deadline) {
        Ok(tried) => assert!(tried > 0, "not one input was tried"),
        Err(failure) => panic!("{}", failure.report(target)),
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name));
            }
        )*

        #[test]
        fn each_target_is_tried() {
            let tried = [$(stringify!($name)),*];
            let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(tried.as_slice(), all);
        }
    };
}

targets!(
    envelope,
    properties,
    api,
    answers,
    retry_after,
    rendering,
    json,
    urls,
    scripts,
    cursors,
    config,
);
