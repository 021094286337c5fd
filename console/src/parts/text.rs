//! Text that strangers wrote: ids, types, answers, errors. It is never a link, has its own
//! direction, and shows characters that nobody sees otherwise.

use std::borrow::Cow;

use maud::{Markup, html};
use posthaste_shared::domain::secret::Secret;

/// A text with what is invisible or turns the direction written as `\u{202e}`. Line breaks and tabs
/// stay.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_odd) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_odd(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Whether nobody sees a character, or it turns the direction of text.
pub(crate) fn is_odd(c: char) -> bool {
    let breaks = matches!(c, '\n' | '\t' | '\r');
    (c.is_control() && !breaks)
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// A stranger's text within a line.
pub(crate) fn strange(text: &str) -> Markup {
    html! { bdi { (plain(text)) } }
}

/// A stranger's text in a cell that cuts it off; whole when somebody points at it.
pub(crate) fn cut(text: &str) -> Markup {
    html! { span.cut title=(plain(text)) dir="auto" { (plain(text)) } }
}

/// A stranger's text of several lines.
pub(crate) fn block(text: &str) -> Markup {
    html! { pre dir="auto" tabindex="0" { (plain(text)) } }
}

/// An id: its beginning, whole for whoever points at it or copies it.
pub(crate) fn short_id(id: &str) -> Markup {
    let beginning: String = id.chars().take(8).collect();
    html! { span.id title=(plain(id)) data-id=(id) { (plain(&beginning)) } }
}

/// An id as a whole, with what copies it.
pub(crate) fn whole_id(id: &str) -> Markup {
    html! { span.id data-id=(id) { bdi { (plain(id)) } } " " (copy(id, "Copy the id")) }
}

/// A button that copies a text; hidden where no script runs.
pub(crate) fn copy(text: &str, label: &str) -> Markup {
    html! {
        button.copy type="button" data-copy=(text) title=(label) hidden { "copy" }
    }
}

/// A secret that is shown this once.
pub(crate) fn secret(secret: &Secret, label: &str) -> Markup {
    html! { p { code.secret { (secret.expose()) } " " (copy(secret.expose(), label)) } }
}

/// The host and path of a URL: what tells endpoints apart.
pub(crate) fn address(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.strip_suffix('/').unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_written_out() {
        assert_eq!(plain("order.paid"), "order.paid");
        assert_eq!(plain("a\u{202e}b\u{0}c\n"), "a\\u{202e}b\\u{0}c\n");
        assert_eq!(strange("<b>").into_string(), "<bdi>&lt;b&gt;</bdi>");
    }

    #[test]
    fn an_address_is_a_url_without_what_all_have() {
        assert_eq!(address("https://hooks.acme.example/"), "hooks.acme.example");
        assert_eq!(address("https://a.example/b?c"), "a.example/b?c");
    }
}
