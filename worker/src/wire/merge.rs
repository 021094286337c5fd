//! Deep merge of JSON, and member names in camelCase: what Novu does with overrides.

use serde_json::{Map, Value};

/// What becomes of an array that is laid over an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrays {
    /// Its elements come after those that are there.
    Append,
    /// It takes the other's place.
    Replace,
}

/// Members that a JavaScript object has without owning them, and `prototype`: a merge there would
/// reach what all objects share, so its libraries leave them out.
const INHERITED: [&str; 13] = [
    "__proto__",
    "constructor",
    "prototype",
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toLocaleString",
    "toString",
    "valueOf",
];

/// Lays `upper` over `base`. Objects merge member by member; any other pair is replaced by the
/// upper value, null too. New members go to the end.
pub(super) fn lay_over(base: &mut Map<String, Value>, upper: Map<String, Value>, arrays: Arrays) {
    for (name, value) in upper {
        // Left out of the overrides as Novu's merge leaves them out, so that a receiver gets the
        // same body from both.
        if INHERITED.contains(&name.as_str()) {
            continue;
        }
        match (base.get_mut(&name), value) {
            (Some(Value::Object(under)), Value::Object(over)) => lay_over(under, over, arrays),
            (Some(Value::Array(under)), Value::Array(over)) if arrays == Arrays::Append => {
                under.extend(over.into_iter().map(without_inherited));
            }
            (_, value) => {
                base.insert(name, without_inherited(value));
            }
        }
    }
}

fn without_inherited(value: Value) -> Value {
    match value {
        Value::Array(elements) => elements.into_iter().map(without_inherited).collect(),
        Value::Object(members) => {
            let kept = members
                .into_iter()
                .filter(|(name, _)| !INHERITED.contains(&name.as_str()));
            Value::Object(
                kept.map(|(name, value)| (name, without_inherited(value)))
                    .collect(),
            )
        }
        scalar => scalar,
    }
}

/// The same members with names in camelCase, at every depth.
pub(super) fn camel_members(members: Map<String, Value>) -> Map<String, Value> {
    let kept = members
        .into_iter()
        .filter(|(name, _)| !INHERITED.contains(&name.as_str()));
    kept.map(|(name, value)| (camel_case(&name), camel_value(value)))
        .collect()
}

fn camel_value(value: Value) -> Value {
    match value {
        Value::Array(elements) => elements.into_iter().map(camel_value).collect(),
        Value::Object(members) => Value::Object(camel_members(members)),
        scalar => scalar,
    }
}

/// A name in camelCase: the first word in lower case, the others with a capital, or with `_` before
/// a digit.
fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    for (index, word) in words(name).into_iter().enumerate() {
        let mut rest = word.chars();
        match rest.next() {
            Some(first) if index > 0 => {
                if first.is_ascii_digit() {
                    camel.push('_');
                }
                camel.extend(first.to_uppercase());
                camel.push_str(&rest.as_str().to_lowercase());
            }
            _ => camel.push_str(&word.to_lowercase()),
        }
    }
    camel
}

