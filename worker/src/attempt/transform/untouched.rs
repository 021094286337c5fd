//! What a transform did not touch goes out as it came. The engine's numbers are doubles and its
//! objects order their members, so even a payload that a script only hands back would be
//! written differently: 2^53 + 1 as 2^53, `1e400` not at all. Here what came back is laid over what
//! was given, and wherever the engine saw the same, the original text is taken. Where it saw
//! something else, what came back is sent.
//!
//! An object that has a name twice is never taken as it came: the script saw the last value alone,
//! so what it redacted might stand in another.

mod text;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use text::{Kind, Node, read};

/// A number that JSON does not have, by its place, such as `payload.total`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotANumber(pub(super) String);

/// The returned JSON text, with the texts of `given` wherever nothing was changed. In `returned` an
/// infinite number stands as one that is too large for a double.
///
/// # Errors
/// An infinite number that was not given.
pub(super) fn kept_as_given(given: &str, returned: &str) -> Result<String, NotANumber> {
    // Values nested deeper than the engine writes are not looked into.
    let given = read(given);
    let returned_text = returned;
    let Some(returned) = read(returned_text) else {
        return Ok(returned_text.to_owned());
    };
    let mut moved = HashMap::new();
    if let Some(given) = &given {
        gather(given, &mut moved);
    }
    let mut writer = Writer {
        moved,
        out: String::with_capacity(returned_text.len()),
        place: vec!["payload".to_owned()],
    };
    writer.write(given.as_ref(), &returned)?;
    Ok(writer.out)
}

/// Objects and arrays by what the engine sees of them; `None` where it sees the same of different
/// texts.
type Moved<'a, 't> = HashMap<u64, Option<&'a Node<'t>>>;

fn gather<'a, 't>(node: &'a Node<'t>, moved: &mut Moved<'a, 't>) {
    let inner: Vec<&'a Node<'t>> = match &node.kind {
        Kind::Array(items) => items.iter().collect(),
        Kind::Object(members) => members.iter().map(|member| &member.value).collect(),
        _ => return,
    };
    match moved.entry(node.seen) {
        Entry::Vacant(entry) => drop(entry.insert(Some(node))),
        Entry::Occupied(mut entry) => {
            if entry.get().is_some_and(|other| other.text != node.text) {
                entry.insert(None);
            }
        }
    }
    for node in inner {
        gather(node, moved);
    }
}

struct Writer<'a, 't> {
    moved: Moved<'a, 't>,
    out: String,
    place: Vec<String>,
}

