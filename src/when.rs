//! Times as they are written on the command line.

use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::config::value::parse_duration;
use posthaste_shared::domain::time::Timestamp;

/// A time: RFC 3339, or how long ago it was (`90s`, `2h`, `7d`).
pub(crate) fn past(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(SystemClock.now().before(ago));
    }
    Timestamp::parse(text).map_err(|_| {
        "must be a time (2026-01-31T12:00:00Z) or how long ago (90s, 2h, 7d)".to_owned()
    })
}

/// A time to come: RFC 3339, or how far ahead it is (`12h`, `90d`).
pub(crate) fn future(text: &str) -> Result<Timestamp, String> {
    let now = SystemClock.now();
    let at = match parse_duration(text) {
        Ok(ahead) => now.after(ahead),
        Err(_) => Timestamp::parse(text).map_err(|_| {
            "must be a time (2027-01-31T12:00:00Z) or how far ahead it is (12h, 90d)".to_owned()
        })?,
    };
    if at > Timestamp::MAX {
        Err("must be before the year 10000".to_owned())
    } else if at > now {
        Ok(at)
    } else {
        Err("must be later than now".to_owned())
    }
}

/// A time in RFC 3339.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|error| error.to_string())
}

/// A duration such as `5s`.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}
