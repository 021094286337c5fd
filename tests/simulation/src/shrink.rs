//! Makes a run that violates something smaller, as long as it still violates the same.

use crate::bench::Bench;
use crate::faults::Kind;
use crate::plan::{Options, Plan};

/// The most runs that are spent on it.
const RUNS: u32 = 400;

/// The word that a violation begins with, which says of what kind it is.
fn kind(violation: &str) -> &str {
    violation.split(':').next().unwrap_or(violation)
}

struct Shrinking<'a> {
    bench: &'a Bench,
    seed: u64,
    kind: String,
    best: Options,
    left: u32,
}

/// The smallest run of the seed that still violates what this one does.
#[must_use]
pub fn shrink(bench: &Bench, seed: u64, options: &Options, violation: &str) -> Options {
    let mut shrinking = Shrinking {
        bench,
        seed,
        kind: kind(violation).to_owned(),
        best: options.clone(),
        left: RUNS,
    };
    // Each step may make room for another, so twice.
    for _ in 0..2 {
        shrinking.fewer_notifications();
        shrinking.fewer_workers();
        shrinking.fewer_kinds();
        shrinking.earlier_end();
        shrinking.fewer_faults();
    }
    shrinking.best
}

impl Shrinking<'_> {
    /// Whether the run still violates the same; it is the best from now on then.
    fn try_with(&mut self, options: Options) -> bool {
        if self.left == 0 || options == self.best {
            return false;
        }
        self.left -= 1;
        let outcome = self.bench.run(self.seed, &options, false);
        let same = outcome.violations.iter().any(|it| kind(it) == self.kind);
        if same {
            self.best = options;
        }
        same
    }

    fn fewer_notifications(&mut self) {
        let plan = Plan::of(self.seed, &self.best);
        let mut all: Vec<usize> = plan.notifications.iter().map(|plan| plan.number).collect();
        let mut piece = all.len().div_ceil(2);
        while piece > 0 && all.len() > 1 {
            let mut from = 0;
            while from < all.len() && all.len() > 1 {
                let mut fewer = all.clone();
                fewer.drain(from..(from + piece).min(all.len()));
                let options = Options {
                    only: Some(fewer.clone()),
                    ..self.best.clone()
                };
                if self.try_with(options) {
                    all = fewer;
                } else {
                    from += piece;
                }
            }
            piece /= 2;
        }
    }

    fn fewer_workers(&mut self) {
        for workers in 1..Plan::of(self.seed, &self.best).workers.len() {
            let options = Options {
                workers: Some(workers),
                ..self.best.clone()
            };
            if self.try_with(options) {
                return;
            }
        }
    }

    fn fewer_kinds(&mut self) {
        let counts = self.bench.run(self.seed, &self.best, false).counts;
        for (kind, count) in Kind::ALL.iter().zip(counts) {
            if count > 0 {
                let mut options = self.best.clone();
                options.mask.without.push(*kind);
                self.try_with(options);
            }
        }
    }

    fn earlier_end(&mut self) {
        let mut most = self.bench.run(self.seed, &self.best, false).faults;
        let mut step = most.div_ceil(2);
        while step > 0 {
            let mut options = self.best.clone();
            options.mask.most = Some(most.saturating_sub(step));
            if most >= step && self.try_with(options) {
                most -= step;
            } else {
                step /= 2;
            }
        }
    }

    /// Pieces of them at first, then each.
    fn fewer_faults(&mut self) {
        let number = self.bench.run(self.seed, &self.best, false).faults;
        let last = self.best.mask.most.map_or(number, |most| most.min(number));
        let mut piece = last.div_ceil(2);
        while piece > 0 {
            let mut from = 1;
            while from <= last {
                let mut options = self.best.clone();
                let skip = &mut options.mask.skip;
                skip.extend(
                    (from..(from + piece).min(last + 1))
                        .filter(|it| !self.best.mask.skip.contains(it)),
                );
                self.try_with(options);
                from += piece;
            }
            piece /= 2;
        }
    }
}
