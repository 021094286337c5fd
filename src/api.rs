//! `posthaste api`: the HTTP API alone.

use clap::Args;

use crate::failure::{Done, Failure};
use crate::global::{Global, ServiceFlags};

/// Run the HTTP API.
#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    /// Address of the API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Separate address for health checks and metrics [default: the API's]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<String>,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,
}

/// Runs until it is told to stop.
pub(crate) async fn run(_global: &Global, _args: ApiArgs) -> Done {
    Err(Failure::new("todo"))
}
