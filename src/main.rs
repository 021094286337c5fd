//! `posthaste`: a durable delivery queue for webhooks. This binary parses the command line and
//! wires the parts together; each command has its file.

mod cli;
mod client;
mod commands;
mod connect;
mod ending;
mod examples;
mod failure;
mod flags;
mod global;
mod job;
mod master_key;
mod output;
mod service;
mod serving;
mod systemd;
mod when;
mod wire_formats;

use std::process::ExitCode;
use std::time::Duration;

use failure::Failure;
use posthaste_worker::script::{COMPILE_COMMAND, compile_for_parent};

/// In the place of the C library's allocator: what is allocated for a delivery is freed by another
/// thread as often as not, which mimalloc does without a lock. Measured in a backlog through
/// RabbitMQ and Postgres: 120 µs of processor time for each delivery instead of 128.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long background work (a blocked read of stdin, say) may hold the end of the program up.
const LINGER: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    // The API and the worker start this program anew for each script that they compile, without any
    // configuration.
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == COMPILE_COMMAND)
        && arguments.next().is_none()
    {
        return compile_for_parent();
    }
    if let Some(code) = commands::bench::as_child(std::env::args_os().skip(1)) {
        return code;
    }
    let cli = cli::parse();
    let json = cli.asks_for_json();
    // Only fails when a provider is installed already, and then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(json),
    };
    let done = runtime.block_on(cli.run());
    runtime.shutdown_timeout(LINGER);
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}
