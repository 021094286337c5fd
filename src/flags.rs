//! The API names members; whoever typed flags wants to hear of flags.

/// Members of the API and the flags that set them, where they are not called the same; with the
/// unit of the API where the flag takes any.
const NAMES: &[(&str, &str)] = &[
    ("timeout_ms", "--timeout, in milliseconds,"),
    ("rate_limit_per_second", "--rate-limit"),
    ("subscription.types", "--type"),
    ("subscription.phone_numbers", "--phone-number"),
    ("retry.delays_ms", "--delays, in milliseconds,"),
    ("retry.max_retries", "--max-retries"),
    ("overlap_seconds", "--overlap, in seconds,"),
    ("endpoint_id", "--endpoint"),
    ("notification_id", "--notification"),
    ("delay_seconds", "--delay, in seconds,"),
    ("ttl_seconds", "--ttl, in seconds,"),
    ("scopes", "--scope"),
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
    flag(member).map_or_else(|| sentence.to_owned(), |flag| format!("{flag}{rest}"))
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
                "--timeout, in milliseconds, must be 1000 to 60000",
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
