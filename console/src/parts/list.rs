//! What lists share: their filters, the chips of those that are set, the way to older rows.

use maud::{Markup, html};

use crate::parts::query::Query;
use crate::parts::text::plain;

/// The parameters of a page that are no filters.
const OTHER: [&str; 3] = ["cursor", "notice", "tenant"];

/// The windows of time that lists offer: word, name, seconds; none: all of it.
pub(crate) const WINDOWS: [(&str, &str, Option<u64>); 5] = [
    ("1h", "last hour", Some(3_600)),
    ("24h", "last 24 h", Some(86_400)),
    ("7d", "last 7 days", Some(7 * 86_400)),
    ("30d", "last 30 days", Some(30 * 86_400)),
    ("all", "any time", None),
];
/// The window where nobody asked for another.
pub(crate) const DEFAULT_WINDOW: &str = "24h";

/// The window that a query asks for: word, name, seconds.
pub(crate) fn window(query: &Query) -> (&'static str, &'static str, Option<u64>) {
    let wanted = query.get("window").unwrap_or(DEFAULT_WINDOW);
    let found = WINDOWS.iter().find(|(word, ..)| *word == wanted);
    *found.unwrap_or(&WINDOWS[1])
}

/// A filter that is set: what it says, and the query without it.
pub(crate) struct Set {
    /// What it says, such as `status failed`.
    pub(crate) text: String,
    /// The query without it.
    pub(crate) without: Query,
}

/// The filters that are set, each value with a link that takes it away.
pub(crate) fn set(query: &Query, names: &[(&str, &str)]) -> Vec<Set> {
    let base = query.without(&["cursor", "notice"]);
    let mut all: Vec<Set> = names
        .iter()
        .flat_map(|(name, shown)| {
            let base = &base;
            query.words(name).map(move |value| Set {
                text: format!("{shown} {}", value.replace('_', " ")),
                without: base.without_value(name, value),
            })
        })
        .collect();
    let (word, name, _) = window(query);
    if word != "all" {
        all.push(Set {
            text: name.to_owned(),
            without: base.with("window", "all"),
        });
    }
    all
}

/// The chips of the filters that are set.
pub(crate) fn chips(path: &str, set: &[Set]) -> Markup {
    html! {
        @if !set.is_empty() {
            ul.filters aria-label="Filters that are set" {
                @for filter in set {
                    li { a.filter href={ (path) (filter.without) }
                        aria-label={ "Remove the filter " (plain(&filter.text)) } {
                        bdi { (plain(&filter.text)) } " " span aria-hidden="true" { "×" }
                    } }
                }
            }
        }
    }
}

/// The form of a list's filters around its fields; what is set in the address and is no field of it
/// is kept.
pub(crate) fn filter_form(path: &str, query: &Query, fields: &Markup) -> Markup {
    html! {
        details #filters.filterbox {
            summary { "Filter" }
            form method="get" action=(path) {
                @if let Some(tenant) = query.get("tenant") {
                    input type="hidden" name="tenant" value=(tenant);
                }
                div.fields { (fields) }
                p { button.primary type="submit" { "Show" } " "
                    a href={ (path) (query_of_tenant(query)) } { "Without filters" } }
            }
        }
    }
}

fn query_of_tenant(query: &Query) -> Query {
    match query.get("tenant") {
        Some(tenant) => Query::default().with("tenant", tenant),
        None => Query::default(),
    }
}

/// A text field of a filter.
pub(crate) fn field(query: &Query, name: &str, label: &str, example: &str) -> Markup {
    let values: Vec<&str> = query.all(name).collect();
    html! {
        div.field {
            label for={ "f-" (name) } { (label) }
            input id={ "f-" (name) } name=(name) value=(values.join(",")) autocomplete="off"
                spellcheck="false" placeholder=(example);
        }
    }
}

/// Boxes to check, of which several may be.
pub(crate) fn boxes(query: &Query, name: &str, label: &str, words: &[&str]) -> Markup {
    html! {
        fieldset.field {
            legend { (label) }
            div.boxes {
                @for word in words {
                    label.check {
                        input type="checkbox" name=(name) value=(word)
                            checked[query.words(name).any(|set| set == *word)];
                        " " (word.replace('_', " "))
                    }
                }
            }
        }
    }
}

/// The choice of a window of time.
pub(crate) fn window_field(label: &str, query: &Query) -> Markup {
    let (chosen, ..) = window(query);
    html! {
        div.field {
            label for="f-window" { (label) }
            select #f-window name="window" {
                @for (word, name, _) in WINDOWS {
                    option value=(word) selected[word == chosen] { (name) }
                }
            }
        }
    }
}

/// The way to older rows, and back to the newest.
pub(crate) fn pager(path: &str, query: &Query, next_cursor: Option<&str>) -> Markup {
    let first = query.without(&["cursor", "notice"]);
    html! {
        nav.pager aria-label="Pages" {
            @if query.get("cursor").is_some() {
                a rel="first" href={ (path) (first) } { "← newest" }
            }
            @if let Some(cursor) = next_cursor {
                a rel="next" href={ (path) (first.with("cursor", cursor)) } { "older →" }
            }
        }
    }
}

/// Why a list is empty, and what to do: to drop a filter, or to look further back.
pub(crate) fn empty(path: &str, query: &Query, set: &[Set], nothing: &Markup) -> Markup {
    let has_filters = !query.without(&OTHER).without(&["window"]).text().is_empty();
    html! {
        div.empty {
            @if set.is_empty() && !has_filters { (nothing) } @else {
                p { "Nothing matches." }
                ul {
                    @for filter in set {
                        li { a href={ (path) (filter.without) } {
                            "Without " bdi { (plain(&filter.text)) }
                        } }
                    }
                }
                @if !has_filters { (nothing) }
            }
        }
    }
}
