//! What the receiver notes of each request, and the file in which the bench reads it.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// What stands for a number that a request did not have.
pub(in crate::commands::bench) const UNKNOWN: u32 = u32::MAX;
/// The bytes of a record in the file.
const SIZE: usize = 34;
/// Requests that come at the same time seldom wait for each other.
const SHELVES: usize = 32;

/// A request that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands::bench) struct Record {
    /// When, by the bench's clock.
    pub(in crate::commands::bench) at: u64,
    /// The header `webhook-id`: the delivery.
    pub(in crate::commands::bench) id: Uuid,
    /// Which notification of the bench; [`UNKNOWN`] if that could not be read.
    pub(in crate::commands::bench) number: u32,
    /// Which endpoint of the bench.
    pub(in crate::commands::bench) endpoint: u32,
    /// The status of the answer; 0: it was not answered.
    pub(in crate::commands::bench) status: u16,
}

impl Record {
    fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(&self.at.to_le_bytes());
        bytes[8..24].copy_from_slice(self.id.as_bytes());
        bytes[24..28].copy_from_slice(&self.number.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.endpoint.to_le_bytes());
        bytes[32..].copy_from_slice(&self.status.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8; SIZE]) -> Self {
        let (at, rest) = split(bytes);
        let (id, rest) = split(rest);
        let (number, rest) = split(rest);
        let (endpoint, rest) = split(rest);
        let (status, _) = split(rest);
        Self {
            at: u64::from_le_bytes(at),
            id: Uuid::from_bytes(id),
            number: u32::from_le_bytes(number),
            endpoint: u32::from_le_bytes(endpoint),
            status: u16::from_le_bytes(status),
        }
    }

    /// Whether the delivery was taken.
    pub(in crate::commands::bench) const fn taken(&self) -> bool {
        matches!(self.status, 200..=299)
    }
}

/// The first bytes, and those behind them; zeros where there are too few.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    bytes
        .split_first_chunk::<N>()
        .map_or(([0; N], &[][..]), |(first, rest)| (*first, rest))
}

/// All requests so far.
#[derive(Debug, Default)]
pub(super) struct Book {
    shelves: [Mutex<Shelf>; SHELVES],
    healthy: AtomicU64,
}

#[derive(Debug, Default)]
struct Shelf {
    records: Vec<Record>,
    seen: HashSet<(u32, u32)>,
}

impl Book {
    /// Notes a request. `healthy`: it counts as one of those that the bench waits for.
    pub(super) fn note(&self, record: Record, healthy: bool) {
        let mut shelf = self.shelves[record.number as usize % SHELVES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shelf.records.push(record);
        if healthy
            && record.taken()
            && record.number != UNKNOWN
            && shelf.seen.insert((record.number, record.endpoint))
        {
            self.healthy.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many different deliveries of healthy endpoints were taken.
    pub(super) fn healthy(&self) -> u64 {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Writes all records into a new file.
    pub(super) fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create_new(path)?);
        for shelf in &self.shelves {
            let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            for record in &shelf.records {
                file.write_all(&record.bytes())?;
            }
        }
        file.flush()
    }
}

/// Reads the records of a file, in the order of their arrival.
pub(in crate::commands::bench) fn read(path: &Path) -> std::io::Result<Vec<Record>> {
    let bytes = std::fs::read(path)?;
    let (chunks, _) = bytes.as_chunks::<SIZE>();
    let mut records: Vec<Record> = chunks.iter().map(Record::of).collect();
    records.sort_unstable_by_key(|record| record.at);
    Ok(records)
}

/// The number that a payload of the bench begins with, wherever the wire format put the payload.
pub(super) fn number_in(body: &[u8]) -> u32 {
    const MARK: &[u8] = br#""n":""#;
    let digits = body
        .windows(MARK.len())
        .position(|window| window == MARK)
        .map(|at| &body[at + MARK.len()..])
        .and_then(|rest| rest.get(..super::DIGITS));
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let record = |at, number, status| Record {
            at,
            id: Uuid::from_u128(u128::from(at) << 70),
            number,
            endpoint: 7,
            status,
        };
        let book = Book::default();
        for record in [record(9, 40, 200), record(3, 1, 200), record(5, 40, 500)] {
            book.note(record, true);
        }
        book.note(record(10, 40, 200), true);
        assert_eq!(book.healthy(), 2);
        book.write(&path).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(
            read,
            [
                record(3, 1, 200),
                record(5, 40, 500),
                record(9, 40, 200),
                record(10, 40, 200)
            ]
        );
    }

    #[test]
    fn a_number_is_found_in_any_body() {
        for (body, number) in [
            (r#"{"n":"00000012","x":1}"#, 12),
            (r#"{"type":"a","data":{"n":"10000000"}}"#, 10_000_000),
            (r#"{"n":"12"}"#, UNKNOWN),
            ("", UNKNOWN),
        ] {
            assert_eq!(number_in(body.as_bytes()), number, "{body}");
        }
    }
}
