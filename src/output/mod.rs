//! What goes to stdout and stderr: tables and lines for people, JSON for programs. Everything for
//! people goes through [`safe`]; colours only on a terminal, and not with `NO_COLOR`.

pub(crate) mod safe;
mod table;

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::config::value::show_seconds;
use posthaste_shared::domain::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use table::wrap;
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
        let written = writeln!(stdout, "{}", text.0).and_then(|()| stdout.flush());
        // Of the same kind, so that whoever has seen enough (`| head`) is still told from a full
        // disk.
        written.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("standard output cannot be written to: {error}"),
            )
        })
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
    /// that, and what has no room in a row stands below it.
    pub(crate) fn table(self, columns: &[Column], rows: Vec<Vec<String>>) -> io::Result<()> {
        self.show(&Styled(table::show(columns, rows, width(), colours())))
    }

    /// Names and values below each other; those without a value are left out. On a terminal
    /// sentences are broken between words.
    pub(crate) fn facts(self, facts: &[(&str, String)]) -> io::Result<()> {
        let names = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let room = width().map(|width| width.saturating_sub(names + 2));
        for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            let value = value.trim_end();
            // JSON is left as it is, for whoever copies it.
            let value = match room {
                Some(room) if !value.starts_with(['{', '[']) => {
                    let lines = value.lines().flat_map(|line| wrap(line, room));
                    lines.collect::<Vec<_>>().join("\n")
                }
                _ => value.to_owned(),
            };
            let value = value.replace('\n', &format!("\n{:names$}  ", ""));
            self.line(format_args!("{name:names$}  {value}"))?;
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

/// A spinner on stderr for work whose end is not known, or one that does not show when stderr is
/// not a terminal. It goes when it is dropped.
pub(crate) fn waiting(what: impl Into<String>) -> Waiting {
    let bar = if io::stderr().is_terminal() {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_message(what.into());
    bar.enable_steady_tick(Duration::from_millis(200));
    Waiting(bar)
}

/// Shows that something is being done.
pub(crate) struct Waiting(ProgressBar);

impl Waiting {
    /// What is done now.
    pub(crate) fn now(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Else the line would stay on the screen, above the result or the error.
        self.0.finish_and_clear();
    }
}

/// A number of things: `1 request`, `2 requests`, `2 deliveries`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    if number == 1 {
        return format!("1 {thing}");
    }
    match thing.strip_suffix('y') {
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {thing}s"),
    }
}

/// A duration as flags take it, in its largest unit without a rest: `1500ms`, `5s`, `30m`.
pub(crate) fn short(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        // Up to 60 s in seconds: that is how limits of time are spoken of.
        match duration.as_secs() {
            60 => "60s".to_owned(),
            seconds => show_seconds(seconds),
        }
    } else {
        format!("{}ms", duration.as_millis())
    }
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
    fn durations_and_counts_are_as_people_write_them() {
        for (millis, text) in [
            (0, "0s"),
            (1_000, "1s"),
            (1_500, "1500ms"),
            (60_000, "60s"),
            (90_000, "90s"),
            (1_800_000, "30m"),
            (2_592_000_000, "30d"),
        ] {
            assert_eq!(short(Duration::from_millis(millis)), text);
        }
        assert_eq!(count(1, "request"), "1 request");
        assert_eq!(count(0, "request"), "0 requests");
        assert_eq!(count(2, "delivery"), "2 deliveries");
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
