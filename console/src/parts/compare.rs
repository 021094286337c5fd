//! Two attempts side by side: what differs between their answers is marked.

use maud::{Markup, html};
use posthaste_shared::domain::view::AttemptView;

use crate::parts::attempts::looks_like_json;
use crate::parts::query::Query;
use crate::parts::text::{plain, strange};
use crate::parts::time::{at, milliseconds};
use crate::parts::{chip, json};

/// The most lines of a body that are compared: the work grows with the square of it.
const MOST_LINES: usize = 600;

/// A line of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line<'a> {
    text: &'a str,
    /// Whether the other body does not have it.
    differs: bool,
}

/// The two attempts that `2,5` names, the earlier first; `None` where there are not two.
pub(crate) fn chosen<'a>(
    words: &str,
    attempts: &'a [AttemptView],
) -> Option<(&'a AttemptView, &'a AttemptView)> {
    let (one, other) = words.split_once(',')?;
    let find = |text: &str| {
        let number: u32 = text.trim().parse().ok()?;
        attempts.iter().find(|attempt| attempt.number == number)
    };
    let (one, other) = (find(one)?, find(other)?);
    match one.number.cmp(&other.number) {
        std::cmp::Ordering::Less => Some((one, other)),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some((other, one)),
    }
}

/// Asks with which other attempt one is compared.
pub(crate) fn form(
    path: &str,
    query: &Query,
    attempts: &[AttemptView],
    attempt: &AttemptView,
) -> Markup {
    let others: Vec<u32> = attempts
        .iter()
        .map(|other| other.number)
        .filter(|number| *number != attempt.number)
        .collect();
    // The one before, which is what most want to know.
    let likely = others.iter().rev().find(|number| **number < attempt.number);
    let kept = query.without(&["compare", "attempt", "notice"]);
    html! {
        @if !others.is_empty() {
            form.compare method="get" action={ (path) "#attempt" } {
                @for name in kept.names() {
                    @if let Some(value) = kept.get(name) {
                        input type="hidden" name=(name) value=(value);
                    }
                }
                label for="compare" { "Compare with" }
                select #compare name="compare" {
                    @for other in &others {
                        option value={ (other) "," (attempt.number) }
                            selected[Some(other) == likely] { (other) }
                    }
                }
                button type="submit" { "Compare" }
            }
        }
    }
}

/// Both answers, with what differs marked.
pub(crate) fn panes(one: &AttemptView, other: &AttemptView, back: &str) -> Markup {
    let bodies = [text_of(one), text_of(other)];
    let [left, right] = compared(&bodies[0], &bodies[1]);
    let alike = facts(one) == facts(other) && bodies[0] == bodies[1];
    html! {
        section #attempt aria-label={ "Attempts " (one.number) " and " (other.number) } {
            div.headline {
                h2 { "Attempts " (one.number) " and " (other.number) " compared" }
                div.actions { a.button href=(back) { "Attempt " (other.number) " alone" } }
            }
            p.muted {
                @if alike { "Their answers are the same." }
                @else { "What differs is marked." }
            }
            div.panes.two {
                (pane(one, other, &left))
                (pane(other, one, &right))
            }
        }
    }
}

