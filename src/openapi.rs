//! `posthaste openapi`: the specification of the HTTP API.

use std::process::ExitCode;

use crate::failure::Done;
use crate::global::Global;

/// Prints it as JSON.
pub(crate) fn run(global: &Global) -> Done {
    global.output().line(posthaste_producer::http::openapi().to_pretty_json()?)?;
    Ok(ExitCode::SUCCESS)
}
