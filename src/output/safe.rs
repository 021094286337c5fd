//! Text of others, made safe for a terminal. What receivers, tenants and AMQP clients say ends up
//! on an operator's screen; sequences in it could clear the screen, change what a line seems to
//! say, or type for the operator.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text of one line: newlines and tabs are escaped, too.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// Text that may have several lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| matches!(character, '\n' | '\t'))
}

fn escape(text: &str, allowed: impl Fn(char) -> bool) -> Cow<'_, str> {
    let unsafe_here = |character: char| is_unsafe(character) && !allowed(character);
    if !text.contains(unsafe_here) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' if unsafe_here(character) => safe.push_str("\\n"),
            '\t' if unsafe_here(character) => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            character if unsafe_here(character) => {
                // Writing to a string does not fail.
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(character));
            }
            character => safe.push(character),
        }
    }
    Cow::Owned(safe)
}

/// C0, DEL and C1 control characters; what changes the direction of text (UAX #9); line and
/// paragraph separators.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_not_sent() {
        assert_eq!(
            lines("a\u{1b}[2Jb\u{7}\u{7f}\u{9b}31m"),
            "a\\u{1b}[2Jb\\u{7}\\u{7f}\\u{9b}31m"
        );
        assert_eq!(
            lines("pay \u{202e}txt.exe\u{2066}"),
            "pay \\u{202e}txt.exe\\u{2066}"
        );
        assert_eq!(lines("over\rwritten"), "over\\rwritten");
    }

    #[test]
    fn newlines_and_tabs_are_kept_where_text_may_have_lines() {
        assert_eq!(lines("a\n\tb"), "a\n\tb");
        assert_eq!(line("a\n\tb"), "a\\n\\tb");
    }

    #[test]
    fn other_text_is_left_alone() {
        assert!(matches!(line("Olá 你好 👩‍👩‍👧 عربى"), Cow::Borrowed(_)));
    }
}
