//! Tables that fit the terminal: ids never wrap, columns without a value are left out, texts wrap,
//! and what still does not fit gives way, the last first.

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use unicode_width::UnicodeWidthStr as _;

use super::safe;

/// The least that a wrapped column may be squeezed to, in characters.
const LEAST: usize = 16;
/// Between two columns, in characters.
const GAP: usize = 2;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fixed,
    Wrapped,
}

/// A column whose cells are never broken: an id, a number, a word, a time.
pub(crate) const fn fixed(title: &'static str) -> Column {
    Column {
        title,
        kind: Kind::Fixed,
    }
}

/// A column whose cells may be broken into lines: a sentence, a URL.
pub(crate) const fn wrapped(title: &'static str) -> Column {
    Column {
        title,
        kind: Kind::Wrapped,
    }
}

/// What a table looks like, and which columns it has no room for.
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) left_out: Vec<&'static str>,
}

/// `width`: of the terminal, in characters; `None` where the table goes elsewhere, and then it is
/// as wide as it is, with all of its columns.
pub(super) fn show(
    columns: &[Column],
    rows: Vec<Vec<String>>,
    width: Option<usize>,
    colours: bool,
) -> Shown {
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            row.iter()
                .map(|text| safe::line(text).into_owned())
                .collect()
        })
        .collect();
    let (kept, left_out) = match width {
        Some(width) => fit(columns, &rows, width),
        None => ((0..columns.len()).collect(), Vec::new()),
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(
        kept.iter()
            .map(|index| columns[*index].title.to_uppercase())
            .collect::<Vec<_>>(),
    );
    for row in rows {
        table.add_row(
            kept.iter()
                .map(|index| cell(&row[*index], colours))
                .collect::<Vec<_>>(),
        );
    }
    match width {
        None => drop(table.set_content_arrangement(ContentArrangement::Disabled)),
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            // The outermost spaces are cut off.
            table.set_width(u16::try_from(width + GAP).unwrap_or(u16::MAX));
            for (position, index) in kept.iter().enumerate() {
                if let (Kind::Fixed, Some(column)) =
                    (columns[*index].kind, table.column_mut(position))
                {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                } else if let Some(column) = table.column_mut(position) {
                    column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(0)));
                }
            }
        }
    }
    let text = table.trim_fmt();
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    Shown {
        text: lines.join("\n"),
        left_out: left_out
            .into_iter()
            .map(|index| columns[index].title)
            .collect(),
    }
}

/// The columns that there is room for, and those that have values and none. The first is always
/// kept.
fn fit(columns: &[Column], rows: &[Vec<String>], width: usize) -> (Vec<usize>, Vec<usize>) {
    let filled = |index: &usize| rows.is_empty() || rows.iter().any(|row| !row[*index].is_empty());
    let mut kept: Vec<usize> = (0..columns.len()).filter(filled).collect();
    let mut left_out = Vec::new();
    while kept.len() > 1
        && kept
            .iter()
            .map(|index| least(columns[*index], rows, *index))
            .sum::<usize>()
            > width + GAP
    {
        left_out.extend(kept.pop());
    }
    // A narrower column may fit where a wider one did not.
    let mut again: Vec<usize> = Vec::new();
    for index in left_out.iter().rev().copied() {
        let used: usize = kept
            .iter()
            .chain(&again)
            .map(|one| least(columns[*one], rows, *one))
            .sum();
        if used + least(columns[index], rows, index) <= width + GAP {
            again.push(index);
        }
    }
    left_out.retain(|index| !again.contains(index));
    kept.extend(again);
    left_out.reverse();
    (kept, left_out)
}

/// The least room that a column needs, with the gap behind it.
fn least(column: Column, rows: &[Vec<String>], index: usize) -> usize {
    let content = rows
        .iter()
        .map(|row| row[index].width())
        .max()
        .unwrap_or(0)
        .max(column.title.width());
    GAP + if column.kind == Kind::Wrapped {
        content.min(LEAST)
    } else {
        content
    }
}

fn cell(text: &str, colours: bool) -> Cell {
    let cell = Cell::new(text);
    let colour = match text {
        "delivered" | "ok" | "enabled" => Color::Green,
        "failed" | "fail" => Color::Red,
        "expired" | "warn" | "disabled" => Color::Yellow,
        "pending" => Color::Cyan,
        _ => return cell,
    };
    if colours { cell.fg(colour) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6b1f0a0e-0000-5000-8000-000000000000";
    const COLUMNS: [Column; 5] = [
        fixed("id"),
        fixed("status"),
        wrapped("why"),
        fixed("next"),
        fixed("endpoint"),
    ];

    fn rows() -> Vec<Vec<String>> {
        let row = |status: &str, why: &str, endpoint: &str| {
            vec![
                ID.to_owned(),
                status.to_owned(),
                why.to_owned(),
                String::new(),
                endpoint.to_owned(),
            ]
        };
        vec![
            row(
                "failed",
                &"no route to host ".repeat(5),
                "ep_0192f0c4b7e87d3f8a1bd2c3e4f50617",
            ),
            row("pending", "", ""),
        ]
    }

    #[test]
    fn ids_are_never_broken_and_nothing_is_wider_than_the_terminal() {
        for width in [60, 70, 80, 120, 200] {
            let shown = show(&COLUMNS, rows(), Some(width), false);
            assert_eq!(
                shown.text.matches(ID).count(),
                2,
                "{width}:\n{}",
                shown.text
            );
            assert!(
                shown.text.lines().all(|line| line.chars().count() <= width),
                "{width}:\n{}",
                shown.text
            );
            assert!(
                !shown.text.contains("NEXT"),
                "an empty column:\n{}",
                shown.text
            );
            let left_out = match width {
                60 => vec!["why", "endpoint"],
                70 | 80 => vec!["endpoint"],
                _ => vec![],
            };
            assert_eq!(shown.left_out, left_out, "{width}");
        }
    }

    #[test]
    fn elsewhere_all_columns_are_there_in_one_line_each() {
        let shown = show(&COLUMNS, rows(), None, false);
        assert_eq!(shown.text.lines().count(), 3);
        assert!(shown.text.contains("NEXT") && shown.left_out.is_empty());
    }

    #[test]
    fn cells_have_no_line_breaks_and_no_escapes_of_others() {
        let shown = show(
            &[fixed("id")],
            vec![vec!["a\n\u{1b}[2J".to_owned()]],
            Some(80),
            true,
        );
        assert_eq!(shown.text, "ID\na\\n\\u{1b}[2J");
    }
}
