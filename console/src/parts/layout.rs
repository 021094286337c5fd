//! The document: the frame around every page, and the pages that have none.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};
use posthaste_producer::http::operations::request_id;
use posthaste_producer::http::problem::{Code, Problem};
use sha2::{Digest as _, Sha256};

use crate::assets::{CSS, ICON, MORPH, SCRIPT};
use crate::parts::frame::{Frame, ONCE, Section, TOKEN};
use crate::parts::text::{plain, strange};

/// A page whose main part stays up to date while it is open.
pub(crate) fn page(frame: &Frame, title: &str, body: &Markup) -> Response {
    let main = html! { main #main tabindex="-1" data-live { (body) } };
    if !frame.is_part {
        return Html(document(frame, title, &main).into_string()).into_response();
    }
    let main = main.into_string();
    // Without the id of its forms, which is another one each time.
    let same = main.replace(&frame.form_id, "");
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(same)[..12]));
    let unchanged = frame.seen.as_deref() == Some(tag.as_str());
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Html(main).into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A page that is asked for once: a question, or what was found out by an action.
pub(crate) fn still(frame: &Frame, status: StatusCode, title: &str, body: &Markup) -> Response {
    let main = html! { main #main tabindex="-1" { (body) } };
    // A question that is asked in a dialog.
    if frame.is_part {
        return (status, Html(main.into_string())).into_response();
    }
    (status, Html(document(frame, title, &main).into_string())).into_response()
}

/// Why somebody does not get what they asked for: in the frame, where it is known who asks.
pub(crate) fn failed(frame: Option<&Frame>, problem: &Problem) -> Response {
    let status = problem.code.status();
    let body = html! {
        h1 { (problem.code.title()) }
        p.said { (plain(&sentence(&problem.detail))) }
        @match problem.code {
            Code::Unavailable => p { "Nothing is lost meanwhile. Reload the page to try again." },
            Code::MissingScope => p {
                "Sign in with a key that may do this, or without looking only."
            },
            Code::IdempotencyConflict => p { "Nothing was done now." },
            _ => {},
        }
        @if let Some(id) = request_id() {
            p.muted { "Request " code { (id) } ", as in the log." }
        }
        p { a href="/console/deliveries" { "To the deliveries" } }
    };
    let title = problem.code.title();
    match frame {
        Some(frame) => still(frame, status, title, &body),
        None => bare(status, title, &body),
    }
}

/// Why a form is not taken, whatever is in it.
pub(crate) fn refused(frame: &Frame, why: &str) -> Response {
    let title = "The form is refused";
    let body = html! {
        h1 { (title) }
        p.said { (why) }
        p { "Nothing was done." }
    };
    still(frame, StatusCode::FORBIDDEN, title, &body)
}

/// For somebody whose session ended before they sent a form.
pub(crate) fn signed_out() -> Response {
    let body = html! {
        h1 { "You are signed out" }
        p { "Nothing was done. Sign in, and send the form again." }
        p { a.button href="/console/login" { "Sign in" } }
    };
    bare(StatusCode::UNAUTHORIZED, "Signed out", &body)
}

/// A page that asks for itself once more, from here.
pub(crate) fn once_more(path: &str) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content={ "0;url=" (path) };
                title { "Posthaste" }
            }
            body { p { a href=(path) { "Go on" } } }
        }
    };
    Html(page.into_string()).into_response()
}

/// A page without the frame, for those who are not signed in.
pub(crate) fn bare(status: StatusCode, title: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body.bare { main #main { p.brand { "Posthaste" } (body) } }
        }
    };
    (status, Html(page.into_string())).into_response()
}

/// A detail of a problem as a sentence of its own.
pub(crate) fn sentence(detail: &str) -> String {
    let mut chars = detail.chars();
    let Some(first) = chars.next() else {
        return String::new();
    };
    let end = if detail.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    format!("{}{}{end}", first.to_uppercase(), chars.as_str())
}

