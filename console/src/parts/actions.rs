//! What can be done with a thing: forms with one button. What a visitor may not do is not there.

use maud::{Markup, html};

use crate::parts::frame::Frame;
use crate::parts::layout::token;

/// A button that does something at once.
pub(crate) fn button(frame: &Frame, action: &str, label: &str, is_primary: bool) -> Markup {
    html! {
        form.action method="post" action=(frame.link(action)) {
            (token(frame))
            button.primary[is_primary] type="submit" { (label) }
        }
    }
}

/// A link to the question before something that cannot be undone, or that others feel.
pub(crate) fn question(frame: &Frame, action: &str, label: &str) -> Markup {
    html! { a.button href=(frame.link(action)) { (label) } }
}

/// The question itself: what happens, in words, and the way back.
pub(crate) fn confirm(frame: &Frame, ask: &Confirm<'_>) -> Markup {
    html! {
        div.headline { h1 { (ask.title) } }
        (ask.words)
        div.actions {
            form.action method="post" action=(frame.link(ask.action)) {
                (token(frame))
                @if let Some(count) = ask.count {
                    label for="count" { "To go on, type how many: " b { (count) } }
                    " "
                    input #count name="count" inputmode="numeric" autocomplete="off" size="9"
                        required pattern=(count);
                    " "
                }
                button.primary type="submit" autofocus[ask.count.is_none()] { (ask.label) }
            }
            a.button href=(frame.link(ask.back)) { "Back" }
        }
    }
}

/// A question before something is done.
pub(crate) struct Confirm<'a> {
    /// The question.
    pub(crate) title: &'a str,
    /// What happens, and what cannot be undone.
    pub(crate) words: Markup,
    /// What the form is sent to.
    pub(crate) action: &'a str,
    /// What the button says.
    pub(crate) label: &'a str,
    /// The number that has to be typed, where it concerns many.
    pub(crate) count: Option<u64>,
    /// Where the way back leads.
    pub(crate) back: &'a str,
}
