//! Rows as both databases give them.

use std::sync::Arc;

use uuid::Uuid;

use crate::domain::time::Timestamp;
use crate::store::StoreError;

/// A value as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) enum Value {
    Null,
    Text(String),
    Int(i64),
    Real(f64),
    Bytes(Vec<u8>),
    Uuid(Uuid),
}

/// The names of a query's columns, shared by all its rows.
pub(super) type Columns = Arc<[Box<str>]>;

/// A row: its values in the order of the query's columns.
#[derive(Debug)]
pub(in crate::store) struct Row {
    pub(super) columns: Columns,
    pub(super) values: Vec<Value>,
}

impl Row {
    /// The value of the first column of that name.
    pub(in crate::store) fn value(&self, column: &str) -> Option<&Value> {
        let index = self.columns.iter().position(|name| **name == *column)?;
        self.values.get(index)
    }

    /// Reads the values one after another. `table` is for the error when one is not as it should
    /// be.
    pub(in crate::store) fn reader(self, table: &'static str) -> Reader {
        Reader {
            table,
            id: String::new(),
            columns: self.columns,
            values: self.values.into_iter(),
        }
    }
}

/// Takes the values of a row in order.
pub(in crate::store) struct Reader {
    table: &'static str,
    id: String,
    columns: Columns,
    values: std::vec::IntoIter<Value>,
}

macro_rules! getters {
    ($($name:ident, $opt:ident, $type:ty, $what:literal, $($pattern:pat => $value:expr),+;)*) => {$(
        pub(in crate::store) fn $opt(&mut self) -> Result<Option<$type>, StoreError> {
            match self.values.next() {
                Some(Value::Null) => Ok(None),
                $(Some($pattern) => Ok(Some($value)),)+
                other => Err(self.corrupt(format!("{} expected, {other:?} found", $what))),
            }
        }

        pub(in crate::store) fn $name(&mut self) -> Result<$type, StoreError> {
            self.$opt()?.ok_or_else(|| self.corrupt(concat!($what, " expected, NULL found")))
        }
    )*};
}

impl Reader {
    getters! {
        text, text_opt, String, "a text", Value::Text(text) => text;
        int, int_opt, i64, "a number", Value::Int(number) => number;
        bytes, bytes_opt, Vec<u8>, "bytes", Value::Bytes(bytes) => bytes;
        raw_uuid, raw_uuid_opt, Value, "a UUID",
            value @ (Value::Uuid(_) | Value::Bytes(_)) => value;
    }

    pub(in crate::store) fn real_opt(&mut self) -> Result<Option<f64>, StoreError> {
        match self.values.next() {
            Some(Value::Null) => Ok(None),
            Some(Value::Real(number)) => Ok(Some(number)),
            other => Err(self.corrupt(format!("a number expected, {other:?} found"))),
        }
    }

    /// Which row it is, for errors.
    pub(in crate::store) fn named(&mut self, id: impl ToString) {
        self.id = id.to_string();
    }

    /// What [`Reader::named`] was told.
    pub(in crate::store) fn name(&self) -> &str {
        &self.id
    }

    pub(in crate::store) fn uuid(&mut self) -> Result<Uuid, StoreError> {
        let value = self.raw_uuid()?;
        self.to_uuid(value)
    }

    pub(in crate::store) fn uuid_opt(&mut self) -> Result<Option<Uuid>, StoreError> {
        let value = self.raw_uuid_opt()?;
        value.map(|value| self.to_uuid(value)).transpose()
    }

    fn to_uuid(&self, value: Value) -> Result<Uuid, StoreError> {
        match value {
            // Postgres has a type for UUIDs; SQLite stores their 16 bytes.
            Value::Uuid(id) => Ok(id),
            Value::Bytes(bytes) => Uuid::from_slice(&bytes).map_err(|error| self.corrupt(error)),
            other => Err(self.corrupt(format!("a UUID expected, {other:?} found"))),
        }
    }

    pub(in crate::store) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.int().map(Timestamp::from_micros)
    }

    pub(in crate::store) fn time_opt(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.int_opt()?.map(Timestamp::from_micros))
    }

    /// A count that fits 32 bits.
    pub(in crate::store) fn count(&mut self) -> Result<u32, StoreError> {
        let number = self.int()?;
        u32::try_from(number).map_err(|error| self.corrupt(error))
    }

    /// A count of rows.
    pub(in crate::store) fn total(&mut self) -> Result<u64, StoreError> {
        // The sum or maximum over no rows is NULL.
        let number = self.int_opt()?.unwrap_or(0);
        u64::try_from(number).map_err(|error| self.corrupt(error))
    }

    /// A text that names something: parsed again, since an older or newer program may have written
    /// it.
    pub(in crate::store) fn word<T>(
        &mut self,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        let text = self.text()?;
        parse(&text).ok_or_else(|| self.corrupt(format!("{text:?} is unknown to this program")))
    }

    pub(in crate::store) fn word_opt<T>(
        &mut self,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let Some(text) = self.text_opt()? else {
            return Ok(None);
        };
        parse(&text)
            .map(Some)
            .ok_or_else(|| self.corrupt(format!("{text:?} is unknown to this program")))
    }

    /// JSON of a type of our own.
    pub(in crate::store) fn json<T: serde::de::DeserializeOwned>(
        &mut self,
    ) -> Result<T, StoreError> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|error| self.corrupt(error))
    }

    /// The error for the value that was read last.
    pub(in crate::store) fn corrupt(&self, problem: impl ToString) -> StoreError {
        // How many were read says which it was: a reader takes the values in order.
        let read = self.columns.len().saturating_sub(self.values.len());
        let column = read
            .checked_sub(1)
            .and_then(|index| self.columns.get(index));
        self.corrupt_in(column.map_or("", |name| name), problem)
    }

    /// The error for values that do not go together; `column` is the one that says what the others
    /// should be.
    pub(in crate::store) fn corrupt_in(&self, column: &str, problem: impl ToString) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            id: self.id.clone(),
            column: column.to_owned(),
            problem: problem.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_by_table_row_and_column() {
        let row = Row {
            columns: ["id", "round", "origin"].map(Into::into).into(),
            values: vec![
                Value::Text("d-1".to_owned()),
                Value::Int(-1),
                Value::Text("x".to_owned()),
            ],
        };
        let mut row = row.reader("deliveries");
        let id = row.text().unwrap_or_default();
        row.named(id);
        let said = |error: Option<StoreError>| error.map(|error| error.to_string());
        let negative = said(row.count().err()).unwrap_or_default();
        assert!(
            negative.starts_with("deliveries d-1 in the store cannot be read: round: "),
            "{negative}"
        );
        let unknown = said(row.word(|_| None::<()>).err()).unwrap_or_default();
        assert!(unknown.contains("origin: \"x\" is unknown"), "{unknown}");
    }
}