/// What every form carries.
pub(crate) fn token(frame: &Frame) -> Markup {
    html! {
        input type="hidden" name=(TOKEN) value=(frame.form_token);
        input type="hidden" name=(ONCE) value=(frame.form_id);
    }
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (plain(title)) " · Posthaste" }
            link rel="icon" href=(ICON.path()) type="image/svg+xml";
            link rel="stylesheet" href=(CSS.path());
            script src=(MORPH.path()) defer {}
            script src=(SCRIPT.path()) defer {}
        }
    }
}

fn document(frame: &Frame, title: &str, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body {
                a.skip href="#main" { "Skip to the content" }
                (top(frame))
                (rail(frame))
                div #notices role="status" {
                    @if let Some(notice) = &frame.notice { p.notice { (notice) } }
                }
                (main)
                dialog #ask aria-label="Question" {}
                (help())
            }
        }
    }
}

fn top(frame: &Frame) -> Markup {
    html! {
        header.top {
            details.menu {
                summary { "Menu" }
                nav aria-label="Menu" { (links(frame)) }
            }
            a.brand href=(frame.link("/console/overview")) { "Posthaste" }
            @if !frame.is_bound {
                form.tenant method="get" action="" role="search" aria-label="Tenant" {
                    label for="tenant" { "Tenant" }
                    input #tenant name="tenant" size="12" autocomplete="off" spellcheck="false"
                        value=[frame.tenant.as_deref()] placeholder="all tenants";
                }
            } @else {
                span.tenant { span.muted { "Tenant " }
                    @if let Some(tenant) = &frame.tenant { b { (strange(tenant)) } } }
            }
            form.goto method="get" action="/console/go" role="search" aria-label="Go to an id" {
                @if let (Some(tenant), false) = (&frame.tenant, frame.is_bound) {
                    input type="hidden" name="tenant" value=(tenant);
                }
                label for="goto" { "Go to" }
                input #goto name="id" autocomplete="off" spellcheck="false"
                    placeholder="any id";
            }
            div.tools hidden {
                button #zone type="button" title="Show times in UTC or in your zone (z)" { "UTC" }
                label { span.label { "Live" } " "
                    select #live title="How often this page is refreshed (p: pause)" {
                        @for (seconds, name) in LIVE { option value=(seconds) { (name) } }
                    }
                }
                button #theme type="button" title="Light, dark or as the system (t)" { "Theme" }
            }
            span.who {
                span title=(plain(&frame.who)) { (strange(&frame.who)) }
                span { " · " (frame.rights) }
                @if let Some(ends_at) = frame.ends_at { span #ends data-ends=(ends_at) {} }
            }
            form method="post" action="/console/logout" {
                (token(frame))
                button type="submit" { "Sign out" }
            }
        }
    }
}

const LIVE: [(u32, &str); 5] = [
    (5, "5 s"),
    (2, "2 s"),
    (15, "15 s"),
    (60, "60 s"),
    (0, "off"),
];

fn rail(frame: &Frame) -> Markup {
    html! { nav.rail aria-label="Main" { (links(frame)) } }
}

fn links(frame: &Frame) -> Markup {
    html! {
        ul {
            @for (section, path, name, key) in Section::all(frame) {
                li {
                    a href=(frame.link(path)) data-key=(key)
                        aria-current=[(section == frame.section).then_some("page")] { (name) }
                }
            }
        }
    }
}

const KEYS: [(&str, &str); 12] = [
    ("?", "this help"),
    ("/", "go to an id"),
    ("f", "filters"),
    (
        "g then o d n e v r w l k a s",
        "overview, deliveries, notifications, endpoints, events, replays, workers, dead \
         letters, keys, audit, send a test",
    ),
    ("j k", "next and previous row"),
    ("Enter", "open the row"),
    ("x Shift+x", "select the row, select up to it"),
    ("[ ]", "newest and older"),
    ("r c", "retry the delivery, cancel it"),
    ("y Y", "copy the id, copy the link"),
    ("z t", "time zone, theme"),
    ("p", "pause refreshing"),
];

fn help() -> Markup {
    html! {
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keys" }
            table {
                tbody { @for (key, what) in KEYS {
                    tr { th scope="row" { kbd { (key) } } td { (what) } }
                } }
            }
            p { label { input #keys type="checkbox" checked; " Keys are on" } }
            p { button #help-close type="button" { "Close" } }
        }
    }
}