/// What is compared as a whole.
fn facts(attempt: &AttemptView) -> [(&'static str, String); 4] {
    let error = attempt.error.as_ref();
    [
        (
            "Status",
            attempt
                .status_code
                .map_or_else(|| "no answer".to_owned(), |code| code.to_string()),
        ),
        ("Error", error.map(|it| it.text.clone()).unwrap_or_default()),
        (
            "Address",
            attempt.resolved_address.clone().unwrap_or_default(),
        ),
        ("Worker", attempt.worker.clone()),
    ]
}

fn pane(attempt: &AttemptView, other: &AttemptView, lines: &[Line<'_>]) -> Markup {
    html! {
        section.pane {
            h2 { "Answer to attempt " (attempt.number) " " (chip::attempt(attempt)) }
            dl.headers {
                div { dt { "Began" } dd { (at(attempt.started_at)) } }
                div { dt { "Took" } dd { (milliseconds(attempt.duration_ms)) } }
                @for ((name, own), (_, theirs)) in facts(attempt).into_iter().zip(facts(other)) {
                    div { dt { (name) } dd dir="auto" {
                        @if own.is_empty() { span.muted { "none" } }
                        @else if own == theirs { (strange(&own)) }
                        @else { mark { (strange(&own)) } }
                    } }
                }
            }
            @if lines.is_empty() { p.muted { "No body." } } @else {
                pre tabindex="0" dir="ltr" {
                    @for line in lines {
                        @if line.differs { mark { (plain(line.text)) } }
                        @else { (plain(line.text)) }
                        "\n"
                    }
                }
            }
        }
    }
}

/// The body of an answer, JSON with a member on each line.
fn text_of(attempt: &AttemptView) -> String {
    match attempt.response_body.as_deref() {
        Some(body) if looks_like_json(body) => json::laid_out(body),
        Some(body) => body.to_owned(),
        None => String::new(),
    }
}

/// The lines of both, each with whether the other lacks it: those of a longest common subsequence
/// are the same. Bodies with very many lines are compared line by line.
fn compared<'a>(one: &'a str, other: &'a str) -> [Vec<Line<'a>>; 2] {
    let left: Vec<&str> = one.lines().collect();
    let right: Vec<&str> = other.lines().collect();
    let unlike = |text| Line {
        text,
        differs: true,
    };
    let mut marked = [
        left.iter().copied().map(unlike).collect::<Vec<_>>(),
        right.iter().copied().map(unlike).collect::<Vec<_>>(),
    ];
    let pairs = if left.len().max(right.len()) > MOST_LINES {
        let both = left.iter().zip(&right).enumerate();
        both.filter(|(_, (a, b))| a == b)
            .map(|(at, _)| (at, at))
            .collect()
    } else {
        common(&left, &right)
    };
    for (a, b) in pairs {
        marked[0][a].differs = false;
        marked[1][b].differs = false;
    }
    marked
}

/// The places of a longest common subsequence in both.
fn common(left: &[&str], right: &[&str]) -> Vec<(usize, usize)> {
    let width = right.len() + 1;
    // How long it is from each pair of places to the ends.
    let mut lengths = vec![0_u16; (left.len() + 1) * width];
    for a in (0..left.len()).rev() {
        for b in (0..right.len()).rev() {
            lengths[a * width + b] = if left[a] == right[b] {
                lengths[(a + 1) * width + b + 1] + 1
            } else {
                lengths[(a + 1) * width + b].max(lengths[a * width + b + 1])
            };
        }
    }
    let (mut a, mut b) = (0, 0);
    let mut pairs = Vec::new();
    while a < left.len() && b < right.len() {
        if left[a] == right[b] {
            pairs.push((a, b));
            a += 1;
            b += 1;
        } else if lengths[(a + 1) * width + b] >= lengths[a * width + b + 1] {
            a += 1;
        } else {
            b += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(one: &str, other: &str) -> [String; 2] {
        compared(one, other).map(|lines| {
            let mark = |line: &Line<'_>| if line.differs { '!' } else { '.' };
            lines.iter().map(mark).collect()
        })
    }

    #[test]
    fn what_only_one_has_is_marked() {
        let json = |error: &str| json::laid_out(&format!("{{\"ok\":false,\"error\":\"{error}\"}}"));
        assert_eq!(marks(&json("busy"), &json("gone")), ["..!.", "..!."]);
        assert_eq!(marks("a\nb\nc", "a\nc\nd"), [".!.", "..!"]);
        assert_eq!(marks("", "x"), ["", "!"]);
        assert_eq!(marks("same", "same"), [".", "."]);
    }

    #[test]
    fn very_long_ones_are_compared_line_by_line() {
        let long = "x\n".repeat(MOST_LINES + 1);
        let [one, other] = marks(&long, &long.replacen('x', "y", 1));
        assert!(one.starts_with("!..") && other.starts_with("!.."));
    }
}
