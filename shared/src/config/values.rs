//! The raw texts of all settings, and reading them by their kind, within their bounds.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::{self, Kind};
use super::source::{Raw, Source, read_secret};
use super::value::{InvalidValue, parse_bytes, parse_duration, show_bytes, show_seconds};
use super::{ConfigError, DATABASE_FILE};
use crate::domain::secret::Secret;

/// Fewest characters of a key that people choose.
const MIN_KEY_CHARS: usize = 32;

/// The text of each setting that has one, and where it is from.
pub(super) struct Values(pub(super) BTreeMap<&'static str, Raw>);

impl Values {
    /// Without a URL the store is SQLite in the data directory.
    pub(super) fn fill_in_database(&mut self, data_dir: &Path) {
        let text = || format!("sqlite://{}", data_dir.join(DATABASE_FILE).display());
        self.0.entry("database_url").or_insert_with(|| Raw {
            text: text(),
            source: Source::Default,
        });
    }

    /// What `up` left in the data directory counts when nothing else was said.
    pub(super) fn fill_in_file(
        &mut self,
        key: &'static str,
        path: &Path,
    ) -> Result<(), ConfigError> {
        // A file that `up` left is the last resort: everything that somebody wrote down takes
        // precedence.
        if self.0.contains_key(key) || !path.exists() {
            return Ok(());
        }
        let source = Source::DataDirectory(path.to_owned());
        match read_secret(path) {
            Ok(text) => drop(self.0.insert(key, Raw { text, source })),
            // Belongs to another user: whoever needs the value hears that it is missing.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(error) => {
                let problem = format!("cannot be read: {error}");
                return Err(ConfigError::Invalid {
                    key,
                    from: source,
                    shown: None,
                    problem,
                });
            }
        }
        Ok(())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(|raw| raw.text.trim())
            // Set to nothing is not set: compose files and charts pass on variables that are empty.
            .filter(|text| !text.is_empty())
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// The error for a value of this setting.
    pub(super) fn invalid(&self, key: &'static str, problem: impl Into<String>) -> ConfigError {
        let raw = self.0.get(key);
        // An error goes to a terminal and to the log, where a key must not be.
        let secret = settings::find(key).is_some_and(|setting| setting.secret);
        let shown = raw.filter(|_| !secret).map(|raw| raw.text.clone());
        let source = raw.map_or(Source::Default, |raw| raw.source.clone());
        ConfigError::Invalid {
            key,
            from: source,
            shown,
            problem: problem.into(),
        }
    }

    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, InvalidValue>,
    ) -> Result<Option<T>, ConfigError> {
        self.text(key)
            .map(|text| parse(text).map_err(|error| self.invalid(key, error.0)))
            .transpose()
    }

    pub(super) fn require<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, InvalidValue>,
    ) -> Result<T, ConfigError> {
        self.optional(key, parse)?
            .ok_or_else(|| self.invalid(key, "must be set"))
    }

    pub(super) fn duration(&self, key: &'static str) -> Result<Duration, ConfigError> {
        self.optional_duration(key)?
            .ok_or_else(|| self.invalid(key, "must be set"))
    }

    pub(super) fn optional_duration(
        &self,
        key: &'static str,
    ) -> Result<Option<Duration>, ConfigError> {
        let bounds = match settings::find(key).map(|setting| setting.kind) {
            Some(Kind::Duration {
                min_seconds,
                max_seconds,
            }) => min_seconds..=max_seconds,
            _ => 0..=u64::MAX,
        };
        self.optional(key, |text| {
            let duration = parse_duration(text)?;
            let fits = duration >= Duration::from_secs(*bounds.start())
                && duration <= Duration::from_secs(*bounds.end());
            let least = show_seconds(*bounds.start());
            let most = show_seconds(*bounds.end());
            if fits {
                Ok(duration)
            } else {
                Err(InvalidValue(format!("must be {least} to {most}")))
            }
        })
    }

    pub(super) fn bytes(&self, key: &'static str) -> Result<usize, ConfigError> {
        self.require(key, |text| {
            let bounds = bounds_of(key);
            let bytes = parse_bytes(text)?;
            let least = show_bytes(*bounds.start());
            let most = show_bytes(*bounds.end());
            let fitting = usize::try_from(bytes)
                .ok()
                .filter(|_| bounds.contains(&bytes));
            fitting.ok_or_else(|| InvalidValue(format!("must be {least} to {most}")))
        })
    }

    pub(super) fn integer<T: TryFrom<u64>>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        self.optional(key, |text| {
            let bounds = bounds_of(key);
            let number = text
                .parse::<u64>()
                .ok()
                .filter(|number| bounds.contains(number));
            let wrong = || {
                InvalidValue(format!(
                    "must be a whole number from {} to {}",
                    bounds.start(),
                    bounds.end()
                ))
            };
            number
                .and_then(|number| T::try_from(number).ok())
                .ok_or_else(wrong)
        })
    }

    pub(super) fn require_integer<T: TryFrom<u64>>(
        &self,
        key: &'static str,
    ) -> Result<T, ConfigError> {
        self.integer(key)?
            .ok_or_else(|| self.invalid(key, "must be set"))
    }

    /// A limit, of which 0 says that there is none.
    pub(super) fn limit<T: TryFrom<u64> + PartialEq>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        // 0 is no limit, and not a limit of none: nobody sets that, and as a default it would stop
        // everything.
        let limit: u64 = self.require_integer(key)?;
        if limit == 0 {
            Ok(None)
        } else {
            self.integer(key)
        }
    }

    pub(super) fn key(&self, key: &'static str) -> Result<Option<Secret>, ConfigError> {
        self.optional(key, |text| {
            // Characters of anything, since it is not known what somebody's generator makes; 32 of
            // hex digits are 128 bits.
            let long = text.chars().count() >= MIN_KEY_CHARS;
            let wrong =
                "must have at least 32 characters; generate one with `openssl rand -base64 32`";
            if long {
                Ok(Secret::new(text))
            } else {
                Err(InvalidValue(wrong.to_owned()))
            }
        })
    }
}

fn bounds_of(key: &str) -> RangeInclusive<u64> {
    match settings::find(key).map(|setting| setting.kind) {
        Some(Kind::Bytes { min, max } | Kind::Integer { min, max }) => min..=max,
        _ => 0..=u64::MAX,
    }
}

/// The word of a [`Kind::Choice`] that the text is.
pub(super) fn choice(key: &'static str) -> impl Fn(&str) -> Result<&'static str, InvalidValue> {
    move |text| {
        let words = match settings::find(key).map(|setting| setting.kind) {
            Some(Kind::Choice(words)) => words,
            _ => &[],
        };
        let wrong = || InvalidValue(format!("must be {}", words.join(" or ")));
        words
            .iter()
            .copied()
            .find(|word| *word == text)
            .ok_or_else(wrong)
    }
}
