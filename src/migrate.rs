//! `posthaste migrate`: brings the store's schema up to date.

use std::process::ExitCode;

use clap::Args;
use posthaste_shared::config::Profile;
use serde_json::json;

use crate::connect;
use crate::failure::Done;
use crate::global::{Global, ServiceFlags};

/// Bring the store's schema up to date. Safe while other processes run, and when several do it at once.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    service: ServiceFlags,
}

/// Migrates and says from which version to which.
pub(crate) async fn run(global: &Global, args: MigrateArgs) -> Done {
    let config = global.start(Profile::Tool, args.service.settings())?;
    let store = connect::store(&config).await?;
    let done = store.migrate().await?;
    store.close().await;
    let output = global.output();
    if output.json {
        output.document(&json!({"from": done.from, "to": done.to}))?;
    } else if done.from == done.to {
        output.line(format_args!("The schema is up to date (version {}).", done.to))?;
    } else {
        output.line(format_args!("Migrated the schema from version {} to version {}.", done.from, done.to))?;
    }
    Ok(ExitCode::SUCCESS)
}
