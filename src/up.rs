//! `posthaste up`: API, worker and scheduler in one process.

use clap::Args;

use crate::failure::{Done, Failure};
use crate::global::{Global, ServiceFlags};

/// Run everything in one process, on an embedded store and queue.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  posthaste up --demo\n  posthaste up --listen 127.0.0.1:8080 --data-dir ./posthaste-data"
)]
pub(crate) struct UpArgs {
    /// Address of the API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Show what Posthaste does: start a receiver, send notifications to it, print what became of them, then go on serving
    #[arg(long)]
    pub(crate) demo: bool,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,
}

/// Runs until it is told to stop.
pub(crate) async fn run(_global: &Global, _args: UpArgs) -> Done {
    Err(Failure::new("todo"))
}
