//! Lines of any length up to a bound, from a file or stdin.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

/// The longest line that is read: larger than the largest notification that an API can be told to
/// take.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// A source of lines.
pub(super) struct Lines {
    reader: Box<dyn AsyncBufRead + Send + Unpin>,
    /// The number of the line that was read last, from 1.
    pub(super) number: u64,
}

/// One line of the input.
pub(super) enum Line {
    /// Its text, without the newline.
    Text(Vec<u8>),
    /// Longer than what is read; skipped.
    TooLong,
}

impl Lines {
    /// Opens a file, or stdin for `-`.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let reader: Box<dyn AsyncBufRead + Send + Unpin> = if path.as_os_str() == "-" {
            Box::new(BufReader::new(tokio::io::stdin()))
        } else {
            Box::new(BufReader::with_capacity(
                1 << 16,
                tokio::fs::File::open(path).await?,
            ))
        };
        Ok(Self { reader, number: 0 })
    }

    /// The next line that is not empty.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut line = Vec::new();
            let mut too_long = false;
            let ended = loop {
                let chunk = self.reader.fill_buf().await?;
                if chunk.is_empty() {
                    break true;
                }
                let end = chunk.iter().position(|byte| *byte == b'\n');
                let part = end.unwrap_or(chunk.len());
                // The rest of a line that is too long is read and dropped, so that the next one
                // begins where it should.
                too_long |= line.len() + part > MAX_LINE;
                if !too_long {
                    line.extend_from_slice(&chunk[..part]);
                }
                let used = end.map_or(part, |end| end + 1);
                self.reader.consume(used);
                if end.is_some() {
                    break false;
                }
            };
            // Empty lines count, so that the numbers are those of an editor.
            self.number += 1;
            if too_long {
                return Ok(Some(Line::TooLong));
            }
            let text = line.trim_ascii();
            if !text.is_empty() {
                return Ok(Some(Line::Text(text.to_vec())));
            }
            // Only now: a last line without a newline is a line as well.
            if ended {
                return Ok(None);
            }
        }
    }
}

/// How many lines a regular file has, for the progress bar; 0 when that cannot be told beforehand.
pub(super) async fn count(path: &Path) -> u64 {
    let regular = tokio::fs::metadata(path)
        .await
        .is_ok_and(|meta| meta.is_file());
    if !regular {
        return 0;
    }
    let Ok(mut lines) = Lines::open(path).await else {
        return 0;
    };
    let mut count = 0;
    while let Ok(Some(_)) = lines.next().await {
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn empty_lines_count_but_are_not_read() {
        let mut lines = Lines {
            reader: Box::new(&b"a\r\n\n  \nb"[..]),
            number: 0,
        };
        let mut read = Vec::new();
        while let Some(Line::Text(text)) = lines.next().await.unwrap() {
            read.push((lines.number, String::from_utf8(text).unwrap()));
        }
        assert_eq!(read, [(1, "a".to_owned()), (4, "b".to_owned())]);
    }
}
