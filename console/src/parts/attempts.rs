//! The attempts of a delivery: a table with, for each, where its time went, drawn on one scale.

use maud::{Markup, html};
use posthaste_shared::domain::attempt::Phases;
use posthaste_shared::domain::view::AttemptView;

use crate::parts::query::Query;
use crate::parts::text::{block, copy, plain, strange};
use crate::parts::time::{at, milliseconds};
use crate::parts::{chip, json};

/// How wide a waterfall is in its own units; it is stretched to the width of its cell.
const WIDTH: f64 = 1_000.0;
/// The narrowest part that is seen.
const NARROWEST: f64 = 3.0;

/// All attempts in a table, each a link that chooses it.
pub(crate) fn table(path: &str, query: &Query, attempts: &[AttemptView], chosen: u32) -> Markup {
    let longest = attempts
        .iter()
        .map(|attempt| attempt.duration_ms)
        .fold(1.0, f64::max);
    let several = attempts.iter().any(|attempt| attempt.round > 1);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Attempts" {
            table.attempts {
                thead {
                    tr {
                        th scope="col" { "No." }
                        @if several { th scope="col" { "Round" } }
                        th scope="col" { "Began" }
                        th scope="col" { "Result" }
                        th.number scope="col" { "Took" }
                        th.wide scope="col" {
                            span.scale { span { "0" } (legend()) span { (milliseconds(longest)) } }
                        }
                        th scope="col" { "Address" }
                    }
                }
                tbody {
                    @for attempt in attempts {
                        tr aria-selected=[(attempt.number == chosen).then_some("true")]
                            data-row {
                            @let shown = query.with("attempt", &attempt.number.to_string());
                            td { a href={ (path) (shown) "#attempt" }
                                aria-label={ "Attempt " (attempt.number) } { (attempt.number) } }
                            @if several { td { (attempt.round) } }
                            td { (at(attempt.started_at)) }
                            td { (chip::attempt(attempt)) }
                            td.number { (milliseconds(attempt.duration_ms)) }
                            td.wide {
                                (waterfall(&attempt.phases_ms, attempt.duration_ms, longest))
                            }
                            td { @if let Some(address) = &attempt.resolved_address {
                                span.id { (strange(address)) }
                            } }
                        }
                    }
                }
            }
        }
    }
}

fn named(phases: &Phases) -> [(&'static str, Option<f64>); 5] {
    [
        ("dns", phases.dns),
        ("connect", phases.connect),
        ("tls", phases.tls),
        ("wait", phases.wait),
        ("body", phases.body),
    ]
}

fn legend() -> Markup {
    html! {
        span.legend {
            @let names = named(&Phases::default()).map(|(name, _)| name);
            @for name in names.into_iter().chain(["other"]) {
                span { svg width="8" height="8" aria-hidden="true" {
                    rect class={ "phase-" (name) } width="8" height="8" {}
                } " " (name) " " }
            }
        }
    }
}

/// The phases as bars behind one another, on the scale of the longest attempt.
fn waterfall(phases: &Phases, duration_ms: f64, longest_ms: f64) -> Markup {
    let mut left = 0.0;
    let mut bars = Vec::new();
    let mut words = Vec::new();
    for (name, ms) in named(phases) {
        let Some(ms) = ms else { continue };
        let width = (ms / longest_ms * WIDTH).max(NARROWEST);
        bars.push((name, left, width));
        words.push(format!("{name} {}", milliseconds(ms)));
        left += width;
    }
    // What is in no phase, such as waiting for a connection.
    let rest = duration_ms / longest_ms * WIDTH - left;
    if !bars.is_empty() && rest > NARROWEST {
        bars.push(("other", left, rest));
        words.push(format!("other {}", milliseconds(rest / WIDTH * longest_ms)));
    }
    // Where no phase is known, as of a request that was blocked, the whole is one bar.
    if bars.is_empty() {
        bars.push((
            "none",
            0.0,
            (duration_ms / longest_ms * WIDTH).max(NARROWEST),
        ));
        words.push(milliseconds(duration_ms));
    }
    html! {
        svg.waterfall role="img" aria-label=(words.join(", ")) viewBox="0 0 1000 14"
            preserveAspectRatio="none" width="100%" height="14" {
            title { (words.join(", ")) }
            @for (name, left, width) in bars {
                rect class={ "phase-" (name) } x=(format!("{left:.1}")) y="2" height="10"
                    width=(format!("{width:.1}")) {}
            }
        }
    }
}

/// What one attempt sent and got; `compare` leads to a comparison with another one.
pub(crate) fn panes(attempt: &AttemptView, compare: &Markup) -> Markup {
    html! {
        section #attempt.panes aria-label={ "Attempt " (attempt.number) } {
            section.pane {
                h2 { "Request of attempt " (attempt.number) }
                (headers(&attempt.request_headers))
                p.muted {
                    "Sent by the worker " (strange(&attempt.worker)) ". The body of a request is \
                    not stored."
                }
            }
            section.pane {
                div.headline { h2 { "Answer to attempt " (attempt.number) } (compare) }
                p.line {
                    (chip::attempt(attempt))
                    @if let Some(error) = &attempt.error {
                        " " span dir="auto" { (plain(&error.text)) } " "
                        code { (strange(&error.code)) }
                    }
                }
                @match attempt.response_body.as_deref() {
                    Some("") => p.muted { "The answer has no body." },
                    Some(body) => {
                        @if looks_like_json(body) { (json::pretty(body)) } @else { (block(body)) }
                        p { (copy(body, "Copy the answer")) }
                    },
                    None if attempt.status_code.is_some() => p.muted { "The answer has no body." },
                    None => p.muted { "There is no answer." },
                }
                @if let Some(console) = &attempt.console {
                    h3 { "The script's console" }
                    (block(console))
                }
            }
        }
    }
}

/// Headers, each with its value.
pub(crate) fn headers(headers: &[(String, String)]) -> Markup {
    html! {
        @if headers.is_empty() { p.muted { "No headers." } } @else {
            dl.headers {
                @for (name, value) in headers {
                    div { dt { (strange(name)) } dd dir="auto" { (plain(value)) } }
                }
            }
        }
    }
}

/// By its first character: what is cut off in the middle is laid out, too.
pub(crate) fn looks_like_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}
