//! `posthaste asyncapi`: the specification of what goes over the broker.

use std::process::ExitCode;

use posthaste_shared::config::Profile;

use crate::failure::Done;
use crate::global::{Global, ServiceFlags};

/// Prints it as JSON, with the names that the configuration gives to exchanges and queues.
pub(crate) fn run(global: &Global, args: &ServiceFlags) -> Done {
    let config = global.start(Profile::Tool, args.settings())?;
    global
        .output()
        .document(&posthaste_producer::asyncapi::asyncapi(
            &config.broker.name_prefix,
        ))?;
    Ok(ExitCode::SUCCESS)
}
