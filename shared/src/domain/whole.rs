//! Whole numbers in JSON. JSON has one kind of number, and JSON Schema calls 5000.0 an integer:
//! programs whose numbers are all floating-point write it so. To be used with
//! `#[serde(deserialize_with = "…")]`.

use serde::{Deserialize, Deserializer, de};

/// A whole number, however it is written.
struct Whole<T>(T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<T: TryFrom<u64>> de::Visitor<'_> for Visitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number that is not negative")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
                let large = || E::custom(format_args!("{number} is too large"));
                T::try_from(number).map_err(|_| large())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
                let negative = || E::invalid_value(de::Unexpected::Signed(number), &self);
                u64::try_from(number)
                    .map_err(|_| negative())
                    .and_then(|number| self.visit_u64(number))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
                /// 2^53: up to here a floating-point number names one whole number.
                // 2 to the power of 53: beyond it not every whole number is a double, and what
                // arrived may not be what was written.
                const MAX: f64 = 9_007_199_254_740_992.0;
                if number.fract() == 0.0 && (0.0..=MAX).contains(&number) {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "it is whole and fits"
                    )]
                    return self.visit_u64(number as u64);
                }
                Err(E::invalid_value(de::Unexpected::Float(number), &self))
            }
        }

        deserializer
            .deserialize_any(Visitor(std::marker::PhantomData))
            .map(Self)
    }
}

/// A whole number.
///
/// # Errors
/// Anything else.
pub fn number<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(number)| number)
}

/// A whole number, or null.
///
/// # Errors
/// Anything else.
pub fn option<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Whole<T>>::deserialize(deserializer)?.map(|Whole(number)| number))
}

/// A list of whole numbers, or null.
///
/// # Errors
/// Anything else.
pub fn list<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let numbers = Option::<Vec<Whole<T>>>::deserialize(deserializer)?;
    Ok(numbers.map(|numbers| numbers.into_iter().map(|Whole(number)| number).collect()))
}

/// For a patch: null is `Some(None)`. A member that is left out needs `#[serde(default)]`.
///
/// # Errors
/// Neither a whole number nor null.
pub fn patch<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    option(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<u32, serde_json::Error> {
        number(&mut serde_json::Deserializer::from_str(json))
    }

    #[test]
    fn takes_whole_numbers_however_they_are_written() {
        for json in ["5000", "5000.0", "5e3", "5.0E+3"] {
            assert_eq!(read(json).unwrap(), 5_000, "{json}");
        }
        assert_eq!(read("-0.0").unwrap(), 0);
        for json in [
            "5000.5",
            "-1",
            "-1.0",
            "4294967296",
            "1e300",
            "\"5\"",
            "true",
            "null",
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
