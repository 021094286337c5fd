//! `posthaste asyncapi`: the specification of what goes over the broker.

use std::process::ExitCode;

use crate::failure::Done;
use crate::global::Global;

/// Prints it as JSON.
pub(crate) fn run(global: &Global) -> Done {
    global.output().document(&posthaste_producer::asyncapi::asyncapi())?;
    Ok(ExitCode::SUCCESS)
}
