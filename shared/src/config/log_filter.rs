//! Filters of the log, such as `info,posthaste_worker=debug`.

use tracing_subscriber::EnvFilter;

/// What is wrong with a filter and what to write; `None` when it is good.
#[must_use]
pub(crate) fn problem_of(filter: &str) -> Option<String> {
    parse(filter).err()
}

/// Reads a filter.
///
/// # Errors
/// What is wrong with it and what to write.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(filter).map_err(|error| {
        format!(
            "cannot be read ({error}): write a level (info) or levels for parts \
                 (info,posthaste_worker=debug)"
        )
    })
}
