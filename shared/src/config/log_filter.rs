//! Filters of the log, such as `info,posthaste_worker=debug`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

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
    // A bare word is taken for the name of a part, and then nothing else is logged.
    if let Some(word) = filter
        .split(',')
        .map(str::trim)
        .find(|it| !is_directive(it))
    {
        return Err(format!(
            "has {word:?}, which is no level: write error, warn, info, debug, trace or off, and \
             for a part {word}=debug"
        ));
    }
    EnvFilter::builder().parse(filter).map_err(|error| {
        format!(
            "cannot be read ({error}): write a level (info) or levels for parts \
                 (info,posthaste_worker=debug)"
        )
    })
}

fn is_directive(text: &str) -> bool {
    text.is_empty() || text.contains(['=', '[']) || text.parse::<LevelFilter>().is_ok()
}
