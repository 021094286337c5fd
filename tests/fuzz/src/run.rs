//! Running a target, and what is to be said when it fails.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::PathBuf;
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::mutate::Mutator;
use crate::{Target, corpus};

/// An input that takes longer than this hangs, as far as whoever sent it is concerned. Much longer
/// than any takes, since the machine may be busy with other things.
const HANGS: Duration = Duration::from_secs(20);
/// For how long a failing input is made smaller.
const SHRINK: Duration = Duration::from_secs(20);

/// An input that a target failed on.
#[derive(Debug)]
pub struct Failure {
    /// What the target said.
    pub problem: String,
    /// The smallest input found that it says so of.
    pub input: Vec<u8>,
}

/// Tries one input.
///
/// # Errors
/// What is wrong.
pub fn try_one(target: &Target, input: &[u8]) -> Result<(), String> {
    quietly();
    let begun = Instant::now();
    TRYING.set(true);
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    TRYING.set(false);
    if let Err(panic) = ended {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        return Err(text.unwrap_or_else(|| "it panicked".to_owned()));
    }
    let took = begun.elapsed();
    if took > HANGS {
        return Err(format!("it took {took:?}"));
    }
    Ok(())
}

thread_local! {
    /// Whether a panic of this thread is one that is caught and reported here.
    static TRYING: Cell<bool> = const { Cell::new(false) };
}

/// Making an input smaller may panic a thousand times: none of them is printed.
fn quietly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !TRYING.get() {
                before(panic);
            }
        }));
    });
}

/// Tries up to `most` mutations of the corpus, until `deadline`. Returns how many there were.
///
/// # Errors
/// The first that failed, made smaller.
pub fn mutations(target: &Target, seed: u64, most: u64, deadline: Instant) -> Result<u64, Failure> {
    let known: Vec<Vec<u8>> = corpus::inputs(target)
        .into_iter()
        .map(|(_, input)| input)
        .collect();
    let mut mutator = Mutator::new(seed, &known, target.tokens);
    let mut tried = 0;
    while tried < most && Instant::now() < deadline {
        let input = mutator.next_input();
        if let Err(problem) = try_one(target, &input) {
            let input = smaller(target, input);
            return Err(Failure { problem, input });
        }
        tried += 1;
    }
    Ok(tried)
}

/// Leaves out of a failing input whatever it fails without.
fn smaller(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let deadline = Instant::now() + SHRINK;
    let mut piece = input.len().div_ceil(2);
    while piece > 0 && Instant::now() < deadline {
        let mut at = 0;
        while at < input.len() && Instant::now() < deadline {
            let mut without = input.clone();
            without.drain(at..(at + piece).min(input.len()));
            if try_one(target, &without).is_err() {
                input = without;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    input
}

impl Failure {
    /// Keeps the input in a file, and says what happened and how to see it again.
    ///
    /// # Panics
    /// Where the file cannot be written.
    #[must_use]
    pub fn report(&self, target: &Target) -> String {
        let file = file_for(target, &self.input);
        std::fs::write(&file, &self.input).unwrap();
        format!(
            "{}: {}\ninput, {} bytes: {:?}\nkept in {}; once it is mended, the file stays there as \
             a test\nagain: cargo run -p posthaste-fuzz -- {} --input {}",
            target.name,
            self.problem,
            self.input.len(),
            String::from_utf8_lossy(&self.input),
            file.display(),
            target.name,
            file.display(),
        )
    }
}

fn file_for(target: &Target, input: &[u8]) -> PathBuf {
    // FNV-1a: only to give different inputs different names.
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    corpus::folder(target).join(format!("found-{hash:016x}"))
}
