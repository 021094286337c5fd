//! Times and durations. Times are UTC with seconds; a script can show them in the reader's zone.

use maud::{Markup, html};
use posthaste_shared::domain::time::Timestamp;

/// A time with its date, exact for whoever points at it.
pub(crate) fn at(time: Timestamp) -> Markup {
    html! { time datetime=(time) title=(time) { (written(time)) } }
}

/// A time in a list: without its year, which all of them have in common.
pub(crate) fn in_list(time: Timestamp) -> Markup {
    let whole = written(time);
    let shown = whole.get(5..).unwrap_or(&whole);
    html! { time datetime=(time) title=(time) data-short { (shown) } }
}

/// A time, or what stands for none.
pub(crate) fn at_or(time: Option<Timestamp>, none: &str) -> Markup {
    html! { @match time { Some(time) => (at(time)), None => span.muted { (none) } } }
}

/// `2026-11-28 08:55:51`.
fn written(time: Timestamp) -> String {
    let whole = time.to_string();
    // RFC 3339, of which everybody leaves out the T and the fraction when they read it aloud.
    match whole.get(..19) {
        Some(seconds) => seconds.replace('T', " "),
        None => whole,
    }
}

/// Milliseconds, with as many digits as matter.
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        _ if ms < 1.0 => format!("{ms:.2} ms"),
        _ if ms < 10.0 => format!("{ms:.1} ms"),
        _ if ms < 1_000.0 => format!("{ms:.0} ms"),
        _ if ms < 60_000.0 => format!("{:.1} s", ms / 1_000.0),
        _ if ms < 3_600_000.0 => format!("{:.0} min", ms / 60_000.0),
        _ => format!("{:.1} h", ms / 3_600_000.0),
    }
}

/// A number with commas between thousands.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_seconds_and_durations_few_digits() {
        let time = Timestamp::parse("2026-11-28T08:55:51.425Z").unwrap();
        assert_eq!(written(time), "2026-11-28 08:55:51");
        for (ms, text) in [(0.25, "0.25 ms"), (112.4, "112 ms"), (5_000.0, "5.0 s")] {
            assert_eq!(milliseconds(ms), text);
        }
        assert_eq!(
            (number(7), number(1_234_567)),
            ("7".to_owned(), "1,234,567".to_owned())
        );
    }
}
