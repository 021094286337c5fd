//! `posthaste migrate`: brings the store's schema up to date.

use std::process::ExitCode;

use clap::Args;
use posthaste_shared::config::{Config, Profile};
use serde_json::json;

use crate::connect;
use crate::failure::Done;
use crate::global::{Global, ServiceFlags};
use crate::output::waiting;

/// Bring the store's schema up to date. Safe while other processes run, and when several do it at
/// once.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    service: ServiceFlags,
}

/// Migrates and says from which version to which.
pub(crate) async fn run(global: &Global, args: MigrateArgs) -> Done {
    let config = global.start(Profile::Tool, args.service.settings())?;
    let database = shown_database(&config);
    let waiting = waiting(format!("opening {database}"));
    let store = connect::store(&config).await?;
    // A new index on a large table takes minutes, and says nothing of how far it is.
    waiting.now(format!("migrating the schema of {database}"));
    let done = store.migrate().await.map_err(connect::explained)?;
    store.close().await;
    drop(waiting);
    let output = global.output();
    if output.json {
        output.document(&json!({"from": done.from, "to": done.to, "database": database}))?;
    } else if done.from == done.to {
        output.line(format_args!(
            "The schema of {database} is up to date (version {}).",
            done.to
        ))?;
    } else {
        output.line(format_args!(
            "Migrated {database} from schema version {} to {}.",
            done.from, done.to
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The store's URL, without its password.
fn shown_database(config: &Config) -> String {
    let setting = config
        .effective()
        .iter()
        .find(|setting| setting.key == "database_url");
    setting
        .map(|setting| setting.shown.clone())
        .unwrap_or_default()
}
