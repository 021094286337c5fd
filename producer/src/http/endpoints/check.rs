//! The rules of an endpoint's members, whoever wrote them: all that are broken are named at once.

use std::time::Duration;

use posthaste_shared::domain::endpoint::{Endpoint, MAX_IN_FLIGHT, TIMEOUT_MS};
use posthaste_shared::domain::header;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::view::REDACTED;
use posthaste_shared::egress::Refusal;
use serde_json::{Map, Value};
use url::Url;

use crate::http::problem::{Code, FieldProblem, Problem};
use crate::http::resolver;
use crate::http::state::Api;
use crate::http::wire_formats::Unchecked;

/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 1_000;
/// The most static headers.
const MAX_HEADERS: usize = 50;
/// The most types and phone numbers of a subscription.
const MAX_SUBSCRIBED: usize = 1_000;
/// The highest rate limit that makes sense.
const MAX_RATE: f64 = 1_000_000.0;

/// Checks an endpoint's URL, its name's addresses included. While name servers do not answer, that
/// is left to the workers, who look at each connection's address anyway.
///
/// # Errors
/// `blocked_url`, `unresolvable_host` where there is no such name, or `invalid`, naming `url`.
pub(in crate::http) async fn check_url(api: &Api, text: &str) -> Result<Url, Problem> {
    let refusal = match resolver::check_url(&api.egress, &*api.resolver, text).await {
        Ok(url) => return Ok(url),
        Err(refusal) => refusal,
    };
    let code = match &refusal {
        Refusal::InvalidUrl(_) => Code::Invalid,
        Refusal::Unresolvable { missing: true, .. } => Code::UnresolvableHost,
        Refusal::Unresolvable { host, problem, .. } => {
            tracing::warn!(
                host,
                problem,
                "an endpoint is saved although its host cannot be resolved now: workers check again"
            );
            return api
                .egress
                .parse_url(&resolver::with_scheme(text))
                .map_err(|refusal| unusable(Code::BlockedUrl, &refusal));
        }
        _ => Code::BlockedUrl,
    };
    Err(unusable(code, &refusal))
}

fn unusable(code: Code, refusal: &Refusal) -> Problem {
    Problem::field(code, "url", format!("is refused: {refusal}"))
}

/// Checks the URLs in an endpoint's settings as its own, where `before` has others: one that may
/// not be called would be blocked at each attempt. A name that cannot be resolved now says nothing
/// of later.
///
/// # Errors
/// `blocked_url` naming the settings.
pub(in crate::http) async fn check_called_urls(
    api: &Api,
    before: Option<&Endpoint>,
    endpoint: &Endpoint,
) -> Result<(), Problem> {
    let known = before
        .map(|before| api.wire_formats.called_urls(before))
        .unwrap_or_default();
    let mut errors = Vec::new();
    for (setting, url) in api.wire_formats.called_urls(endpoint) {
        if known.iter().any(|(_, before)| *before == url) {
            continue;
        }
        match resolver::check_url(&api.egress, &*api.resolver, url.as_str()).await {
            Ok(_) | Err(Refusal::Unresolvable { .. }) => {}
            Err(refusal) => {
                errors.push(FieldProblem::new(setting, format!("is refused: {refusal}")))
            }
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Problem::fields(Code::BlockedUrl, errors))
    }
}

/// What stands for the URL of an endpoint that has none.
pub(in crate::http) fn no_url() -> Url {
    #[expect(
        clippy::expect_used,
        reason = "the constant is a URL; the test below parses it"
    )]
    Url::parse("script:").expect("a URL")
}

/// Compiles the endpoint's scripts, those alone that `before` does not have.
///
/// # Errors
/// `invalid` with what is wrong with them, and where; `unavailable` when too many are being
/// compiled.
pub(in crate::http) async fn check_scripts(
    api: &Api,
    before: Option<&Endpoint>,
    endpoint: &Endpoint,
) -> Result<(), Problem> {
    match api.wire_formats.check_scripts(before, endpoint).await {
        Ok(()) => Ok(()),
        Err(Unchecked::Invalid(errors)) => Err(Problem::fields(Code::Invalid, errors)),
        Err(Unchecked::Busy(why)) => Err(Problem::new(Code::Unavailable, why)),
    }
}

