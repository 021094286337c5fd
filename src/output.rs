//! What goes to stdout: tables for people, JSON for programs. Colours only on a terminal, and not with `NO_COLOR`.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

/// How a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// JSON was asked for.
    pub(crate) json: bool,
}

impl Output {
    /// Tables, or JSON.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// One line. Unlike `println!` it does not panic when the reader is gone.
    pub(crate) fn line(self, text: impl Display) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// One JSON document, indented on a terminal's behalf.
    pub(crate) fn document<T: Serialize>(self, value: &T) -> io::Result<()> {
        self.line(serde_json::to_string_pretty(value)?)
    }

    /// One JSON document on a line.
    pub(crate) fn ndjson<T: Serialize>(self, value: &T) -> io::Result<()> {
        self.line(serde_json::to_string(value)?)
    }

    /// A table; nothing but its header when there are no rows.
    pub(crate) fn table(self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(if io::stdout().is_terminal() {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        let colours = colours();
        table.set_header(header.iter().map(|title| title.to_uppercase()).collect::<Vec<_>>());
        for row in rows {
            table.add_row(row.into_iter().map(|text| cell(text, colours)).collect::<Vec<_>>());
        }
        let text = table.trim_fmt();
        let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        self.line(lines.join("\n"))
    }

    /// Names and values below each other; those without a value are left out.
    pub(crate) fn facts(self, facts: &[(&str, String)]) -> io::Result<()> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            let value = value.replace('\n', &format!("\n{:width$}  ", ""));
            self.line(format_args!("{name:width$}  {value}"))?;
        }
        Ok(())
    }
}

/// Whether stdout takes colours.
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn cell(text: String, colours: bool) -> Cell {
    let colour = match text.as_str() {
        "delivered" | "ok" | "enabled" => Color::Green,
        "failed" | "fail" => Color::Red,
        "expired" | "warn" | "disabled" => Color::Yellow,
        "pending" => Color::Cyan,
        _ => return Cell::new(text),
    };
    let cell = Cell::new(text);
    if colours { cell.fg(colour) } else { cell }
}

/// A word in colour, for lines outside of tables.
pub(crate) fn paint(text: &str, ansi: u8) -> String {
    if colours() { format!("\u{1b}[{ansi}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A progress bar on stderr, or one that does not show when stderr is no terminal. `total` 0: not known.
pub(crate) fn progress(total: u64, what: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = if total == 0 { ProgressBar::no_length() } else { ProgressBar::new(total) };
    bar.set_draw_target(target);
    let template = if total == 0 {
        "{spinner} {msg} {human_pos} ({rate})"
    } else {
        "{msg} [{bar:30}] {human_pos}/{human_len} ({rate}, {eta})"
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let rate = |state: &ProgressState, to: &mut dyn fmt::Write| {
        // A bar has nowhere to report that it cannot be written.
        let _ = write!(to, "{:.0}/s", state.per_sec());
    };
    bar.set_style(style.with_key("rate", rate));
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A member of a JSON object as text: empty when it is null or not there. `path` may have dots.
pub(crate) fn text(value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |value, name| value.get(name));
    match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The items of a list that the API answered with.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A time to the second, as `2026-01-31 12:00:00Z`.
pub(crate) fn time(value: &Value, path: &str) -> String {
    let text = text(value, path);
    let Some((date, clock)) = text.split_once('T') else { return text };
    let seconds: String = clock.chars().take(8).collect();
    format!("{date} {}Z", seconds.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_their_path() {
        let value =
            serde_json::json!({"a": {"b": 1}, "c": null, "t": "2026-01-01T00:00:07.5Z", "u": "2026-01-01T00:00:07Z"});
        assert_eq!(text(&value, "a.b"), "1");
        assert_eq!(text(&value, "c"), "");
        assert_eq!(text(&value, "x.y"), "");
        assert_eq!(time(&value, "t"), "2026-01-01 00:00:07Z");
        assert_eq!(time(&value, "u"), "2026-01-01 00:00:07Z");
    }
}
