//! Reads objects as objects alone, and words as strings. serde takes a list for a struct as well,
//! its items for the members in order, and an object for a word: `"retry": [3]` would be a policy
//! that nobody wrote down, and `{"high": null}` a priority. Of a name that a map has twice serde
//! keeps the last.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

/// serde_json's name for a text that is kept as it came, which it hands over in the shape of a map.
const RAW: &str = "$serde_json::private::RawValue";

/// A deserializer, or a part of one, whose structs are read from objects alone, whose enumerations,
/// which must have words without anything in them, from strings alone, and whose maps, which must
/// have texts for keys, have each name once; at any depth.
///
/// What serde keeps aside before it reads it, such as the members of an untagged enum, is read as
/// serde does.
#[derive(Debug)]
pub struct Objects<T>(pub T);

/// A visitor; `object`: of a struct.
struct Guest<V> {
    inner: V,
    object: bool,
}

const fn guest<V>(inner: V) -> Guest<V> {
    Guest {
        inner,
        object: false,
    }
}

const fn object<V>(inner: V) -> Guest<V> {
    Guest {
        inner,
        object: true,
    }
}

macro_rules! forward {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.0.$method(guest(visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Objects<D> {
    type Error = D::Error;

    forward! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_option deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_unit_struct(name, guest(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if name == RAW {
            return self.0.deserialize_newtype_struct(name, visitor);
        }
        self.0.deserialize_newtype_struct(name, guest(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_tuple(length, guest(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0
            .deserialize_tuple_struct(name, length, guest(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_struct(name, fields, object(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_any(Word(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($value:ty))*) => {$(
        fn $method<E: Error>(self, value: $value) -> Result<Self::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Guest<V> {
    type Value = V::Value;

    visit! {
        visit_bool(bool) visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64)
        visit_i128(i128) visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64)
        visit_u128(u128) visit_f32(f32) visit_f64(f64) visit_char(char) visit_str(&str)
        visit_borrowed_str(&'de str) visit_string(String) visit_bytes(&[u8])
        visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        self.inner.visit_some(Objects(reader))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        reader: D,
    ) -> Result<Self::Value, D::Error> {
        self.inner.visit_newtype_struct(Objects(reader))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        if self.object {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        self.inner.visit_seq(Objects(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        if self.object {
            // Its members are fields, and serde counts those itself.
            return self.inner.visit_map(Objects(members));
        }
        self.inner.visit_map(Once {
            members,
            seen: HashSet::new(),
        })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<Self::Value, A::Error> {
        self.inner.visit_enum(variant)
    }
}

/// A visitor of an enumeration: a word and nothing else.
struct Word<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Word<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        self.0.visit_enum(StrDeserializer::new(word))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Objects<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(Objects(reader))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Self::Error> {
        self.0.next_element_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Self::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, Self::Error> {
        self.0.next_value_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

/// The members of a map, each name once.
struct Once<A> {
    members: A,
    seen: HashSet<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Once<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Self::Error> {
        let Some(name) = self.members.next_key::<String>()? else {
            return Ok(None);
        };
        if self.seen.contains(&name) {
            // In serde's words, which `reading` knows.
            return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
        }
        self.seen.insert(name.clone());
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, Self::Error> {
        self.members.next_value_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.members.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::domain::notification::NotificationDraft;
    use crate::domain::reading::problem;
    use crate::domain::retry::RetryPolicy;
    use crate::domain::subscription::Subscription;

    #[derive(Debug, Deserialize)]
    struct All {
        retry: Option<RetryPolicy>,
        #[serde(default)]
        subscriptions: Vec<Subscription>,
        #[serde(default)]
        headers: serde_json::Map<String, serde_json::Value>,
    }

    fn read<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, String> {
        let mut reader = serde_json::Deserializer::from_str(json);
        T::deserialize(Objects(&mut reader)).map_err(|error| problem(&error.to_string()))
    }

    #[test]
    fn a_list_is_no_object() {
        let wrong = Err("must be an object, not a list".to_owned());
        for json in [
            r#"{"retry": [3]}"#,
            r#"{"retry": []}"#,
            r#"{"subscriptions": [[["a.b"]]]}"#,
            r#"[{"max_retries": 3}]"#,
        ] {
            assert_eq!(read::<All>(json).map(drop), wrong, "{json}");
        }
        let draft = r#"[null, "a.b", {"order": 1}]"#;
        assert_eq!(read::<NotificationDraft>(draft).map(drop), wrong);
    }

    #[test]
    fn a_word_is_a_string() {
        for (word, given) in [
            ("[\"high\"]", "a list"),
            ("{\"high\": null}", "an object"),
            ("5", "5"),
        ] {
            let draft = format!(r#"{{"type": "a.b", "payload": 1, "priority": {word}}}"#);
            let said = read::<NotificationDraft>(&draft).map(drop);
            assert_eq!(said, Err(format!("must be a string, not {given}")));
        }
        let draft = r#"{"type": "a.b", "payload": 1, "priority": "high"}"#;
        assert!(read::<NotificationDraft>(draft).is_ok());
    }

    #[test]
    fn a_map_has_each_name_once() {
        let headers = |json: &str| read::<All>(&format!(r#"{{"headers": {json}}}"#)).map(drop);
        let twice = Err("is there twice".to_owned());
        assert_eq!(headers(r#"{"a": "1", "b": [{"a": 1}]}"#), Ok(()));
        assert_eq!(headers(r#"{"a": "1", "a": "1"}"#), twice);
        assert_eq!(headers(r#"{"a": [{"b": 1, "\u0062": 1}]}"#), twice);
        // The payload is nobody's but the receiver's: its bytes stay as they came.
        let draft: NotificationDraft =
            read(r#"{"type": "a.b", "payload": {"n": 1, "n": 2}}"#).unwrap();
        assert_eq!(draft.payload.as_str(), r#"{"n": 1, "n": 2}"#);
    }

    #[test]
    fn everything_else_is_read_as_serde_does() {
        let all: All =
            read(r#"{"retry": {"max_retries": 3}, "subscriptions": [{"types": ["a.*"]}]}"#)
                .unwrap();
        assert_eq!(all.retry.unwrap().max_retries, 3);
        assert_eq!((all.subscriptions.len(), all.headers.len()), (1, 0));
        let draft: NotificationDraft =
            read(r#"{"type": "a.b", "payload": {"n": 1e400, "list": [1, [2]]}}"#).unwrap();
        assert_eq!(draft.payload.as_str(), r#"{"n": 1e400, "list": [1, [2]]}"#);
    }
}
