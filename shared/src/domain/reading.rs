//! What serde says of a value that it cannot read, for people: what the value must be in JSON's
//! words, not in Rust's.

mod objects;

use std::borrow::Cow;

pub use objects::Objects;

/// A rule for a member, such as `must be a number, not "5"`, from serde's message, with or without
/// its position.
#[must_use]
pub fn problem(message: &str) -> String {
    let message = without_position(message);
    if message.starts_with("missing field ") {
        return "is missing".to_owned();
    }
    if message.starts_with("duplicate field ") {
        return "is there twice".to_owned();
    }
    if let Some((_, expected)) = message
        .strip_prefix("unknown field ")
        .and_then(|rest| rest.split_once(", "))
    {
        return format!("is not known: {expected}");
    }
    if let Some((found, expected)) = message
        .strip_prefix("unknown variant ")
        .and_then(|rest| rest.split_once(", "))
    {
        // The word would come a second time in our sentence.
        let expected = expected.trim_start_matches("expected ");
        return format!("must be {expected}, not {}", found.replace('`', "\""));
    }
    match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            return "must be a whole number, 0 or more".to_owned();
        }
        "number too large to fit in target type" => return "is too large a number".to_owned(),
        "provided string was not `true` or `false`" => return "must be true or false".to_owned(),
        _ => {}
    }
    // From the right, since what was found is the caller's text and may contain the same words.
    let mismatch = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "));
    match mismatch.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => format!("must be {}, not {}", wanted(expected), given(found)),
        None => format!("is refused: {message}"),
    }
}

/// The path of the member that the message is about. serde names one that is missing or there twice
/// in its message alone, not in the path, which is `.` for the whole.
#[must_use]
pub fn member(path: &str, message: &str) -> String {
    let path = if path == "." { "" } else { path };
    let named = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|words| message.strip_prefix(words))
        .and_then(|rest| rest.split_once('`'));
    // Of a map, the path ends in a name that was not read.
    let path = match named {
        Some(_) => path.strip_suffix('?').unwrap_or(path).trim_end_matches('.'),
        None => path,
    };
    match named {
        Some((name, _)) if path.is_empty() => name.to_owned(),
        Some((name, _)) => format!("{path}.{name}"),
        None => path.to_owned(),
    }
}

/// What is wrong with a text that is to be JSON of a certain form, in a sentence: `payload is
/// missing`. `path`: of the member that could not be read.
#[must_use]
pub fn sentence(path: &str, error: &serde_json::Error) -> String {
    let message = error.to_string();
    if let Some(too_deep) = too_deep(&message) {
        return too_deep;
    }
    // For a text that is not JSON the position is all there is to say; for one that is, the member
    // says it better.
    if error.classify() != serde_json::error::Category::Data {
        return message;
    }
    let member = member(path, &message);
    let of = if member.is_empty() {
        "it".to_owned()
    } else {
        member
    };
    format!("{of} {}", problem(&message))
}

/// What is wrong with a text whose objects and lists are in each other deeper than it is read, from
/// serde_json's message; `None` where it says something else.
#[must_use]
pub fn too_deep(message: &str) -> Option<String> {
    let place = message.strip_prefix("recursion limit exceeded")?;
    Some(format!(
        "objects and lists are nested more than 127 deep{place}: that is not read"
    ))
}

/// serde's message without ` at line 1 column 2`.
fn without_position(message: &str) -> &str {
    match message.rsplit_once(" at line ") {
        // Checked to be a place: the caller's own text may contain these words.
        Some((text, place))
            if place
                .chars()
                .all(|c| c.is_ascii_digit() || " column".contains(c)) =>
        {
            text
        }
        _ => message,
    }
}

/// What serde expected, in the words of our errors.
fn wanted(expected: &str) -> Cow<'_, str> {
    let plain = match expected {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "a boolean" | "bool" => "true or false",
        "a map" => "an object",
        "a sequence" => "a list",
        "string or map" => "a string or an object",
        "unit" | "null" => "null",
        "a borrowed string" | "str" | "variant identifier" | "field identifier" => "a string",
        other
            if [
                "struct ",
                "internally tagged enum ",
                "adjacently tagged enum ",
            ]
            .iter()
            .any(|of| other.starts_with(of)) =>
        {
            "an object"
        }
        other
            if other.starts_with("tuple ")
                || other.starts_with("a tuple ")
                || other.starts_with("an array ") =>
        {
            "a list"
        }
        other if other.starts_with("enum ") => "a string",
        other => return other.into(),
    };
    plain.into()
}

/// What serde found, in the words of our errors.
fn given(found: &str) -> Cow<'_, str> {
    match found {
        "map" => "an object".into(),
        "sequence" => "a list".into(),
        "unit value" => "null".into(),
        _ => {
            let named = [
                "integer ",
                "floating point ",
                "boolean ",
                "string ",
                "character ",
            ];
            let value = named.iter().find_map(|kind| found.strip_prefix(kind));
            value.map_or(found.into(), |value| value.trim_matches('`').into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Inner {
        number: f64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        One,
        Two,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct All {
        inner: Option<Inner>,
        count: Option<u32>,
        word: Option<Word>,
        list: Option<Vec<u8>>,
        flag: Option<bool>,
        text: Option<String>,
        pair: Option<(u8, u8)>,
    }

    #[test]
    fn no_type_of_rust_is_named() {
        for (json, said) in [
            (r#"{"inner": 5}"#, "must be an object, not 5"),
            (
                r#"{"inner": {"number": "5"}}"#,
                "must be a number, not \"5\"",
            ),
            (
                r#"{"inner": {"number": {}}}"#,
                "must be a number, not an object",
            ),
            (r#"{"inner": {}}"#, "is missing"),
            (r#"{"inner": {"nr": 1}}"#, "is not known: expected `number`"),
            (
                r#"{"count": -1}"#,
                "must be a whole number, 0 or more, not -1",
            ),
            (
                r#"{"count": 1.5}"#,
                "must be a whole number, 0 or more, not 1.5",
            ),
            (
                r#"{"count": []}"#,
                "must be a whole number, 0 or more, not a list",
            ),
            (
                r#"{"word": "three"}"#,
                "must be `one` or `two`, not \"three\"",
            ),
            (r#"{"list": true}"#, "must be a list, not true"),
            (
                r#"{"list": [null]}"#,
                "must be a whole number, 0 or more, not null",
            ),
            (r#"{"flag": "yes"}"#, "must be true or false, not \"yes\""),
            (r#"{"text": 7}"#, "must be a string, not 7"),
            (r#"{"pair": {}}"#, "must be a list, not an object"),
        ] {
            let error = serde_json::from_str::<All>(json).unwrap_err().to_string();
            assert_eq!(problem(&error), said, "{json}: {error}");
        }
    }

    #[test]
    fn rules_of_our_own_stay() {
        assert_eq!(
            problem("a type is short at line 3 column 12"),
            "is refused: a type is short"
        );
        assert_eq!(
            problem("look at line five"),
            "is refused: look at line five"
        );
    }
}
