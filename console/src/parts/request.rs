//! A request as it goes out or would: its line, headers and body; and why there is none.

use maud::{Markup, html};
use posthaste_producer::http::wire_formats::TestRequest;
use posthaste_shared::domain::attempt::AttemptError;

use crate::parts::attempts::{headers, looks_like_json};
use crate::parts::json;
use crate::parts::layout::sentence;
use crate::parts::text::{block, plain, strange};

/// A request.
pub(crate) fn shown(request: &TestRequest) -> Markup {
    html! {
        p.line { code { (strange(&request.method)) " " (strange(&request.url)) } }
        (headers(&request.headers))
        (body(&request.body))
    }
}

/// The body of a request or an answer.
pub(crate) fn body(text: &str) -> Markup {
    html! {
        @if text.is_empty() { p.muted { "No body." } }
        @else if looks_like_json(text) { (json::pretty(text)) }
        @else { (block(text)) }
    }
}

/// Why nothing would be sent, and what would happen to the delivery.
pub(crate) fn reason(outcome: &str, error: &AttemptError) -> Markup {
    let then = match outcome {
        "cancelled" => "The delivery would be cancelled",
        "waits" => "The delivery would wait",
        "timeout" => "It would be tried again",
        _ => "The delivery would fail",
    };
    html! {
        p.error dir="auto" { (then) ": " (plain(&sentence(&error.text))) }
    }
}

/// What is not in a request that asks first.
pub(crate) fn asks_first() -> Markup {
    html! {
        p.muted { "Another request asks first. What it grants, such as a token, is not in here." }
    }
}
