//! What the tests share: a place for a test's data, the program's processes, a receiver, a client.

pub mod api;
pub mod backend;
pub mod cli;
pub mod collector;
pub mod load;
pub mod old_store;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod promql;
pub mod receiver;
pub mod relay;
pub mod slow_receiver;
pub mod stranger;

use std::time::{Duration, Instant};

pub use api::Api;
pub use backend::{Backend, Place};
pub use process::Process;
pub use receiver::Receiver;

/// How long anything may take that is not itself a matter of time. Generous: the machine may be
/// busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks until the answer is there; panics with `what` when it is not there in time.
pub async fn eventually<T, F>(what: &str, ask: F) -> T
where
    F: AsyncFn() -> Option<T>,
{
    within(DEADLINE, what, ask).await
}

/// [`eventually`] with a deadline of its own.
pub async fn within<T, F>(deadline: Duration, what: &str, ask: F) -> T
where
    F: AsyncFn() -> Option<T>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The program under test: the one built with the tests, or another that `POSTHASTE_TEST_PROGRAM`
/// names.
pub fn posthaste() -> String {
    std::env::var("POSTHASTE_TEST_PROGRAM")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_posthaste").to_owned())
}

/// The URL of a test server from the environment.
pub fn required(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests with ./tests/run.sh"))
}
