//! `posthaste key rotate-master`: encrypts everything in the store with a new master key.

use std::process::ExitCode;

use posthaste_shared::config::Profile;
use posthaste_shared::store::Store;
use posthaste_shared::store::master_key::{Pass, Renewed, SETTLED_AFTER};
use serde_json::json;
use tokio::time::Instant;

use crate::connect;
use crate::failure::{Done, Failure};
use crate::global::{Global, ServiceFlags};
use crate::job::{TELL, interrupt, say};

/// Does it, and says how much there was to do.
pub(crate) async fn run(global: &Global, service: &ServiceFlags) -> Done {
    let config = global.start(Profile::Tool, service.settings())?;
    if config.master_key.is_none() || config.previous_master_key.is_none() {
        return Err(Failure::wrong_use(
            "both keys are needed: POSTHASTE_MASTER_KEY, the new one, and \
             POSTHASTE_MASTER_KEY_PREVIOUS",
        )
        .hint("give both to every process first: see docs/operating.md, `The master key`"));
    }
    let store = connect::migrated_store(&config).await?;
    let interrupted = interrupt()?;
    let renewed = tokio::select! {
        renewed = rotate(&store) => renewed?,
        () = interrupted => {
            return Err(Failure::interrupted("stopped: some secrets may still be encrypted with \
                the old key")
                .hint("keep both keys; run it again to go on"));
        }
    };
    store.close().await;
    report(global, &renewed)
}

/// Passes over everything until one that began late enough finds nothing of the old key.
async fn rotate(store: &Store) -> Result<Renewed, Failure> {
    store.begin_with_configured_key().await?;
    let begun = Instant::now();
    let mut sum = Renewed::default();
    let mut told = Instant::now();
    loop {
        let settled = begun.elapsed() >= SETTLED_AFTER;
        let mut pass = Pass::default();
        while !store.renew_step(&mut pass).await? {
            if told.elapsed() >= TELL {
                told = Instant::now();
                say(&format!("{} rows looked at", pass.done.looked_at))?;
            }
        }
        let found = pass.done;
        for (what, count) in &found.renewed {
            *sum.renewed.entry(what).or_default() += count;
        }
        (sum.looked_at, sum.unreadable) = (found.looked_at, found.unreadable);
        if settled && found.renewed.is_empty() {
            return Ok(sum);
        }
        if !settled {
            say("waiting until every process writes with the new key")?;
            tokio::time::sleep_until(begun + SETTLED_AFTER).await;
        }
    }
}

fn report(global: &Global, renewed: &Renewed) -> Done {
    let output = global.output();
    if output.json {
        let counts = json!({
            "renewed": renewed.renewed,
            "looked_at": renewed.looked_at,
            "unreadable": renewed.unreadable,
        });
        output.document(&counts)?;
    } else {
        let counts: Vec<String> = renewed
            .renewed
            .iter()
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        let counts = if counts.is_empty() {
            "nothing was left to do".to_owned()
        } else {
            counts.join(", ")
        };
        output.line(format_args!(
            "Everything in the store is encrypted with the new key ({counts}). Now take \
             POSTHASTE_MASTER_KEY_PREVIOUS \
             away from every process."
        ))?;
    }
    if renewed.unreadable > 0 {
        let message = format!(
            "{} rows can be read with neither key: they stay as they are",
            renewed.unreadable
        );
        return Err(Failure::new(message).hint("posthaste doctor; the log of a worker names them"));
    }
    Ok(ExitCode::SUCCESS)
}
