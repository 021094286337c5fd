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
    html! { a.button href=(frame.link(action)) data-question { (label) } }
}

/// The question itself: what happens, in words, and the way back.
pub(crate) fn confirm(frame: &Frame, ask: &Confirm<'_>) -> Markup {
    html! {
        div.headline { h1 { (ask.title) } }
        (ask.words)
        div.actions {
            form.action method="post" action=(frame.link(ask.action)) {
                (token(frame))
                @if let Some(typed) = &ask.typed {
                    label for="typed" { "To go on, type " (typed.what) ": " b { (typed.value) } }
                    " "
                    input #typed name=(TYPED) autocomplete="off" spellcheck="false"
                        size=(typed.value.len().max(9)) required;
                    " "
                }
                button.primary type="submit" autofocus[ask.typed.is_none()] { (ask.label) }
            }
            a.button href=(frame.link(ask.back)) data-back { "Back" }
        }
    }
}

/// The field with what was typed.
pub(crate) const TYPED: &str = "typed";

/// What somebody types who has read the question.
pub(crate) struct Typed {
    /// What it is, such as `how many`.
    pub(crate) what: &'static str,
    pub(crate) value: String,
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
    /// What has to be typed, where it concerns many or cannot be undone.
    pub(crate) typed: Option<Typed>,
    /// Where the way back leads.
    pub(crate) back: &'a str,
}
