//! Tables that fit the terminal: ids never wrap, columns without a value are left out, texts wrap,
//! and columns that still do not fit, the last first, stand below their row. Nothing is dropped.

use comfy_table::{
    Cell, Color, ColumnConstraint, ContentArrangement, LineStyle, Table, Width, presets,
};
use unicode_width::UnicodeWidthStr as _;

use super::safe;

/// The least that a wrapped column may be squeezed to, in characters: in fewer, a sentence becomes
/// a column of words.
const LEAST: usize = 24;
/// Between two columns, in characters.
const GAP: usize = 2;
/// How far what stands below a row is indented, in characters.
const INDENT: usize = 4;
/// Stands between rows until what belongs below them is there. No cell has it: cells are escaped.
const BETWEEN: char = '\u{1}';

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

/// `width`: of the terminal, in characters; `None` where the table goes elsewhere, and then it is
/// as wide as it is.
pub(super) fn show(
    columns: &[Column],
    rows: Vec<Vec<String>>,
    width: Option<usize>,
    colours: bool,
) -> String {
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            row.iter()
                .map(|text| safe::line(text).into_owned())
                .collect()
        })
        .collect();
    let (kept, below) = match width {
        Some(width) => fit(columns, &rows, width),
        None => ((0..columns.len()).collect(), Vec::new()),
    };
    let mut table = Table::new();
    let line = LineStyle::none().fill(BETWEEN);
    table.load_style(presets::NOTHING.header_separator(line).row_separator(line));
    table.set_header(
        kept.iter()
            .map(|index| columns[*index].title.to_uppercase())
            .collect::<Vec<_>>(),
    );
    for row in &rows {
        table.add_row(
            kept.iter()
                .map(|index| cell(&row[*index], colours))
                .collect::<Vec<_>>(),
        );
    }
    arrange(&mut table, columns, &kept, width);
    let text = table.trim_fmt();
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let mut parts = lines.split(|line| line.starts_with(BETWEEN));
    let mut shown: Vec<String> = Vec::new();
    let header = parts.next().into_iter().flatten();
    shown.extend(header.map(|line| (*line).to_owned()));
    for (part, row) in parts.zip(&rows) {
        shown.extend(part.iter().map(|line| (*line).to_owned()));
        shown.extend(beneath(columns, &below, row, width.unwrap_or(usize::MAX)));
    }
    shown.join("\n")
}

fn arrange(table: &mut Table, columns: &[Column], kept: &[usize], width: Option<usize>) {
    let Some(width) = width else {
        table.set_content_arrangement(ContentArrangement::Disabled);
        return;
    };
    table.set_content_arrangement(ContentArrangement::Dynamic);
    // The outermost spaces are cut off.
    table.set_width(u16::try_from(width + GAP).unwrap_or(u16::MAX));
    for (position, index) in kept.iter().enumerate() {
        if let Some(column) = table.column_mut(position) {
            column.set_constraint(match columns[*index].kind {
                Kind::Fixed => ColumnConstraint::ContentWidth,
                Kind::Wrapped => ColumnConstraint::LowerBoundary(Width::Fixed(0)),
            });
        }
    }
}

/// What a row has in columns that there is no room for, with their titles: as many on a line as
/// fit.
fn beneath(columns: &[Column], below: &[usize], row: &[String], width: usize) -> Vec<String> {
    let room = width.saturating_sub(INDENT);
    let mut lines: Vec<String> = Vec::new();
    for index in below.iter().filter(|index| !row[**index].is_empty()) {
        let item = format!("{}: {}", columns[*index].title, row[*index]);
        match lines.last_mut() {
            Some(last) if last.width() + GAP + item.width() <= room => {
                last.push_str("  ");
                last.push_str(&item);
            }
            _ => lines.extend(wrap(&item, room)),
        }
    }
    let indented = lines.iter().map(|line| format!("{:INDENT$}{line}", ""));
    indented.collect()
}

/// A text in lines of up to `room` characters, broken between words. A longer word, such as an id
/// or a URL, stays whole: it is there to be copied.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(last) if last.is_empty() => last.push_str(word),
            Some(last) if last.width() + 1 + word.width() <= room => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The columns that there is room for, and those that have values and no room. The first is always
/// kept.
fn fit(columns: &[Column], rows: &[Vec<String>], width: usize) -> (Vec<usize>, Vec<usize>) {
    let filled = |index: &usize| rows.is_empty() || rows.iter().any(|row| !row[*index].is_empty());
    let mut kept: Vec<usize> = (0..columns.len()).filter(filled).collect();
    let mut below = Vec::new();
    while kept.len() > 1
        && kept
            .iter()
            .map(|index| least(columns[*index], rows, *index))
            .sum::<usize>()
            > width + GAP
    {
        below.extend(kept.pop());
    }
    // A narrower column may fit where a wider one did not.
    let mut again: Vec<usize> = Vec::new();
    for index in below.iter().rev().copied() {
        let used: usize = kept
            .iter()
            .chain(&again)
            .map(|one| least(columns[*one], rows, *one))
            .sum();
        if used + least(columns[index], rows, index) <= width + GAP {
            again.push(index);
        }
    }
    below.retain(|index| !again.contains(index));
    kept.extend(again);
    below.reverse();
    (kept, below)
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
    fn ids_are_never_broken_and_nothing_is_lost_or_wider_than_the_terminal() {
        for width in [60, 70, 80, 120, 200] {
            let shown = show(&COLUMNS, rows(), Some(width), false);
            for id in [ID, "ep_0192f0c4b7e87d3f8a1bd2c3e4f50617"] {
                assert!(shown.contains(id), "{width}:\n{shown}");
            }
            assert_eq!(shown.matches("route").count(), 5, "{width}:\n{shown}");
            assert!(
                shown.lines().all(|line| line.chars().count() <= width),
                "{width}:\n{shown}"
            );
            assert!(!shown.contains("NEXT"), "an empty column:\n{shown}");
            let header = match width {
                60 | 70 => ["ID", "STATUS"].as_slice(),
                80 => &["ID", "STATUS", "WHY"],
                _ => &["ID", "STATUS", "WHY", "ENDPOINT"],
            };
            let titles: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
            assert_eq!(titles, header, "{width}:\n{shown}");
        }
    }

    #[test]
    fn what_has_no_room_stands_below_its_row() {
        let shown = show(&COLUMNS, rows(), Some(80), false);
        let lines: Vec<&str> = shown.lines().collect();
        let endpoint = "    endpoint: ep_0192f0c4b7e87d3f8a1bd2c3e4f50617";
        let at = lines.iter().position(|line| *line == endpoint);
        assert!(
            at.is_some_and(|at| lines[at + 1].contains("pending")),
            "{shown}"
        );
        assert_eq!(
            lines.last().map(|line| line.contains("pending")),
            Some(true)
        );
    }

    #[test]
    fn elsewhere_all_columns_are_there_in_one_line_each() {
        let shown = show(&COLUMNS, rows(), None, false);
        assert_eq!(shown.lines().count(), 3, "{shown}");
        assert!(shown.contains("NEXT"), "{shown}");
    }

    #[test]
    fn cells_have_no_line_breaks_and_no_escapes_of_others() {
        let shown = show(
            &[fixed("id")],
            vec![vec!["a\n\u{1b}[2J".to_owned()]],
            Some(80),
            true,
        );
        assert_eq!(shown, "ID\na\\n\\u{1b}[2J");
    }
}
