//! What goes to stdout and stderr: tables and lines for people, JSON for programs. Everything for
//! people goes through [`safe`]; colours only on a terminal, and not with `NO_COLOR`.

pub(crate) mod safe;
mod table;

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::domain::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
pub(crate) use table::{Column, fixed, wrapped};

/// How a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// JSON was asked for.
    pub(crate) json: bool,
}

impl Output {
    /// Tables for people, or JSON for programs.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Text of one or more lines. Unlike `println!` it does not panic when the reader is gone.
    pub(crate) fn line(self, text: impl Display) -> io::Result<()> {
        self.show(&Styled::plain(text))
    }

    /// Text, parts of which may have colours.
    pub(crate) fn show(self, text: &Styled) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.0)?;
        stdout.flush()
    }

    /// One JSON document, indented on a terminal's behalf.
    pub(crate) fn document<T: Serialize>(self, value: &T) -> io::Result<()> {
        self.show(&Styled(serde_json::to_string_pretty(value)?))
    }

    /// One JSON document on a line.
    pub(crate) fn ndjson<T: Serialize>(self, value: &T) -> io::Result<()> {
        self.show(&Styled(serde_json::to_string(value)?))
    }

    /// A table; nothing but its header when there are no rows. On a terminal it is no wider than
    /// that.
    pub(crate) fn table(self, columns: &[Column], rows: Vec<Vec<String>>) -> io::Result<()> {
        let shown = table::show(columns, rows, width(), colours());
        self.show(&Styled(shown.text))?;
        if !shown.left_out.is_empty() {
            let names = shown.left_out.join(", ");
            writeln!(
                io::stderr(),
                "(no room for: {names}; a wider terminal or --json has them)"
            )?;
        }
        Ok(())
    }

    /// Names and values below each other; those without a value are left out.
    pub(crate) fn facts(self, facts: &[(&str, String)]) -> io::Result<()> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            let value = value
                .trim_end()
                .replace('\n', &format!("\n{:width$}  ", ""));
            self.line(format_args!("{name:width$}  {value}"))?;
        }
        Ok(())
    }
}

/// Whether stdout takes colours.
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The terminal's width in characters, where stdout is one.
fn width() -> Option<usize> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        terminal_size::terminal_size_of(stdout).map(|(width, _)| usize::from(width.0))
    } else {
        None
    }
}

/// Text that is safe to print, with colours of our own.
pub(crate) struct Styled(String);

impl Styled {
    /// Text without colours, whoever wrote it.
    pub(crate) fn plain(text: impl Display) -> Self {
        Self(safe::lines(&text.to_string()).into_owned())
    }

    /// Goes on with text without colours.
    pub(crate) fn then(mut self, text: impl Display) -> Self {
        self.0.push_str(&safe::lines(&text.to_string()));
        self
    }

    /// Goes on in a colour: the number of ECMA-48's Select Graphic Rendition.
    pub(crate) fn painted(mut self, text: impl Display, colour: u8) -> Self {
        if !colours() {
            return self.then(text);
        }
        self.0.push_str(&format!("\u{1b}[{colour}m"));
        self = self.then(text);
        self.0.push_str("\u{1b}[0m");
        self
    }
}

/// Text for people on stderr. Fails only when nobody can read it.
pub(crate) fn tell(text: impl Display) -> io::Result<()> {
    writeln!(io::stderr(), "{}", safe::lines(&text.to_string()))
}

/// [`tell`] without a line's end, for questions.
pub(crate) fn ask(text: impl Display) -> io::Result<()> {
    let mut stderr = io::stderr();
    write!(stderr, "{}", safe::lines(&text.to_string()))?;
    stderr.flush()
}

/// A progress bar on stderr, or one that does not show when stderr is no terminal. `total` 0: not
/// known.
pub(crate) fn progress(total: u64, what: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = if total == 0 {
        ProgressBar::no_length()
    } else {
        ProgressBar::new(total)
    };
    bar.set_draw_target(target);
    let template = if total == 0 {
        "{spinner} {msg} {human_pos} ({rate})"
    } else {
        "{msg} [{bar:30}] {human_pos}/{human_len} ({rate}, {eta})"
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
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
    let found = path
        .split('.')
        .try_fold(value, |value, name| value.get(name));
    match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The items of a list that the API answered with.
pub(crate) fn items(value: &Value) -> &[Value] {
    value
        .get("items")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A time to the second, as `2026-01-31 12:00:00Z`.
pub(crate) fn time(value: &Value, path: &str) -> String {
    let text = text(value, path);
    let Some((date, clock)) = text.split_once('T') else {
        return text;
    };
    let seconds: String = clock.chars().take(8).collect();
    format!("{date} {}Z", seconds.trim_end_matches('Z'))
}

/// How long ago a time was, for lists: `3m`, or `in 3m` when it is to come.
pub(crate) fn age(value: &Value, path: &str) -> String {
    let text = text(value, path);
    Timestamp::parse(&text).map_or(text, |then| age_at(then, SystemClock.now()))
}

fn age_at(then: Timestamp, now: Timestamp) -> String {
    let past = now.since(then);
    let future = then.since(now);
    if future > Duration::ZERO {
        format!("in {}", rough(future))
    } else {
        rough(past)
    }
}

/// A duration in its largest unit.
fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_their_path() {
        let value = serde_json::json!({
            "a": {"b": 1}, "c": null, "t": "2026-01-01T00:00:07.5Z", "u": "2026-01-01T00:00:07Z",
        });
        assert_eq!(text(&value, "a.b"), "1");
        assert_eq!(text(&value, "c"), "");
        assert_eq!(text(&value, "x.y"), "");
        assert_eq!(time(&value, "t"), "2026-01-01 00:00:07Z");
        assert_eq!(time(&value, "u"), "2026-01-01 00:00:07Z");
    }

    #[test]
    fn ages_are_rough() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let now = at("2026-01-02T00:00:00Z");
        assert_eq!(age_at(at("2026-01-01T23:59:53Z"), now), "7s");
        assert_eq!(age_at(at("2026-01-01T23:57:00Z"), now), "3m");
        assert_eq!(age_at(at("2026-01-01T20:00:00Z"), now), "4h");
        assert_eq!(age_at(at("2025-12-03T00:00:00Z"), now), "30d");
        assert_eq!(age_at(at("2026-01-02T00:05:00Z"), now), "in 5m");
    }

    #[test]
    fn text_of_others_has_no_colours() {
        let said = Styled::plain("a\u{1b}[31mb").then("\u{1b}c").0;
        assert_eq!(said, "a\\u{1b}[31mb\\u{1b}c");
    }
}
