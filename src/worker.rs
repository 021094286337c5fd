//! `posthaste worker`: a delivery worker alone.

use clap::Args;

use crate::failure::{Done, Failure};
use crate::global::{Global, ServiceFlags};

/// Run a delivery worker. Start as many as you like, on as many machines.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// Address of health checks and metrics [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// The most attempts under way at once [default: 1024]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,
}

/// Runs until it is told to stop.
pub(crate) async fn run(_global: &Global, _args: WorkerArgs) -> Done {
    Err(Failure::new("todo"))
}
