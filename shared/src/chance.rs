//! Random numbers that steer when things happen: jitter, pauses between tries, the ids of workers.
//! Not for secrets.
//!
//! Each thread has a generator of its own, which begins with a seed of the system's. A thread that
//! was given a seed by [`begin`] draws the same numbers again, which is how a run of
//! `tests/simulation` is repeated.

use std::cell::RefCell;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

thread_local! {
    static GENERATOR: RefCell<StdRng> = RefCell::new(StdRng::from_seed(rand::random()));
}

/// A number from 0 to 1, 1 itself not included.
#[must_use]
pub fn fraction() -> f64 {
    GENERATOR.with_borrow_mut(|generator| generator.random())
}

/// 64 bits.
#[must_use]
pub fn bits() -> u64 {
    GENERATOR.with_borrow_mut(|generator| generator.random())
}

/// Has this thread's numbers begin anew, from `seed`.
pub fn begin(seed: u64) {
    GENERATOR.set(StdRng::seed_from_u64(seed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let draw = |seed| {
            begin(seed);
            (fraction(), bits())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!((0.0..1.0).contains(&fraction()));
    }
}
