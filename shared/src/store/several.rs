//! Filters by several values of a member.

use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, OneOfBuilder, Schema};

/// The most values of one filter.
pub const MAX_VALUES: usize = 100;

/// The values of a member that are wanted; none: any. In JSON a list, or one value; in a query one
/// or more values with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Several<T>(Vec<T>);

impl<T> Several<T> {
    /// The values; empty: any.
    #[must_use]
    pub fn values(&self) -> &[T] {
        &self.0
    }

    /// Whether any value is wanted.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Several<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> From<T> for Several<T> {
    fn from(value: T) -> Self {
        Self(vec![value])
    }
}

impl<T> From<Option<T>> for Several<T> {
    fn from(value: Option<T>) -> Self {
        Self(value.into_iter().collect())
    }
}

impl<T> From<Vec<T>> for Several<T> {
    fn from(values: Vec<T>) -> Self {
        Self(values)
    }
}

/// One value is written as such, as programs of before wrote it and read it.
impl<T: Serialize> Serialize for Several<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value or a list of values")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
                // An empty list in a query.
                if text.is_empty() {
                    return Ok(Vec::new());
                }
                text.split(',')
                    .map(|one| T::deserialize(StrDeserializer::new(one.trim())))
                    .collect()
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<T>, E> {
                T::deserialize(de::value::U64Deserializer::new(number)).map(|value| vec![value])
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Vec<T>, E> {
                T::deserialize(de::value::F64Deserializer::new(number)).map(|value| vec![value])
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut values = Vec::new();
                while values.len() <= MAX_VALUES {
                    match list.next_element()? {
                        Some(value) => values.push(value),
                        None => break,
                    }
                }
                Ok(values)
            }
        }

        let values = deserializer.deserialize_any(Visitor(PhantomData))?;
        if values.len() > MAX_VALUES {
            return Err(de::Error::custom(format_args!(
                "more than {MAX_VALUES} values"
            )));
        }
        Ok(Self(values))
    }
}

/// The schema of a filter by values of `T`, in JSON.
pub(super) fn schema<T: utoipa::PartialSchema>() -> RefOr<Schema> {
    let list = ArrayBuilder::new()
        .items(T::schema())
        .max_items(Some(MAX_VALUES));
    OneOfBuilder::new().item(T::schema()).item(list).into()
}

/// The status code of an answer, 100 to 999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StatusCode(u16);

impl StatusCode {
    /// The status code as a number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl std::str::FromStr for StatusCode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text
            .parse()
            .ok()
            .filter(|number| (100..=999).contains(number));
        number
            .map(Self)
            .ok_or_else(|| "a status code is a number from 100 to 999".to_owned())
    }
}

impl<'de> Deserialize<'de> for StatusCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for StatusCode {
    fn schema() -> RefOr<Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::Integer)
            .description(Some("The status code of an HTTP answer."))
            .minimum(Some(100))
            .maximum(Some(999))
            .into()
    }
}

impl utoipa::ToSchema for StatusCode {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::Status;

    fn read(json: &str) -> Result<Several<Status>, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn one_value_a_list_and_a_text_with_commas() {
        let two = Several::from(vec![Status::Failed, Status::Expired]);
        assert_eq!(read(r#""failed,expired""#).unwrap(), two);
        assert_eq!(read(r#"["failed","expired"]"#).unwrap(), two);
        assert_eq!(
            serde_json::to_string(&two).unwrap(),
            r#"["failed","expired"]"#
        );
        let one = Several::from(Status::Failed);
        assert_eq!(read(r#""failed""#).unwrap(), one);
        assert_eq!(
            serde_json::to_string(&one).unwrap(),
            r#""failed""#,
            "as before there were several"
        );
        assert!(read("null").unwrap().is_any() && read("[]").unwrap().is_any());
        assert!(read(r#""failed,,expired""#).is_err() && read(r#""lost""#).is_err());
        let many = format!("[{}]", vec![r#""failed""#; MAX_VALUES + 1].join(","));
        assert!(
            read(&many)
                .unwrap_err()
                .to_string()
                .contains("more than 100 values")
        );
    }

    #[test]
    fn status_codes_are_numbers_or_texts() {
        for json in [
            r#""500,503""#,
            "[500,503]",
            r#"["500","503"]"#,
            "[500.0,503]",
        ] {
            let codes: Several<StatusCode> = serde_json::from_str(json).unwrap();
            assert_eq!(
                codes
                    .values()
                    .iter()
                    .map(|code| code.number())
                    .collect::<Vec<_>>(),
                [500, 503],
                "{json}"
            );
        }
        for json in ["99", "1000", "500.5", r#""5xx""#, "-500"] {
            assert!(
                serde_json::from_str::<Several<StatusCode>>(json).is_err(),
                "{json}"
            );
        }
    }
}
