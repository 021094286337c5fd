//! The pages before the sign-in.

use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};

use crate::parts::layout::bare;

/// What the sign-in page says.
#[derive(Debug, Clone)]
pub(crate) struct LoginPage {
    /// Whether a key may be sent at all: not over plain HTTP from elsewhere.
    pub(crate) is_safe: bool,
    /// Whether nobody changes anything here.
    pub(crate) is_read_only: bool,
    /// The page to go to afterwards.
    pub(crate) next: Option<String>,
    /// Why the last try failed.
    pub(crate) error: Option<String>,
}

/// The page that asks for an API key.
pub(crate) fn login_page(status: StatusCode, page: &LoginPage) -> Response {
    let body = html! {
        h1 { "Sign in" }
        @if !page.is_safe { (unsafe_here()) } @else {
            @if let Some(error) = &page.error { p.error role="alert" { (error) } }
            form.stacked method="post" action="/console/login" {
                @if let Some(next) = &page.next { input type="hidden" name="next" value=(next); }
                label for="key" { "API key" }
                input #key name="key" type="password" required autofocus
                    autocomplete="current-password" spellcheck="false"
                    aria-describedby="key-help";
                p #key-help.muted { "It begins with ph_. The console does what this key may do." }
                (look_only(page.is_read_only))
                button.primary type="submit" { "Sign in" }
            }
            p.muted {
                "Or run " code { "posthaste console" } " where the program is installed: it makes \
                a link that signs in once."
            }
        }
    };
    bare(status, "Sign in", &body)
}

/// The page behind a link that signs in once.
pub(crate) fn link_page(token: &str, is_read_only: bool) -> Response {
    let body = html! {
        h1 { "Sign in" }
        p { "This link signs in once." }
        form.stacked method="post" action="/console/link" {
            input type="hidden" name="token" value=(token);
            (look_only(is_read_only))
            button.primary type="submit" autofocus { "Sign in" }
        }
    };
    bare(StatusCode::OK, "Sign in", &body)
}

fn look_only(is_read_only: bool) -> Markup {
    html! {
        @if is_read_only { p { "Nobody changes anything here: this console is read-only." } }
        @else {
            label.check {
                input type="checkbox" name="look_only" value="1"; " To look only: change nothing"
            }
        }
    }
}

fn unsafe_here() -> Markup {
    html! {
        p.error role="alert" {
            "You cannot sign in here: over plain HTTP everybody on the way could read the key."
        }
        p {
            "Open the console over HTTPS, with a proxy in front and its address in the setting "
            code { "console_url" } "; or on the machine itself, such as through "
            code { "ssh -L 8080:127.0.0.1:8080" } ", at " code { "http://localhost:8080/console" }
            "."
        }
    }
}