impl Writer<'_, '_> {
    fn write(&mut self, given: Option<&Node<'_>>, returned: &Node<'_>) -> Result<(), NotANumber> {
        if let Some(given) = given.filter(|given| given.is_seen_as(returned)) {
            self.out.push_str(given.text);
            return Ok(());
        }
        match &returned.kind {
            Kind::Array(items) => {
                if self.write_moved(returned) {
                    return Ok(());
                }
                let before = match given.map(|given| &given.kind) {
                    Some(Kind::Array(items)) => items.as_slice(),
                    _ => &[],
                };
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.out.push_str(if index == 0 { "" } else { "," });
                    self.within(format!("[{index}]"), before.get(index), item)?;
                }
                self.out.push(']');
            }
            Kind::Object(members) => {
                if self.write_moved(returned) {
                    return Ok(());
                }
                self.out.push('{');
                for (index, member) in members.iter().enumerate() {
                    self.out.push_str(if index == 0 { "" } else { "," });
                    self.out.push_str(member.name_text);
                    self.out.push(':');
                    let before = given.and_then(|given| given.member(&member.name));
                    self.within(
                        format!(".{}", String::from_utf16_lossy(&member.name)),
                        before,
                        &member.value,
                    )?;
                }
                self.out.push('}');
            }
            Kind::Number(number) if number.is_infinite() => {
                return Err(NotANumber(self.place.concat()));
            }
            Kind::Number(_) | Kind::Text(_) | Kind::Word => self.out.push_str(returned.text),
        }
        Ok(())
    }

    fn within(
        &mut self,
        step: String,
        given: Option<&Node<'_>>,
        returned: &Node<'_>,
    ) -> Result<(), NotANumber> {
        self.place.push(step);
        self.write(given, returned)?;
        self.place.pop();
        Ok(())
    }

    /// Whole objects and arrays may have moved, as when an array was filtered.
    fn write_moved(&mut self, returned: &Node<'_>) -> bool {
        let found = self
            .moved
            .get(&returned.seen)
            .copied()
            .flatten()
            .filter(|given| given.is_seen_as(returned));
        let Some(given) = found else { return false };
        self.out.push_str(given.text);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(given: &str, returned: &str) -> String {
        kept_as_given(given, returned).unwrap()
    }

    #[test]
    fn what_is_handed_back_has_its_own_bytes() {
        for (given, printed) in [
            (
                r#"{ "id": 9007199254740993, "z": 1.0, "a": 1e400 }"#,
                r#"{"id":9007199254740992,"z":1,"a":1e999}"#,
            ),
            (
                r#"{"2":"b","1":"a","x":{"9":0,"10":1}}"#,
                r#"{"1":"a","2":"b","x":{"9":0,"10":1}}"#,
            ),
            (
                r#"["\u0041\/", -0, 0.10, 1E2, [ ], { }]"#,
                r#"["A/",0,0.1,100,[],{}]"#,
            ),
            (r#" "\ud83d\ude00" "#, "\"\u{1f600}\""),
            (r#"["\ud800"]"#, r#"["\ud800"]"#),
            ("123456789012345678901234567890", "1.2345678901234568e+29"),
            ("null", "null"),
        ] {
            assert_eq!(kept(given, printed), given.trim(), "{given}");
        }
    }

    #[test]
    fn what_was_changed_is_what_came_back_and_the_rest_is_as_given() {
        let given = concat!(
            r#"{"id": 9007199254740993, "list": [ {"n": 1.50, "p": true}, {"n": 2.50, "p": "#,
            r#"false} ], "t": "x"}"#,
        );
        for (returned, sent) in [
            (
                r#"{"id":9007199254740992,"t":"y"}"#,
                r#"{"id":9007199254740993,"t":"y"}"#,
            ),
            (
                r#"{"id":9007199254740994,"t":"x"}"#,
                r#"{"id":9007199254740994,"t":"x"}"#,
            ),
            (
                r#"{"id":9007199254740992,"list":[{"n":2.5,"p":false}],"t":"x"}"#,
                r#"{"id":9007199254740993,"list":[{"n": 2.50, "p": false}],"t":"x"}"#,
            ),
            (
                r#"{"of":{"n":1.5,"p":true}}"#,
                r#"{"of":{"n": 1.50, "p": true}}"#,
            ),
            (
                r#"{"order":9007199254740992}"#,
                r#"{"order":9007199254740992}"#,
            ),
            (
                r#"{"t":"x","id":9007199254740992}"#,
                r#"{"t":"x","id":9007199254740993}"#,
            ),
            ("[]", "[]"),
            ("null", "null"),
            (r#"{"id":null}"#, r#"{"id":null}"#),
        ] {
            assert_eq!(kept(given, returned), sent);
        }
    }

    #[test]
    fn a_redaction_is_never_undone() {
        // The script saw only the last of two members of one name.
        assert_eq!(
            kept(r#"{"ssn":"123","ssn":"***"}"#, r#"{"ssn":"***"}"#),
            r#"{"ssn":"***"}"#
        );
        assert_eq!(
            kept(r#"{"a":{"s":1,"s":2},"b": 1.0}"#, r#"{"a":{"s":2},"b":1}"#),
            r#"{"a":{"s":2},"b":1.0}"#
        );
        assert_eq!(
            kept(r#"{"a":[{"s":1,"s":2}]}"#, r#"{"x":{"s":2}}"#),
            r#"{"x":{"s":2}}"#
        );
        // Names that are written differently are the same name.
        assert_eq!(
            kept(r#"{"s":"123","\u0073":"***"}"#, r#"{"s":"***"}"#),
            r#"{"s":"***"}"#
        );
        assert_eq!(
            kept(r#"{"card":4111,"name":"n"}"#, r#"{"name":"n"}"#),
            r#"{"name":"n"}"#
        );
        assert_eq!(kept(r#"{"a":"1"}"#, r#"{"a":1}"#), r#"{"a":1}"#);
        // Different texts that look the same to the engine: no guess which of them moved.
        let given = r#"[{"n":9007199254740993},{"n":9007199254740992}]"#;
        assert_eq!(
            kept(given, r#"{"n":9007199254740992}"#),
            r#"{"n":9007199254740992}"#
        );
    }

    #[test]
    fn an_infinite_number_is_sent_only_where_it_was_given() {
        assert_eq!(
            kept(r#"{"n":-1e400}"#, r#"{"n":-1e999}"#),
            r#"{"n":-1e400}"#
        );
        let refused = |given, returned| kept_as_given(given, returned).unwrap_err().0;
        assert_eq!(refused(r#"{"n":1e400}"#, r#"{"n":-1e999}"#), "payload.n");
        assert_eq!(
            refused(r#"{"n":1}"#, r#"{"l":[0,{"m":1e999}]}"#),
            "payload.l[1].m"
        );
    }

    #[test]
    fn what_is_nested_too_deep_is_sent_as_it_came_back() {
        let deep = format!("{}1.0{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(kept(&deep, "1"), "1");
        assert_eq!(kept("1.0", &deep), deep);
    }
}
