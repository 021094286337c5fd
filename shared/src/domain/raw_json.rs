//! JSON that is carried through untouched, byte for byte as the producer wrote it.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON text, known to be well-formed, kept exactly as it was given. Cheap to clone; the clones
/// share what [`RawJson::read_once`] made of it.
#[derive(Clone)]
pub struct RawJson(Arc<Inner>);

struct Inner {
    text: Box<RawValue>,
    /// What was read of it already, one value of each type. There are only as many as wire formats
    /// read it.
    readings: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl RawJson {
    /// Checks that `text` is one JSON value and keeps it as it is.
    ///
    /// # Errors
    /// What is wrong with the JSON, with line and column.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self::new)
    }

    /// `null`.
    #[must_use]
    pub fn null() -> Self {
        Self::new(RawValue::NULL.to_owned())
    }

    /// The value as JSON text.
    ///
    /// # Errors
    /// When the value cannot be written as JSON (a map whose keys are not strings).
    pub fn of<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self::new)
    }

    fn new(text: Box<RawValue>) -> Self {
        Self(Arc::new(Inner {
            text,
            readings: Mutex::default(),
        }))
    }

    /// What `read` makes of the text. The answer is kept for as long as the text is, one for each
    /// type: a notification with a thousand recipients is read once, not once for each of its
    /// deliveries.
    pub fn read_once<T: Any + Send + Sync>(&self, read: impl FnOnce(&str) -> T) -> Arc<T> {
        // Not under the lock while it reads: two that come at once read twice, and nobody waits for
        // a long text.
        if let Some(known) = self.reading() {
            return known;
        }
        let reading = Arc::new(read(self.as_str()));
        let mut readings = self
            .0
            .readings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Never removed: a text has as many readings as types read it, two or three, and they live
        // as long as it does.
        readings.push(Arc::clone(&reading) as Arc<dyn Any + Send + Sync>);
        reading
    }

    fn reading<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let readings = self
            .0
            .readings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        readings
            .iter()
            .find_map(|reading| Arc::clone(reading).downcast().ok())
    }

    /// The JSON as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.text.get()
    }
}

impl std::fmt::Debug for RawJson {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("RawJson")
            .field(&self.as_str())
            .finish()
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::new)
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RawJson {}

impl utoipa::PartialSchema for RawJson {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::SchemaType::AnyValue)
            .description(Some("Any JSON value"))
            .into()
    }
}

impl utoipa::ToSchema for RawJson {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_once_for_each_type_and_its_clones_know() {
        let json = RawJson::parse("[1, 2]".to_owned()).unwrap();
        let read = |text: &str| serde_json::from_str::<Vec<u32>>(text).unwrap();
        assert_eq!(*json.read_once(read), [1, 2]);
        let again = json
            .clone()
            .read_once::<Vec<u32>>(|_| panic!("it was read already"));
        assert_eq!(*again, [1, 2]);
        assert_eq!(*json.read_once(str::len), 6);
        // Another text is another reading.
        assert_eq!(
            *RawJson::parse("[3]".to_owned()).unwrap().read_once(read),
            [3]
        );
    }
}
