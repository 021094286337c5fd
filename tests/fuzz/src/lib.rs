//! Throws what strangers may send at everything that reads it: each target takes any bytes, must
//! neither panic nor hang, and checks what must hold of whatever comes out.
//!
//! Runs on the stable compiler. `cargo test -p posthaste-fuzz` tries the corpus, which has what was
//! found before, and ten seconds of mutations of it for each target. `cargo run -p posthaste-fuzz`
//! does so for as long as it is told; `tests/fuzz/guided` lets libFuzzer look for new ways through
//! the code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a target says that something is wrong"
)]

pub mod corpus;
pub mod mutate;
pub mod run;
pub mod targets;

pub use targets::{TARGETS, Target};
