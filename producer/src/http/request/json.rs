//! Reading JSON with answers that help: where the syntax is wrong (400), or which member is (422).

use posthaste_shared::domain::reading::{self, Objects};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::http::problem::{Code, FieldProblem, Problem};

/// Reads `bytes` as `T`. The fast way first; only for a wrong member is the text read again, to
/// find its path.
///
/// # Errors
/// `invalid_json` with line and column, or `invalid` with the member.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    T::deserialize(Objects(&mut reader))
        .and_then(|read| reader.end().map(|()| read))
        .map_err(|error| explain::<T>(bytes, &error))
}

/// Reads `bytes` as `T`, or as `T::default()` when there are none or they are `null`.
///
/// # Errors
/// As [`parse`].
pub(in crate::http) fn parse_or_default<T: DeserializeOwned + Default>(
    bytes: &[u8],
) -> Result<T, Problem> {
    if matches!(bytes.trim_ascii(), b"" | b"null") {
        Ok(T::default())
    } else {
        parse(bytes)
    }
}

/// The problem that a failed reading stands for.
pub(in crate::http) fn explain<T: DeserializeOwned>(
    bytes: &[u8],
    error: &serde_json::Error,
) -> Problem {
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => {
            let message = error.to_string();
            let detail = reading::too_deep(&message).unwrap_or(message);
            Problem::new(Code::InvalidJson, detail)
        }
        Category::Data => {
            // Keeping the path costs time, so only what is wrong already is read with it.
            let mut reader = serde_json::Deserializer::from_slice(bytes);
            let path = match serde_path_to_error::deserialize::<_, T>(Objects(&mut reader)) {
                // Not to be expected of a text that failed before; then the body as a whole is
                // named.
                Ok(_) => String::new(),
                Err(located) => located.path().to_string(),
            };
            let message = error.to_string();
            let field =
                FieldProblem::new(reading::member(&path, &message), reading::problem(&message));
            Problem::fields(Code::Invalid, vec![field])
        }
    }
}

#[cfg(test)]
mod tests {
    use posthaste_shared::domain::notification::NotificationDraft;

    use super::*;
    use crate::http::endpoints::input::EndpointDraft;

    fn draft_problem(text: &str) -> Problem {
        parse::<NotificationDraft>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn says_where_the_syntax_is_wrong() {
        let problem = draft_problem("{\"type\": \"a\",\n \"payload\": }");
        assert_eq!(problem.code, Code::InvalidJson);
        assert!(
            problem.detail.contains("line 2 column"),
            "{}",
            problem.detail
        );
        assert_eq!(draft_problem("").code, Code::InvalidJson);
        let deep = format!(r#"{{"settings":{{"a":{}"#, "[".repeat(200));
        let deep = parse::<EndpointDraft>(deep.as_bytes()).unwrap_err();
        assert_eq!(deep.code, Code::InvalidJson);
        assert!(
            deep.detail
                .starts_with("objects and lists are nested more than 127 deep at line 1"),
            "{}",
            deep.detail
        );
        assert_eq!(
            draft_problem("{\"type\":\"\u{1}\"}").code,
            Code::InvalidJson
        );
    }

    #[test]
    fn says_which_member_is_wrong() {
        for (text, field) in [
            (r#"{"payload":1}"#, "type"),
            (r#"{"type":"a"}"#, "payload"),
            (r#"{"type":"a","payload":1,"ttl":3}"#, "ttl"),
            (r#"{"type":7,"payload":1}"#, "type"),
            (r#"{"type":"a b","payload":1}"#, "type"),
            (
                r#"{"type":"a","payload":1,"priority":"urgent"}"#,
                "priority",
            ),
            (
                r#"{"type":"a","payload":1,"deliver_at":"soon"}"#,
                "deliver_at",
            ),
            (r#"[]"#, ""),
        ] {
            let problem = draft_problem(text);
            assert_eq!(problem.code, Code::Invalid, "{text}");
            assert_eq!(problem.errors[0].field, field, "{text}: {problem:?}");
            assert!(
                !problem.detail.contains("line "),
                "{text}: {}",
                problem.detail
            );
        }
        assert_eq!(
            draft_problem(r#"{"type":"a"}"#).detail,
            "payload is missing"
        );
        assert!(
            draft_problem(r#"{"type":"a","payload":1,"ttl":3}"#)
                .detail
                .starts_with("ttl is not known: expected")
        );
        let nested =
            br#"{"url":"https://x.example","wire_format":"raw","retry":{"jitter":"much"}}"#;
        assert_eq!(
            parse::<EndpointDraft>(nested).unwrap_err().errors[0].field,
            "retry.jitter"
        );
    }
}
