//! The same targets with libFuzzer, which keeps the inputs that reach new code.

#![no_main]

use std::sync::LazyLock;

use posthaste_fuzz::{TARGETS, Target};

static WANTED: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("POSTHASTE_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("POSTHASTE_FUZZ_TARGET={name:?} is no target"))
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (WANTED.run)(input));