/// Words end where there is neither letter nor digit, before a capital behind a small letter or a
/// digit, and before the last capital of a run that a small letter follows.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut before = None;
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        let is_part = c.is_alphabetic() || c.is_ascii_digit();
        // The last of several capitals begins a word only where a small letter follows: HTTPServer
        // is http and Server, HTTP alone is one word.
        let begins = c.is_uppercase()
            && before.is_some_and(|before: char| {
                let run_ends =
                    before.is_uppercase() && rest.peek().is_some_and(|next| next.is_lowercase());
                before.is_lowercase() || before.is_ascii_digit() || run_ends
            });
        // What is neither letter nor digit ends a word and is dropped; a capital ends one and is
        // kept, as the first of the next.
        if begins || !is_part {
            words.push(String::new());
        }
        if is_part && let Some(word) = words.last_mut() {
            word.push(c);
        }
        before = is_part.then_some(c);
    }
    // Two separators in a row, or one at either end, leave empty words behind.
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            other => panic!("{other} is not an object"),
        }
    }

    fn laid(base: Value, upper: Value, arrays: Arrays) -> Value {
        let mut base = object(base);
        lay_over(&mut base, object(upper), arrays);
        Value::Object(base)
    }

    #[test]
    fn objects_merge_arrays_append_null_replaces() {
        let base = json!({"customData": {"a": {"x": 1}, "list": [1, 2], "gone": "v"}});
        let upper = json!({"customData": {"a": {"y": 2}, "list": [3], "gone": null}});
        let merged = laid(base.clone(), upper.clone(), Arrays::Append);
        assert_eq!(
            merged.to_string(),
            r#"{"customData":{"a":{"x":1,"y":2},"list":[1,2,3],"gone":null}}"#
        );
        let merged = laid(base, upper, Arrays::Replace);
        assert_eq!(
            merged.to_string(),
            r#"{"customData":{"a":{"x":1,"y":2},"list":[3],"gone":null}}"#
        );
    }

    #[test]
    fn other_pairs_are_replaced_where_they_stand_and_new_members_go_to_the_end() {
        let base = json!({"a": [1], "b": {"x": 1}, "c": "text"});
        let upper = json!({"c": {"y": 1}, "a": {"0": 2}, "new": 1, "b": [2]});
        let merged = laid(base, upper, Arrays::Append);
        assert_eq!(
            merged.to_string(),
            r#"{"a":{"0":2},"b":[2],"c":{"y":1},"new":1}"#
        );
    }

    #[test]
    fn what_would_reach_the_prototype_is_left_out() {
        let upper = json!({
            "__proto__": {"admin": true}, "constructor": 1, "prototype": 2, "toString": 3,
            "a": {"__proto__": 1, "b": [{"constructor": 1, "c": 2}]}, "list": [{"__proto__": 1}],
        });
        let merged = laid(json!({"list": [0]}), upper, Arrays::Append);
        assert_eq!(merged, json!({"list": [0, {}], "a": {"b": [{"c": 2}]}}));
    }

    #[test]
    fn names_become_camel_case() {
        for (name, expected) in [
            ("template_id", "templateId"),
            ("HTTPServer", "httpServer"),
            ("a-1b", "a_1b"),
            ("templateId", "templateId"),
            ("TemplateID", "templateId"),
            ("TEMPLATE_ID", "templateId"),
            ("user2Name", "user2Name"),
            ("HTTP2Server", "http2Server"),
            ("sms code", "smsCode"),
            ("  padded  ", "padded"),
            ("__a__b__", "aB"),
            ("version 1.2", "version_1_2"),
            ("1st_try", "1stTry"),
            ("größe_über", "größeÜber"),
            ("ÄÖÜber", "äöÜber"),
            ("---", ""),
            ("", ""),
        ] {
            assert_eq!(camel_case(name), expected, "{name}");
        }
        let deep = json!({"outer_a": [{"inner_b": {"most_inner": "as_it_is"}}]});
        let camel = Value::Object(camel_members(object(deep)));
        assert_eq!(
            camel,
            json!({"outerA": [{"innerB": {"mostInner": "as_it_is"}}]})
        );
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let name = prop_oneof![
            "[a-c]",
            "\\PC{0,6}",
            Just("__proto__".to_owned()),
            Just("constructor".to_owned())
        ];
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from)
        ];
        scalar.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                btree_map(name.clone(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn members() -> impl Strategy<Value = Map<String, Value>> {
        btree_map(prop_oneof!["[a-c]", "\\PC{0,6}"], json_value(), 0..5)
            .prop_map(|members| members.into_iter().collect())
    }

    fn arrays() -> impl Strategy<Value = Arrays> {
        prop_oneof![Just(Arrays::Append), Just(Arrays::Replace)]
    }

    fn is_clean(value: &Value) -> bool {
        match value {
            Value::Array(elements) => elements.iter().all(is_clean),
            Value::Object(members) => members
                .iter()
                .all(|(name, value)| !INHERITED.contains(&name.as_str()) && is_clean(value)),
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn an_empty_upper_layer_changes_nothing(base in members(), arrays in arrays()) {
            let mut merged = base.clone();
            lay_over(&mut merged, Map::new(), arrays);
            prop_assert_eq!(merged, base);
        }

        #[test]
        fn laying_over_twice_is_laying_over_once_where_arrays_are_replaced(
            base in members(),
            upper in members(),
        ) {
            let mut once = base;
            lay_over(&mut once, upper.clone(), Arrays::Replace);
            let mut twice = once.clone();
            lay_over(&mut twice, upper, Arrays::Replace);
            prop_assert_eq!(twice, once);
        }

        #[test]
        fn members_keep_their_places_and_no_prototype_gets_in(
            base in members(),
            upper in members(),
            arrays in arrays(),
        ) {
            let mut merged = base.clone();
            lay_over(&mut merged, upper.clone(), arrays);
            prop_assert!(merged.keys().take(base.len()).eq(base.keys()));
            for (name, value) in upper.iter().filter(|(name, _)| !base.contains_key(*name)) {
                prop_assert!(INHERITED.contains(&name.as_str()) || merged.contains_key(name));
                prop_assert!(merged.get(name).is_none_or(is_clean), "{}", value);
            }
        }

        #[test]
        fn camel_case_has_only_letters_where_there_are_no_digits(name in "[a-zA-Z_ .-]{0,12}") {
            let camel = camel_case(&name);
            prop_assert!(camel.chars().all(char::is_alphanumeric), "{}", camel);
            prop_assert!(!camel.starts_with(char::is_uppercase), "{}", camel);
        }

        #[test]
        fn no_name_is_too_strange(name in "\\PC{0,20}") {
            let _ = camel_case(&name);
        }
    }
}
