//! `posthaste api`: the HTTP API alone.

use std::time::Duration;

use clap::Args;
use posthaste_shared::config::Profile;
use tokio_util::sync::CancellationToken;

use crate::ending;
use crate::failure::Done;
use crate::global::{Global, ServiceFlags};
use crate::service::{self, Node, Schema};
use crate::systemd;

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
pub(crate) async fn run(global: &Global, args: ApiArgs) -> Done {
    let mut flags = args.service.settings();
    flags.extend(args.listen.map(|address| ("listen", address)));
    flags.extend(
        args.metrics_listen
            .map(|address| ("metrics_listen", address)),
    );
    let config = global.start(Profile::Api, flags)?;
    let node = Node::open(&config, Schema::Check, "api").await?;
    let shutdown = CancellationToken::new();
    let servers = service::serve_api(&node, &config, &shutdown).await?;
    let redriver = node.start_redriver(shutdown.clone());
    let _ready = systemd::ready();
    let end = ending::until_told(&config, &node).await?;
    shutdown.cancel();
    for server in servers.tasks {
        ending::stop_server(server, config.shutdown_grace).await;
    }
    ending::stop_server(redriver, Duration::from_secs(5)).await;
    node.close().await;
    end.done()
}
