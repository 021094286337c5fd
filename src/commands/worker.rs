//! `posthaste worker`: a delivery worker alone.

use std::time::Duration;

use clap::Args;
use posthaste_shared::config::Profile;
use tokio_util::sync::CancellationToken;

use crate::ending;
use crate::failure::Done;
use crate::flags::whole;
use crate::global::{Global, ServiceFlags};
use crate::service::{self, Node, Schema};
use crate::serving::{Limits, serve};
use crate::systemd;

/// Run a delivery worker. Start as many as you like, on as many machines.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// Address of health checks and metrics [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// The most attempts under way at once [default: 1024]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=65_536))]
    pub(crate) slots: Option<u32>,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,
}

/// Runs until it is told to stop.
pub(crate) async fn run(global: &Global, args: WorkerArgs) -> Done {
    let mut flags = args.service.settings();
    flags.extend(args.listen.map(|address| ("listen", address)));
    flags.extend(args.slots.map(|slots| ("worker_slots", slots.to_string())));
    let config = global.start(Profile::Worker, flags)?;
    let node = Node::open(&config, Schema::Check, "worker").await?;
    let shutdown = CancellationToken::new();
    let listener = service::listen("--listen", config.listen).await?;
    tracing::info!(
        "listening on http://{} for health and metrics",
        listener.local_addr()?
    );
    let server = serve(
        listener,
        node.operations(),
        Limits::OPERATIONS,
        shutdown.clone(),
    );
    let mut worker = node.start_worker(&config, service::worker_name()).await?;
    let redriver = node.start_redriver(shutdown.clone());
    let _ready = systemd::ready();
    let end = ending::until_told_or_failure(&config, &node, &mut worker).await?;
    ending::stop_worker(worker, config.shutdown_grace).await;
    shutdown.cancel();
    ending::stop_server(server, Duration::from_secs(1)).await;
    ending::stop_server(redriver, Duration::from_secs(5)).await;
    node.close().await;
    end.done()
}
