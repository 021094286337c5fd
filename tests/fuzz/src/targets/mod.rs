//! What is fuzzed. A target panics where something is wrong.

mod answers;
mod api;
mod config;
mod cursors;
mod envelope;
mod fixture;
mod json;
mod properties;
mod rendering;
mod retry_after;
mod scripts;
mod urls;

/// Something that reads what strangers send.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// What it reads, and what must hold.
    pub about: &'static str,
    /// Reads an input.
    pub run: fn(&[u8]),
    /// What its inputs are made of.
    pub tokens: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    envelope::TARGET,
    properties::TARGET,
    api::TARGET,
    answers::TARGET,
    retry_after::TARGET,
    rendering::TARGET,
    json::TARGET,
    urls::TARGET,
    scripts::TARGET,
    cursors::TARGET,
    config::TARGET,
];

/// Between the parts of an input that has several.
const BETWEEN: &[u8] = b"\n===\n";

/// The parts of an input; those that are not there are empty.
fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = [&[][..]; N];
    let mut rest = input;
    for (index, part) in parts.iter_mut().enumerate() {
        let end = rest.windows(BETWEEN.len()).position(|at| at == BETWEEN);
        match end.filter(|_| index + 1 < N) {
            Some(end) => {
                *part = &rest[..end];
                rest = &rest[end + BETWEEN.len()..];
            }
            None => {
                *part = rest;
                rest = &[];
            }
        }
    }
    parts
}
