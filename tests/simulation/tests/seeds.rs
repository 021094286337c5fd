//! Seeds that found something, then new ones for as long as there is time; each planted fault; and
//! that a seed repeats.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use posthaste_simulation::bench::Bench;
use posthaste_simulation::faults::Kind;
use posthaste_simulation::plan::{Bug, Options, Plan};
use posthaste_simulation::shrink::shrink;
use posthaste_simulation::sweep::{Limits, sweep};

/// Seeds that found faults, which are mended.
const FOUND: &[u64] = &[];
/// How long new seeds are tried.
const NEW: Duration = Duration::from_secs(20);
/// How many new seeds there are at the most.
const SEEDS: u64 = 10_000;

#[test]
fn nothing_promised_is_broken() {
    let bench = Bench::new().unwrap();
    for seed in FOUND {
        let outcome = bench.run(*seed, &Options::default(), false);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
    }
    let limits = Limits {
        deadline: Some(Instant::now() + NEW),
        failures: 1,
        ..Limits::default()
    };
    let summary = sweep(1..SEEDS + 1, &Options::default(), limits).unwrap();
    assert_eq!(
        summary.failures,
        Vec::new(),
        "`cargo run -p posthaste-simulation -- --seed SEED` makes it smaller and shows it"
    );
    assert!(summary.runs > 5, "{} runs in {NEW:?}", summary.runs);
    println!("{} seeds, {} requests", summary.runs, summary.requests);
}

#[test]
fn a_seed_repeats() {
    let bench = Bench::new().unwrap();
    let hashes = |seeds: &mut dyn Iterator<Item = u64>| -> BTreeSet<(u64, u64)> {
        seeds
            .map(|seed| (seed, bench.run(seed, &Options::default(), false).hash))
            .collect()
    };
    // Whatever ran before it, in whatever order.
    assert_eq!(hashes(&mut (1..20)), hashes(&mut (1..20).rev()));
}

/// The first seed that finds a planted fault, with what it finds.
fn first(bench: &Bench, bug: Bug) -> (u64, Options, Vec<String>) {
    let planted = Options {
        planted: Some(bug),
        ..Options::default()
    };
    (1..=SEEDS)
        .map(|seed| (seed, bench.run(seed, &planted, false).violations))
        .find(|(_, found)| !found.is_empty())
        .map(|(seed, found)| (seed, planted, found))
        .unwrap_or_else(|| panic!("{} is not found by {SEEDS} seeds", bug.name()))
}

#[test]
fn each_planted_fault_is_found() {
    let bench = Bench::new().unwrap();
    for bug in Bug::ALL {
        let (seed, _, found) = first(&bench, bug);
        println!("{} is found by seed {seed}: {}", bug.name(), found[0]);
        // It is the planted fault that was found: without it the same seed finds nothing.
        let without = bench.run(seed, &Options::default(), false).violations;
        assert_eq!(without, Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn what_is_found_is_made_small() {
    let bench = Bench::new().unwrap();
    let (seed, planted, found) = first(&bench, Bug::AckBeforeCommit);
    let small = shrink(&bench, seed, &planted, &found[0]);
    let before = Plan::of(seed, &planted).notifications.len();
    let after = Plan::of(seed, &small).notifications.len();
    assert!(
        after <= 2 && after < before,
        "{after} of {before}: {small:?}"
    );
    let outcome = bench.run(seed, &small, true);
    assert!(!outcome.violations.is_empty());
    let faults: u64 = outcome.counts.iter().sum();
    let whole = bench.run(seed, &planted, true);
    let all: u64 = whole.counts.iter().sum();
    assert!(faults < all, "{faults} of {all} faults are left");
    let (lines, all) = (outcome.trace.len(), whole.trace.len());
    assert!(lines * 2 < all, "{lines} of {all} lines are left");
    println!("{faults} faults and {lines} of {all} lines are left of seed {seed}: {small:?}");
}

#[test]
fn every_kind_of_fault_happens() {
    let mut missing: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let limits = Limits {
        failures: usize::MAX,
        ..Limits::default()
    };
    // Mostly within a hundred seeds; some faults are rare.
    for step in 0..40 {
        let seeds = step * 25..(step + 1) * 25;
        let summary = sweep(seeds, &Options::default(), limits).unwrap();
        for (kind, count) in Kind::ALL.iter().zip(summary.faults) {
            if count > 0 {
                missing.remove(kind.name());
            }
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("{missing:?} never happened");
}
