//! `posthaste console`: a link that signs in to the web console.

use std::process::{ExitCode, Stdio};

use clap::Args;
use posthaste_producer::http::body::ConsoleLink;
use serde_json::json;

use crate::failure::Done;
use crate::global::{ClientFlags, Global};
use crate::output::tell;

/// Print a link that signs in to the web console once, within 10 minutes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  posthaste console --open")]
pub(crate) struct ConsoleArgs {
    /// Open it in the browser as well
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    client: ClientFlags,
}

/// Creates the link and prints it.
pub(crate) async fn run(global: &Global, args: ConsoleArgs) -> Done {
    let client = global.client(&args.client)?;
    let link: ConsoleLink = client.post(&["v1", "console-links"], &json!({})).await?;
    let base = client.url().as_str().trim_end_matches('/');
    let url = format!("{base}{}", link.path);
    let output = global.output();
    if output.json {
        output.document(&json!({ "url": url, "expires_at": link.expires_at }))?;
    } else {
        output.line(format_args!("{url}"))?;
    }
    if args.open && !open(&url) {
        tell("No browser could be opened: follow the link by hand.")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the browser with the link. Not by default: while it starts, the link is in the list of
/// processes, which others on this machine can read.
fn open(url: &str) -> bool {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    std::process::Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
