//! Values as they are written: durations (`10s`, `1h30m`), sizes (`1MiB`), numbers.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::id::TenantId;

/// What is wrong with a value and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(pub(super) String);

/// Units of durations, in microseconds, the longer spelling of a common beginning first.
const DURATION_UNITS: [(&str, f64); 5] = [
    ("ms", 1e3),
    ("d", 86_400e6),
    ("h", 3_600e6),
    ("m", 60e6),
    ("s", 1e6),
];

/// Parses a duration such as `500ms`, `10s`, `1.5h`, `1h30m` or `5d`.
///
/// # Errors
/// What to write.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidValue> {
    let wrong = || InvalidValue("must be a duration such as 500ms, 10s, 5m, 24h or 30d".to_owned());
    let mut rest = text.trim();
    let mut micros = 0.0_f64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            // A number without a unit is refused: milliseconds or seconds would be a guess.
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = &rest[digits..];
        let unit = DURATION_UNITS
            .iter()
            .find(|(unit, _)| after.starts_with(unit))
            .ok_or_else(wrong)?;
        micros += number * unit.1;
        rest = &after[unit.0.len()..];
    }
    Duration::try_from_secs_f64(micros / 1e6).map_err(|_| wrong())
}

/// The units of sizes, in bytes.
const BYTE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Parses a number of bytes such as `1048576` or `1MiB`.
///
/// # Errors
/// What to write.
pub fn parse_bytes(text: &str) -> Result<u64, InvalidValue> {
    let text = text.trim();
    let unit = BYTE_UNITS
        .iter()
        // In the table's order, with `B` last: each of the others ends with it.
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1));
    let wrong =
        || InvalidValue("must be a number of bytes such as 1048576, 512KiB or 16MiB".to_owned());
    number
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(wrong)
}

/// Parses `true` or `false` (also `yes`, `no`, `on`, `off`, `1`, `0`).
///
/// # Errors
/// What to write.
pub fn parse_bool(text: &str) -> Result<bool, InvalidValue> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(InvalidValue("must be true or false".to_owned())),
    }
}

/// The bounds of a tenant's weight.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// Parses the weights of tenants, such as `acme=3, beta=0.5`.
///
/// # Errors
/// What to write.
pub fn tenant_weights(text: &str) -> Result<HashMap<TenantId, f64>, InvalidValue> {
    let mut weights = HashMap::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let read = part.split_once('=').and_then(|(tenant, weight)| {
            let tenant = TenantId::parse(tenant.trim()).ok()?;
            let weight = weight.trim().parse::<f64>().ok()?;
            WEIGHTS.contains(&weight).then_some((tenant, weight))
        });
        let Some((tenant, weight)) = read else {
            return Err(InvalidValue(format!(
                "must be a list such as acme=3, beta=0.5, with weights from 0.01 to 100; \
                 `{part}` is not `tenant=weight`"
            )));
        };
        if weights.insert(tenant, weight).is_some() {
            return Err(InvalidValue(format!("names the tenant of `{part}` twice")));
        }
    }
    Ok(weights)
}

/// The URLs of a list such as `amqp://a/,amqp://b/`. A comma that no `amqp://` or `amqps://`
/// follows belongs to the URL before it: passwords may have commas.
#[must_use]
pub fn amqp_urls(text: &str) -> Vec<String> {
    let mut urls: Vec<String> = Vec::new();
    for part in text.split(',') {
        let begins = ["amqp://", "amqps://"]
            .iter()
            .any(|scheme| part.trim_start().starts_with(scheme));
        match urls.last_mut() {
            // A comma may be part of a password. Only one that a scheme follows separates two URLs.
            Some(last) if !begins => {
                last.push(',');
                last.push_str(part);
            }
            _ => urls.push(part.to_owned()),
        }
    }
    urls.into_iter().map(|url| url.trim().to_owned()).collect()
}

/// A duration as a person would write it: its largest whole unit.
#[must_use]
pub fn show_seconds(seconds: u64) -> String {
    match seconds {
        0 => "0s".to_owned(),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// A size as a person would write it.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => b.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5h", 5_400_000),
            ("1h30m", 5_400_000),
            ("5d", 432_000_000),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for text in ["", "10", "s", "10 s", "-1s", "1.2.3s", "5y"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_of_urls() {
        assert_eq!(amqp_urls("amqp://a"), ["amqp://a"]);
        assert_eq!(
            amqp_urls("amqp://u:p,q@a/v , amqps://b/v"),
            ["amqp://u:p,q@a/v", "amqps://b/v"]
        );
        assert_eq!(amqp_urls("amqp://a,b"), ["amqp://a,b"]);
        assert_eq!(amqp_urls("amqp://a,"), ["amqp://a,"]);
        assert_eq!(amqp_urls("x,amqp://a"), ["x", "amqp://a"]);
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("1MiB").unwrap(), 1 << 20);
        assert_eq!(parse_bytes("2 kB").unwrap(), 2000);
        assert_eq!(parse_bytes("77").unwrap(), 77);
        assert!(parse_bytes("1.5MiB").is_err());
        assert!(parse_bytes("99999999999GiB").is_err());
        assert_eq!(show_bytes(16 << 20), "16MiB");
        assert_eq!(show_seconds(5 * 86_400), "5d");
    }
}
