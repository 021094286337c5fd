//! Logs: to stderr, as lines for people or as JSON objects. Called once, at the start of the
//! program.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogConfig, LogFormat, log_filter};

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error("the log filter {filter:?} {problem}")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Somebody installed a logger before.
    #[error("logging was started twice")]
    Twice,
}

/// Starts logging. Colours only on a terminal, and not when `NO_COLOR` is set.
///
/// # Errors
/// [`LoggingError`]: a filter that cannot be read, or a second call.
pub fn init(log: &LogConfig) -> Result<(), LoggingError> {
    let filter = log_filter::parse(&log.filter).map_err(|problem| LoggingError::Filter {
        filter: log.filter.clone(),
        problem,
    })?;
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = std::io::stderr().is_terminal() && !no_colour;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Else it would print that it cannot print, and panic over that: with a full disk behind
        // stderr, say.
        .log_internal_errors(false)
        .with_ansi(colours);
    let started = match log.format {
        LogFormat::Text => builder.finish().with(filter_fn(is_harmless)).try_init(),
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(true);
            builder.finish().with(filter_fn(is_harmless)).try_init()
        }
    };
    started.map_err(|_| LoggingError::Twice)
}

/// Whether an event may be logged at all, whatever the filter says: the AMQP client logs its
/// credentials at trace level, and returned messages with their payload.
fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    !(target.starts_with("lapin")
        && (*metadata.level() == Level::TRACE || target.contains("returned_messages")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_an_error_and_no_panic() {
        assert_eq!(
            log_filter::problem_of("info,lapin=warn,posthaste_worker=debug"),
            None
        );
        assert!(log_filter::problem_of("posthaste=loud").is_some());
        assert!(log_filter::problem_of("verbose").is_some());
        assert!(log_filter::problem_of("info,posthaste").is_some());
        assert!(log_filter::problem_of("a=b=c").is_some());
    }
}
