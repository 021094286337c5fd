//! Reading JSON out of answers, as leniently as the senders that receivers were written for: a byte
//! order mark is passed over, bytes that are not UTF-8 are replaced, and what nobody asked for may
//! be nested as deep, and have numbers as large, as it likes. Of two members with one name the last
//! counts.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// An answer's body as text.
pub(super) fn text(body: &[u8]) -> Cow<'_, str> {
    // JSON may not begin with a byte order mark (RFC 8259, section 8.1), but some servers write
    // one, and serde_json refuses it: the id of a message that was sent would be lost.
    String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))
}

/// The members of a JSON object in their order, their values not yet read; `None` for all else.
pub(super) fn members(text: &str) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    serde_json::from_str::<Members<'_>>(text)
        .ok()
        .map(|members| members.0)
}

/// The value at a dot path, if it is a text, a number or a boolean. Segments are member names; in
/// an array, a number is an index. No part of the answer is read into memory but this value.
pub(super) fn scalar_at(text: &str, path: &str) -> Option<Value> {
    let mut here: &RawValue = serde_json::from_str(text).ok()?;
    for segment in path.split('.') {
        here = match here.get().as_bytes().first()? {
            b'{' => {
                // Looked for from the end: of two members with one name the last counts, as in
                // `JSON.parse`.
                let found = members(here.get())?
                    .into_iter()
                    .rev()
                    .find(|(name, _)| name == segment);
                found?.1
            }
            b'[' => {
                let index = segment.parse::<usize>().ok()?;
                serde_json::from_str::<Elements<'_>>(here.get())
                    .ok()?
                    .0
                    .get(index)
                    .copied()?
            }
            _ => return None,
        };
    }
    // An object or an array is not read at all. It may be as large as an answer may be, and nobody
    // has a use for it as an id or a date.
    let scalar = !matches!(here.get().as_bytes().first()?, b'{' | b'[');
    if scalar {
        serde_json::from_str(here.get()).ok()
    } else {
        None
    }
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                // `RawValue` and not `Value`: it is skipped over without recursion into memory, so
                // depth and large numbers in what nobody asked for do no harm.
                while let Some((name, value)) = map.next_entry::<Name<'de>, &RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// A member's name; borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Elements<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut elements: A,
            ) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(element) = elements.next_element::<&RawValue>()? {
                    all.push(element);
                }
                Ok(Elements(all))
            }
        }
        deserializer.deserialize_seq(Each)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(body: &[u8], path: &str) -> Option<Value> {
        scalar_at(&text(body), path)
    }

    #[test]
    fn a_path_leads_through_objects_and_arrays() {
        let body = br#"{"data":{"id":"m-1","n":[{"id":7}]}}"#;
        assert_eq!(at(body, "data.id"), Some(json!("m-1")));
        assert_eq!(at(body, "data.n.0.id"), Some(json!(7)));
        for none in ["data", "data.n", "data.n.1.id", "data.id.x", "", "data."] {
            assert_eq!(at(body, none), None, "{none}");
        }
        assert_eq!(at(br#"[{"id":"m-1"}]"#, "0.id"), Some(json!("m-1")));
        assert_eq!(at(br#"{"":{"":1}}"#, "."), Some(json!(1)));
    }

    #[test]
    fn what_is_odd_about_an_answer_does_not_hide_the_value() {
        assert_eq!(at(b"\xef\xbb\xbf{\"id\":\"m\"}", "id"), Some(json!("m")));
        assert_eq!(at(b"{\"id\":\"m\",\"x\":\"\xff\"}", "id"), Some(json!("m")));
        assert_eq!(at(b"{\"id\":\"a\xffb\"}", "id"), Some(json!("a\u{fffd}b")));
        assert_eq!(at(b" \r\n{\"id\":\"m\"}\n\n ", "id"), Some(json!("m")));
        assert_eq!(at(br#"{"id":"a","id":"b"}"#, "id"), Some(json!("b")));
        assert_eq!(at(br#"{"id":"m","x":1e400}"#, "id"), Some(json!("m")));
        assert_eq!(at(br#"{"\u0069d":"m"}"#, "id"), Some(json!("m")));
        let deep = format!(
            r#"{{"x":{}{},"id":"m"}}"#,
            "[".repeat(50_000),
            "]".repeat(50_000)
        );
        assert_eq!(at(deep.as_bytes(), "id"), Some(json!("m")));
    }

    #[test]
    fn what_is_not_json_has_no_values() {
        for body in [
            &b""[..],
            b"OK",
            b"{\"id\":\"m\"",
            b"{\"id\":\"m\"} x",
            b"\xef\xbb\xbf",
        ] {
            assert_eq!(at(body, "id"), None, "{body:?}");
        }
    }
}
