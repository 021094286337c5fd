//! Reading an answer by its status, as most wire formats do.

use std::time::Duration;

use http::header::RETRY_AFTER;
use posthaste_shared::domain::attempt::AttemptError;
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::time::Timestamp;

use super::Reply;
use crate::send::BodyFault;
use crate::wire::outcome::Outcome;

/// 2xx is success; 408, 425, 429 and 5xx may be tried again; 410 means gone; all else is a refusal,
/// redirects too: they are never followed.
#[must_use]
pub fn classify(reply: &Reply, now: Timestamp) -> Outcome {
    match (reply.status, RetryOn::of_status(reply.status)) {
        (200..=299, _) => Outcome::accepted(),
        // Before 410: what may be tried again is the same set that `retry` names, so that a policy
        // and this table cannot disagree.
        (_, Some(kind)) => Outcome::Transient {
            kind,
            error: error(reply.status),
            retry_after: retry_after(reply, now),
            provider_error_code: None,
        },
        // 410 alone says that the URL will never take anything again. 404 may be a deployment under
        // way, and does not disable the endpoint.
        (410, None) => refused(FailureReason::Gone, reply.status),
        (_, None) => refused(FailureReason::Rejected, reply.status),
    }
}

/// What an answer means whose body would have decided, but cannot be read. Success it is not; else
/// the status says what follows, and the text says both.
#[must_use]
pub fn unread(reply: &Reply, fault: &BodyFault, now: Timestamp) -> Outcome {
    let why = fault.error();
    match (classify(reply, now), fault.retry_kind()) {
        (Outcome::Accepted { .. }, kind) => {
            let text = format!("the endpoint answered {}, but {}", reply.status, why.text);
            let error = AttemptError {
                code: why.code,
                text,
            };
            match kind {
                Some(kind) => Outcome::Transient {
                    kind,
                    error,
                    retry_after: None,
                    provider_error_code: None,
                },
                None => Outcome::Refused {
                    reason: FailureReason::Rejected,
                    error,
                    provider_error_code: None,
                },
            }
        }
        (other, _) => other.with(&format!(", and {}", why.text)),
    }
}

fn refused(reason: FailureReason, status: u16) -> Outcome {
    Outcome::Refused {
        reason,
        error: error(status),
        provider_error_code: None,
    }
}

fn error(status: u16) -> AttemptError {
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let note = if (300..=399).contains(&status) {
        "; redirects are not followed"
    } else {
        ""
    };
    let text = format!(
        "the endpoint answered {status}{}{}{note}",
        if reason.is_some() { " " } else { "" },
        reason.unwrap_or("")
    );
    AttemptError {
        code: "http_status".to_owned(),
        text,
    }
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110, section 10.2.3); `None` when it is absent
/// or neither.
pub(super) fn retry_after(reply: &Reply, now: Timestamp) -> Option<Duration> {
    let text = reply.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    // Seconds first: no HTTP date consists of digits alone. Digits and nothing else, where Rust's
    // own reader takes a sign; and more of them than a number holds ask for a very long time, not
    // for none.
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    let at = Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).ok()?);
    Some(at.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after: Option<&str>) -> Reply {
        let mut headers = http::HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        Reply::whole(status, headers, bytes::Bytes::new())
    }

    fn classified(status: u16, after: Option<&str>) -> Outcome {
        classify(
            &reply(status, after),
            Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
        )
    }

    #[test]
    fn each_status_has_its_class() {
        for status in [200, 201, 204, 299] {
            assert!(
                matches!(classified(status, None), Outcome::Accepted { .. }),
                "{status}"
            );
        }
        for status in [408, 425, 429, 500, 501, 503, 599] {
            assert!(
                matches!(classified(status, None), Outcome::Transient { .. }),
                "{status}"
            );
        }
        for status in [301, 302, 307, 400, 401, 404, 418] {
            let refused = matches!(
                classified(status, None),
                Outcome::Refused {
                    reason: FailureReason::Rejected,
                    ..
                }
            );
            assert!(refused, "{status}");
        }
        assert!(matches!(
            classified(410, None),
            Outcome::Refused {
                reason: FailureReason::Gone,
                ..
            }
        ));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let asked = |value| match classified(503, Some(value)) {
            Outcome::Transient { retry_after, .. } => retry_after,
            _ => None,
        };
        assert_eq!(asked("3"), Some(Duration::from_secs(3)));
        assert_eq!(
            asked("Thu, 01 Jan 2026 00:01:00 GMT"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(asked("Wed, 31 Dec 2025 00:00:00 GMT"), Some(Duration::ZERO));
        for neither in ["soon", "+3", "-3", "3.0", ""] {
            assert_eq!(asked(neither), None, "{neither:?}");
        }
        // More than a number holds: for a very long time, and not for none.
        let longest = Some(Duration::from_secs(u64::MAX));
        assert_eq!(asked("99999999999999999999"), longest);
    }

    #[test]
    fn a_body_that_would_have_decided_is_no_success_and_both_are_said() {
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let broken = BodyFault::BrokenOff {
            got: 7,
            error: AttemptError {
                code: "connection_reset".to_owned(),
                text: "reset by peer".to_owned(),
            },
        };
        let large = BodyFault::TooLarge { limit: 1024 };
        let Outcome::Transient { kind, error, .. } = unread(&reply(200, None), &broken, now) else {
            panic!()
        };
        assert_eq!(
            (kind, error.code.as_str()),
            (RetryOn::Network, "connection_reset")
        );
        assert_eq!(
            error.text,
            "the endpoint answered 200, but its body broke off after 7 bytes: reset by peer"
        );
        let Outcome::Refused { reason, error, .. } = unread(&reply(200, None), &large, now) else {
            panic!()
        };
        assert_eq!(
            (reason, error.code.as_str()),
            (FailureReason::Rejected, "answer_too_large")
        );
        let Outcome::Refused { reason, error, .. } = unread(&reply(410, None), &broken, now) else {
            panic!()
        };
        assert_eq!(
            (reason, error.code.as_str()),
            (FailureReason::Gone, "http_status")
        );
        assert!(
            error
                .text
                .ends_with(", and its body broke off after 7 bytes: reset by peer"),
            "{}",
            error.text
        );
        let Outcome::Transient { retry_after, .. } = unread(&reply(503, Some("7")), &broken, now)
        else {
            panic!()
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }
}
