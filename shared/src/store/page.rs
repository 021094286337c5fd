//! Keyset paging: a page ends with a cursor that names its last row, and the next page begins after
//! it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::db::Row;
use super::db::row::Value;

/// Items of a page when nobody says how many.
pub const DEFAULT_LIMIT: u32 = 50;
/// The most items of a page.
pub const MAX_LIMIT: u32 = 500;

/// Which part of a list is wanted.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// The most items, 1 to [`MAX_LIMIT`]; what is outside is moved to the nearer bound.
    pub limit: u32,
    /// After which item; `None`: from the beginning.
    pub cursor: Option<Cursor>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            cursor: None,
        }
    }
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: this was the last.
    pub next_cursor: Option<Cursor>,
}

/// The longest id in a cursor: a tenant, a space and a notification's id.
const MAX_ID: usize = 64 + 1 + 128;

/// Names a place in a list: opaque to whoever gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(super) micros: i64,
    pub(super) id: String,
}

/// A text that is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one that a list of this kind gave out")]
pub struct InvalidCursor;

impl Cursor {
    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// [`InvalidCursor`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let (micros, id) = bytes.split_first_chunk::<8>().ok_or(InvalidCursor)?;
        let id = std::str::from_utf8(id).map_err(|_| InvalidCursor)?;
        // It comes back from outside and goes into a query: Postgres refuses a text with a zero
        // byte, which would be our 500 and not the caller's 400.
        if id.is_empty() || id.len() > MAX_ID || id.contains('\0') {
            return Err(InvalidCursor);
        }
        Ok(Self {
            micros: i64::from_be_bytes(*micros),
            id: id.to_owned(),
        })
    }

    /// As text, safe in a URL.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = self.micros.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// A list of the API.
pub(super) struct List {
    /// What is in it, for the log.
    pub(super) what: &'static str,
    pub(super) table: &'static str,
    /// The column of the time that it is ordered by.
    pub(super) time: &'static str,
    /// The columns of the id that it is ordered by within a time.
    pub(super) id: &'static [&'static str],
}

/// A row of a list.
pub(super) struct Placed<T> {
    /// `None` where it cannot be read.
    pub(super) item: Option<T>,
    /// Where it is, which can be read nearly always.
    pub(super) place: Option<Cursor>,
}

impl List {
    /// Where a row is; `None` where even that cannot be read.
    pub(super) fn place(&self, row: &Row) -> Option<Cursor> {
        let Some(Value::Int(micros)) = row.value(self.time) else {
            return None;
        };
        let id = self.id.iter().map(|column| match row.value(column)? {
            Value::Text(text) => Some(text.clone()),
            Value::Uuid(id) => Some(id.to_string()),
            Value::Bytes(bytes) => Some(Uuid::from_slice(bytes).ok()?.to_string()),
            _ => None,
        });
        Some(Cursor {
            micros: *micros,
            id: id.collect::<Option<Vec<_>>>()?.join(" "),
        })
    }
}

impl PageRequest {
    /// How many rows to ask for: one more than the page holds, which tells whether there is another
    /// page.
    pub(super) fn fetch(&self) -> i64 {
        i64::from(self.size()) + 1
    }

    fn size(&self) -> u32 {
        self.limit.clamp(1, MAX_LIMIT)
    }
}

impl<T> Page<T> {
    /// [`Self::of`] where rows that cannot be read are left out, so that they neither fail a list
    /// nor end it. The next page begins after the last row of this one, readable or not.
    pub(super) fn of_readable(mut rows: Vec<Placed<T>>, request: &PageRequest) -> Self {
        let size = request.size() as usize;
        // One row more than the page was asked for: whether there is a next page is known without a
        // second query.
        let more = rows.len() > size;
        rows.truncate(size);
        let last = rows.iter().rev().find_map(|row| row.place.clone());
        Self {
            items: rows.into_iter().filter_map(|row| row.item).collect(),
            next_cursor: last.filter(|_| more),
        }
    }

    /// Makes the page of the rows that [`PageRequest::fetch`] asked for.
    pub(super) fn of(
        mut items: Vec<T>,
        request: &PageRequest,
        cursor: impl Fn(&T) -> Cursor,
    ) -> Self {
        let size = request.size() as usize;
        let more = items.len() > size;
        items.truncate(size);
        let next_cursor = if more { items.last().map(cursor) } else { None };
        Self { items, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let cursor = Cursor {
            micros: -5,
            id: "ep_1".to_owned(),
        };
        assert_eq!(Cursor::parse(&cursor.encode()), Ok(cursor));
        for text in ["", "!!", "AAAAAAAAAAA", "AAAA"] {
            assert_eq!(Cursor::parse(text), Err(InvalidCursor));
        }
    }
}
