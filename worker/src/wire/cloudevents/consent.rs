//! The abuse protection of `CloudEvents`' webhook rules: may we deliver to this receiver, and how
//! fast?

use std::time::Duration;

use http::Method;
use posthaste_shared::domain::attempt::AttemptError;
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::time::Timestamp;
use url::Url;

use super::super::{Grant, Header, Preflight, Reply, status};
use crate::wire::outcome::Outcome;

/// Who asks, and later delivers.
const ORIGIN: &str = "WebHook-Request-Origin";
/// How long a consent is held before it is asked for again.
const LASTS: Duration = Duration::from_secs(3600);
/// In an error's text.
const WHAT: &str = "the request for consent";

/// The request for consent.
pub(super) fn question(url: &Url, origin: &str, rate: Option<u32>) -> Preflight {
    let mut headers = vec![Header::open(ORIGIN, origin)];
    headers.extend(rate.map(|rate| Header::open("WebHook-Request-Rate", rate.to_string())));
    Preflight {
        what: WHAT,
        method: Method::OPTIONS,
        url: url.clone(),
        headers,
        kept: true,
    }
}

/// Reads the answer. A status says nothing by itself, but where a failure that may pass brings no
/// word of consent, it is asked for again.
pub(super) fn read(
    origin: &str,
    asked: Option<u32>,
    reply: &Reply,
    now: Timestamp,
) -> Result<Grant, Outcome> {
    let allowed = values(reply, "webhook-allowed-origin");
    // Whatever the status is: consent is in the header alone, and not every receiver answers
    // OPTIONS with a 2xx.
    if allowed
        .iter()
        .any(|allowed| *allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    {
        let rate_per_second = rate(reply, asked).map(|rate| f64::from(rate) / 60.0);
        return Ok(Grant {
            headers: vec![Header::open(ORIGIN, origin)],
            lasts: LASTS,
            rate_per_second,
        });
    }
    match status::classify(reply, now) {
        // A 503 without the header says nothing about consent. One that names another origin does.
        passing @ Outcome::Transient { .. } if allowed.is_empty() => Err(passing.about(WHAT)),
        _ => Err(refused(origin, &allowed, reply.status)),
    }
}

/// In requests a minute. Where it does not say, or says something that is not a rate, the one that
/// was asked for.
fn rate(reply: &Reply, asked: Option<u32>) -> Option<u32> {
    match values(reply, "webhook-allowed-rate").first() {
        Some(&"*") => None,
        // What cannot be read, and zero, would mean no deliveries at all; the rate that was asked
        // for is the nearest to what was meant.
        Some(text) => text.parse().ok().filter(|rate| *rate > 0).or(asked),
        None => asked,
    }
}

fn refused(origin: &str, allowed: &[&str], status: u16) -> Outcome {
    let said = match allowed {
        [] => "has no WebHook-Allowed-Origin".to_owned(),
        // Somebody else's text: not more of it than a DNS name has.
        some => format!(
            "allows {:?}, not {origin}",
            some.join(", ").chars().take(253).collect::<String>()
        ),
    };
    let text = format!("the endpoint gave no consent: its answer {status} to OPTIONS {said}");
    let error = AttemptError {
        code: "no_consent".to_owned(),
        text,
    };
    Outcome::Refused {
        reason: FailureReason::Rejected,
        error,
        provider_error_code: None,
    }
}

fn values<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply
        .headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::trim)
        .collect()
}

/// Whether a text is a DNS name: labels of letters, digits and hyphens, at most 253 characters.
pub(super) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    text.len() <= 253 && text.split('.').all(label)
}
