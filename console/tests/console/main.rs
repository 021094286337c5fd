//! The console on a real socket, with a real store (SQLite), as a browser asks for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, in its support code too"
)]

#[path = "../../../producer/tests/support/mod.rs"]
mod support;

mod browser;
mod entry;
mod forms;
mod html;
mod once;
mod pages;
mod rights;
mod send;
mod stats;
mod things;
