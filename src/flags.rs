//! Flags: the words that some take, and problems of the API in terms of flags. The API names
//! members; whoever typed flags wants to hear of flags.

use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, StringValueParser, TypedValueParser};

use crate::output::short;

/// Parses a flag that takes one of some words. Shells complete them, and help and errors list them.
pub(crate) fn word<T: Clone + Send + Sync + 'static>(
    words: impl IntoIterator<Item = &'static str>,
    parse: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    // The words are checked first, so the second error is only for a word that `parse` lacks.
    PossibleValuesParser::new(words)
        .try_map(move |word| parse(&word).ok_or_else(|| format!("{word} is not known")))
}

/// Parses a flag that takes a whole number; its error says which ones.
pub(crate) fn whole<T>(range: impl RangeBounds<u64>) -> impl TypedValueParser<Value = T>
where
    T: TryFrom<u64> + Clone + Send + Sync + 'static,
{
    let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
    let words = match bounds {
        (Bound::Included(least), Bound::Included(most)) => format!("from {least} to {most}"),
        (Bound::Included(least), _) => format!("of {least} or more"),
        _ => "of 0 or more".to_owned(),
    };
    StringValueParser::new().try_map(move |text| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("it must be a whole number {words}"))
    })
}

/// Members of the API and the flags that set them, where they are not called the same.
const NAMES: &[(&str, &str)] = &[
    ("timeout_ms", "--timeout"),
    ("rate_limit_per_second", "--rate-limit"),
    ("subscription.types", "--type"),
    ("subscription.phone_numbers", "--phone-number"),
    ("retry.delays_ms", "--delays"),
    ("retry.max_retries", "--max-retries"),
    ("overlap_seconds", "--overlap"),
    ("endpoint_id", "--endpoint"),
    ("notification_id", "--notification"),
    ("delay_seconds", "--delay"),
    ("ttl_seconds", "--ttl"),
    ("scopes", "--scope"),
];

/// Endings of members that are numbers of a unit, where the flag takes a duration.
const UNITS: &[(&str, Duration)] = &[
    ("_ms", Duration::from_millis(1)),
    ("_seconds", Duration::from_secs(1)),
];

/// Members whose flags have the same name, except that `_` is `-`.
const SAME: &[&str] = &[
    "url",
    "uid",
    "description",
    "wire_format",
    "max_in_flight",
    "tenant",
    "secret",
    "type",
    "payload",
    "recipient",
    "overrides",
    "priority",
    "id",
    "deliver_at",
    "expires_at",
    "status",
    "reason",
    "status_code",
    "hold",
    "since",
    "until",
    "limit",
    "name",
];

/// A problem's detail, such as `timeout_ms must be …; url is missing`, with flags in the place of
/// members.
pub(crate) fn named(detail: &str) -> String {
    detail
        .split("; ")
        .map(of_sentence)
        .collect::<Vec<_>>()
        .join("; ")
}

fn of_sentence(sentence: &str) -> String {
    let end = sentence.find(' ').unwrap_or(sentence.len());
    let (member, rest) = sentence.split_at(end);
    let Some(flag) = flag(member) else {
        return sentence.to_owned();
    };
    let bare = member.split('[').next().unwrap_or(member);
    let unit = UNITS.iter().find(|(ending, _)| bare.ends_with(ending));
    match unit {
        Some((_, unit)) => format!("{flag}{}", durations(rest, *unit)),
        None => format!("{flag}{rest}"),
    }
}

/// A text with its numbers, which are of a unit, as durations: they are what the flag takes.
fn durations(text: &str, unit: Duration) -> String {
    let of_unit = |number: u64| {
        let milliseconds = u64::try_from(unit.as_millis()).ok()?.checked_mul(number)?;
        Some(short(Duration::from_millis(milliseconds)))
    };
    let each = text.split(' ').map(|word| {
        let digits = word.trim_end_matches([',', ';', '.']);
        let shown = digits.parse().ok().and_then(of_unit);
        shown.map_or_else(
            || word.to_owned(),
            |shown| format!("{shown}{}", &word[digits.len()..]),
        )
    });
    each.collect::<Vec<_>>().join(" ")
}

fn flag(member: &str) -> Option<String> {
    if let Some(setting) = member.strip_prefix("settings.") {
        return Some(format!("--setting {setting}"));
    }
    if let Some(header) = member.strip_prefix("headers.") {
        return Some(format!("--header {header}"));
    }
    // An item of a list: subscription.types[0].
    let bare = member.split('[').next().unwrap_or(member);
    if let Some((_, flag)) = NAMES.iter().find(|(name, _)| *name == bare) {
        return Some((*flag).to_owned());
    }
    // What is beneath a member keeps its path: payload.content.
    let first = bare.split('.').next().unwrap_or(bare);
    let same = SAME
        .contains(&first)
        .then(|| format!("--{}", first.replace('_', "-")))?;
    let beneath = &member[first.len()..];
    Some(if beneath.is_empty() {
        same
    } else {
        format!("{same}: {}", beneath.trim_start_matches('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_become_flags() {
        for (detail, said) in [
            (
                "timeout_ms must be 1000 to 60000",
                "--timeout must be 1s to 60s",
            ),
            (
                "overlap_seconds must be 0 to 2592000",
                "--overlap must be 0s to 30d",
            ),
            (
                "retry.delays_ms[1] must be 1000 to 1500, not 7",
                "--delays must be 1s to 1500ms, not 7ms",
            ),
            (
                "url is missing; max_in_flight must be 1",
                "--url is missing; --max-in-flight must be 1",
            ),
            (
                "subscription.types[1] is not a pattern",
                "--type is not a pattern",
            ),
            ("settings.apiKey is missing", "--setting apiKey is missing"),
            (
                "payload.content must be a string",
                "--payload: content must be a string",
            ),
            ("there is no such endpoint", "there is no such endpoint"),
            (
                "it is being sent at this moment",
                "it is being sent at this moment",
            ),
        ] {
            assert_eq!(named(detail), said);
        }
    }
}
