//! How a process that goes on running ends: on a signal, or when it must not go on.

use std::process::ExitCode;
use std::time::Duration;

use posthaste_shared::config::Config;
use posthaste_shared::store::cipher::CipherError;
use posthaste_worker::worker::{Stopped, Worker};
use tokio::task::JoinHandle;

use crate::failure::{Done, Failure};
use crate::master_key;
use crate::service::Node;

/// Returns at SIGTERM or SIGINT. From then on a second one ends the process at once.
async fn until_signal() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    crate::systemd::stopping();
    tracing::info!("stopping; a second signal stops at once");
    // Once tokio has a handler for a signal, the default action does not come back: without
    // somebody who waits, a second Ctrl-C would be swallowed.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // 128 + SIGINT, as shells report it.
        std::process::exit(130);
    });
    Ok(())
}

/// Why a process ends in good order.
pub(crate) struct End(Option<Failure>);

impl End {
    /// What the command returns when all is stopped.
    pub(crate) fn done(self) -> Done {
        self.0.map_or(Ok(ExitCode::SUCCESS), Err)
    }
}

/// Returns when the process is to end: at SIGTERM or SIGINT, or when the store's master key is
/// another one now.
///
/// # Errors
/// The signals cannot be waited for.
pub(crate) async fn until_told(config: &Config, node: &Node) -> Result<End, Failure> {
    tokio::select! {
        told = until_signal() => told.map(|()| End(None)),
        error = master_key::until_changed(config, &node.services.store) => {
            tracing::error!(%error, "stopping");
            crate::systemd::stopping();
            let why = match error {
                CipherError::NoKey => "the store has secrets now, and this process no master key",
                _ => "the store's master key was changed, and this process has the old one alone",
            };
            let failure = Failure::new(format!("{why}: it stopped"));
            Ok(End(Some(failure.hint(
                "start it with the POSTHASTE_MASTER_KEY that the other processes have. Nothing is \
                 lost",
            ))))
        }
    }
}

/// [`until_told`]; an error when the worker ended by itself before.
pub(crate) async fn until_told_or_failure(
    config: &Config,
    node: &Node,
    worker: &mut Worker,
) -> Result<End, Failure> {
    tokio::select! {
        told = until_told(config, node) => told,
        () = worker.failed() => {
            let failure = Failure::new("a part of the worker ended by itself; the log above says \
                                        why");
            Err(failure.hint("nothing is lost: start it again, and please report this as a bug of \
                              Posthaste"))
        }
    }
}

/// Ends a worker and says how it went.
pub(crate) async fn stop_worker(worker: Worker, grace: Duration) {
    match worker.stop(grace).await {
        Stopped::Drained => tracing::info!("stopped; everything in flight was finished"),
        Stopped::CutOff(count) => {
            tracing::warn!(
                count,
                "stopped; deliveries were cut off after the grace period and are attempted again"
            );
        }
    }
}

/// Waits for a server to end its last requests, or another task of the process its last step, but
/// not for long.
pub(crate) async fn stop_server(server: JoinHandle<()>, grace: Duration) {
    // Dropping a handle lets its task go on, so a server that does not end has to be aborted.
    let abort = server.abort_handle();
    if tokio::time::timeout(grace, server).await.is_err() {
        abort.abort();
    }
}
