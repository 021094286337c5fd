//! Many seeds, on all processors.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bench::{Bench, BenchError};
use crate::faults::Kind;
use crate::plan::Options;
use crate::run::Outcome;

/// What many runs came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The runs made.
    pub runs: u64,
    /// The requests that receivers got.
    pub requests: u64,
    /// How long the runs took in their own time.
    pub virtual_time: Duration,
    /// How often each kind of fault happened.
    pub faults: Vec<u64>,
    /// In how many runs each kind happened.
    pub runs_with: Vec<u64>,
    /// The seeds of runs that violated something, with the first violation of each.
    pub failures: Vec<(u64, String)>,
}

/// How far a sweep goes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// It ends after this time.
    pub deadline: Option<Instant>,
    /// It ends once so many runs have failed.
    pub failures: usize,
    /// So many runs at once.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: None,
            failures: 10,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.runs += 1;
        self.requests += outcome.requests as u64;
        self.virtual_time += outcome.took;
        self.faults.resize(Kind::ALL.len(), 0);
        self.runs_with.resize(Kind::ALL.len(), 0);
        for (index, count) in outcome.counts.iter().enumerate() {
            self.faults[index] += count;
            self.runs_with[index] += u64::from(*count > 0);
        }
        if let Some(first) = outcome.violations.first() {
            self.failures.push((seed, first.clone()));
        }
    }
}

/// Runs the seeds, in their order as far as there are several at once.
///
/// # Errors
/// When there is no bench to run them on.
pub fn sweep(seeds: Range<u64>, options: &Options, limits: Limits) -> Result<Summary, BenchError> {
    let next = AtomicU64::new(seeds.start);
    let enough = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    let lock = || summary.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || -> Result<(), BenchError> {
        let bench = Bench::new()?;
        while !enough.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let late = limits
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline);
            if seed >= seeds.end || late {
                break;
            }
            let outcome = bench.run(seed, options, false);
            let mut summary = lock();
            summary.add(seed, &outcome);
            if summary.failures.len() >= limits.failures {
                enough.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..limits.threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })?;
    let mut summary = std::mem::take(&mut *lock());
    summary.failures.sort();
    Ok(summary)
}
