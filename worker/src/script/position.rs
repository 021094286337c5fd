//! Places in a source: counting them, and mapping those in the printed code back to the source as
//! written.

/// A place in a source; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: u32,
    /// In characters, not in bytes.
    pub(super) column: u32,
}

impl Position {
    /// From a line and a column that count from 0.
    pub(super) const fn from_zero(line: u32, column: u32) -> Self {
        Self {
            line: line + 1,
            column: column + 1,
        }
    }
}

/// Finds the line and the column of an offset.
#[derive(Debug)]
pub(super) struct Positions<'a>(&'a str);

impl<'a> Positions<'a> {
    pub(super) const fn new(source: &'a str) -> Self {
        Self(source)
    }

    /// The place of a byte offset; one that is beyond the end counts as the end.
    pub(super) fn of(&self, offset: u32) -> Position {
        let before = self.0.get(..offset as usize).unwrap_or(self.0);
        let line = before.matches('\n').count();
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count();
        Position::from_zero(
            u32::try_from(line).unwrap_or(u32::MAX - 1),
            u32::try_from(column).unwrap_or(u32::MAX - 1),
        )
    }
}

/// From places in the code that runs to places in the source as written.
#[derive(Debug)]
pub(super) struct Map(Vec<(Position, Position)>);

impl Map {
    /// From pairs of a place in the code that runs and its place as written.
    pub(super) fn new(pairs: impl Iterator<Item = (Position, Position)>) -> Self {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        Self(pairs)
    }

    /// The pairs that it was made of.
    pub(super) fn pairs(&self) -> &[(Position, Position)] {
        &self.0
    }

    /// Where the code at `position` was written. A place before the first that is known of its line
    /// counts as that one.
    pub(super) fn written(&self, position: Position) -> Option<Position> {
        let after = self.0.partition_point(|(code, _)| *code <= position);
        let on_line = |pair: &&(Position, Position)| pair.0.line == position.line;
        let before = after
            .checked_sub(1)
            .and_then(|index| self.0.get(index))
            .filter(on_line);
        before
            .or_else(|| self.0.get(after).filter(on_line))
            .map(|(_, written)| *written)
    }

    /// Where the innermost frame of the script in a stack trace of the engine was written. Its
    /// frames look like `    at name (script:4:7)`.
    pub(super) fn of_stack(&self, stack: &str, script: &str) -> Option<Position> {
        stack
            .lines()
            .find_map(|frame| frame_position(frame, script))
            .and_then(|position| self.written(position))
    }
}

/// The place that a stack frame of `script` names.
pub(super) fn frame_position(frame: &str, script: &str) -> Option<Position> {
    let (_, place) = frame.rsplit_once(script)?;
    let mut numbers = place
        .strip_prefix(':')?
        .trim_end_matches(')')
        .split(':')
        .map(|number| number.parse().ok());
    Some(Position {
        line: numbers.next()??,
        column: numbers.next()??,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(line: u32, column: u32) -> Position {
        Position { line, column }
    }

    #[test]
    fn offsets_become_lines_and_columns() {
        let positions = Positions::new("ab\nçd\n");
        assert_eq!(positions.of(0), at(1, 1));
        assert_eq!(positions.of(3), at(2, 1));
        assert_eq!(positions.of(5), at(2, 2));
        assert_eq!(positions.of(99), at(3, 1));
    }

    #[test]
    fn code_is_found_where_it_was_written() {
        let map = Map::new([(at(2, 5), at(7, 3)), (at(2, 9), at(8, 1))].into_iter());
        assert_eq!(map.written(at(2, 8)), Some(at(7, 3)));
        assert_eq!(map.written(at(2, 40)), Some(at(8, 1)));
        assert_eq!(
            map.written(at(2, 1)),
            Some(at(7, 3)),
            "before the first place of the line"
        );
        assert_eq!(
            map.written(at(1, 1)),
            None,
            "a line of which nothing is known"
        );
        let stack = "    at inner (prelude:1:1)\n    at send (script:2:9)\n    at script:2:5\n";
        assert_eq!(map.of_stack(stack, "script"), Some(at(8, 1)));
    }
}
