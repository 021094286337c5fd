//! The rules for a header that somebody configures: a static header of an endpoint, one that a wire
//! format's settings name, one that a script adds.

use http::{HeaderName, HeaderValue};

use super::hops;
use super::view::REDACTED;

/// The most headers that a notification or a script adds to a request: servers refuse heads of some
/// KiB, and nobody needs more.
pub const MAX_ADDED: usize = 100;
/// The longest value, in bytes; common servers refuse 8 KiB and more.
pub const MAX_VALUE: usize = 4_096;

/// Headers that belong to the connection (RFC 9110, section 7.6.1) or that are written for each
/// request.
const RESERVED: [&str; 18] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "traceparent",
    hops::HEADER,
];

/// What is wrong with a header, if anything is.
#[must_use]
pub fn problem(name: &str, value: &str) -> Option<&'static str> {
    name_problem(name).or_else(|| value_problem(value))
}

/// What is wrong with a header's name, if anything is.
#[must_use]
pub fn name_problem(name: &str) -> Option<&'static str> {
    let Ok(name) = HeaderName::try_from(name) else {
        return Some("is not a header's name (RFC 9110: letters, digits and !#$%&'*+-.^_`|~)");
    };
    RESERVED
        .contains(&name.as_str())
        .then_some("is written by Posthaste itself and cannot be set")
}

/// What is wrong with a header's value, if anything is.
#[must_use]
pub fn value_problem(value: &str) -> Option<&'static str> {
    // Somebody sends back what the API showed. Saved, it would take the credential's place without
    // a word.
    if value == REDACTED {
        return Some(
            "has the value that stands for a secret: there is no secret of that name to keep",
        );
    }
    if value.len() > MAX_VALUE {
        return Some("has a value of more than 4096 bytes");
    }
    match HeaderValue::from_str(value) {
        // HTTP strips spaces at either end on the way (RFC 9110, section 5.5), so what is signed or
        // compared there would differ.
        Ok(_) if value.trim() == value => None,
        Ok(_) => Some("has a value that begins or ends with a space"),
        Err(_) => Some("has a value with control characters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_headers_that_are_ours_or_no_headers() {
        for name in [
            "Host",
            "Content-Length",
            "webhook-id",
            "Webhook-Signature",
            "Transfer-Encoding",
            "a b",
            "",
            "ä",
        ] {
            assert!(name_problem(name).is_some(), "{name}");
        }
        for value in ["a\r\nEvil: 1", "a\0", " a", "a ", REDACTED] {
            assert!(value_problem(value).is_some(), "{value:?}");
        }
        for name in ["Authorization", "User-Agent", "X-Empty", "Content-Type"] {
            assert_eq!(name_problem(name), None, "{name}");
        }
        for value in ["Bearer x", "", "a/b"] {
            assert_eq!(value_problem(value), None, "{value}");
        }
    }
}
