//! Points in time: UTC, to the microsecond (what both databases keep), RFC 3339 in JSON.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is not a time.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not an RFC 3339 time such as 2026-01-31T12:00:00Z, up to the year 9999")]
pub struct InvalidTimestamp {
    text: String,
}

impl Timestamp {
    /// The last time that RFC 3339 can write, 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// From microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Parses RFC 3339, with any offset, up to the end of the year 9999 in UTC.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] when the text is none, or a later time.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let invalid = || InvalidTimestamp {
            // It goes into an error and a log line, and came from outside: its length is not ours.
            text: text.chars().take(64).collect(),
        };
        match text.parse::<jiff::Timestamp>() {
            Ok(parsed) => Ok(Self(parsed.as_microsecond())),
            Err(_) => last_hours(text)
                .filter(|time| *time <= Self::MAX)
                .ok_or_else(invalid),
        }
    }

    /// The time `duration` later; stays at the end of time instead of overflowing.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// The time `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            // The last hours of the year 9999, which `jiff::Timestamp` keeps free for offsets.
            Err(_) => match EPOCH.checked_add(jiff::SignedDuration::from_micros(self.0)) {
                Ok(utc) => write!(f, "{utc}Z"),
                Err(_) => write!(f, "{} µs after 1970", self.0),
            },
        }
    }
}

const EPOCH: jiff::civil::DateTime = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);

/// A time in the last hours of the year 9999, which `jiff::Timestamp` does not reach.
fn last_hours(text: &str) -> Option<Timestamp> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    let local = pieces.date().to_datetime(pieces.time()?);
    let offset = pieces.to_numeric_offset()?;
    let since_epoch =
        // In 128 bits, which no offset can overflow.
        local.duration_since(EPOCH).as_micros() - i128::from(offset.seconds()) * 1_000_000;
    i64::try_from(since_epoch).ok().map(Timestamp)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `&str`: a text with escapes cannot be borrowed, and serde_json would refuse it.
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(
                utoipa::openapi::KnownFormat::DateTime,
            )))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc_3339() {
        let time = Timestamp::parse("2026-01-01T01:00:00.25+01:00").unwrap();
        assert_eq!(time.to_string(), "2026-01-01T00:00:00.25Z");
        assert_eq!(time.as_seconds(), 1_767_225_600);
        assert!(Timestamp::parse("tomorrow").is_err());
    }

    #[test]
    fn the_year_9999_is_the_last() {
        for text in [
            "9999-12-30T22:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999999Z");
        let ahead = Timestamp::parse("9999-12-31T23:59:59+02:00").unwrap();
        assert_eq!(ahead.to_string(), "9999-12-31T21:59:59Z");
        for text in [
            "9999-12-31T23:59:59-00:01",
            "10000-01-01T00:00:00Z",
            "+010000-01-01T00:00:00Z",
        ] {
            let error = Timestamp::parse(text).unwrap_err().to_string();
            assert!(error.contains("up to the year 9999"), "{error}");
        }
        let first = Timestamp::parse("0001-01-01T00:00:00Z").unwrap();
        assert_eq!(first.to_string(), "0001-01-01T00:00:00Z");
    }
}
