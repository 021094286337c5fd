//! JSON, laid out and coloured from the bytes that are stored, so that digits, escapes and order
//! stay as they came.

use maud::{Markup, html};

use super::text::{is_odd, plain};

/// The most bytes that are laid out; of more, the beginning.
const MAX_BYTES: usize = 64 * 1024;
/// The deepest nesting that is indented.
const MAX_INDENT: usize = 40;

/// A part of a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Key(&'a str),
    Text(&'a str),
    /// A number, or `true`, `false` or `null`.
    Word(&'a str),
    Mark(char),
    Break(usize),
}

/// A JSON text, laid out. What is not JSON is shown as it is.
pub(crate) fn pretty(json: &str) -> Markup {
    let shown = beginning(json);
    html! {
        pre.json dir="ltr" tabindex="0" {
            @for token in tokens(shown) {
                @match token {
                    Token::Key(text) => span.k { (plain(text)) },
                    Token::Text(text) => span.s { (plain(text)) },
                    Token::Word(text) => span.n { (plain(text)) },
                    Token::Mark(':') => ": ",
                    Token::Mark(mark) => (mark),
                    Token::Break(depth) => {
                        "\n" @for _ in 0..depth.min(MAX_INDENT) { "  " }
                    },
                }
            }
        }
        @if shown.len() < json.len() {
            p.muted {
                "This is the beginning: " (shown.len()) " of " (json.len()) " bytes."
            }
        }
    }
}

/// A JSON text, laid out as text, so that somebody can change it. One of more than 64 KiB stays as
/// it is.
pub(crate) fn laid_out(json: &str) -> String {
    if json.len() > MAX_BYTES {
        return json.to_owned();
    }
    let mut text = String::with_capacity(json.len() * 2);
    for token in tokens(json) {
        match token {
            Token::Key(part) | Token::Text(part) | Token::Word(part) => escaped(part, &mut text),
            Token::Mark(':') => text.push_str(": "),
            Token::Mark(mark) => text.push(mark),
            Token::Break(depth) => {
                text.push('\n');
                text.push_str(&"  ".repeat(depth.min(MAX_INDENT)));
            }
        }
    }
    text
}

/// What nobody sees is written as JSON can write it, too: it is the same text.
fn escaped(part: &str, text: &mut String) {
    for c in part.chars() {
        if is_odd(c) {
            let units = c.encode_utf16(&mut [0; 2]).to_vec();
            text.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
}

fn beginning(json: &str) -> &str {
    let mut end = json.len().min(MAX_BYTES);
    while !json.is_char_boundary(end) {
        end -= 1;
    }
    &json[..end]
}

fn tokens(json: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = json.trim_start();
    let mut depth = 0_usize;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '{' | '[' | '}' | ']' | ',' | ':' => 1,
            _ => rest
                .find(|c: char| c.is_whitespace() || "{}[],:\"".contains(c))
                .unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        rest = after.trim_start();
        match first {
            '"' if rest.starts_with(':') => tokens.push(Token::Key(token)),
            '"' => tokens.push(Token::Text(token)),
            '{' | '[' => {
                tokens.push(Token::Mark(first));
                // An empty one stays in its line.
                if let Some(end) = rest.chars().next().filter(|end| matches!(end, '}' | ']')) {
                    tokens.push(Token::Mark(end));
                    rest = rest[1..].trim_start();
                } else {
                    depth += 1;
                    tokens.push(Token::Break(depth));
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                tokens.push(Token::Break(depth));
                tokens.push(Token::Mark(first));
            }
            ',' => tokens.extend([Token::Mark(','), Token::Break(depth)]),
            ':' => tokens.push(Token::Mark(':')),
            _ => tokens.push(Token::Word(token)),
        }
    }
    tokens
}

/// The bytes of the string that `rest` begins with, its quotes included.
fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        let html = pretty(json).into_string();
        let mut text = String::new();
        let mut inside = false;
        for c in html.chars() {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                c if !inside => text.push(c),
                _ => {}
            }
        }
        text.replace("&quot;", "\"")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
    }

    #[test]
    fn it_is_laid_out_and_each_digit_stays() {
        assert_eq!(
            text(r#"{"b":1.10,"a":[true,{}],"c":"x\"y","d":12345678901234567890}"#),
            "{\n  \"b\": 1.10,\n  \"a\": [\n    true,\n    {}\n  ],\n  \"c\": \"x\\\"y\",\n  \
             \"d\": 12345678901234567890\n}"
        );
        assert_eq!(text("[]"), "[]");
        assert_eq!(text(r#""</pre><script>""#), "\"</pre><script>\"");
    }

    #[test]
    fn what_is_laid_out_to_be_changed_is_the_same_json() {
        let json = r#"{"b":1.10,"a":[true,{},"x\"y: {"],"c":12345678901234567890}"#;
        let laid_out = laid_out(json);
        assert!(laid_out.contains("\n  \"b\": 1.10,\n"), "{laid_out}");
        let unspaced: String = laid_out.split(['\n']).map(str::trim).collect();
        assert_eq!(unspaced.replace("\": ", "\":"), json);
        assert_eq!(
            super::laid_out("\"a\u{202e}\u{e0001}\""),
            r#""a\u202e\udb40\udc01""#
        );
    }

    #[test]
    fn what_is_broken_or_long_is_shown_to_its_end() {
        for odd in ["", "{\"a", "]]]", "\"\\", "a b", "{\"a\":\u{202e}1"] {
            pretty(odd);
        }
        let long = format!("[{}1]", "1,".repeat(MAX_BYTES));
        assert!(text(&long).contains("This is the beginning"));
    }
}
