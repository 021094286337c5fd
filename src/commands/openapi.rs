//! `posthaste openapi`: the specification of the HTTP API.

use std::process::ExitCode;

use crate::failure::Done;
use crate::global::Global;

/// Prints it as JSON.
pub(crate) fn run(global: &Global) -> Done {
    global
        .output()
        .document(&posthaste_producer::http::openapi())?;
    Ok(ExitCode::SUCCESS)
}