/// Checks all members except the URL and what is in the scripts.
///
/// # Errors
/// `invalid` with every member that breaks its rule.
pub(in crate::http) fn check(api: &Api, endpoint: &Endpoint) -> Result<(), Problem> {
    let mut errors = Vec::new();
    check_members(endpoint, &mut errors);
    check_subscription(endpoint, &mut errors);
    check_headers(&endpoint.confidential.headers, &mut errors);
    check_settings(&endpoint.confidential.settings, "settings", &mut errors);
    if errors.is_empty()
        && let Err(of_format) = api.wire_formats.check(endpoint)
    {
        errors.extend(of_format);
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Problem::fields(Code::Invalid, errors))
    }
}

fn check_members(endpoint: &Endpoint, errors: &mut Vec<FieldProblem>) {
    let mut rule = |holds: bool, field: &str, rule: String| {
        if !holds {
            errors.push(FieldProblem::new(field, rule));
        }
    };
    rule(
        endpoint.description.chars().count() <= MAX_DESCRIPTION,
        "description",
        format!("must have at most {MAX_DESCRIPTION} characters"),
    );
    let shortest = Duration::from_millis(*TIMEOUT_MS.start());
    let longest = Duration::from_millis(*TIMEOUT_MS.end());
    rule(
        (shortest..=longest).contains(&endpoint.timeout),
        "timeout_ms",
        format!("must be {} to {}", TIMEOUT_MS.start(), TIMEOUT_MS.end()),
    );
    rule(
        MAX_IN_FLIGHT.contains(&endpoint.max_in_flight),
        "max_in_flight",
        format!(
            "must be {} to {}",
            MAX_IN_FLIGHT.start(),
            MAX_IN_FLIGHT.end()
        ),
    );
    rule(
        endpoint
            .rate_limit_per_second
            .is_none_or(|rate| rate > 0.0 && rate <= MAX_RATE),
        "rate_limit_per_second",
        format!("must be more than 0 and at most {MAX_RATE}, or null for no limit"),
    );
    if let Err(invalid) = endpoint.retry.check() {
        rule(false, invalid.field, format!("must be {}", invalid.rule));
    }
}

fn check_subscription(endpoint: &Endpoint, errors: &mut Vec<FieldProblem>) {
    let subscription = &endpoint.subscription;
    for (field, length) in [
        ("types", subscription.types.len()),
        ("phone_numbers", subscription.phone_numbers.len()),
    ] {
        if length > MAX_SUBSCRIBED {
            errors.push(FieldProblem::new(
                format!("subscription.{field}"),
                format!("must have at most {MAX_SUBSCRIBED} entries"),
            ));
        }
    }
    for (index, number) in subscription.phone_numbers.iter().enumerate() {
        if !is_phone_number(number) {
            let field = format!("subscription.phone_numbers[{index}]");
            errors.push(FieldProblem::new(
                field,
                "must be in E.164, such as +18005550199",
            ));
        }
    }
}

/// E.164 (`+` and up to 15 digits); short codes without the `+` are let through.
fn is_phone_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    (3..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn check_headers(headers: &[(String, Secret)], errors: &mut Vec<FieldProblem>) {
    if headers.len() > MAX_HEADERS {
        errors.push(FieldProblem::new(
            "headers",
            format!("must have at most {MAX_HEADERS} members"),
        ));
    }
    for (index, (name, value)) in headers.iter().enumerate() {
        let twice = headers[..index]
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name));
        let problem = if twice {
            Some("is given twice")
        } else {
            header::problem(name, value.expose())
        };
        errors.extend(problem.map(|problem| FieldProblem::new(format!("headers.{name}"), problem)));
    }
}

fn check_settings(settings: &Map<String, Value>, path: &str, errors: &mut Vec<FieldProblem>) {
    for (name, value) in settings {
        let path = format!("{path}.{name}");
        match value {
            Value::String(text) if text == REDACTED => {
                let problem = "has the value that stands for a stored secret, and none of that \
                               name is stored: give the secret itself";
                errors.push(FieldProblem::new(path, problem));
            }
            Value::Object(inner) => check_settings(inner, &path, errors),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_is_a_url() {
        assert_eq!(no_url().as_str(), "script:");
    }

    #[test]
    fn a_header_is_there_once() {
        let mut errors = Vec::new();
        check_headers(
            &[
                ("X-A".into(), Secret::new("1")),
                ("x-a".into(), Secret::new("2")),
            ],
            &mut errors,
        );
        assert_eq!(errors[0].field, "headers.x-a");
    }

    #[test]
    fn knows_phone_numbers() {
        for (text, is_one) in [
            ("+18005550199", true),
            ("12345", true),
            ("+1", false),
            ("+1 800", false),
            ("", false),
            ("+1234567890123456", false),
        ] {
            assert_eq!(is_phone_number(text), is_one, "{text}");
        }
    }
}
